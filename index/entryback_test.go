package index

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/internal/vfs/simfs"
)

// TestEntryComesBack has a crash bring back each entry of the journal long after its change was finished, as the clearing
// of an entry is not synced: nothing is taken back, and nothing is done again. The same flag goes from one message to
// another and back, so that all counts in the header are as they were, and before version 8 there are no modseqs.
func TestEntryComesBack(t *testing.T) {
	t.Parallel()
	for _, v := range Versions() {
		fsys := simfs.New(simfs.Options{NoTrace: true})
		m := newTestBox(t, fsys, v)
		appendTo(t, m, text(1), 0)
		appendTo(t, m, text(2), 0)
		slot := filepath.Join(m.place.Journal, "slot.0")
		var entries [][]byte
		m.opts.Committed = func(context.Context, Committed) {
			b, err := vfs.ReadFile(fsys, slot)
			require.NoError(t, err)
			entries = append(entries, b)
		}
		change := func(uid UID, op FlagOp) {
			require.NoError(t, m.Update(t.Context(), func(tx *Tx) error {
				_, err := tx.SetFlags(uid, FlagChange{Op: op, Flags: FlagFlagged})
				return err
			}))
		}
		for range 2 {
			for uid := UID(1); uid <= 2; uid++ {
				change(uid, AddFlags)
				change(uid, RemoveFlags)
			}
		}
		change(2, AddFlags)
		for i, b := range entries[:len(entries)-1] {
			write(t, fsys, slot, b)
			before := fileBytes(t, fsys, m.place.Paths.Index)
			found, err := Recover(t.Context(), fsys, m.place, OpenOptions{})
			require.NoError(t, err)
			require.Len(t, found, 1)
			require.Equal(t, Overtaken, found[0].Outcome, "version %d, change %d", v, i)
			require.Equal(t, before, fileBytes(t, fsys, m.place.Paths.Index))
		}
	}
}

func fileBytes(t testing.TB, fsys vfs.FS, path string) string {
	b, err := vfs.ReadFile(fsys, path)
	require.NoError(t, err)
	return string(b)
}
