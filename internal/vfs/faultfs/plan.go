// Package faultfs makes chosen calls of a vfs.FS fail: the N-th one, all from there on, or every second one, with any
// errno, and writes also after a part of their bytes.
//
// A test runs its workload for N = 0, 1, 2, ... until the plan has not fired any more, and so visits every call:
//
//	for n := 0; ; n++ {
//		plan := &faultfs.Plan{N: n, Err: syscall.ENOSPC}
//		run(faultfs.Wrap(disk(), plan))
//		if !plan.Fired() {
//			break
//		}
//	}
package faultfs

import (
	"fmt"
	"strings"
	"sync"
	"syscall"
)

// Kind is a set of kinds of calls.
type Kind uint32

const (
	Open Kind = 1 << iota
	// Create is an Open with the flag Create; it counts as this and not as Open.
	Create
	Read
	Write
	Truncate
	Allocate
	Datasync
	Sync
	SyncDir
	Rename
	Exchange
	Link
	Unlink
	Mkdir
	Rmdir
	Metadata
	Stat
	ReadDir
	StatFS
	Lock
	Unlock
	Map
	Sole
	Close
	SharedWord

	// Modifying are the calls that change the disk, or promise that it changed.
	Modifying = Create | Write | Truncate | Allocate | Syncs | Rename | Exchange | Link | Unlink | Mkdir | Rmdir | Metadata
	// Syncs are the calls that make something durable.
	Syncs = Datasync | Sync | SyncDir
	// All are all calls but Unlock and Close, whose failure changes nothing: name them to have them fail.
	All = SharedWord<<1 - 1 - Unlock - Close
)

var kindNames = []string{
	"open", "create", "read", "write", "truncate", "allocate", "datasync", "sync", "syncdir", "rename", "exchange",
	"link", "unlink", "mkdir", "rmdir", "metadata", "stat", "readdir", "statfs", "lock", "unlock", "map", "sole", "close",
	"sharedword",
}

func (k Kind) String() string {
	var names []string
	for bit, name := range kindNames {
		if k>>bit&1 == 1 {
			names = append(names, name)
		}
	}
	return strings.Join(names, "|")
}

// Mode is what happens after the first fault.
type Mode int

const (
	// Once lets everything later succeed.
	Once Mode = iota
	// Onwards fails every later call of the class: all modifying calls if the first fault hit one, else all of its
	// kind. Suffix still applies, Kinds does not.
	Onwards
	// EverySecond fails every second counted call from the first fault on.
	EverySecond
)

func (m Mode) String() string { return [...]string{"once", "onwards", "every second"}[m] }

// Short is how much of a failing write is written first.
type Short int

const (
	Nothing Short = iota
	OneByte
	ThreeBytes
	Half
	AllButOne
	// ToPageEdge writes up to the next multiple of 4096 in the file.
	ToPageEdge
)

// Shorts lists all classes, for loops.
var Shorts = []Short{Nothing, OneByte, ThreeBytes, Half, AllButOne, ToPageEdge}

func (s Short) length(off int64, n int) int {
	k := 0
	switch s {
	case OneByte:
		k = 1
	case ThreeBytes:
		k = 3
	case Half:
		k = n / 2
	case AllButOne:
		k = n - 1
	case ToPageEdge:
		k = int(4096 - off%4096)
	}
	return max(0, min(k, n-1))
}

// Plan says which calls fail and how. The zero value fails the first call with EIO. A plan serves one Wrap.
type Plan struct {
	// N is how many counted calls go well before the first fault.
	N int
	// Kinds are the calls that count; All by default.
	Kinds Kind
	// Suffix, if set, counts only calls on paths that end in it.
	Suffix string
	// Err is the errno of the faults; EIO by default.
	Err  syscall.Errno
	Mode Mode
	// Short is for writes: they fail after so much was written.
	Short Short
	// After carries the call out, and then reports the error all the same.
	After bool

	mu     sync.Mutex
	count  int
	fired  int
	class  Kind // of the first fault, for Onwards
	first  Kind // that of the first fault
	off    bool
	report string
}

// At is a plan like this one, with its first fault at call n. It has counted nothing yet.
func (p *Plan) At(n int) *Plan {
	return &Plan{N: n, Kinds: p.Kinds, Suffix: p.Suffix, Err: p.Err, Mode: p.Mode, Short: p.Short, After: p.After}
}

// Fired tells whether there was a fault.
func (p *Plan) Fired() bool { return p.Faults() > 0 }

// Faults is the number of faults so far.
func (p *Plan) Faults() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.fired
}

// Hit is the kind of call that the first fault hit, 0 before it.
func (p *Plan) Hit() Kind {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.first
}

// Count is the number of calls counted so far.
func (p *Plan) Count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.count
}

// Stop ends all faults: the disk is well again.
func (p *Plan) Stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.off = true
}

// String says what was planned, and what the first fault hit.
func (p *Plan) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := fmt.Sprintf("fault at call %d with %v (%v, short %d, after %v)", p.N, p.errno(), p.Mode, p.Short, p.After)
	if p.report != "" {
		s += ", hit " + p.report
	}
	return s
}

func (p *Plan) errno() syscall.Errno {
	if p.Err == 0 {
		return syscall.EIO
	}
	return p.Err
}

// hit counts a call and tells whether it fails.
func (p *Plan) hit(kind Kind, name string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.off || !strings.HasSuffix(name, p.Suffix) {
		return false
	}
	if p.Mode == Onwards && p.fired > 0 {
		if kind&p.class == 0 {
			return false
		}
		p.fired++
		return true
	}
	kinds := p.Kinds
	if kinds == 0 {
		kinds = All
	}
	if kind&kinds == 0 {
		return false
	}
	at := p.count
	p.count++
	if at != p.N && !(p.Mode == EverySecond && at > p.N && (at-p.N)%2 == 0) {
		return false
	}
	if p.fired == 0 {
		p.class, p.first = kind, kind
		if kind&Modifying != 0 {
			p.class = Modifying
		}
		p.report = kind.String() + " " + name
	}
	p.fired++
	return true
}
