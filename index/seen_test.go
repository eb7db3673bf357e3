package index

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/mailspine/mailspine/internal/vfs/simfs"
)

// TestSeenRecord reads records of seen databases as Cyrus writes them, and such that no program should have written.
func TestSeenRecord(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Seen{
		"1 1795567316 4 1795567312 ":    {LastRead: Seconds(1795567316), LastUID: 4, LastChange: Seconds(1795567312)},
		"1 0 9 7 1:3,5":                 {LastUID: 9, LastChange: Seconds(7), UIDs: []UIDRange{{1, 3}, {5, 5}}},
		"1 0 9 7 5,3:1,2:4":             {LastUID: 9, LastChange: Seconds(7), UIDs: []UIDRange{{1, 5}}},
		"1 0 0 0 7:*":                   {UIDs: []UIDRange{{7, 1<<32 - 1}}},
		"1 0 0 0 4294967295,4294967294": {UIDs: []UIDRange{{1<<32 - 2, 1<<32 - 1}}},
	} {
		var s Seen
		require.NoError(t, s.Decode([]byte(text)), text)
		require.Equal(t, want, s, text)
		var again Seen
		require.NoError(t, again.Decode(s.Append(nil)))
		require.Equal(t, s, again)
	}
	for _, text := range []string{"", "1", "2 0 0 0 ", "1 0 0", "1 x 0 0 ", "1 0 4294967296 0 ", "1 -1 0 0 ", "1 0 0 0 0", "1 0 0 0 1:", "1 0 0 0 1,,2", "1 0 0 0 x", "1 0 0 0 *", "1 0 0 0 4294967296"} {
		var s Seen
		require.ErrorIs(t, s.Decode([]byte(text)), ErrDamaged, "%q", text)
	}
}

// TestSeenSet compares sets of seen messages with a set.
func TestSeenSet(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		uids := rapid.SliceOf(rapid.Uint32Range(1, 60)).Draw(t, "uids")
		set := map[UID]bool{}
		var s Seen
		for _, uid := range uids {
			set[UID(uid)] = true
			s.UIDs = append(s.UIDs, UIDRange{UID(uid), UID(uid)})
		}
		s.order()
		var read Seen
		require.NoError(t, read.Decode(s.Append(nil)))
		for uid := UID(0); uid < 70; uid++ {
			require.Equal(t, set[uid], read.Has(uid))
		}
		for i := range read.UIDs {
			if i > 0 {
				require.Greater(t, read.UIDs[i].First, read.UIDs[i-1].Last+1)
			}
		}
	})
}

func FuzzSeen(f *testing.F) {
	f.Add([]byte("1 0 9 7 1:3,5"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var s, again Seen
		if s.Decode(b) == nil {
			require.NoError(t, again.Decode(s.Append(nil)))
			require.Equal(t, s, again)
		}
	})
}

// TestSeenRefused refuses changes of version that would lose what the owner has seen.
func TestSeenRefused(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ from, to Version }{{17, 10}, {10, 17}} {
		fsys := simfs.New(simfs.Options{NoTrace: true})
		p := farPlace()
		makeBox(t, fsys, p, c.from, 9)
		files := contents(t, fsys)
		_, err := Upgrade(t.Context(), fsys, p, c.to, RepackOptions{})
		require.ErrorIs(t, err, ErrKeptElsewhere)
		require.Equal(t, files, contents(t, fsys))

		p.Paths.Annotations = ""
		if c.from == 17 {
			_, err = Upgrade(t.Context(), fsys, p, 14, RepackOptions{})
			require.ErrorIs(t, err, ErrKeptElsewhere)
			require.Equal(t, files, contents(t, fsys))
		}
		write(t, fsys, seenPath, []byte("not a database, and longer than any header of one may be, so that nobody takes it for one"))
		files = contents(t, fsys)
		_, err = Upgrade(t.Context(), fsys, p, c.to, boxOptions)
		require.Error(t, err)
		requireSameFiles(t, p, files, contents(t, fsys), "a damaged seen database")
	}
	fsys := simfs.New(simfs.Options{NoTrace: true})
	p := farPlace()
	makeBox(t, fsys, p, 9, 9)
	require.NoError(t, fsys.Unlink(p.Message(&Record{UID: 6, Flags: boxFlags(6)})))
	files := contents(t, fsys)
	_, err := Upgrade(t.Context(), fsys, p, 17, boxOptions)
	var lost *LostMessageError
	require.ErrorAs(t, err, &lost)
	require.Equal(t, UID(6), lost.UID)
	require.Equal(t, files, contents(t, fsys))
	for _, v := range []Version{5, 11, 18, 21} {
		_, err = Upgrade(t.Context(), fsys, p, v, boxOptions)
		require.ErrorIs(t, err, ErrVersion)
	}
}
