package store

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/index"
	"github.com/mailspine/mailspine/internal/imapdconf"
	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/internal/vfs/simfs"
	"github.com/mailspine/mailspine/internal/vfs/vfstest"
	"github.com/mailspine/mailspine/mboxdb"
	"github.com/mailspine/mailspine/quota"
	"github.com/mailspine/mailspine/skiplist"
)

// layouts are the configurations on which crashes are tried.
var layouts = map[string]string{
	"uuid": "mboxlist_db: twoskip\npartition-other: /spool2\nsync_log: yes\nstatuscache: yes\nreverseacls: yes\n",
	"legacy": "mboxlist_db: skiplist\nmailbox_legacy_dirs: yes\nhashimapspool: yes\nfulldirhash: yes\nmetapartition-default: /meta\n" +
		"metapartition_files: header index cache annotations\npartition-other: /spool2\nmetapartition-other: /meta2\nsync_log: yes\n",
}

const confPath = "/imapd.conf"

// newDisk makes a store on a simulated disk: an empty list in the directories that the configuration names.
func newDisk(t *testing.T, layout string, o simfs.Options) *simfs.FS {
	t.Helper()
	disk := simfs.New(o)
	text := "configdirectory: /conf\ndefaultpartition: default\npartition-default: /spool\nadmins: cyrus\naltnamespace: no\nunixhierarchysep: no\n" + layouts[layout]
	for _, dir := range []string{"/conf", "/conf/db", "/conf/sync", "/spool", "/meta", "/spool2", "/meta2"} {
		require.NoError(t, vfs.MkdirAll(disk, dir, 0o755))
	}
	write := func(name, text string) {
		require.NoError(t, vfs.ReplaceFile(disk, name, vfs.ReplaceOptions{Perm: 0o644}, func(f vfs.File) error {
			_, err := f.WriteAt([]byte(text), 0)
			return err
		}))
	}
	write(confPath, text)
	c := config(t, disk)
	roots, err := quota.OpenRoots(ctx, c, quota.Options{FS: disk})
	require.NoError(t, err)
	held, err := roots.LockChanges(ctx)
	require.NoError(t, err)
	for _, root := range []string{"user.alice", "user.alice.b", "user.zoe"} {
		require.NoError(t, roots.Create(ctx, root, quota.Record{Limits: quota.Limits{1000, 100, quota.Unlimited, 100}}))
	}
	held.Release()
	require.NoError(t, roots.Close())
	listPath, opts := mboxdb.Configured(c)
	opts.DB.FS = disk
	require.NoError(t, mboxdb.Create(ctx, listPath, func() mboxdb.Options { o := opts; o.DB.Format = o.NewFormat; return o }()))
	return disk
}

func config(t testing.TB, fsys vfs.FS) *imapdconf.Config {
	c, err := imapdconf.Read(fsys, confPath).Config("mailspine")
	require.NoError(t, err)
	return c
}

// openOn opens the store. Unique ids are the same in every run.
func openOn(t testing.TB, fsys vfs.FS) (*Store, error) { return openWith(config(t, fsys), fsys) }

func openWith(c *imapdconf.Config, fsys vfs.FS) (*Store, error) {
	n := uint64(0)
	return Open(ctx, c, Options{FS: fsys, Random: func() uint64 { n = n*6364136223846793005 + 1442695040888963407; return n >> 33 }})
}

// deliver puts messages into a mailbox.
func deliver(t testing.TB, st *Store, mailbox string, count int) {
	t.Helper()
	require.NoError(t, inMailbox(st, mailbox, func(tx *index.Tx) error { return appendTo(tx, 0, count) }))
}

// inMailbox changes a mailbox.
func inMailbox(st *Store, mailbox string, do func(tx *index.Tx) error) error {
	m, err := st.OpenMailbox(ctx, name(mailbox))
	if err != nil {
		return err
	}
	return errors.Join(m.Update(ctx, do), m.Close())
}

// appendTo appends messages with these numbers.
func appendTo(tx *index.Tx, first, count int) error {
	for i := range count {
		if _, err := tx.Append(index.NewMessage{Body: strings.NewReader(fmt.Sprintf(message, first+i)), InternalDate: time.Unix(1_700_000_000, 0)}); err != nil {
			return err
		}
	}
	return nil
}

func expunge(tx *index.Tx, uid index.UID, mode index.ExpungeMode) error {
	_, err := tx.Expunge(uid, mode)
	return err
}

// transfer copies or moves a message.
func transfer(st *Store, from, to string, uid index.UID, o index.CopyOptions) error {
	source, err := st.OpenMailbox(ctx, name(from))
	if err != nil {
		return err
	}
	target, err := st.OpenMailbox(ctx, name(to))
	if err != nil {
		return errors.Join(err, source.Close())
	}
	_, err = index.Copy(ctx, source, target, []index.UID{uid}, o)
	return errors.Join(err, source.Close(), target.Close())
}

// state is what a user sees of a store: the mailboxes, and what is in each.
type state map[string]string

// see reads a store as Cyrus would find it, without any recovery but that of the list itself, which every opener makes.
func see(st *Store) (state, error) {
	seen := state{}
	err := st.list.View(ctx, func(v *mboxdb.View) error {
		for rec, err := range v.All() {
			if err != nil {
				return err
			}
			text, err := seeOne(st, rec)
			if err != nil {
				return fmt.Errorf("%s: %w", rec.Name, err)
			}
			label := rec.Name.String()
			if _, deleted := rec.Name.Deleted(st.layout.Namespace); deleted {
				label = rec.Name.Parent().String() // without the time
			}
			seen[label] = fmt.Sprintf("%s %s %v %s", rec.Partition, rec.UniqueID, rec.ACL, text)
		}
		return nil
	})
	return seen, err
}

func seeOne(st *Store, rec mboxdb.Record) (text string, err error) {
	p, err := st.place(rec)
	if err != nil {
		return "", err
	}
	m, err := index.Open(ctx, st.fs, p.at)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	h, err := m.HeaderFile()
	if err != nil {
		return "", err
	}
	if h.UniqueID != rec.UniqueID {
		return "", fmt.Errorf("the header of %s", h.UniqueID)
	}
	for e, err := range m.Records(ctx) {
		if err != nil {
			return "", err
		}
		if e.Record.Expunged() {
			text += fmt.Sprintf("%d expunged ", e.Record.UID)
		}
		if e.Record.Flags&index.FlagUnlinked != 0 {
			continue
		}
		body, err := m.Body(&e.Record)
		if err != nil {
			return "", err
		}
		b, err := io.ReadAll(body)
		if err := errors.Join(err, body.Close()); err != nil {
			return "", err
		}
		if int(e.Record.Size) != len(b) {
			return "", fmt.Errorf("UID %d has %d bytes, not %d", e.Record.UID, len(b), e.Record.Size)
		}
		info, err := st.fs.Stat(p.at.Message(&e.Record))
		if err != nil {
			return "", err
		}
		text += fmt.Sprintf("%d:%x@%d ", e.Record.UID, e.Record.GUID[:3], info.Mtime.Unix())
	}
	return text, nil
}

// settled fails unless list, directories, headers and indexes agree, no file belongs to nobody, and each quota root records what
// is used.
func settled(st *Store) error {
	used := map[string]bool{}
	err := st.list.View(ctx, func(v *mboxdb.View) error {
		for rec, err := range v.All() {
			if err != nil {
				return err
			}
			p, err := st.place(rec)
			if err != nil {
				return err
			}
			for _, dir := range p.dirs {
				used[dir] = true
			}
			if err := agrees(st, p, rec); err != nil {
				return fmt.Errorf("%s: %w", rec.Name, err)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, root := range []string{"/spool", "/meta", "/spool2", "/meta2"} {
		err := vfstest.Walk(st.fs, root, func(file string, isDir bool) error {
			dir := path.Dir(file)
			if base := path.Base(dir); !isDir && !used[dir] && base != "mailspine." && base != "stage." {
				return fmt.Errorf("%s belongs to no mailbox", file)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	var bad error
	err = st.list.Check(ctx, func(f mboxdb.Finding) {
		if f.Severity > skiplist.Info && bad == nil {
			bad = fmt.Errorf("the list: %v", f)
		}
	})
	want, wantErr := usageOf(st)
	got, gotErr := recorded(st)
	if err = errors.Join(err, bad, wantErr, gotErr); err == nil && !maps.Equal(want, got) {
		err = fmt.Errorf("the quota roots record %v, and %v is used", got, want)
	}
	return err
}

func agrees(st *Store, p *place, rec mboxdb.Record) error {
	files, err := index.OpenFiles(st.fs, p.at.Paths)
	if err != nil {
		return err
	}
	defer files.Close()
	root, err := st.roots.Owner(ctx, rec.Name.String())
	if err != nil {
		return err
	}
	h, head := files.Header, files.Index.Header
	switch {
	case h.Name != rec.Name.String() || h.Type != string(rec.Type):
		return fmt.Errorf("cyrus.header is that of %s, %s", h.Name, h.Type)
	case !slices.Equal(h.ACL, headerACL(rec.ACL)):
		return fmt.Errorf("cyrus.header has the ACL %v, not %v", h.ACL, rec.ACL)
	case h.QuotaRoot != root:
		return fmt.Errorf("cyrus.header has the quota root %q, not %q", h.QuotaRoot, root)
	case head.HeaderFileCRC != h.Checksum():
		return errors.New("the checksum of cyrus.header is not the recorded one")
	case uint64(head.HighestModSeq) < rec.FolderModSeq || head.UIDValidity != rec.UIDValidity:
		return fmt.Errorf("highestmodseq %d, folder %d; uidvalidity %d, %d", head.HighestModSeq, rec.FolderModSeq, head.UIDValidity, rec.UIDValidity)
	}
	found, err := index.Check(ctx, st.fs, p.at, index.CheckOptions{Owner: st.user(rec.Name)})
	for _, f := range found {
		// What is left of a message that was not delivered is where nobody looks.
		if f.Code != "message-above" && f.Severity > skiplist.Info && err == nil {
			err = fmt.Errorf("%v", f)
		}
	}
	return err
}

// changes are the steps that crashes, errors and full disks interrupt.
var changes = map[string]func(st *Store) error{
	"create":        func(st *Store) error { _, err := st.Create(ctx, NewMailbox{Name: name("user.alice.n.m")}); return err },
	"create user":   func(st *Store) error { _, err := st.Create(ctx, NewMailbox{Name: name("user.bob")}); return err },
	"create shared": func(st *Store) error { _, err := st.Create(ctx, NewMailbox{Name: name("news")}); return err },
	"rename": func(st *Store) error {
		_, err := st.Rename(ctx, Renaming{From: name("user.alice.a"), To: name("user.alice.b.c")})
		return err
	},
	"rename to another user": func(st *Store) error {
		_, err := st.Rename(ctx, Renaming{From: name("user.alice.a"), To: name("user.zoe.a")})
		return err
	},
	"delete": func(st *Store) error {
		_, err := st.Delete(ctx, Deletion{Name: name("user.alice.a"), Recursive: true})
		return err
	},
	"delete at once": func(st *Store) error {
		_, err := st.Delete(ctx, Deletion{Name: name("user.alice.a"), Recursive: true, Immediate: true})
		return err
	},
	"delete the inbox": func(st *Store) error {
		_, err := st.Delete(ctx, Deletion{Name: name("user.zoe"), Immediate: true})
		return err
	},
	"move": func(st *Store) error {
		_, err := st.Rename(ctx, Renaming{From: name("user.alice.a"), To: name("user.alice.a"), Partition: "other"})
		return err
	},
	"move by copies": func(st *Store) error {
		st.fs = noLinks{st.fs}
		_, err := st.Rename(ctx, Renaming{From: name("user.alice.a"), To: name("user.alice.a"), Partition: "other"})
		return err
	},
	"deliver": func(st *Store) error {
		return inMailbox(st, "user.alice.a", func(tx *index.Tx) error { return appendTo(tx, 3, 2) })
	},
	"expunge": func(st *Store) error {
		return inMailbox(st, "user.zoe", func(tx *index.Tx) error { return expunge(tx, 1, index.ExpungeImmediate) })
	},
	"copy": func(st *Store) error { return transfer(st, "user.alice.a", "user.zoe", 1, index.CopyOptions{}) },
	"setacl": func(st *Store) error {
		_, err := st.SetACL(ctx, Grant{Name: name("user.alice.a"), Identifier: "bob", Rights: mboxdb.RightLookup})
		return err
	},
}

// changing is one of the changes, about to be made in a store.
type changing struct {
	layout, what string
	do           func(st *Store) error
	disk         *simfs.FS
	st           *Store
	before       state
}

// eachChange runs a test of each change in each layout.
func eachChange(t *testing.T, test func(t *testing.T, c changing)) {
	for layout := range layouts {
		for what, do := range changes {
			t.Run(layout+"/"+what, func(t *testing.T) {
				t.Parallel()
				disk := newDisk(t, layout, simfs.Options{})
				st := furnish(t, disk)
				before, err := see(st)
				require.NoError(t, err)
				test(t, changing{layout, what, do, disk, st, before})
			})
		}
	}
}

// noLinks is a file system whose directories are all on different disks.
type noLinks struct{ vfs.FS }

func (noLinks) Link(old, name string) error {
	return &os.LinkError{Op: "link", Old: old, New: name, Err: syscall.EXDEV}
}

// furnish makes the mailboxes that the changes work on.
func furnish(t *testing.T, disk *simfs.FS) *Store {
	t.Helper()
	st, err := openOn(t, disk)
	require.NoError(t, err)
	for _, n := range []string{"user.alice", "user.alice.a", "user.alice.a.sub", "user.zoe"} {
		_, err := st.Create(ctx, NewMailbox{Name: name(n)})
		require.NoError(t, err)
	}
	deliver(t, st, "user.alice.a", 2)
	deliver(t, st, "user.alice.a.sub", 1)
	deliver(t, st, "user.zoe", 1)
	require.NoError(t, settled(st))
	return st
}

// images is how many a change may have looked at. What runs alone under the race detector needs few.
func images(short int) int {
	switch os.Getenv("MAILSPINE_CAMPAIGN") {
	case "":
		if racing {
			return max(1, short/10)
		}
		return short
	case "nightly":
		return 100 * short
	}
	return 10 * short
}

// TestStoreCrashImages cuts the power at every operation of every change. In each image the list names mailboxes that can be
// used as they are, those of before or those of after; after Recover list, directories, headers and indexes agree, and
// there is no file that belongs to nobody.
func TestStoreCrashImages(t *testing.T) {
	eachChange(t, func(t *testing.T, c changing) {
		disk, st := c.disk, c.st
		from := disk.Ops()
		disk.Mark("begin")
		require.NoError(t, c.do(st))
		disk.Mark("ack")
		after, err := see(st)
		require.NoError(t, err)
		require.NotEqual(t, c.before, after)
		require.NoError(t, settled(st))
		require.NoError(t, st.Close())
		trace, n := disk.Trace(), 0
		samples, again := max(2, images(60)/(disk.Ops()-from)), 29
		if racing {
			samples, again = 1, 211
		}
		for img := range trace.Images(simfs.Search{Limit: samples, Samples: samples, Seed: 7, From: from}) {
			n++
			acked := slices.Contains(img.Marks, "ack")
			err := survives(t, img.FS, c.before, after, acked)
			if err == nil && n%again == 5 {
				err = survivesTwice(t, trace, img.Seed, c.before, after, acked)
			}
			if err != nil {
				_ = trace.Dump(os.Stderr, img.Seed)
				t.Fatalf("%s: %v", img.Seed, err)
			}
		}
		t.Logf("%d crash images", n)
	})
}

// survives looks at a store after a crash, recovers it, and goes on with it.
func survives(t *testing.T, disk *simfs.FS, before, after state, acked bool) error {
	st, err := openOn(t, disk)
	if err != nil {
		return err
	}
	if _, err := either(st, before, after, acked); err != nil {
		return fmt.Errorf("before recovery: %w", err)
	}
	if _, err := st.Recover(ctx); err != nil {
		return err
	}
	now, err := either(st, before, after, acked)
	if err == nil {
		err = settled(st)
	}
	if err != nil {
		return fmt.Errorf("after recovery: %w", err)
	}
	if again, err := st.Recover(ctx); err != nil || again.Steps > 0 {
		return fmt.Errorf("the second recovery found %v, %v", again, err)
	}
	if _, err := st.Create(ctx, NewMailbox{Name: name("user.alice.later")}); err != nil {
		return err
	}
	deliver(t, st, "user.alice.later", 1)
	deliver(t, st, "user.alice", 1)
	later, err := see(st)
	if err != nil {
		return err
	}
	for n, what := range now {
		if n != "user.alice" && later[n] != what {
			return fmt.Errorf("%s was %s, and is %s", n, what, later[n])
		}
	}
	return errors.Join(settled(st), st.Close())
}

// either fails unless the store is in one of two states.
func either(st *Store, before, after state, acked bool) (state, error) {
	now, err := see(st)
	switch {
	case err != nil:
		return nil, err
	case maps.Equal(now, after), maps.Equal(now, before) && !acked:
		return now, nil
	}
	return nil, fmt.Errorf("there is\n%v\n, neither\n%v\nnor\n%v", now, before, after)
}

// survivesTwice cuts the power in the recovery, too.
func survivesTwice(t *testing.T, trace *simfs.Trace, seed string, before, after state, acked bool) error {
	first, err := trace.Image(seed)
	if err != nil {
		return err
	}
	from := first.Ops()
	st, err := openOn(t, first.FS)
	if err != nil {
		return err
	}
	if _, err := st.Recover(ctx); err != nil {
		return err
	}
	if err := st.Close(); err != nil {
		return err
	}
	n := 0
	for img := range first.Trace().Images(simfs.Search{Limit: 2, Samples: 1, Seed: 9, From: from}) {
		if n++; n%3 != 0 {
			continue
		}
		if err := survives(t, img.FS, before, after, acked); err != nil {
			_ = first.Trace().Dump(os.Stderr, img.Seed)
			return fmt.Errorf("second crash, %s: %w", img.Seed, err)
		}
	}
	return nil
}
