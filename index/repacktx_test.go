package index

import (
	"bytes"
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/internal/vfs/simfs"
)

// mark sets a flag on all messages that are not expunged.
func mark(t *testing.T, m *Mailbox, flag string) error {
	return m.Update(t.Context(), func(tx *Tx) error {
		for rec, err := range tx.Records() {
			if err != nil {
				return err
			}
			if rec.Expunged() {
				continue
			}
			if _, err := tx.SetFlags(rec.UID, FlagChange{User: []string{flag}}); err != nil {
				return err
			}
		}
		return nil
	})
}

// marked counts messages with a flag, and those without.
func marked(t *testing.T, fsys *simfs.FS, p Place, flag string) (with, without int) {
	f, err := OpenFiles(fsys, p.Paths)
	require.NoError(t, err)
	defer f.Close()
	n := FlagNumber(f.Header.Flags, flag)
	for e, err := range f.Index.Records(1) {
		require.NoError(t, err)
		switch {
		case e.Expunged():
		case e.UserFlags.Has(n):
			with++
		default:
			without++
		}
	}
	return with, without
}

// TestRepackResolvesFirst repacks a mailbox in which a crash has left half of a change of flags: after a repack nobody
// could tell any more which half that was.
func TestRepackResolvesFirst(t *testing.T) {
	t.Parallel()
	fsys := simfs.New(simfs.Options{})
	p := farPlace()
	makeBox(t, fsys, p, 17, 13)
	began := fsys.Ops()
	m, err := Open(t.Context(), fsys, p)
	require.NoError(t, err)
	require.NoError(t, mark(t, m, "New"))
	require.NoError(t, m.Close())
	old, fresh := 0, 0
	for image := range fsys.Trace().Images(simfs.Search{From: began, Limit: 30, Samples: 30}) {
		done, err := Repack(t.Context(), image.FS, p, boxOptions)
		require.NoError(t, err, image.Seed)
		require.NoError(t, done.Unfinished, image.Seed)
		with, without := marked(t, image.FS, p, "New")
		require.True(t, with == 0 || without == 0, "%s: %d with the flag, %d without", image.Seed, with, without)
		if with > 0 {
			fresh++
		} else {
			old++
		}
		requireWhole(t, image.FS, p, 17, image.Seed)
	}
	require.Positive(t, old)
	require.Positive(t, fresh)
}

// TestChangeAfterRepack changes a mailbox whose repack was interrupted: it is brought to its end before.
func TestChangeAfterRepack(t *testing.T) {
	t.Parallel()
	fsys := simfs.New(simfs.Options{})
	p := farPlace()
	makeBox(t, fsys, p, 17, 13)
	began := fsys.Ops()
	_, err := Repack(t.Context(), fsys, p, boxOptions)
	require.NoError(t, err)
	images, finished := 0, 0
	for image := range fsys.Trace().Images(simfs.Search{From: began, Limit: 10, Samples: 10}) {
		images++
		found, err := interrupted(image.FS, p)
		require.NoError(t, err)
		m, err := Open(t.Context(), image.FS, p)
		require.NoError(t, err, image.Seed)
		require.NoError(t, mark(t, m, "New"), image.Seed)
		_, without := marked(t, image.FS, p, "New")
		require.Zero(t, without, image.Seed)
		if h, err := m.Header(); found {
			require.NoError(t, err)
			if h.Generation == 4 { // else it was taken back
				requireWhole(t, image.FS, p, 17, image.Seed)
				finished++
			}
		}
		done, err := m.Repack(t.Context(), 0, boxOptions)
		require.NoError(t, err, image.Seed)
		require.NoError(t, done.Unfinished, image.Seed)
		h, err := m.Header()
		require.NoError(t, err)
		require.Equal(t, done.Generation, h.Generation, "the handle goes on in the new files")
		require.NoError(t, mark(t, m, "Newer"), image.Seed)
		require.NoError(t, m.Close())
		requireWhole(t, image.FS, p, 17, image.Seed)
	}
	require.Greater(t, images, 50)
	require.Positive(t, finished)
}

// TestRepackInterrupted ends a repack at each moment at which it listens: nothing has happened.
func TestRepackInterrupted(t *testing.T) {
	t.Parallel()
	p := farPlace()
	base := simfs.New(simfs.Options{})
	makeBox(t, base, p, 17, 13)
	files := contents(t, base)
	for stop := 0; ; stop++ {
		fsys := base.Kill()
		ctx, cancel := context.WithCancel(t.Context())
		opts, calls := boxOptions, 0
		opts.Progress = func(string, int64, int64) {
			if calls == stop {
				cancel()
			}
			calls++
		}
		_, err := repackTo(ctx, fsys, p, 14, opts)
		cancel()
		if err == nil {
			require.GreaterOrEqual(t, stop, 2)
			break
		}
		require.ErrorIs(t, err, context.Canceled)
		requireSameFiles(t, p, files, contents(t, fsys), "interrupted")
	}
}

// TestRepackOfTheOddVersion keeps records of a size that a bug has left, and what stands behind their fields.
func TestRepackOfTheOddVersion(t *testing.T) {
	t.Parallel()
	fsys := simfs.New(simfs.Options{NoTrace: true})
	p := farPlace()
	makeBox(t, fsys, p, oddVersion, 5)
	f, err := OpenFiles(fsys, p.Paths)
	require.NoError(t, err)
	h := f.Index.Header
	h.RecordSize = oddRecordSize
	b := h.Append(nil)
	for e, err := range f.Index.Records(1) {
		require.NoError(t, err)
		b = append(e.Append(b, oddVersion), bytes.Repeat([]byte{byte(e.UID)}, oddRecordSize-oddVersion.RecordSize())...)
	}
	require.NoError(t, f.Close())
	write(t, fsys, p.Paths.Index, b)
	before := readBox(t, fsys, p, "")
	_, err = Repack(t.Context(), fsys, p, boxOptions)
	require.NoError(t, err)
	require.Equal(t, before, readBox(t, fsys, p, ""))
	requireWhole(t, fsys, p, oddVersion, "")
	f, err = OpenFiles(fsys, p.Paths)
	require.NoError(t, err)
	defer f.Close()
	require.EqualValues(t, oddRecordSize, f.Index.Header.RecordSize)
	for e, err := range f.Index.Records(1) {
		require.NoError(t, err)
		require.Equal(t, bytes.Repeat([]byte{byte(e.UID)}, oddRecordSize-oddVersion.RecordSize()), e.tail)
	}
}

// TestRepackOfANewMailbox repacks and converts a mailbox that has no message yet, no cache, and no directory for archived
// messages.
func TestRepackOfANewMailbox(t *testing.T) {
	t.Parallel()
	for _, to := range []Version{0, 16, 10} {
		fsys := simfs.New(simfs.Options{NoTrace: true})
		p := farPlace()
		_, err := Create(t.Context(), fsys, p, newbox)
		require.NoError(t, err)
		for range 2 {
			done, err := repackTo(t.Context(), fsys, p, 0, boxOptions)
			require.NoError(t, err)
			require.NoError(t, done.Unfinished)
		}
		if to != 0 {
			done, err := Upgrade(t.Context(), fsys, p, to, RepackOptions{})
			require.NoError(t, err)
			require.NoError(t, done.Unfinished)
			done, err = Upgrade(t.Context(), fsys, p, 17, boxOptions)
			require.NoError(t, err)
			require.NoError(t, done.Unfinished)
		}
		requireWhole(t, fsys, p, 17, "")
	}
}
