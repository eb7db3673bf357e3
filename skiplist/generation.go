package skiplist

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/mailspine/mailspine/internal/planted"
	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/skiplist/internal/codec"
)

// generation is one inode that the database's path has led to. A checkpoint makes a new one; snapshots keep the old
// one open until they are closed.
type generation struct {
	path string
	// rd is read, mapped, and holds the shared lock. wr is written and holds the exclusive lock. They are two opens of
	// one inode, so that a reader and a writer of this process exclude each other only as two processes do. wr is nil
	// in a database open for reading.
	rd, wr vfs.File
	id     vfs.Info // Dev and Ino

	// named is set once this process has seen to it that the name is durable. Belongs to the holder of the turn.
	named bool

	refs atomic.Int64

	mu   sync.Mutex
	maps []vfs.Mapping // the last is the longest; shorter ones live on because views use them
}

// acquire takes a reference; it fails if the generation is closed already.
func (g *generation) acquire() bool {
	for {
		n := g.refs.Load()
		if n == 0 {
			return false
		}
		if g.refs.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// release gives a reference back; the last one closes the files.
func (g *generation) release() {
	if g.refs.Add(-1) > 0 {
		return
	}
	for _, m := range g.maps {
		_ = m.Close()
	}
	_ = g.rd.Close()
	if g.wr != nil {
		_ = g.wr.Close()
	}
}

// view returns a view of the first size bytes. Hosts that cannot map get one that reads.
func (g *generation) view(size int64) *codec.View {
	return &codec.View{Path: g.path, Size: size, File: g.rd, Mem: g.mapped(size)}
}

// minMap is the smallest mapping. Mappings are made twice as long as needed: what the file grows by shows in them, so
// that a growing file is mapped a few times only.
const minMap = 4 << 10

func (g *generation) mapped(size int64) []byte {
	if strconv.IntSize == 32 {
		return nil // the address space is too small to keep mappings in it
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if n := len(g.maps); n > 0 {
		if b := g.maps[n-1].Bytes(); int64(len(b)) >= size {
			return b
		}
	}
	if size > math.MaxInt64/4 {
		return nil
	}
	m, err := g.rd.Map(max(minMap, 2*size))
	if err != nil {
		return nil // the view reads instead
	}
	g.maps = append(g.maps, m)
	return m.Bytes()
}

// openGeneration opens what path leads to now.
func openGeneration(fsys vfs.FS, path string, readOnly bool) (*generation, error) {
	flag := vfs.ReadWrite
	if readOnly {
		flag = vfs.ReadOnly
	}
	for range 100 {
		rd, err := fsys.Open(path, flag, 0)
		if errors.Is(err, vfs.ErrNotRegular) {
			return nil, fmt.Errorf("%s is a device, a FIFO or a socket: %w", path, ErrNotDatabase)
		}
		if err != nil {
			return nil, err
		}
		g := &generation{path: path, rd: rd}
		g.refs.Store(1)
		if g.id, err = rd.Stat(); err != nil {
			g.release()
			return nil, err
		}
		if g.id.Mode.IsDir() {
			g.release()
			return nil, fmt.Errorf("%s is a directory: %w", path, ErrNotDatabase)
		}
		if readOnly {
			return g, nil
		}
		if g.wr, err = fsys.Open(path, flag, 0); err != nil {
			g.release()
			return nil, err
		}
		info, err := g.wr.Stat()
		if err != nil {
			g.release()
			return nil, err
		}
		if info.SameFile(g.id) || planted.On(planted.TwoInodes) {
			return g, nil
		}
		g.release() // the file was replaced between the two opens
	}
	return nil, fmt.Errorf("%s: the file is being replaced over and over", path)
}

// openNamed opens the file that the path leads to, for reading, and takes its shared lock if that is asked for; releasing
// the generation gives it back. For those who hold the lock for long: on an open file of their own nobody gives back the
// lock that another of this process has.
func (db *DB) openNamed(ctx context.Context, locked bool) (*generation, vfs.Info, error) {
	if st := db.state.Load(); st != nil && planted.On(planted.CheckLockShared) && st.gen.acquire() {
		if info, named, err := db.lockNamed(ctx, st.gen, locked); err == nil && named {
			return st.gen, info, nil
		}
		st.gen.release()
	}
	for {
		g, err := openGeneration(db.fs, db.path, true)
		if err != nil {
			return nil, vfs.Info{}, err
		}
		info, named, err := db.lockNamed(ctx, g, locked)
		if err == nil && (named || planted.On(planted.CheckInode)) {
			return g, info, nil
		}
		g.release()
		if err != nil {
			return nil, vfs.Info{}, err
		}
	}
}

// lockNamed takes the shared lock of a generation, if that is asked for, describes the file, and tells whether the path
// still leads to it: it may have been replaced during the wait, and Cyrus empties what it replaces. Without named, or with
// an error, it leaves no lock.
func (db *DB) lockNamed(ctx context.Context, g *generation, locked bool) (info vfs.Info, named bool, err error) {
	if err := context.Cause(ctx); err != nil {
		return info, false, err
	}
	if locked {
		if err := g.rd.Lock(ctx, vfs.Shared); err != nil {
			return info, false, fmt.Errorf("lock %s: %w", db.path, err)
		}
	}
	if info, err = g.rd.Stat(); err == nil {
		var at vfs.Info
		at, err = db.fs.Stat(db.path)
		named = err == nil && at.SameFile(info)
	}
	if locked && !named && !planted.On(planted.CheckInode) {
		_ = g.rd.Unlock() // a published state may keep the file open
	}
	return info, named, err
}
