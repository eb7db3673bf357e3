package mboxdb

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/skiplist"
)

// TestAbsentInDamagedList: what is behind the damage of a list is not said to be absent, neither by its name, nor by its
// unique id or directory, and the check compares nothing with it.
func TestAbsentInDamagedList(t *testing.T) {
	for _, format := range []skiplist.Format{skiplist.Twoskip, skiplist.Skiplist} {
		t.Run(fmt.Sprint(format), func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "mailboxes.db")
			opts := Options{DB: skiplist.Options{Create: true, Format: format}, Layout: Layout{Partitions: map[string]Partition{"default": {Data: "/spool"}}}}
			l, err := Open(ctx, path, opts)
			require.NoError(t, err)
			var all []Record
			for i := range 30 {
				rec, err := l.Create(ctx, NewMailbox{Name: InternalName(fmt.Sprintf("user.u%02d", i)), UniqueID: fmt.Sprintf("unique-%02d", i)})
				require.NoError(t, err)
				all = append(all, rec)
			}
			require.NoError(t, l.Close())
			b, err := os.ReadFile(path)
			require.NoError(t, err)
			clear(b[len(b)/2 : len(b)/2+256]) // more than a value has
			require.NoError(t, os.WriteFile(path, b, 0o600))
			_, err = Open(ctx, path, opts)
			require.ErrorIs(t, err, skiplist.ErrDamaged, "who writes is refused")
			opts.DB = skiplist.Options{ReadOnly: true, AllowDamaged: true}
			l, err = Open(ctx, path, opts)
			require.NoError(t, err)
			defer l.Close()
			lost := 0
			require.ErrorIs(t, l.View(ctx, func(v *View) error {
				for _, want := range all {
					rec, err := v.Lookup(want.Name)
					require.ErrorIs(t, err, skiplist.ErrDamaged)
					require.NotErrorIs(t, err, ErrNotFound)
					if rec.Name.IsZero() {
						lost++
						require.ErrorContains(t, err, want.Name.String())
					}
					_, err = v.LookupID(want.UniqueID)
					require.ErrorIs(t, err, skiplist.ErrDamaged)
					require.NotErrorIs(t, err, ErrNotFound)
					dir := "/spool/uuid/" + want.UniqueID[:1] + "/" + want.UniqueID[1:2] + "/" + want.UniqueID
					_, err = v.Locate(dir)
					require.ErrorIs(t, err, skiplist.ErrDamaged)
				}
				return nil
			}), skiplist.ErrDamaged)
			require.Positive(t, lost)
			require.Less(t, lost, len(all))
			err = l.Check(ctx, func(f Finding) { require.Fail(t, f.Code, f.Detail) })
			require.ErrorIs(t, err, skiplist.ErrDamaged)
		})
	}
}
