package index

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/internal/vfs/simfs"
)

// TestWholeRecordsStay brings back the entry of a change after a later one has changed other messages: in no version is a
// record that lies across the edge of a sector taken for a torn one, and set back over an acknowledged change.
func TestWholeRecordsStay(t *testing.T) {
	t.Parallel()
	for _, v := range Versions() {
		fsys := simfs.New(simfs.Options{NoTrace: true})
		m := newTestBox(t, fsys, v)
		for range 14 {
			appendTo(t, m, text(1), 0)
		}
		slot := filepath.Join(m.place.Journal, "slot.0")
		var entry []byte
		m.opts.Committed = func(context.Context, Committed) {
			b, err := vfs.ReadFile(fsys, slot)
			require.NoError(t, err)
			entry = b
		}
		flag := func(f Flags, uids ...UID) {
			require.NoError(t, m.Update(t.Context(), func(tx *Tx) error {
				for _, uid := range uids {
					if _, err := tx.SetFlags(uid, FlagChange{Op: AddFlags, Flags: f}); err != nil {
						return err
					}
				}
				return nil
			}))
		}
		flag(FlagAnswered, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13)
		first := entry
		flag(FlagFlagged, 1)
		before := fileBytes(t, fsys, m.place.Paths.Index)
		write(t, fsys, slot, first)
		found, err := Recover(t.Context(), fsys, m.place, OpenOptions{})
		require.NoError(t, err)
		require.Len(t, found, 1)
		require.Equal(t, Overtaken, found[0].Outcome)
		require.Equal(t, before, fileBytes(t, fsys, m.place.Paths.Index), "version %d", v)
	}
}
