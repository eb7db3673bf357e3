package vfs

import (
	"errors"
	"runtime/debug"
	"unsafe"
)

// ErrFault is the error of touching a mapped page that is not there: the file was truncated under the mapping, or the
// disk could not deliver the page.
var ErrFault = errors.New("mapped page is not readable: the file was truncated or the disk failed")

// readFault is what Fault panics with.
type readFault struct{ error }

// Fault ends the guarded call with err, as touching a mapped page that is not there ends it with ErrFault. It is for
// reads that stand in for a mapping: what cannot read a byte must not go on as if the byte were another, and a
// comparison of keys, deep in a search, has no error to return. Outside of a guard it panics.
func Fault(err error) { panic(readFault{err}) }

// ArmFault makes a fault on a mapped page panic in this goroutine instead of ending the process. Use it together with
// [CatchFault], in one deferred call:
//
//	defer vfs.CatchFault(vfs.ArmFault(), mapped, &err)
func ArmFault() bool { return debug.SetPanicOnFault(true) }

// CatchFault ends what ArmFault began and turns a fault inside mapped into ErrFault at *err, and what Fault was given
// into just that. Any other panic goes on.
// It must be deferred directly.
func CatchFault(armed bool, mapped []byte, err *error) {
	debug.SetPanicOnFault(armed)
	r := recover()
	if r == nil {
		return
	}
	if read, ok := r.(readFault); ok {
		*err = read.error
		return
	}
	fault, ok := r.(interface{ Addr() uintptr })
	if !ok || len(mapped) == 0 {
		panic(r)
	}
	start := uintptr(unsafe.Pointer(unsafe.SliceData(mapped)))
	if fault.Addr() < start || fault.Addr() >= start+uintptr(len(mapped)) {
		panic(r)
	}
	*err = ErrFault
}

// Guard runs touch, which may read mapped, and returns ErrFault if a page of it was not there.
func Guard(mapped []byte, touch func() error) (err error) {
	defer CatchFault(ArmFault(), mapped, &err)
	return touch()
}
