package fuzz

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/mailspine/mailspine/skiplist"
)

// grabber is whoever fills the disk: it takes every block that becomes free.
type grabber struct {
	stop  atomic.Bool
	done  chan error
	ready chan struct{} // closed when the disk was full for the first time
}

// grabAll fills a disk and goes on to take whatever becomes free, until it is stopped.
func grabAll(dir string) (stop func() error, err error) {
	path := filepath.Join(dir, "core")
	g, err := grab(path)
	if err != nil {
		return nil, err
	}
	select {
	case <-g.ready:
	case err := <-g.done:
		return nil, fmt.Errorf("fill the disk: %w", err)
	case <-time.After(30 * time.Second):
		return nil, errors.Join(errors.New("the disk does not get full"), g.end())
	}
	return func() error { return errors.Join(g.end(), os.Remove(path)) }, nil
}

// grab appends to a file for as long as it lives, in pieces from large to a single byte.
func grab(path string) (*grabber, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	g := &grabber{done: make(chan error, 1), ready: make(chan struct{})}
	go func() {
		defer f.Close()
		g.done <- g.run(f)
	}()
	return g, nil
}

func (g *grabber) run(f *os.File) error {
	block := make([]byte, 64<<10)
	size, full := len(block), false
	for !g.stop.Load() {
		_, err := f.Write(block[:size])
		switch {
		case errors.Is(err, syscall.ENOSPC):
			if size = max(size/16, 1); size == 1 {
				if !full {
					full = true
					_ = f.Sync() // a disk that allocates late says so only now
					close(g.ready)
				}
				time.Sleep(20 * time.Microsecond)
				size = 4096
			}
		case err != nil:
			return err
		}
	}
	return nil
}

// end stops the grabber; its file stays.
func (g *grabber) end() error {
	g.stop.Store(true)
	return <-g.done
}

// TestDeleteAtZeroBytes fills a disk to the last byte, with somebody waiting for every block that is freed: single-key
// deletions work until the reserve of 64 KiB is used up, 12 bytes each in skiplist and 56 in twoskip; then the answer is
// ErrNoSpace, nothing is lost, reads go on; and when there is space again all goes on.
func TestDeleteAtZeroBytes(t *testing.T) {
	if !namespaced(t) {
		return
	}
	needTmpfs(t)
	kinds := []struct {
		kind  string
		bytes int64
		// promised is set where allocated space is kept.
		promised bool
	}{{"tmpfs", 16 << 20, true}, {"ext4", 32 << 20, true}, {"xfs", 320 << 20, true}, {"btrfs", 128 << 20, false}}
	for _, k := range kinds[:min(campaign(1, len(kinds)), len(kinds))] {
		for _, f := range []skiplist.Format{skiplist.Skiplist, skiplist.Twoskip} {
			t.Run(k.kind+"/"+string(f), func(t *testing.T) {
				dir := t.TempDir()
				d, err := mountKind(dir, k.kind, k.bytes)
				if errors.Is(err, errNoMount) {
					t.Skip(err)
				}
				require.NoError(t, err)
				n, err := deleteAtZero(d, &judge{format: f, cyrus: startCyrus(t)}, k.promised)
				if err = errors.Join(err, d.unmount()); err != nil {
					failCell(t, cell(k.kind, f), err, nil)
				}
				want := skiplist.DefaultReserve / map[skiplist.Format]int{skiplist.Skiplist: 12, skiplist.Twoskip: 56}[f]
				if k.promised {
					require.GreaterOrEqual(t, n, want, "deletions at zero bytes free")
				}
				t.Logf("%d deletions at zero bytes free (promised %d: %v), 0 lost", n, want, k.promised)
			})
		}
	}
}

// mountKind mounts a fresh disk below dir, its image beside it.
func mountKind(dir, kind string, bytes int64) (*disk, error) {
	at := filepath.Join(dir, "disk")
	if kind == "tmpfs" {
		return mountTmpfs(at, fmt.Sprintf("size=%d", bytes))
	}
	image := filepath.Join(dir, "image")
	if err := makeImage(image, kind, bytes); err != nil {
		return nil, err
	}
	return mountImage(image, kind, at)
}

// deleteAtZero returns how many deletions worked on the full disk.
func deleteAtZero(d *disk, j *judge, promised bool) (deleted int, err error) {
	u := &full{path: filepath.Join(d.dir, "db"), j: j, acked: map[string]string{}}
	db, err := skiplist.Open(ctx, u.path, skiplist.Options{Format: j.format, Create: true})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, closeIf(db)) }()
	keys := make([]string, 12_000)
	var all member
	for i := range keys {
		keys[i] = fmt.Sprintf("user.%05d", i*7919%len(keys))
		all = append(all, op{key: keys[i], value: "default"})
	}
	all.apply(u.acked)
	if err := db.Update(ctx, all.run); err != nil {
		return 0, err
	}
	stop, err := grabAll(d.dir)
	if err != nil {
		return 0, err
	}
	err = u.starve(db, keys, &deleted, promised)
	if err = errors.Join(err, stop()); err != nil {
		return deleted, err
	}
	if d.kind == "btrfs" { // it frees blocks later
		root, err := os.Open(d.dir)
		if err != nil {
			return deleted, err
		}
		if err := errors.Join(unix.Syncfs(int(root.Fd())), root.Close()); err != nil {
			return deleted, err
		}
	}
	if err := u.goOn(db); err != nil {
		db = nil
		return deleted, fmt.Errorf("when there is space: %w", err)
	}
	db = nil
	return deleted, nil
}

// starve deletes key after key until there is no space for that either.
func (u *full) starve(db *skiplist.DB, keys []string, deleted *int, promised bool) error {
	if err := db.Put(ctx, []byte("more"), make([]byte, 300<<10)); !errors.Is(err, skiplist.ErrNoSpace) && promised {
		return fmt.Errorf("the disk is not full: a large put gives %w", err)
	} else if err == nil {
		u.acked["more"] = string(make([]byte, 300<<10))
	}
	for i, k := range keys {
		err := db.Delete(ctx, []byte(k))
		if errors.Is(err, skiplist.ErrNoSpace) {
			break
		}
		if err != nil {
			return fmt.Errorf("deletion %d on a full disk: %w", i, err)
		}
		delete(u.acked, k)
		*deleted++
	}
	if *deleted == len(keys) && promised {
		return errors.New("there was always space to delete: the disk was not full")
	}
	return u.look(db)
}
