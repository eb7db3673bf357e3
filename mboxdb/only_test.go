package mboxdb

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/skiplist"
)

// faultyList has three mailboxes of which two have faults under every class of keys, and keys that are nobody's.
func faultyList(t *testing.T) *List {
	opts := testOptions(newDisk(t), skiplist.Twoskip, true)
	opts.Layout.Partitions = map[string]Partition{"default": {Data: "/spool"}}
	l, err := Open(ctx, "/mailboxes.db", opts)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, l.Close()) })
	require.NoError(t, l.DB().Update(ctx, func(tx *skiplist.Tx) error {
		for k, v := range map[string]string{
			"AS\x1e":                             "",
			"Nuser\x1falice":                     "%(T e I id-1 P default V 1 C 1 F 1 M 1 A %(alice lrs bob l))",
			"Iid-1":                              "%(T e N user\x1falice P default V 1 C 1 F 1 M 1 A %(alice lrs bob l) H ())",
			"AU\x1ebob\x1euser\x1falice":         "",
			"Nuser\x1falice\x1fWork":             "%(T eQ I id-2 P gone V 1 C 1 F 1 M 1 A %(alice lrs bob l))",
			"Iid-2":                              "%(T e N user\x1falice\x1fWork P default V 1 C 1 F 1 M 1 A %() H ())",
			"Iid-2-old":                          "%(T e N user\x1falice\x1fWork P default V 1 C 1 F 1 M 1 A %() H ())",
			"AU\x1eeve\x1euser\x1falice\x1fWork": "",
			"Nuser\x1fbob":                       "%(T e",
			"AU\x1eeve\x1euser\x1fbob":           "",
			"AU\x1eeve\x1euser\x1fgone":          "",
			"Iid-9":                              "%(T e N",
			"Xyz":                                "",
		} {
			require.NoError(t, tx.Put([]byte(k), []byte(v)))
		}
		return nil
	}))
	return l
}

// TestCheckOfNames: what a check of some mailboxes finds is what a check of all finds of them.
func TestCheckOfNames(t *testing.T) {
	l := faultyList(t)
	codes := func(names ...string) string {
		var found []string
		var only []Name
		for _, n := range names {
			only = append(only, InternalName(n))
		}
		err := l.Check(ctx, func(f Finding) { found = append(found, f.Code) }, only...)
		if slices.Contains(names, "user.gone") {
			require.ErrorIs(t, err, ErrNotFound)
			require.ErrorContains(t, err, "user.gone")
		} else {
			require.NoError(t, err)
		}
		slices.Sort(found)
		return strings.Join(found, " ")
	}
	require.Equal(t, "", codes("user.alice"))
	work := "id-disagrees id-orphan partition-unknown racl-missing racl-stale type-unknown"
	require.Equal(t, work, codes("user.alice.Work"))
	require.Equal(t, work, codes("user.alice.Work", "user.alice", "user.alice.Work"))
	require.Equal(t, "racl-stale record-unreadable", codes("user.bob"))
	require.Equal(t, "racl-stale", codes("user.gone"))
	require.Equal(t, "racl-stale racl-stale record-unreadable", codes("user.gone", "user.bob"))
	require.Equal(t, "id-disagrees id-orphan key-unknown partition-unknown racl-missing racl-stale racl-stale racl-stale record-unreadable record-unreadable type-unknown", codes())
}

// TestDumpOfNames: the dumps of some mailboxes have what belongs to them and no more, and a list that is made of one agrees
// with itself.
func TestDumpOfNames(t *testing.T) {
	l := faultyList(t)
	dump := func(names ...Name) (cyrus, all string, err error) {
		var c, a strings.Builder
		err = l.View(ctx, func(v *View) error {
			_, err := v.DumpCyrus(&c, names...)
			require.Equal(t, fmt.Sprint(err), fmt.Sprint(v.Dump(&a, names...)))
			return err
		})
		return c.String(), a.String(), err
	}
	alice, work, gone := InternalName("user.alice"), InternalName("user.alice.Work"), InternalName("user.gone")
	cyrus, all, err := dump(alice)
	require.NoError(t, err)
	require.Equal(t, 1, strings.Count(cyrus, `"name"`))
	require.Contains(t, cyrus, `"user.alice": {`)
	for _, text := range []string{cyrus, all} {
		again, err := Open(ctx, "/again.db", testOptions(newDisk(t), skiplist.Twoskip, true))
		require.NoError(t, err)
		_, err = again.Undump(ctx, strings.NewReader(text))
		require.NoError(t, err)
		require.Equal(t, everything(t, l)["Nuser\x1falice"], everything(t, again)["Nuser\x1falice"])
		require.Len(t, everything(t, again), 4)
		require.NoError(t, again.Check(ctx, func(f Finding) { t.Error(f) }))
		require.NoError(t, again.Close())
	}
	_, all, err = dump(work, gone)
	require.ErrorIs(t, err, ErrNotFound)
	require.Equal(t, 6, strings.Count(all, "\n"), "name, two ids, the mark, two reverse ACL keys: %s", all)
	cyrus, _, err = dump(gone)
	require.ErrorIs(t, err, ErrNotFound)
	require.Empty(t, cyrus)
}

// TestNamesInOldLists: a list of an old form has one record for each name.
func TestNamesInOldLists(t *testing.T) {
	db, err := skiplist.Open(ctx, t.TempDir()+"/old.db", skiplist.Options{Create: true, Format: skiplist.Skiplist})
	require.NoError(t, err)
	require.NoError(t, db.Put(ctx, []byte("user.alice"), []byte("0 default alice\tlrZ\t")))
	require.NoError(t, db.Put(ctx, []byte("user.bob"), []byte("0 gone bob\tlrZ\t")))
	require.NoError(t, db.Close())
	l, err := Open(ctx, db.Path(), Options{DB: skiplist.Options{ReadOnly: true}})
	require.NoError(t, err)
	defer l.Close()
	n := 0
	require.NoError(t, l.Check(ctx, func(f Finding) {
		require.Contains(t, f.Detail, "alice")
		n++
	}, InternalName("user.alice")))
	require.Equal(t, 2, n, "rights and unique id")
	var out strings.Builder
	require.NoError(t, l.View(ctx, func(v *View) error {
		unreadable, err := v.DumpCyrus(&out, InternalName("user.bob"))
		require.Zero(t, unreadable)
		return err
	}))
	require.Equal(t, 1, strings.Count(out.String(), `"name"`))
	require.Contains(t, out.String(), "gone")
}
