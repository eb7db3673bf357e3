// Package bounded holds, in tests, that reading something costs no more than a multiple of its size.
package bounded

import (
	"runtime"
	"testing"
	"time"
)

const (
	// setup is what may be spent on an input of any size: tables that are made once, a parser's buffers.
	setupBytes = 8 << 20
	setupTime  = 3 * time.Second
	// perByte is the time for a byte, some hundred times what any reader here needs, so that a loaded machine and the
	// race detector are no reason to fail. A quadratic reader exceeds it with an input of some hundred thousand bytes.
	perByte = 4 * time.Microsecond
)

// Run calls read, which reads an input of size bytes, and fails the test if more than multiple bytes are allocated for each
// byte of it, counted even if they are given back at once, or if the time is not linear in the size. Nothing else may run
// in the process meanwhile that allocates much.
func Run(t testing.TB, size int, multiple uint64, read func()) {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	begin := time.Now()
	read()
	took := time.Since(begin)
	runtime.ReadMemStats(&after)
	if limit := setupTime + time.Duration(size)*perByte; took > limit {
		t.Errorf("%d bytes took %v, more than %v", size, took, limit)
	}
	if used, limit := after.TotalAlloc-before.TotalAlloc, setupBytes+multiple*uint64(size); used > limit {
		t.Errorf("%d bytes of memory were allocated for %d bytes, more than %d", used, size, limit)
	}
}
