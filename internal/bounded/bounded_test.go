package bounded

import (
	"testing"
	"time"
)

// recorder is a test that may fail.
type recorder struct {
	testing.TB
	failed bool
}

func (r *recorder) Helper()               {}
func (r *recorder) Errorf(string, ...any) { r.failed = true }

var sink []byte

// TestRun: what is within the bounds passes, and what allocates or lasts too much fails.
func TestRun(t *testing.T) {
	for name, c := range map[string]struct {
		read   func()
		failed bool
	}{
		"nothing":         {func() {}, false},
		"twice the size":  {func() { sink = make([]byte, 2<<20) }, false},
		"a thousand fold": {func() { sink = make([]byte, 100<<20) }, true},
		"in small pieces": {func() {
			for range 100 << 10 {
				sink = make([]byte, 1<<10)
			}
		}, true},
		"slow": {func() { time.Sleep(setupTime + time.Second/2) }, true},
	} {
		t.Run(name, func(t *testing.T) {
			r := &recorder{TB: t}
			size := 1 << 20
			if name == "slow" {
				size = 1
			}
			Run(r, size, 4, c.read)
			if r.failed != c.failed {
				t.Errorf("failed is %t", r.failed)
			}
		})
	}
}
