package index

import (
	"testing"

	"github.com/mailspine/mailspine/internal/vfs/simfs"
)

// TestLeftCache appends to a mailbox in which a crash of its first append has left a cyrus.cache of garbage.
func TestLeftCache(t *testing.T) {
	t.Parallel()
	for _, left := range []string{"", "\x00\x00", "garbage and more garbage"} {
		fsys := simfs.New(simfs.Options{NoTrace: true})
		m := newTestBox(t, fsys, VersionWritten)
		write(t, fsys, m.place.Paths.Cache, []byte(left))
		appendTo(t, m, text(1), 0)
		checkBox(t, fsys, m.place)
	}
}
