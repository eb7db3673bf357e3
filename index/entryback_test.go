package index

import (
	"context"
	"path/filepath"
	"slices"
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
		b := newEntryBox(t, v, 1, 2)
		for range 2 {
			for uid := UID(1); uid <= 2; uid++ {
				b.flag(FlagChange{Op: AddFlags, Flags: FlagFlagged}, uid)
				b.flag(FlagChange{Op: RemoveFlags, Flags: FlagFlagged}, uid)
			}
		}
		b.flag(FlagChange{Op: AddFlags, Flags: FlagFlagged}, 2)
		require.Len(t, b.entries, 9)
		for i, entry := range b.entries[:8] {
			b.overtaken(entry, "version %d, change %d", v, i)
		}
	}
}

// TestWholeRecordsStay brings back the entry of a change after a later one has changed other messages: in no version is a
// record that lies across the edge of a sector taken for a torn one, and set back over an acknowledged change.
func TestWholeRecordsStay(t *testing.T) {
	t.Parallel()
	for _, v := range Versions() {
		b := newEntryBox(t, v, slices.Repeat([]int{1}, 14)...)
		b.flag(FlagChange{Op: AddFlags, Flags: FlagAnswered}, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13)
		b.flag(FlagChange{Op: AddFlags, Flags: FlagFlagged}, 1)
		b.overtaken(b.entries[0], "version %d", v)
	}
}

// TestHeaderEntryComesBack brings back the entries of changes of cyrus.header alone: the rights that a mailbox has are those that
// were given last. Before version 12 cyrus.index has no checksum of cyrus.header, so that nothing else in it would change.
func TestHeaderEntryComesBack(t *testing.T) {
	t.Parallel()
	for _, v := range Versions() {
		b := newEntryBox(t, v)
		for _, rights := range []string{"lrs", "lr", "l"} {
			require.NoError(t, b.m.Update(t.Context(), func(tx *Tx) error {
				return tx.EditHeaderFile(func(h *HeaderFile) error {
					h.ACL = []ACLEntry{{Identifier: "u", Rights: "lrswipkxtecda"}, {Identifier: "anyone", Rights: rights}}
					return nil
				})
			}))
		}
		before := fileBytes(t, b.fs, b.m.place.Paths.Header)
		for i, entry := range b.entries[:2] {
			b.overtaken(entry, "version %d, change %d", v, i)
			require.Equal(t, before, fileBytes(t, b.fs, b.m.place.Paths.Header))
		}
	}
}

// entryBox is a mailbox of which the journal's entry of each change of flags is kept.
type entryBox struct {
	t       *testing.T
	fs      *simfs.FS
	m       *Mailbox
	slot    string
	entries [][]byte
}

func newEntryBox(t *testing.T, v Version, texts ...int) *entryBox {
	b := &entryBox{t: t, fs: simfs.New(simfs.Options{NoTrace: true})}
	b.m = newTestBox(t, b.fs, v)
	for _, n := range texts {
		appendTo(t, b.m, text(n), 0)
	}
	b.slot = filepath.Join(b.m.place.Journal, "slot.0")
	b.m.opts.Committed = func(context.Context, Committed) {
		entry, err := vfs.ReadFile(b.fs, b.slot)
		require.NoError(t, err)
		b.entries = append(b.entries, entry)
	}
	return b
}

// flag changes the flags of messages in one transaction.
func (b *entryBox) flag(c FlagChange, uids ...UID) {
	require.NoError(b.t, b.m.Update(b.t.Context(), func(tx *Tx) error {
		for _, uid := range uids {
			if _, err := tx.SetFlags(uid, c); err != nil {
				return err
			}
		}
		return nil
	}))
}

// overtaken brings back an entry: a recovery finds that it was overtaken, and changes nothing.
func (b *entryBox) overtaken(entry []byte, why ...any) {
	index := b.m.place.Paths.Index
	before := fileBytes(b.t, b.fs, index)
	write(b.t, b.fs, b.slot, entry)
	found, err := Recover(b.t.Context(), b.fs, b.m.place, OpenOptions{})
	require.NoError(b.t, err)
	require.Len(b.t, found, 1)
	require.Equal(b.t, Overtaken, found[0].Outcome, why...)
	require.Equal(b.t, before, fileBytes(b.t, b.fs, index), why...)
}

func fileBytes(t testing.TB, fsys vfs.FS, path string) string {
	b, err := vfs.ReadFile(fsys, path)
	require.NoError(t, err)
	return string(b)
}
