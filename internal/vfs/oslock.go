//go:build linux || darwin

package vfs

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// lockMode is what an open file description holds: a [LockKind], or nothing.
type lockMode int

const (
	lockNone lockMode = iota
	lockShared
	lockExclusive
)

func modeFor(kind LockKind) lockMode {
	if kind == Exclusively {
		return lockExclusive
	}
	return lockShared
}

// fileLock is the whole-file lock of one osFile.
//
// A wait in the kernel cannot be called off, so a waiter whose context has ended stays behind and must give its late
// lock back without touching what the file has locked since. Two rules make that safe:
//
//   - Who holds nothing waits on an open file description of its own (the file is opened anew through /proc). Once
//     granted, that description becomes the home of the lock; if nobody wants it any more it is just closed.
//   - Who holds a shared lock and wants it exclusive must wait on the home, else it would wait for itself. The waiter
//     uses a duplicate descriptor, which it alone closes. A late lock is given back by setting the home to what the
//     file holds by then, under mu; and who takes a lock asks for it once more, under mu, before it counts. So the
//     kernel's lock is never less than held while mu is free.
//
// A process that gives up many waits keeps one parked thread for each until its turn comes.
type fileLock struct {
	flag   Flag
	turn   chan struct{} // held by the one Lock or TryLock call at work
	closed chan struct{}

	mu   sync.Mutex
	data *lockFD // the descriptor for reading and writing
	home *lockFD // whose description carries the lock: data, or one that waited
	held lockMode
	dead bool
}

type lockFD struct{ fd int }

// lockWait is one wait in the kernel. Its goroutine owns fd until the wait is settled.
type lockWait struct {
	fd   int
	home *lockFD // the description that fd belongs to
	mode lockMode
	done chan error
	// abandoned and settled are guarded by fileLock.mu; the first to be set wins.
	abandoned, settled bool
}

func (l *fileLock) init(fd int, flag Flag) {
	l.flag = flag
	l.turn, l.closed = make(chan struct{}, 1), make(chan struct{})
	l.data = &lockFD{fd}
	l.home = l.data
}

func (f *osFile) TryLock(kind LockKind) error {
	select {
	case f.lock.turn <- struct{}{}:
	default:
		return pathError("lock", f.name, unix.EAGAIN)
	}
	defer func() { <-f.lock.turn }()
	return pathError("lock", f.name, f.lock.try(modeFor(kind)))
}

func (f *osFile) Lock(ctx context.Context, kind LockKind) error {
	l := &f.lock
	if ctx.Err() != nil {
		return pathError("lock", f.name, context.Cause(ctx))
	}
	select {
	case l.turn <- struct{}{}:
	case <-ctx.Done():
		return pathError("lock", f.name, context.Cause(ctx))
	case <-l.closed:
		return pathError("lock", f.name, unix.EBADF)
	}
	defer func() { <-l.turn }()
	mode := modeFor(kind)
	if err := l.try(mode); err != unix.EAGAIN {
		return pathError("lock", f.name, err)
	}
	w, err := l.startWait(mode)
	if err != nil {
		return pathError("lock", f.name, l.poll(ctx, mode))
	}
	select {
	case err = <-w.done:
	case <-ctx.Done():
		err = l.abandon(w, context.Cause(ctx))
	case <-l.closed:
		err = l.abandon(w, unix.EBADF)
	}
	return pathError("lock", f.name, err)
}

func (f *osFile) Unlock() error {
	l := &f.lock
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dead {
		return pathError("unlock", f.name, unix.EBADF)
	}
	return pathError("unlock", f.name, l.drop())
}

// drop gives the lock back and brings it home to the data descriptor.
func (l *fileLock) drop() error {
	err := setLock(l.home.fd, lockNone, false)
	if l.home != l.data {
		_ = unix.Close(l.home.fd)
		l.home = l.data
	}
	l.held = lockNone
	return err
}

// close ends all waits and drops the lock. A second call does nothing.
func (l *fileLock) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dead {
		return
	}
	if l.held != lockNone {
		_ = l.drop()
	}
	l.dead = true
	close(l.closed)
}

// try takes the lock if that is possible at once, else it returns EAGAIN itself.
func (l *fileLock) try(mode lockMode) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dead {
		return unix.EBADF
	}
	if err := setLock(l.home.fd, mode, false); err != nil {
		return err
	}
	l.held = mode
	return nil
}

func (l *fileLock) startWait(mode lockMode) (*lockWait, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dead {
		return nil, unix.EBADF
	}
	w := &lockWait{mode: mode, done: make(chan error, 1)}
	var err error
	if l.held == lockNone {
		w.fd, err = reopen(l.data.fd, l.flag)
		w.home = &lockFD{w.fd}
	} else {
		w.fd, err = retryInt(func() (int, error) { return unix.FcntlInt(uintptr(l.home.fd), unix.F_DUPFD_CLOEXEC, 0) })
		w.home = l.home
	}
	if err != nil {
		return nil, err
	}
	go func() {
		for !l.settle(w, setLock(w.fd, w.mode, true)) {
		}
	}()
	return w, nil
}

// settle ends a wait with the kernel's answer. It returns false if the wait must begin anew, because the give-back of
// an earlier waiter on the same description came between.
func (l *fileLock) settle(w *lockWait, err error) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if w.abandoned || l.dead {
		if err == nil {
			l.giveBack(w)
		}
		_ = unix.Close(w.fd)
		w.done <- unix.EBADF
		return true
	}
	if err == nil {
		err = setLock(w.fd, w.mode, false)
		if err == unix.EAGAIN {
			return false
		}
	}
	w.settled = true
	switch {
	case err != nil:
		_ = unix.Close(w.fd)
	case w.home == l.home:
		l.held = w.mode
		_ = unix.Close(w.fd)
	default:
		l.held = w.mode
		l.home = w.home
	}
	w.done <- err
	return true
}

// giveBack sets the description that a late lock came to to what the file holds there now.
func (l *fileLock) giveBack(w *lockWait) {
	mode := lockNone
	if w.home == l.home && !l.dead {
		mode = l.held
	}
	_ = setLock(w.fd, mode, false)
}

// abandon leaves a wait behind. If its lock came just before, the call has succeeded after all.
func (l *fileLock) abandon(w *lockWait, cause error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if w.settled {
		err := <-w.done
		if err == nil && l.dead {
			return unix.EBADF
		}
		return err
	}
	w.abandoned = true
	return cause
}

// poll asks again and again: the last resort where the file cannot be opened anew (no /proc, or privileges dropped
// since). Others may overtake it.
func (l *fileLock) poll(ctx context.Context, mode lockMode) error {
	pause := time.Millisecond
	for {
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		case <-l.closed:
			timer.Stop()
			return unix.EBADF
		}
		if err := l.try(mode); err != unix.EAGAIN {
			return err
		}
		pause = min(2*pause, 50*time.Millisecond)
	}
}
