package quota_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/index"
	"github.com/mailspine/mailspine/internal/dlist"
	"github.com/mailspine/mailspine/internal/imapdconf"
	"github.com/mailspine/mailspine/internal/realcyrus"
	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/mboxdb"
	"github.com/mailspine/mailspine/skiplist"
	"github.com/mailspine/mailspine/store"
)

// background never ends. As it could, the simulated disk takes no wait for a lock for a deadlock.
var background, _ = context.WithCancel(context.Background())

// box is a mailbox of a scenario: how many messages of how many bytes each.
type box struct {
	name        string
	msgs, bytes int
}

// ground is a store on which a scenario is played, by us or by the real Cyrus. What is in it is built by our own store, and
// read without package quota: numbers are counted from the records of the index files, roots parsed from their files.
type ground struct {
	t   testing.TB
	fs  vfs.FS
	dir string
	// real is the store as Cyrus's programs know it; nil on a simulated disk.
	real *realcyrus.Store
}

// newGround makes an empty store in a directory of the real file system.
func newGround(t testing.TB, o realcyrus.Options) *ground {
	real := realcyrus.NewStore(t, o)
	g := &ground{t: t, fs: vfs.OS(), dir: real.Dir, real: real}
	g.makeList()
	return g
}

func (g *ground) makeList() {
	path, opts := mboxdb.Configured(g.config())
	opts.DB.FS, opts.DB.Format = g.fs, opts.NewFormat
	require.NoError(g.t, mboxdb.Create(g.t.Context(), path, opts))
}

func (g *ground) path(name string) string { return filepath.Join(g.dir, name) }

func (g *ground) config() *imapdconf.Config {
	c, err := imapdconf.Read(g.fs, g.path("imapd.conf")).Config("mailspine")
	require.NoError(g.t, err)
	return c
}

// give gives everything to the user of the server.
func (g *ground) give() {
	if g.real != nil && os.Geteuid() == 0 {
		realcyrus.Give(g.t, g.dir)
	}
}

// copy is the same store in another directory.
func (g *ground) copy() *ground {
	g.give()
	real := g.real.Copy(g.t)
	return &ground{t: g.t, fs: g.fs, dir: real.Dir, real: real}
}

// read returns a file, and nil if there is none.
func (g *ground) read(name string) []byte {
	f, err := g.fs.Open(g.path(name), vfs.ReadOnly, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	require.NoError(g.t, err)
	defer f.Close()
	info, err := f.Stat()
	require.NoError(g.t, err)
	b := make([]byte, info.Size)
	n, err := f.ReadAt(b, 0)
	require.True(g.t, err == nil || err == io.EOF, "%v", err)
	return b[:n]
}

// write writes a file in place, as an editor or a bad disk would.
func (g *ground) write(name, text string) {
	require.NoError(g.t, vfs.MkdirAll(g.fs, filepath.Dir(g.path(name)), 0o755))
	f, err := g.fs.Open(g.path(name), vfs.ReadWrite|vfs.Create, 0o644)
	require.NoError(g.t, err)
	require.NoError(g.t, f.Truncate(0))
	if text != "" {
		_, err = f.WriteAt([]byte(text), 0)
		require.NoError(g.t, err)
	}
	require.NoError(g.t, errors.Join(f.Sync(), f.Close(), g.fs.SyncDir(filepath.Dir(g.path(name)))))
}

// opened calls do with the store.
func (g *ground) opened(do func(st *store.Store)) {
	st := g.open()
	do(st)
	require.NoError(g.t, st.Close())
}

func (g *ground) open() *store.Store {
	st, err := store.Open(g.t.Context(), g.config(), store.Options{FS: g.fs})
	require.NoError(g.t, err)
	return st
}

// create makes mailboxes with messages.
func (g *ground) create(boxes ...box) {
	g.opened(func(st *store.Store) {
		for _, b := range boxes {
			_, err := st.Create(g.t.Context(), store.NewMailbox{Name: mboxdb.InternalName(b.name)})
			require.NoError(g.t, err)
			if b.msgs > 0 {
				require.NoError(g.t, deliverTo(g.t.Context(), st, b.name, b.msgs, b.bytes))
			}
		}
	})
}

// update changes a mailbox.
func (g *ground) update(name string, do func(tx *index.Tx) error) {
	g.opened(func(st *store.Store) {
		m, err := st.OpenMailbox(g.t.Context(), mboxdb.InternalName(name))
		require.NoError(g.t, err)
		require.NoError(g.t, m.Update(g.t.Context(), do))
		require.NoError(g.t, m.Close())
	})
}

// deliverTo appends messages of a size to a mailbox.
func deliverTo(ctx context.Context, st *store.Store, name string, msgs, bytes int) error {
	m, err := st.OpenMailbox(ctx, mboxdb.InternalName(name))
	if err != nil {
		return err
	}
	err = m.Update(ctx, func(tx *index.Tx) error {
		for range msgs {
			_, err := tx.Append(index.NewMessage{Body: strings.NewReader(mailOf(bytes)), InternalDate: time.Unix(1_700_000_000, 0)})
			if err != nil {
				return err
			}
		}
		return nil
	})
	return errors.Join(err, m.Close())
}

// mailOf is a message of a number of bytes.
func mailOf(bytes int) string {
	head := "From: a@example.org\r\nSubject: hello\r\nDate: Mon, 1 Jan 2024 10:00:00 +0000\r\n\r\n"
	return head + strings.Repeat("x", bytes-len(head)-2) + "\r\n"
}

// record is the entry of a mailbox in the list.
func (g *ground) record(name string) (rec mboxdb.Record) {
	g.opened(func(st *store.Store) {
		var err error
		rec, err = st.List().Lookup(g.t.Context(), mboxdb.InternalName(name))
		require.NoError(g.t, err)
	})
	return rec
}

// place is where the files of a mailbox are.
func (g *ground) place(name string) (p index.Place) {
	rec := g.record(name)
	g.opened(func(st *store.Store) {
		var err error
		p, err = index.PlaceOf(st.Layout(), rec)
		require.NoError(g.t, err)
	})
	return p
}

// rel is a path as the methods of the ground take it.
func (g *ground) rel(path string) string {
	rel, err := filepath.Rel(g.dir, path)
	require.NoError(g.t, err)
	return rel
}

// putHeader writes a quota root into the header of a mailbox, and nothing else: as one that has missed a change has it.
func (g *ground) putHeader(name, root string) {
	p := g.place(name)
	var h index.HeaderFile
	require.NoError(g.t, h.Decode(g.read(g.rel(p.Paths.Header))))
	h.QuotaRoot = root
	g.write(g.rel(p.Paths.Header), string(h.Append(nil)))
	g.putIndex(name, func(i *index.Header) { i.HeaderFileCRC = h.Checksum() })
}

// putIndex changes the header of an index, however little that agrees with its records.
func (g *ground) putIndex(name string, change func(h *index.Header)) {
	p := g.place(name)
	b := g.read(g.rel(p.Paths.Index))
	var h index.Header
	require.NoError(g.t, h.Decode(b))
	change(&h)
	g.write(g.rel(p.Paths.Index), string(h.Append(nil))+string(b[h.StartOffset:]))
}

// header is the quota root that the header of a mailbox names.
func (g *ground) header(name string) string {
	h, err := index.ReadHeaderFile(g.fs, g.place(name).Paths.Header)
	require.NoError(g.t, err)
	return h.QuotaRoot
}

// rootFile is where quotalegacy has a root, without fulldirhash.
func rootFile(root string) string {
	dir := "conf"
	if domain, rest, ok := strings.Cut(root, "!"); ok {
		dir = filepath.Join(dir, "domain", letterOf(domain), domain)
		if rest == "" {
			return filepath.Join(dir, "quota", "root")
		}
		root = rest
	}
	_, below, ok := strings.Cut(root, ".")
	if !ok {
		below = root
	}
	return filepath.Join(dir, "quota", letterOf(below), root)
}

func letterOf(s string) string {
	if c := strings.ToLower(s)[0]; c >= 'a' && c <= 'z' {
		return string(c)
	}
	return "q"
}

// putRoot writes the file of a root; see rootText.
func (g *ground) putRoot(root, text string) {
	if g.inDatabase() {
		g.database(func(db *skiplist.DB) {
			require.NoError(g.t, db.Put(background, []byte(root), []byte(strings.TrimSuffix(text, "\n"))))
		})
		return
	}
	g.write(rootFile(root), text)
}

// inDatabase tells whether roots are in a database, and not in files.
func (g *ground) inDatabase() bool { return g.config().String("quota_db") != "quotalegacy" }

// database calls do with the database of roots.
func (g *ground) database(do func(db *skiplist.DB)) {
	path, format := g.path("conf/quotas.db"), skiplist.Format(g.config().String("quota_db"))
	if _, err := g.fs.Stat(path); errors.Is(err, fs.ErrNotExist) {
		require.NoError(g.t, skiplist.Create(background, path, skiplist.Options{FS: g.fs, Format: format}))
	}
	db, err := skiplist.Open(background, path, skiplist.Options{FS: g.fs, Skipstamp: g.config().Skipstamp()})
	require.NoError(g.t, err)
	do(db)
	require.NoError(g.t, db.Close())
}

// rootText is what a root says that uses so much: bytes/messages/mailboxes. Limits are those of STORAGE and MESSAGE, -1 for
// none.
func rootText(used string, limits ...int64) string {
	var s, m, f int64
	if _, err := fmt.Sscanf(used, "%d/%d/%d", &s, &m, &f); err != nil {
		panic(err)
	}
	item := func(i int, used int64) string {
		if i < len(limits) && limits[i] >= 0 {
			return fmt.Sprintf("(%d %d)", used, limits[i])
		}
		return fmt.Sprintf("(%d)", used)
	}
	return fmt.Sprintf("%%(S %s M %s AS (0) NF (%d) MODSEQ 3)\n", item(0, s), item(1, m), f)
}

// roots are the numbers of all roots that have a file: bytes/messages/mailboxes, or "?" and the text where they are not of
// the form that Cyrus writes.
func (g *ground) roots() map[string]string {
	all := map[string]string{}
	for root, text := range g.rootTexts() {
		all[root] = numbersOf(text)
	}
	return all
}

// numbersOf reads the value of a root.
func numbersOf(text string) string {
	var p dlist.Parser
	value, whole := strings.CutSuffix(text, "\n")
	n, err := p.Parse([]byte(value))
	if err != nil || !whole || n.Kind() != dlist.KVList {
		return "?" + text
	}
	var words []string
	for _, key := range []string{"S", "M", "NF"} {
		item := n.Get(key)
		if item.Kind() != dlist.List || len(item.Items) == 0 {
			return "?" + text
		}
		words = append(words, item.Items[0].Text())
	}
	if n.Get("SCAN") != nil {
		words = append(words, "SCAN")
	}
	return strings.Join(words, "/")
}

// rootTexts are the files of all roots, or their values as they would be in files.
func (g *ground) rootTexts() map[string]string {
	all := map[string]string{}
	if g.inDatabase() {
		g.database(func(db *skiplist.DB) {
			require.NoError(g.t, db.View(background, func(s *skiplist.Snapshot) error {
				for rec, err := range s.All() {
					if err != nil {
						return err
					}
					all[string(rec.Key)] = string(rec.Value) + "\n"
				}
				return nil
			}))
		})
		return all
	}
	g.quotaDir("conf", "", all)
	for _, letter := range g.list("conf/domain") {
		for _, domain := range g.list("conf/domain/" + letter) {
			dir := "conf/domain/" + letter + "/" + domain
			if b := g.read(dir + "/quota/root"); b != nil {
				all[domain+"!"] = string(b)
			}
			g.quotaDir(dir, domain+"!", all)
		}
	}
	return all
}

func (g *ground) quotaDir(dir, domain string, all map[string]string) {
	for _, letter := range g.list(dir + "/quota") {
		if letter == "root" || strings.HasSuffix(letter, ".NEW") { // which a creation that was cut off has left
			continue
		}
		for _, root := range g.list(dir + "/quota/" + letter) {
			all[domain+root] = string(g.read(dir + "/quota/" + letter + "/" + root))
		}
	}
}

func (g *ground) list(dir string) (names []string) {
	entries, err := g.fs.ReadDir(g.path(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	require.NoError(g.t, err)
	for _, e := range entries {
		names = append(names, e.Name)
	}
	return names
}

// counted is what every root should say: each mailbox of the list is counted from the records of its index, once, for the
// longest name of a root file that is its own or above it.
func (g *ground) counted() map[string]string {
	type sums struct{ bytes, msgs, boxes int64 }
	all := map[string]*sums{}
	for root := range g.rootTexts() {
		all[root] = &sums{}
	}
	g.opened(func(st *store.Store) {
		require.NoError(g.t, st.List().View(g.t.Context(), func(v *mboxdb.View) error {
			for rec, err := range v.All() {
				if err != nil {
					return err
				}
				if !rec.Type.Exists() || rec.Type.Remote() {
					continue
				}
				owner := all[ownerOf(rec.Name.String(), func(root string) bool { return all[root] != nil })]
				if owner == nil {
					continue
				}
				bytes, msgs, err := countRecords(g.fs, st.Layout(), rec)
				if err != nil {
					return err
				}
				owner.bytes, owner.msgs, owner.boxes = owner.bytes+bytes, owner.msgs+msgs, owner.boxes+1
			}
			return nil
		}))
	})
	texts := map[string]string{}
	for root, s := range all {
		texts[root] = fmt.Sprintf("%d/%d/%d", s.bytes, s.msgs, s.boxes)
	}
	return texts
}

// ownerOf is the longest root that is a mailbox or above it.
func ownerOf(name string, exists func(string) bool) string {
	domain, rest, inDomain := strings.Cut(name, "!")
	if !inDomain {
		rest = name
	}
	for at := name; ; {
		if exists(at) {
			return at
		}
		i := strings.LastIndexByte(rest, '.')
		if i < 0 {
			break
		}
		rest = rest[:i]
		if at = rest; inDomain {
			at = domain + "!" + rest
		}
	}
	if inDomain && exists(domain+"!") {
		return domain + "!"
	}
	return ""
}

// countRecords counts the messages of a mailbox by their records.
func countRecords(fsys vfs.FS, l mboxdb.Layout, rec mboxdb.Record) (bytes, msgs int64, err error) {
	p, err := index.PlaceOf(l, rec)
	if err != nil {
		return 0, 0, err
	}
	files, err := index.OpenFiles(fsys, p.Paths)
	if err != nil {
		return 0, 0, fmt.Errorf("%s: %w", rec.Name, err)
	}
	for e, err := range files.Index.Records(1) {
		if err != nil {
			return 0, 0, errors.Join(err, files.Close())
		}
		if e.Record.Flags&(index.FlagExpunged|index.FlagUnlinked) == 0 {
			bytes, msgs = bytes+int64(e.Record.Size), msgs+1
		}
	}
	return bytes, msgs, files.Close()
}
