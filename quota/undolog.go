package quota

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/mailspine/mailspine/internal/planted"
	"github.com/mailspine/mailspine/internal/vfs"
)

const (
	// undoSuffix ends the names of logs, undoPrepared is the name of one that waits for a run.
	undoSuffix   = ".log"
	undoPrepared = "prepared"
	// undoBytes is the space that a log takes beforehand: some three hundred changes.
	undoBytes = 64 << 10
	// undoStep is by how much less is asked for where that is not there.
	undoStep = 4 << 10
	// undoMax is how many logs are kept. A store that is counted after every interrupted change would fill up with them.
	undoMax = 1000
	// undoTime is the form of the time with which the name of a run begins.
	undoTime = "20060102T150405.000000Z"
)

// undoLog is what a run has changed, with the old values, so that it can be taken back: lines of JSON with a checksum, one for each
// change, durable before the change is made. After the change a line says whether it was made; that one need not last, as it is
// missing only if the machine or the process died in between.
//
//	{"crc":"8c736521","entry":{"n":1,"kind":"usage","root":"user.fred","old":[…],"new":[…],"modseq":7}}
//	{"crc":"…","entry":{"n":1,"kind":"made"}}
//
// A run begins its log with the first change. It takes a file that was made before, when there was space, so that usage can be
// lowered on a full disk. What follows the last line with a right checksum is no line.
type undoLog struct {
	k   *Keeper
	dry bool

	mu   sync.Mutex
	name string // of the run; empty as long as nothing was changed
	f    vfs.File
	off  int64
	size int64
	last int64
}

// The kinds of lines.
const (
	undoUsage   = "usage"
	undoHeader  = "header"
	undoLimits  = "limits"
	undoCreated = "created"
	undoDeleted = "deleted"
	undoUndoing = "undoing" // the run takes back another
	undoUndone  = "undone"  // all of it
	undoMade    = "made"
	undoVoid    = "void"
)

// undoLine is a line of a log.
type undoLine struct {
	// N is the number of the change; that of made and void is the one of the change they are about.
	N    int64  `json:"n"`
	Kind string `json:"kind"`
	Time string `json:"time,omitempty"`

	Root     text `json:"root,omitempty"`
	Mailbox  text `json:"mailbox,omitempty"`
	UniqueID text `json:"unique_id,omitempty"`
	From     text `json:"from,omitempty"`
	To       text `json:"to,omitempty"`

	Old       *Amounts `json:"old,omitempty"`
	New       *Amounts `json:"new,omitempty"`
	OldLimits *Limits  `json:"old_limits,omitempty"`
	NewLimits *Limits  `json:"new_limits,omitempty"`
	// ModSeq is that of the record before the change.
	ModSeq uint64 `json:"modseq,omitempty"`
	// Of is the run that is undone, OfN the change in it.
	Of  string `json:"of,omitempty"`
	OfN int64  `json:"of_n,omitempty"`
}

// text is a name, of any bytes, in JSON.
type text string

const textHex = "hex:"

// MarshalJSON writes what is no UTF-8 in hexadecimal.
func (t text) MarshalJSON() ([]byte, error) {
	s := string(t)
	if !utf8.ValidString(s) || strings.HasPrefix(s, textHex) {
		s = textHex + hex.EncodeToString([]byte(s))
	}
	return json.Marshal(s)
}

// UnmarshalJSON reads it.
func (t *text) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	if digits, ok := strings.CutPrefix(s, textHex); ok {
		raw, err := hex.DecodeString(digits)
		if err != nil {
			return err
		}
		s = string(raw)
	}
	*t = text(s)
	return nil
}

// sealed is a line with its checksum.
type sealed struct {
	CRC   string          `json:"crc"`
	Entry json.RawMessage `json:"entry"`
}

func seal(l *undoLine) ([]byte, error) {
	entry, err := json.Marshal(l)
	if err != nil {
		return nil, err
	}
	b, err := json.Marshal(sealed{fmt.Sprintf("%08x", crc32.ChecksumIEEE(entry)), entry})
	return append(b, '\n'), err
}

func (k *Keeper) undoDir() string { return filepath.Join(k.dir, "undo") }

func (k *Keeper) newUndoLog(dry bool) *undoLog { return &undoLog{k: k, dry: dry} }

// usage notes that the usage of a root is about to be changed.
func (u *undoLog) usage(root string, rec *Record, to Amounts) (*undoLine, error) {
	from := rec.Used
	return u.write(&undoLine{Kind: undoUsage, Root: text(root), Old: &from, New: &to, ModSeq: rec.ModSeq})
}

// header notes that the header of a mailbox is about to name another root.
func (u *undoLog) header(fix *HeaderFix, id string) (*undoLine, error) {
	return u.write(&undoLine{Kind: undoHeader, Mailbox: text(fix.Mailbox), UniqueID: text(id), From: text(fix.From), To: text(fix.To)})
}

// write makes a line durable. After an error there is none, or one that is torn, and the change must not be made.
func (u *undoLog) write(l *undoLine) (*undoLine, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.dry {
		return nil, errors.New("a dry run is about to change something")
	}
	if u.f == nil {
		if err := u.begin(); err != nil {
			return nil, fmt.Errorf("undo log: %w", writeError(err))
		}
	}
	l.N, l.Time = u.last+1, u.k.fs.Now().UTC().Format(time.RFC3339Nano)
	if err := u.put(l, true); err != nil {
		return nil, fmt.Errorf("undo log: %w", writeError(err))
	}
	u.last = l.N
	return l, nil
}

// put writes a line at the end of the log. If that fails the next one is written over it.
func (u *undoLog) put(l *undoLine, durable bool) error {
	b, err := seal(l)
	if err != nil {
		return err
	}
	if need := u.off + int64(len(b)); need > u.size {
		if err := u.f.Allocate(0, need+undoBytes); err != nil && !errors.Is(err, syscall.EOPNOTSUPP) {
			return err
		}
		u.size = need + undoBytes
	}
	if _, err := u.f.WriteAt(b, u.off); err != nil {
		return err
	}
	if durable && !planted.On(planted.QuotaUndoUnsynced) {
		if err := u.f.Datasync(); err != nil {
			return err
		}
	}
	u.off += int64(len(b))
	return nil
}

// settle notes whether the change of a line was made; err is why not. It may be unknown: then nothing is noted.
func (u *undoLog) settle(l *undoLine, err error) {
	if l == nil || errors.Is(err, ErrCommitUnknown) || notDurable(err) {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	kind := undoMade
	if err != nil {
		kind = undoVoid
	}
	if err := u.put(&undoLine{N: l.N, Kind: kind}, false); err != nil {
		u.k.logger.Warn("the undo log does not tell whether a change was made", "run", u.name, "change", l.N, "error", err)
	}
}

// begin gives the run a log: the prepared file, or a new one if there is space.
func (u *undoLog) begin() error {
	k := u.k
	if err := vfs.MkdirAll(k.fs, u.k.undoDir(), 0o700); err != nil {
		return err
	}
	if err := k.forgetRuns(); err != nil {
		return err
	}
	name := k.fs.Now().UTC().Format(undoTime) + "-" + strconv.Itoa(os.Getpid())
	path := u.k.undoPath(name)
	for n := 2; ; n++ {
		if n > undoMax {
			return fmt.Errorf("%s: %w", path, fs.ErrExist)
		}
		f, err := u.claim(path)
		if err == nil {
			info, err := f.Stat()
			if err == nil {
				err = k.fs.SyncDir(u.k.undoDir())
			}
			if err != nil {
				_ = f.Close()
				return err
			}
			u.name, u.f, u.off, u.size = strings.TrimSuffix(filepath.Base(path), undoSuffix), f, 0, info.Size
			return nil
		}
		if !errors.Is(err, fs.ErrExist) {
			return err
		}
		path = u.k.undoPath(name + "." + strconv.Itoa(n))
	}
}

// forgetRuns removes the oldest logs where there are too many.
func (k *Keeper) forgetRuns() error {
	entries, err := k.fs.ReadDir(k.undoDir())
	if err != nil {
		return err
	}
	var names []string
	for _, e := range entries {
		if name, ok := strings.CutSuffix(e.Name, undoSuffix); ok && !e.Dir {
			names = append(names, name)
		}
	}
	slices.SortFunc(names, compareRuns)
	for ; len(names) >= undoMax; names = names[1:] {
		if err := k.fs.Unlink(k.undoPath(names[0])); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func (k *Keeper) undoPath(name string) string { return filepath.Join(k.undoDir(), name+undoSuffix) }

// claim makes the file of a name that nobody has. The link tells who was first.
func (u *undoLog) claim(path string) (vfs.File, error) {
	fsys := u.k.fs
	prepared := filepath.Join(u.k.undoDir(), undoPrepared)
	// Linked and not renamed, as that could put it over the log of another run. Who unlinks it is the only one that has it, unless a
	// crash came between: then it has two names.
	switch err := fsys.Link(prepared, path); {
	case err == nil:
		if err := fsys.Unlink(prepared); err == nil {
			if f, err := fsys.Open(path, vfs.ReadWrite, 0); err == nil {
				if info, err := f.Stat(); err == nil && info.Nlink == 1 {
					return f, nil
				}
				_ = f.Close()
			}
		}
		if err := fsys.Unlink(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err // another name would end in the same way, and leave a file behind
		}
	case errors.Is(err, fs.ErrExist):
		return nil, err
	}
	f, err := fsys.Open(path, vfs.ReadWrite|vfs.Create|vfs.Exclusive, 0o600)
	if err != nil {
		return nil, err
	}
	if err := f.Allocate(0, undoBytes); err != nil && !errors.Is(err, syscall.EOPNOTSUPP) {
		_ = f.Close()
		_ = fsys.Unlink(path)
		return nil, err
	}
	return f, nil
}

// close ends the log, and prepares one for the next run.
func (u *undoLog) close() {
	if u.f != nil {
		err := u.f.Truncate(u.off)
		if err == nil {
			err = u.f.Datasync()
		}
		if err = errors.Join(err, u.f.Close()); err != nil {
			u.k.logger.Warn("the undo log may not last", "run", u.name, "error", err)
		}
		u.f = nil
	}
	if !u.dry {
		u.k.readyUndo()
	}
}

// prepareUndo makes a log whose space is there, so that a run can note what it lowers when the disk is full.
func (k *Keeper) prepareUndo() error {
	path := filepath.Join(k.undoDir(), undoPrepared)
	if _, err := k.fs.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := vfs.MkdirAll(k.fs, k.undoDir(), 0o700); err != nil {
		return err
	}
	// After a run on a full disk there is what its log did not need: less, but enough for the next one.
	for size := int64(undoBytes); ; size -= undoStep {
		err := vfs.ReplaceFile(k.fs, path, vfs.ReplaceOptions{New: true, Random: k.random, Size: size, Perm: 0o600}, func(f vfs.File) error {
			_, err := f.WriteAt(make([]byte, size), 0)
			return err
		})
		if !errors.Is(writeError(err), ErrNoSpace) || size <= undoStep {
			return ignoreExists(err)
		}
	}
}

func ignoreExists(err error) error {
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}
