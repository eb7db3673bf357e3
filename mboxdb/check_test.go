package mboxdb

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/internal/finding"
	"github.com/mailspine/mailspine/skiplist"
)

// TestCheck plants one fault after the other into a good list: the check names each, and nothing else.
func TestCheck(t *testing.T) {
	const live = "%(T e I id-1 P default V 1 C 1 F 1 M 1 A %(alice lrs bob l))"
	const byID = "%(T e N user\x1falice P default V 1 C 1 F 1 M 1 A %(alice lrs bob l) H ())"
	good := map[string]string{"Nuser\x1falice": live, "Iid-1": byID, "AS\x1e": "", "AU\x1ebob\x1euser\x1falice": ""}
	deep := "%(T e X " + strings.Repeat("(", 1_000_000) + strings.Repeat(")", 1_000_000) + ")"
	for _, c := range []struct {
		name, key, value string
		codes            string
	}{
		{"good", "", "", ""},
		{"tombstone", "Ngone", "%(T ed I id-9 V 1 M 1)", ""},
		{"orphan", "Iid-9", "%(T e N user\x1fx P default V 1 M 1 A %() H ())", "id-orphan"},
		{"key of no class", "Xyz", "x", "key-unknown"},
		{"no value", "Nuser\x1falice", "", "record-unreadable racl-stale"},
		{"cut value", "Nuser\x1falice", live[:40], "record-unreadable racl-stale"},
		{"deep value", "Nuser\x1falice", deep, "record-unreadable racl-stale"},
		{"unreadable id", "Iid-1", "%(T e N", "record-unreadable"},
		{"id of another name", "Iid-1", strings.Replace(byID, "user\x1falice", "user\x1fbob", 1), "id-orphan id-elsewhere"},
		{"other partition", "Iid-1", strings.Replace(byID, "default", "other", 1), "id-disagrees"},
		{"other ACL", "Iid-1", strings.Replace(byID, "bob l)", "bob lr)", 1), "id-disagrees"},
		{"other modseq", "Iid-1", strings.Replace(byID, "F 1", "F 2", 1), "id-disagrees"},
		{"no id", "Nuser\x1fx", "%(T e P default V 1 M 1 A %())", "uniqueid-missing"},
		{"no record of the id", "Nuser\x1fx", "%(T e I id-2 P default V 1 M 1 A %())", "id-missing"},
		{"no partition", "Nuser\x1fx", "%(T e I id-2 V 1 M 1 A %())", "partition-missing id-missing"},
		{"unknown partition", "Nuser\x1fx", "%(T e I id-2 P gone V 1 M 1 A %())", "partition-unknown id-missing"},
		{"fields twice", "Nuser\x1falice", strings.Replace(live, "id-1", "id-7 P gone A %(bob l)", 1), "field-twice id-missing id-orphan"},
		{"a field twice under the id", "Iid-1", strings.Replace(byID, "F 1", "F 2 F 1", 1), "field-twice"},
		{"unknown letters", "Nuser\x1fx", "%(T eQ I id-2 P default V 1 M 1 A %())", "type-unknown id-missing"},
		{"unknown right", "Nuser\x1fx", "%(T e I id-2 P default V 1 M 1 A %(alice lZ))", "acl-rights id-missing racl-missing"},
		{"bad identifier", "Nuser\x1fx", "%(T e I id-2 P default V 1 M 1 A %(a/b p))", "acl-identifier id-missing"},
		{"NUL in the name", "Nuser\x1fa\x00b", "%(T e I id-2 P default V 1 M 1 A %())", "name-invalid id-missing"},
		{"empty level", "Nuser\x1fa\x1f\x1fb", "%(T e I id-2 P default V 1 M 1 A %())", "name-invalid id-missing"},
		{"8-bit name", "Nuser\x1fa\xff", "%(T e I id-2 P default V 1 M 1 A %())", "name-invalid id-missing"},
		{"id that climbs", "Nuser\x1fx", "%(T e I ../../etc P default V 1 M 1 A %())", "path-unsafe id-missing"},
		{"id of one letter", "Nuser\x1fx", "%(T e I z P default V 1 M 1 A %())", "path-unsafe id-missing"},
		{"name that would climb, were dots not written otherwise", "N..\x1f..\x1fetc", "%(T el I id-2 P default V 1 M 1 A %())", "id-missing"},
		{"stale reverse ACL", "AU\x1eeve\x1euser\x1falice", "", "racl-stale"},
		{"reverse ACL of nothing", "AS\x1eeve\x1eshared", "", "racl-stale"},
		{"broken reverse ACL", "AU\x1eeve", "", "key-unknown"},
		{"no reverse ACL", "-AU\x1ebob\x1euser\x1falice", "", "racl-missing"},
		{"no mark", "-AS\x1e", "", "racl-stale"},
		{"kept for later releases", "Jalice\x1ej1", "%(X y)", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			opts := testOptions(newDisk(t), skiplist.Twoskip, true)
			opts.Layout.Partitions = map[string]Partition{"default": {Data: "/spool"}, "other": {Data: "/other"}}
			l, err := Open(ctx, "/mailboxes.db", opts)
			require.NoError(t, err)
			defer l.Close()
			require.NoError(t, l.DB().Update(ctx, func(tx *skiplist.Tx) error {
				for k, v := range good {
					require.NoError(t, tx.Put([]byte(k), []byte(v)))
				}
				if key, without := strings.CutPrefix(c.key, "-"); without {
					return tx.Delete([]byte(key))
				}
				if c.key == "" {
					return nil
				}
				return tx.Put([]byte(c.key), []byte(c.value))
			}))
			before := everything(t, l)
			var codes []string
			require.NoError(t, l.Check(ctx, func(f Finding) {
				codes = append(codes, f.Code)
				require.NotEmpty(t, f.Detail)
				if f.Code == "path-unsafe" || f.Code == "record-unreadable" || f.Code == "id-elsewhere" || f.Code == "partition-missing" {
					require.Equal(t, finding.Damage, f.Severity)
				}
			}))
			require.ElementsMatch(t, strings.Fields(c.codes), codes)
			// Nothing is lost by changes beside it: what cannot be read is not written over.
			rec, err := l.Create(ctx, NewMailbox{Name: InternalName("user.zoe")})
			require.NoError(t, err)
			after := everything(t, l)
			for _, k := range []string{string(nameKey(rec.Name)), string(idKey(rec.UniqueID))} {
				require.Contains(t, after, k)
				delete(after, k)
			}
			require.Equal(t, before, after)
		})
	}
}

// TestUnreadableStays: a change of a mailbox whose record cannot be read is refused, and leaves every byte.
func TestUnreadableStays(t *testing.T) {
	l, err := Open(ctx, "/mailboxes.db", testOptions(newDisk(t), skiplist.Twoskip, false))
	require.NoError(t, err)
	defer l.Close()
	require.NoError(t, l.DB().Put(ctx, []byte("Nuser\x1falice"), []byte("%(T e")))
	_, err = l.Create(ctx, NewMailbox{Name: InternalName("user.bob"), UniqueID: "id-2"})
	require.NoError(t, err)
	require.NoError(t, l.DB().Put(ctx, []byte("Iid-2"), []byte("%(T e")))
	before := everything(t, l)
	alice, bob := InternalName("user.alice"), InternalName("user.bob")
	_, err = l.Create(ctx, NewMailbox{Name: alice})
	require.ErrorIs(t, err, ErrRecord)
	_, err = l.Delete(ctx, alice, false)
	require.ErrorIs(t, err, ErrRecord)
	_, err = l.Rename(ctx, bob, alice, RenameOptions{})
	require.ErrorIs(t, err, ErrRecord)
	_, err = l.SetACL(ctx, bob, "eve", AddRights, RightLookup)
	require.ErrorIs(t, err, ErrRecord)
	require.Equal(t, before, everything(t, l))
	n := 0
	require.NoError(t, l.View(ctx, func(v *View) error {
		for _, err := range v.All() {
			if err != nil {
				require.ErrorIs(t, err, ErrRecord)
			}
			n++
		}
		return nil
	}))
	require.Equal(t, 2, n)
}
