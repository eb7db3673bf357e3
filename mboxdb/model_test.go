package mboxdb

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/mailspine/mailspine/internal/vfs/simfs"
	"github.com/mailspine/mailspine/skiplist"
)

// modelBox is what the model knows of a mailbox.
type modelBox struct {
	id      string
	v       uint32
	acl     string
	history []string
}

// model is a list as a plain map.
type model struct {
	boxes map[string]*modelBox // by internal name
	ids   map[string]string    // live unique ids
	lastV map[string]uint32    // the last UIDVALIDITY seen under a name
}

func testOptions(disk *simfs.FS, f skiplist.Format, racl bool) Options {
	return Options{
		DB:          skiplist.Options{FS: disk, Format: f, Create: true, Random: rand.NewPCG(1, 2).Uint64},
		Layout:      Layout{ConfigDir: "/conf"},
		Admins:      []string{"cyrus"},
		ReverseACLs: racl,
	}
}

func newDisk(t interface{ Fatal(...any) }) *simfs.FS {
	disk := simfs.New(simfs.Options{})
	for _, dir := range []string{"/conf", "/conf/lock"} {
		if err := disk.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return disk
}

// agree compares the list with the model, and checks it.
func (m *model) agree(t require.TestingT, l *List) {
	got := map[string]string{}
	require.NoError(t, l.View(ctx, func(v *View) error {
		for rec, err := range v.All() {
			require.NoError(t, err)
			byID, err := v.LookupID(rec.UniqueID)
			require.NoError(t, err)
			var history []string
			for _, h := range byID.History {
				history = append(history, h.Name.String())
			}
			got[rec.Name.String()] = fmt.Sprintf("%s %d %s %s", rec.UniqueID, rec.UIDValidity, rec.ACL, history)
		}
		return nil
	}))
	want := map[string]string{}
	for n, b := range m.boxes {
		want[n] = fmt.Sprintf("%s %d %s %s", b.id, b.v, b.acl, b.history)
	}
	require.Equal(t, want, got)
	require.NoError(t, l.Check(ctx, func(f Finding) {
		if f.Severity > 0 {
			require.Fail(t, f.String())
		}
	}))
}

func below(name string, names []string) (found []string) {
	for _, n := range names {
		if strings.HasPrefix(n, name+".") {
			found = append(found, n)
		}
	}
	return found
}

func (m *model) names() []string { return slices.Sorted(maps.Keys(m.boxes)) }

// TestModel drives a list with random operations, reopening it now and then, and compares it with a map.
func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		disk := newDisk(t)
		format := rapid.SampledFrom([]skiplist.Format{skiplist.Twoskip, skiplist.Skiplist}).Draw(t, "format")
		opts := testOptions(disk, format, rapid.Bool().Draw(t, "racl"))
		l, err := Open(ctx, "/mailboxes.db", opts)
		require.NoError(t, err)
		m := &model{boxes: map[string]*modelBox{}, ids: map[string]string{}, lastV: map[string]uint32{}}
		name := rapid.Custom(func(t *rapid.T) string {
			return rapid.SampledFrom([]string{"user.alice", "user.bob", "shared", "user.alice^x", "News"}).Draw(t, "top") +
				rapid.SampledFrom([]string{"", "", ".a", ".a.b", ".c^d", ".a b", ".."}).Draw(t, "rest")
		})
		t.Repeat(map[string]func(*rapid.T){
			"create": func(t *rapid.T) { m.create(t, l, name.Draw(t, "name")) },
			"rename": func(t *rapid.T) { m.rename(t, l, name.Draw(t, "from"), name.Draw(t, "to")) },
			"delete": func(t *rapid.T) { m.remove(t, l, name.Draw(t, "name"), rapid.Bool().Draw(t, "delayed")) },
			"acl":    func(t *rapid.T) { m.setACL(t, l, name.Draw(t, "name")) },
			"expire": func(t *rapid.T) {
				_, err := l.ExpireTombstones(ctx, disk.Now().Add(time.Hour).Unix())
				require.NoError(t, err)
				clear(m.lastV)
				for n, b := range m.boxes {
					m.lastV[n] = b.v
				}
			},
			"reopen": func(t *rapid.T) {
				require.NoError(t, l.Close())
				l, err = Open(ctx, "/mailboxes.db", opts)
				require.NoError(t, err)
			},
			"": func(t *rapid.T) { m.agree(t, l) },
		})
		require.NoError(t, l.Close())
	})
}

func (m *model) create(t *rapid.T, l *List, name string) {
	rec, err := l.Create(ctx, NewMailbox{Name: InternalName(name)})
	switch {
	case strings.Contains(name, ".."):
		require.ErrorIs(t, err, ErrName)
		return
	case m.boxes[name] != nil:
		require.ErrorIs(t, err, ErrExists)
		return
	}
	require.NoError(t, err)
	require.NotContains(t, m.ids, rec.UniqueID)
	require.Greater(t, rec.UIDValidity, m.lastV[name])
	m.boxes[name] = &modelBox{id: rec.UniqueID, v: rec.UIDValidity, acl: rec.ACL.String()}
	m.ids[rec.UniqueID], m.lastV[name] = name, rec.UIDValidity
}

func (m *model) rename(t *rapid.T, l *List, from, to string) {
	moved, err := l.Rename(ctx, InternalName(from), InternalName(to), RenameOptions{})
	if strings.Contains(to, "..") || to == from || strings.HasPrefix(to, from+".") {
		require.Error(t, err)
		return
	}
	if m.boxes[from] == nil {
		require.ErrorIs(t, err, ErrNotFound)
		return
	}
	tree := append([]string{from}, below(from, m.names())...)
	for _, n := range tree {
		if target := to + n[len(from):]; m.boxes[target] != nil {
			require.ErrorIs(t, err, ErrExists)
			return
		}
	}
	require.NoError(t, err)
	require.Len(t, moved, len(tree))
	for _, rec := range moved {
		n := from + rec.Name.String()[len(to):]
		b := m.boxes[n]
		require.Equal(t, b.id, rec.UniqueID)
		delete(m.boxes, n)
		b.history = append([]string{n}, b.history...)
		b.v = rec.UIDValidity
		m.boxes[rec.Name.String()] = b
		m.ids[b.id] = rec.Name.String()
		require.Greater(t, b.v, m.lastV[rec.Name.String()])
		m.lastV[rec.Name.String()] = b.v
	}
}

func (m *model) remove(t *rapid.T, l *List, name string, delayed bool) {
	rec, err := l.Delete(ctx, InternalName(name), delayed)
	b := m.boxes[name]
	if b == nil {
		require.ErrorIs(t, err, ErrNotFound)
		return
	}
	require.NoError(t, err)
	delete(m.boxes, name)
	if !delayed {
		delete(m.ids, b.id)
		require.True(t, rec.Type.Deleted())
		return
	}
	b.history = append([]string{name}, b.history...)
	m.boxes[rec.Name.String()] = b
}

func (m *model) setACL(t *rapid.T, l *List, name string) {
	id := rapid.SampledFrom([]string{"anyone", "bob", "alice", "cyrus", "a/b"}).Draw(t, "identifier")
	mode := rapid.SampledFrom([]ACLMode{ReplaceRights, AddRights, RemoveRights}).Draw(t, "mode")
	rights := rapid.SampledFrom([]Rights{0, RightLookup, RightLookup | RightRead, RightPost}).Draw(t, "rights")
	rec, err := l.SetACL(ctx, InternalName(name), id, mode, rights)
	b := m.boxes[name]
	switch {
	case b == nil:
		require.ErrorIs(t, err, ErrNotFound)
	case err != nil:
		require.ErrorIs(t, err, ErrACL)
		require.Equal(t, "a/b", id)
	default:
		b.acl = rec.ACL.String()
	}
}

// TestWatch hears of every change in the order of the commits.
func TestWatch(t *testing.T) {
	l, err := Open(ctx, "/mailboxes.db", testOptions(newDisk(t), skiplist.Twoskip, false))
	require.NoError(t, err)
	changes := l.Watch(ctx)
	rec, err := l.Create(ctx, NewMailbox{Name: InternalName("user.alice")})
	require.NoError(t, err)
	_, err = l.Create(ctx, NewMailbox{Name: InternalName("user.alice.x")})
	require.NoError(t, err)
	_, err = l.SetACL(ctx, rec.Name, "bob", ReplaceRights, RightLookup)
	require.NoError(t, err)
	_, err = l.Rename(ctx, rec.Name, InternalName("user.eve"), RenameOptions{})
	require.NoError(t, err)
	_, err = l.Delete(ctx, InternalName("user.eve.x"), false)
	require.NoError(t, err)
	_, err = l.Create(ctx, NewMailbox{Name: InternalName("user.eve")})
	require.ErrorIs(t, err, ErrExists)
	require.NoError(t, l.Close())
	var heard []string
	for c, err := range changes {
		require.NoError(t, err)
		heard = append(heard, c.Kind.String()+" "+c.Name.String())
	}
	require.Equal(t, []string{"added user.alice", "added user.alice.x", "changed user.alice", "removed user.alice", "added user.eve",
		"removed user.alice.x", "added user.eve.x", "removed user.eve.x"}, heard)
}

func TestSlowWatcher(t *testing.T) {
	l, err := Open(ctx, "/mailboxes.db", testOptions(newDisk(t), skiplist.Twoskip, false))
	require.NoError(t, err)
	changes := l.Watch(ctx)
	for range maxQueued + 1 {
		l.hub.publish([]Change{{Kind: Changed, Name: InternalName("x")}})
	}
	l.hub.publish([]Change{{Kind: Added, Name: InternalName("y")}})
	require.NoError(t, l.Close())
	missed, heard := 0, 0
	for _, err := range changes {
		if errors.Is(err, ErrMissedChanges) {
			missed++
		} else {
			heard++
		}
	}
	require.Equal(t, 1, missed)
	require.Equal(t, 1, heard)
}
