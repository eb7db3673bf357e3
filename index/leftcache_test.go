package index

import (
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/internal/vfs/faultfs"
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

// TestCacheStays has the one call fail that tells the size of cyrus.cache: taking the change back cuts nothing off.
func TestCacheStays(t *testing.T) {
	t.Parallel()
	fsys := simfs.New(simfs.Options{NoTrace: true})
	m := newTestBox(t, fsys, VersionWritten)
	appendTo(t, m, text(1), 0)
	before := fileBytes(t, fsys, m.place.Paths.Cache)
	plan := &faultfs.Plan{Kinds: faultfs.Stat, Suffix: CacheName}
	m.fs = faultfs.Wrap(fsys, plan)
	err := m.Update(t.Context(), func(tx *Tx) error {
		_, err := tx.Append(NewMessage{Body: strings.NewReader(text(2))})
		return err
	})
	require.ErrorIs(t, err, syscall.EIO)
	require.Equal(t, before, fileBytes(t, fsys, m.place.Paths.Cache))
	checkBox(t, fsys, m.place)
}
