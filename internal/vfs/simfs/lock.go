package simfs

import (
	"context"
	"syscall"

	"github.com/mailspine/mailspine/internal/vfs"
)

// TryLock takes the lock if no other open file holds one that conflicts.
func (f *File) TryLock(kind vfs.LockKind) error {
	if err := f.enter("trylock"); err != nil {
		return err
	}
	defer f.v.d.mu.Unlock()
	return pathError("lock", f.name, f.take(kind))
}

// Lock waits for the lock. Outside of [Run], with a context that cannot end, a wait would be for ever if the caller is
// the only goroutine: it fails with EDEADLK instead.
func (f *File) Lock(ctx context.Context, kind vfs.LockKind) error {
	for {
		if ctx.Err() != nil {
			return pathError("lock", f.name, context.Cause(ctx))
		}
		if err := f.enter("lock"); err != nil {
			return err
		}
		err := f.take(kind)
		if err == syscall.EAGAIN && f.v.d.sched == nil && ctx.Done() == nil {
			err = syscall.EDEADLK
		}
		if err != syscall.EAGAIN {
			f.v.d.mu.Unlock()
			return pathError("lock", f.name, err)
		}
		if f.node.changed == nil {
			f.node.changed = make(chan struct{})
		}
		w := &lockWait{ctx: ctx, changed: f.node.changed}
		f.v.d.mu.Unlock()
		f.v.d.sched.waits(w)
		select {
		case <-w.changed:
		case <-ctx.Done():
		}
		f.v.d.sched.waited(w)
	}
}

// lockWait is a goroutine that waits for a lock.
type lockWait struct {
	ctx     context.Context
	changed chan struct{}
}

// over tells whether the goroutine has a reason to go on.
func (w *lockWait) over() bool {
	select {
	case <-w.changed:
		return true
	default:
		return w.ctx.Err() != nil
	}
}

func (f *File) take(kind vfs.LockKind) error {
	if kind == vfs.Exclusively && f.flag&vfs.ReadWrite == 0 {
		return syscall.EBADF
	}
	i := f.node
	for other, held := range i.locks {
		if other != f && (kind == vfs.Exclusively || held == vfs.Exclusively) {
			return syscall.EAGAIN
		}
	}
	if i.locks == nil {
		i.locks = map[*File]vfs.LockKind{}
	}
	held, had := i.locks[f]
	i.locks[f] = kind
	if had && held == vfs.Exclusively && kind == vfs.Shared {
		i.wake()
	}
	return nil
}

func (f *File) Unlock() error {
	if err := f.enter("unlock"); err != nil {
		return err
	}
	defer f.v.d.mu.Unlock()
	f.node.unlock(f)
	return nil
}

func (i *inode) unlock(f *File) {
	if _, had := i.locks[f]; had {
		delete(i.locks, f)
		i.wake()
	}
}

// wake lets those who wait for a lock ask again.
func (i *inode) wake() {
	if i.changed != nil {
		close(i.changed)
		i.changed = nil
	}
}
