package simfs

import (
	"io/fs"
	"sync"
	"syscall"
	"time"

	"github.com/mailspine/mailspine/internal/vfs"
)

const (
	// SectorSize is the unit that reaches the disk whole.
	SectorSize = 512
	// PageSize is the unit of allocation, and of sizes that a crash may leave.
	PageSize = 4096

	sectorsPerPage = PageSize / SectorSize
)

// Options describe the disk. The zero value is unlimited and honest.
type Options struct {
	// Blocks is the capacity in pages of 4096 bytes, Inodes in files and directories; 0 is unlimited.
	Blocks, Inodes int64
	// DelayedAlloc makes writes succeed on a full disk, as ext4 does: only the sync finds out, fails with ENOSPC, and
	// the pages are lost (see [File.DropDirty]).
	DelayedAlloc bool
	// CopyOnWrite makes every write need new blocks until the next sync, also inside an allocation, as btrfs does.
	CopyOnWrite bool
	// OrderedNames keeps a prefix of the unsynced name changes at a crash, instead of any subset.
	OrderedNames bool
	// NoTrace keeps no journal: no images, but no memory for them either.
	NoTrace bool
	// NoMap makes Map fail with ENODEV, so that code falls back to ReadAt.
	NoMap bool
	// Tick, if set, is how coarse the clock is, as that of file times is in a kernel: two changes within one tick cannot
	// be told apart by it.
	Tick time.Duration
	// Seed decides what a failed sync leaves.
	Seed uint64
}

// FS is a view of a simulated disk, as one process has it. Use [New], [FS.Process] or an image.
type FS struct {
	d    *disk
	proc *process
}

var _ vfs.FS = (*FS)(nil)

// process owns open files. A dead one can do nothing any more.
type process struct {
	name  string
	files map[*File]struct{}
	dead  bool
}

// disk is the state behind all views.
type disk struct {
	mu     sync.Mutex
	opts   Options
	base   *snapshot
	inodes []*inode // by inode number; nil: as in base
	ops    []op
	nops   int
	clock  int64 // added to the time of the operation counter, in ns
	boot   int64
	words  map[string]*sharedWord
	replay *model // what the disk holds, up to some operation; made when needed
	space  space
	sched  *scheduler
	fail   error // for FailNextSync
	drops  uint64
}

// epoch is the simulated time of the first boot.
const epoch = int64(1_767_225_600) * int64(time.Second)

const rootIno = 1

// New returns a disk that holds an empty root directory.
func New(opts Options) *FS {
	root := &frozen{dir: true, meta: meta{mode: fs.ModeDir | 0o755}, mtime: epoch, ctime: epoch}
	base := &snapshot{inodes: []*frozen{nil, root}, nlink: []int{0, 1}, clock: epoch, boot: epoch}
	return base.open(opts)
}

// Process returns a further view of the disk, with open files and locks of its own.
func (v *FS) Process(name string) *FS {
	return &FS{d: v.d, proc: &process{name: name, files: map[*File]struct{}{}}}
}

// OpenFiles is the number of files that are open in this view.
func (v *FS) OpenFiles() int {
	v.d.mu.Lock()
	defer v.d.mu.Unlock()
	return len(v.proc.files)
}

// Exit closes all files of this view without syncing anything, as the end of a process does. Later calls fail with
// ESRCH.
func (v *FS) Exit() {
	v.d.mu.Lock()
	defer v.d.mu.Unlock()
	v.d.exit(v.proc)
}

func (d *disk) exit(p *process) {
	p.dead = true
	for f := range p.files {
		d.closeFile(f)
	}
}

// Ops is the number of operations recorded so far. The crash points of a trace are 0 (before the first) to Ops.
func (v *FS) Ops() int {
	v.d.mu.Lock()
	defer v.d.mu.Unlock()
	return v.d.nops
}

// Mark writes a note into the journal, such as the number of a transaction that was just acknowledged. Images tell
// which notes were written before the crash.
func (v *FS) Mark(note string) {
	v.d.mu.Lock()
	defer v.d.mu.Unlock()
	v.d.record(op{kind: opMark, note: note})
}

// Trace returns everything recorded so far. It stays as it is while the disk goes on.
func (v *FS) Trace() *Trace {
	v.d.mu.Lock()
	defer v.d.mu.Unlock()
	return &Trace{opts: v.d.opts, base: v.d.base, ops: v.d.ops[:len(v.d.ops):len(v.d.ops)]}
}

// Kill returns a copy of the disk as all processes find it that start after the present ones were killed: the page
// cache as it is, no open files, no locks. What was not synced is still not synced in the copy: the copy records from
// here, with all that happened before.
func (v *FS) Kill() *FS {
	v.d.mu.Lock()
	defer v.d.mu.Unlock()
	t := &Trace{opts: v.d.opts, base: v.d.base, ops: v.d.ops[:len(v.d.ops):len(v.d.ops)]}
	return t.kill(v.d.model())
}

// FailNextSync makes the next Datasync or Sync of any file fail with err, dropping its pages as [File.DropDirty] does.
func (v *FS) FailNextSync(err error) {
	v.d.mu.Lock()
	defer v.d.mu.Unlock()
	v.d.fail = err
}

// DropCaches throws away all clean pages, so that reads show what the disk holds: after a failed sync, not what was
// written.
func (v *FS) DropCaches() {
	v.d.mu.Lock()
	defer v.d.mu.Unlock()
	v.d.record(op{kind: opEvict})
	m := v.d.model()
	for ino := range v.d.inodes {
		n := m.nodes[ino]
		if n == nil || n.cache.dir {
			continue
		}
		i := v.d.get(ino)
		i.tab, i.tabShared = n.cache.tab, true
		n.cacheShared = true
		i.refreshMaps(0, i.size)
	}
}

// Now is the simulated clock: it moves by a microsecond with each operation, and by Advance.
func (v *FS) Now() time.Time {
	v.d.mu.Lock()
	defer v.d.mu.Unlock()
	return time.Unix(0, v.d.now()).UTC()
}

// Advance moves the clock.
func (v *FS) Advance(by time.Duration) {
	v.d.mu.Lock()
	defer v.d.mu.Unlock()
	v.d.clock += int64(by)
}

// BootTime is the beginning, or the crash that made this image.
func (v *FS) BootTime() (time.Time, error) { return time.Unix(0, v.d.boot).UTC(), nil }

func (d *disk) now() int64 {
	now := d.clock + int64(d.nops)*int64(time.Microsecond)
	if d.opts.Tick > 0 {
		now -= now % int64(d.opts.Tick)
	}
	return now
}

// record appends an operation to the journal.
func (d *disk) record(o op) {
	d.nops++
	if d.opts.NoTrace {
		return
	}
	o.time = d.now()
	d.ops = append(d.ops, o)
}

// model returns the state of the platter after all operations so far.
func (d *disk) model() *model {
	if d.opts.NoTrace {
		panic("simfs: this disk keeps no journal (Options.NoTrace)")
	}
	if d.replay == nil {
		d.replay = newModel(d.base, &d.opts)
	}
	for d.replay.at < len(d.ops) {
		d.replay.apply(&d.ops[d.replay.at])
	}
	return d.replay
}

// enter begins a call: a scheduling point, then the lock. Its twin is d.mu.Unlock.
func (v *FS) enter(what, name string) error {
	if v.d.sched != nil {
		v.d.sched.point(v.proc, what, name)
	}
	v.d.mu.Lock()
	if v.proc.dead {
		v.d.mu.Unlock()
		return &fs.PathError{Op: what, Path: name, Err: syscall.ESRCH}
	}
	return nil
}

type sharedWord struct{ word uint64 }

// SharedWord returns the word that all views of this disk share. It does not survive a crash.
func (v *FS) SharedWord(name string) (vfs.SharedWord, error) {
	if err := v.enter("sharedword", name); err != nil {
		return nil, err
	}
	defer v.d.mu.Unlock()
	if v.d.words == nil {
		v.d.words = map[string]*sharedWord{}
	}
	w := v.d.words[name]
	if w == nil {
		w = &sharedWord{}
		v.d.words[name] = w
	}
	return &wordHandle{v: v, name: name, word: w}, nil
}

type wordHandle struct {
	v    *FS
	name string
	word *sharedWord
}

func (h *wordHandle) Load() uint64 {
	if h.v.enter("load", h.name) != nil {
		return 0
	}
	defer h.v.d.mu.Unlock()
	return h.word.word
}

func (h *wordHandle) Store(value uint64) {
	if h.v.enter("store", h.name) != nil {
		return
	}
	defer h.v.d.mu.Unlock()
	h.word.word = value
}

func (h *wordHandle) Close() error { return nil }
