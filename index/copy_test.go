package index

import (
	"context"
	"fmt"
	"io/fs"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/internal/vfs/simfs"
)

// twoBoxes makes two mailboxes of two versions on one disk.
func twoBoxes(t testing.TB, fsys *simfs.FS, from, to Version) (a, b *Mailbox) {
	boxes := make([]*Mailbox, 2)
	for i, v := range []Version{from, to} {
		c := newbox
		c.Version = v
		dir := fmt.Sprintf("/box%d", i)
		p := PlaceIn(dir)
		_, err := Create(t.Context(), fsys, p, c)
		require.NoError(t, err)
		boxes[i] = openTestBox(t, fsys, p, OpenOptions{})
	}
	return boxes[0], boxes[1]
}

func TestCopy(t *testing.T) {
	t.Parallel()
	for _, v := range [][2]Version{{17, 17}, {17, 20}, {20, 17}, {10, 17}, {17, 10}, {13, 16}, {12, 17}} {
		fsys := simfs.New(simfs.Options{NoTrace: true})
		a, b := twoBoxes(t, fsys, v[0], v[1])
		appendTo(t, b, text(9), 0, "Other", "Work")
		for n := 1; n <= 4; n++ {
			appendTo(t, a, text(n), FlagFlagged, "Work", fmt.Sprintf("own%d", n))
		}
		ctx := t.Context()
		got, err := Copy(ctx, a, b, []UID{2, 4}, CopyOptions{})
		require.NoError(t, err)
		require.Equal(t, []Copied{{2, 2}, {4, 3}}, got)
		rec, err := b.Record(ctx, 3)
		require.NoError(t, err)
		names, err := b.FlagNames(rec.Flags, rec.UserFlags)
		require.NoError(t, err)
		require.Equal(t, []string{`\Flagged`, "Work", "own4"}, names)
		info, err := fsys.Stat(b.place.Message(&rec))
		require.NoError(t, err)
		require.True(t, info.Mtime.Equal(arrived))
		if v[0] >= versionChecksums {
			require.EqualValues(t, 2, info.Nlink, "a hard link")
		}
		old, err := a.Record(ctx, 4)
		require.NoError(t, err)
		require.Equal(t, old.InternalDate, rec.InternalDate)
		require.Equal(t, old.Size, rec.Size)

		_, err = Copy(ctx, a, b, []UID{1, 77}, CopyOptions{})
		require.ErrorIs(t, err, ErrNotFound)
		got, err = Copy(ctx, b, a, []UID{1}, CopyOptions{Move: true})
		require.NoError(t, err)
		require.Equal(t, []Copied{{1, 5}}, got)
		got, err = Copy(ctx, a, a, []UID{5}, CopyOptions{Move: true, Expunge: ExpungeImmediate})
		require.NoError(t, err)
		require.Equal(t, []Copied{{5, 6}}, got)
		for _, m := range []*Mailbox{a, b} {
			checkBox(t, fsys, m.place)
			_, err := m.Record(ctx, 3)
			require.NoError(t, err)
		}
		s, err := b.Snapshot(ctx)
		require.NoError(t, err)
		require.Len(t, s.Messages, 2)
		_, err = fsys.Stat("/box0/5.")
		require.Error(t, err)
	}
}

// TestMoveGivenUp: who gives up a move when the copies are committed finds it done.
func TestMoveGivenUp(t *testing.T) {
	t.Parallel()
	fsys := simfs.New(simfs.Options{NoTrace: true})
	a, b := twoBoxes(t, fsys, 17, 17)
	appendTo(t, a, text(1), 0)
	ctx, cancel := context.WithCancel(t.Context())
	b.opts.Committed = func(context.Context, Committed) { cancel() }
	_, err := Copy(ctx, a, b, []UID{1}, CopyOptions{Move: true})
	require.NoError(t, err)
	rec, err := a.Record(t.Context(), 1)
	require.NoError(t, err)
	require.True(t, rec.Expunged())
}

// TestCopyBothWays: two who copy in opposite directions do not wait for each other for ever.
func TestCopyBothWays(t *testing.T) {
	t.Parallel()
	for seed := range uint64(20) {
		fsys := simfs.New(simfs.Options{NoTrace: true})
		a, b := twoBoxes(t, fsys, 17, 17)
		appendTo(t, a, text(1), 0)
		appendTo(t, b, text(2), 0)
		var tasks []simfs.Task
		for i := range 2 {
			tasks = append(tasks, func(ctx context.Context, view *simfs.FS) {
				from, err := OpenWith(ctx, view, a.place, OpenOptions{Zone: time.UTC})
				require.NoError(t, err)
				to, err := OpenWith(ctx, view, b.place, OpenOptions{Zone: time.UTC})
				require.NoError(t, err)
				if i == 1 {
					from, to = to, from
				}
				_, err = Copy(ctx, from, to, []UID{1}, CopyOptions{Move: true})
				require.NoError(t, err)
				require.NoError(t, from.Close())
				require.NoError(t, to.Close())
			})
		}
		simfs.Run(t, fsys, simfs.Schedule{Seed: seed}, tasks...)
		checkBox(t, fsys, a.place)
		checkBox(t, fsys, b.place)
	}
}

// TestUnexpungeWithoutFile: an expunged message whose file is gone is one that is not found, as Unexpunge promises, and the
// transaction goes on after it.
func TestUnexpungeWithoutFile(t *testing.T) {
	t.Parallel()
	fsys := simfs.New(simfs.Options{NoTrace: true})
	m := newTestBox(t, fsys, VersionWritten)
	rec := appendTo(t, m, text(1), 0)
	require.NoError(t, fsys.Unlink(m.place.Message(&rec)))
	require.NoError(t, m.Update(t.Context(), func(tx *Tx) error {
		_, err := tx.Expunge(1, ExpungeDelayed)
		require.NoError(t, err)
		_, err = tx.Unexpunge(1, 0)
		require.ErrorIs(t, err, ErrNotFound)
		return nil
	}))
}

// TestCopyAfterRepack: as every change, a copy first brings to its end what a repack has left in either mailbox, also where
// there is no journal to say so.
func TestCopyAfterRepack(t *testing.T) {
	t.Parallel()
	for _, left := range []int{0, 1} {
		fsys := simfs.New(simfs.Options{NoTrace: true})
		a, b := twoBoxes(t, fsys, 17, 17)
		appendTo(t, a, text(1), 0)
		boxes := []*Mailbox{a, b}
		boxes[left].place.Journal = ""
		path := boxes[left].place.Paths.Index
		require.NoError(t, fsys.Link(path, path+oldSuffix))
		_, err := Copy(t.Context(), a, b, []UID{1}, CopyOptions{})
		require.NoError(t, err)
		_, err = fsys.Stat(path + oldSuffix)
		require.ErrorIs(t, err, fs.ErrNotExist, "mailbox %d", left)
	}
}
