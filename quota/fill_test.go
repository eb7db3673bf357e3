package quota_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/index"
	"github.com/mailspine/mailspine/internal/realcyrus"
	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/mboxdb"
	"github.com/mailspine/mailspine/skiplist"
	"github.com/mailspine/mailspine/store"
)

// filled is a store with many users, each with a root of its own and the same mailboxes, of two messages of 1000 bytes each.
// Only the files that count are there: header and index, written without a sync, and no messages.
type filled struct {
	*ground
	users, folders int
	template       struct {
		index  []byte
		header index.HeaderFile
		layout mboxdb.Layout
	}
	dirs map[string]bool
}

const filledMsgs, filledBytes = 2, 1000

// newFilled makes such a store. It takes some 400 µs for a mailbox.
func newFilled(t testing.TB, users, folders int) *filled { return fill(t, users, folders, true) }

// fill makes the mailboxes in the list, their files if they are asked for, and the roots.
func fill(t testing.TB, users, folders int, files bool) *filled {
	g := newGround(t, realcyrus.Options{})
	f := &filled{ground: g, users: users, folders: folders, dirs: map[string]bool{}}
	g.create(box{"user.template", filledMsgs, filledBytes})
	p := g.place("user.template")
	g.write("template.index", string(g.read(g.rel(p.Paths.Index))))
	g.write("template.header", string(g.read(g.rel(p.Paths.Header))))
	f.readTemplate()
	g.opened(func(st *store.Store) {
		f.template.layout = st.Layout()
		_, err := st.Delete(f.t.Context(), store.Deletion{Name: mboxdb.InternalName("user.template"), Immediate: true})
		require.NoError(t, err)
		require.NoError(t, st.List().DB().Update(f.t.Context(), func(tx *skiplist.Tx) error {
			for u := range users {
				if err := f.putUser(tx, u); err != nil {
					return err
				}
				for folder := 0; files && folder < folders; folder++ {
					f.writeHeader(u, folder, filledUser(u))
				}
			}
			return nil
		}))
	})
	f.setRoots(f.right())
	g.give()
	return f
}

// readTemplate reads what the files of all mailboxes are made of.
func (f *filled) readTemplate() {
	f.template.index = f.read("template.index")
	require.NoError(f.t, f.template.header.Decode(f.read("template.header")))
}

func filledUser(u int) string { return fmt.Sprintf("user.%c%05d", 'a'+u%26, u) }

func (f *filled) name(u, folder int) string {
	if folder == 0 {
		return filledUser(u)
	}
	return fmt.Sprintf("%s.folder%d", filledUser(u), folder)
}

// right is what every root has to say.
func (f *filled) right() string {
	msgs := filledMsgs * f.folders
	return fmt.Sprintf("%d/%d/%d", filledBytes*msgs, msgs, f.folders)
}

func (f *filled) putUser(tx *skiplist.Tx, u int) error {
	for folder := range f.folders {
		rec := f.record(u, folder)
		owner := strings.TrimPrefix(filledUser(u), "user.")
		tail := fmt.Sprintf("P default V 1795432816 C 1 F 1 M 1795432815 A %%(%s lrswipkxtecdan)", owner)
		if err := tx.Put([]byte("N"+rec.Name.DB()), fmt.Appendf(nil, "%%(T e I %s %s)", rec.UniqueID, tail)); err != nil {
			return err
		}
		if err := tx.Put([]byte("I"+rec.UniqueID), fmt.Appendf(nil, "%%(T e N %s %s H ())", rec.Name.DB(), tail)); err != nil {
			return err
		}
	}
	return nil
}

func (f *filled) record(u, folder int) mboxdb.Record {
	id := fmt.Sprintf("%c%c%022d", 'a'+u%26, 'a'+folder%26, u*1000+folder)
	return mboxdb.Record{Name: mboxdb.InternalName(f.name(u, folder)), Type: mboxdb.Mail, Partition: "default", UniqueID: id}
}

// writeHeader writes header and index of a mailbox whose header names a root.
func (f *filled) writeHeader(u, folder int, root string) {
	p, err := index.PlaceOf(f.template.layout, f.record(u, folder))
	require.NoError(f.t, err)
	header, index := f.content(u, folder, root)
	f.put(p.Paths.Header, header)
	f.put(p.Paths.Index, index)
}

// content is what both files have.
func (f *filled) content(u, folder int, root string) (header, indexFile []byte) {
	rec := f.record(u, folder)
	h := f.template.header
	h.Name, h.UniqueID, h.QuotaRoot = rec.Name.String(), rec.UniqueID, root
	var i index.Header
	require.NoError(f.t, i.Decode(f.template.index))
	i.HeaderFileCRC = h.Checksum()
	return h.Append(nil), append(i.Append(nil), f.template.index[i.StartOffset:]...)
}

// setRoots writes all roots with the same numbers.
func (f *filled) setRoots(used string) {
	text := []byte(rootText(used, 100000, 5000))
	for u := range f.users {
		f.put(f.path(rootFile(filledUser(u))), text)
	}
}

// put writes a file without a sync.
func (f *filled) put(path string, b []byte) {
	if dir := filepath.Dir(path); !f.dirs[dir] {
		require.NoError(f.t, vfs.MkdirAll(f.fs, dir, 0o755))
		f.dirs[dir] = true
	}
	file, err := f.fs.Open(path, vfs.ReadWrite|vfs.Create, 0o644)
	require.NoError(f.t, err)
	require.NoError(f.t, file.Truncate(int64(len(b))))
	_, err = file.WriteAt(b, 0)
	require.NoError(f.t, errors.Join(err, file.Close()))
}

// mustBeRight fails unless every root has its numbers.
func (f *filled) mustBeRight() {
	roots := f.roots()
	require.Len(f.t, roots, f.users)
	for root, numbers := range roots {
		require.Equal(f.t, f.right(), numbers, root)
	}
}
