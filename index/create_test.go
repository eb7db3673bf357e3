package index

import (
	"io/fs"
	"os"
	"slices"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/internal/realcyrus"
	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/internal/vfs/faultfs"
	"github.com/mailspine/mailspine/internal/vfs/simfs"
	"github.com/mailspine/mailspine/internal/vfs/vfstest"
	"github.com/mailspine/mailspine/mboxdb"
)

// newbox is a mailbox that does not exist yet.
var newbox = Creation{UIDValidity: 7, HeaderFile: HeaderFile{Form: HeaderList, Type: "e", Name: "user.u", UniqueID: "0123456789abcdef",
	ACL: []ACLEntry{{"u", "lrswipkxtecdan"}}}}

// farPlace has each kind of file in a directory of its own.
func farPlace() Place {
	return Place{Owner: "u", Journal: "/meta/mailspine.", Stage: "/data/stage.", Messages: "/data/u/0/1", Archive: "/archive/u/0/1", Paths: Paths{Header: "/meta/u/0/1/cyrus.header", Index: "/meta/u/0/1/cyrus.index",
		Cache: "/cache/u/0/1/cyrus.cache", Archive: "/archive/u/0/1/cyrus.cache", Annotations: "/meta/u/0/1/cyrus.annotations"}}
}

// tree lists all names below a directory.
func tree(t testing.TB, fsys vfs.FS, dir string) (all []string) {
	require.NoError(t, vfstest.Walk(fsys, dir, func(path string, _ bool) error {
		all = append(all, path)
		return nil
	}))
	return all
}

// TestCreate makes mailboxes of every version and checks them.
func TestCreate(t *testing.T) {
	t.Parallel()
	for _, v := range Versions() {
		fsys := simfs.New(simfs.Options{NoTrace: true})
		c := newbox
		c.Version, c.Options = v, OptionDuplicates
		p := farPlace()
		made, err := Create(t.Context(), fsys, p, c)
		require.NoError(t, err)
		found, err := CheckFiles(t.Context(), fsys, p.Paths, CheckOptions{Owner: "u"})
		require.NoError(t, err)
		require.Empty(t, found)
		m, err := Open(t.Context(), fsys, p)
		require.NoError(t, err)
		h, err := m.Header()
		require.NoError(t, err)
		require.Equal(t, v, h.Version)
		require.NoError(t, m.Close())

		_, err = Create(t.Context(), fsys, p, c)
		require.ErrorIs(t, err, fs.ErrExist)
		_, err = m.fs.Stat(p.Paths.Index)
		require.NoError(t, err, "a refused creation takes nothing away")
		require.NoError(t, made.Remove())
		require.Empty(t, tree(t, fsys, "/"))
	}
	fsys := simfs.New(simfs.Options{NoTrace: true})
	for _, bad := range []func(*Creation){
		func(c *Creation) { c.UIDValidity = 0 }, func(c *Creation) { c.HeaderFile.UniqueID = "" }, func(c *Creation) { c.Version = 11 },
		func(c *Creation) { c.HeaderFile.Flags = []string{"two words"} },
	} {
		c := newbox
		bad(&c)
		_, err := Create(t.Context(), fsys, farPlace(), c)
		require.Error(t, err)
		require.Empty(t, tree(t, fsys, "/"))
	}
}

// TestCreateFaults fails every call in every way. After an error nothing is left, unless the disk refuses that, too.
func TestCreateFaults(t *testing.T) {
	t.Parallel()
	for _, errno := range []syscall.Errno{syscall.EIO, syscall.ENOSPC} {
		for _, mode := range []faultfs.Mode{faultfs.Once, faultfs.Onwards} {
			for n, fired := 0, true; fired; n++ {
				fsys := simfs.New(simfs.Options{NoTrace: true})
				plan := &faultfs.Plan{N: n, Err: errno, Mode: mode, Short: faultfs.Half}
				_, err := Create(t.Context(), faultfs.Wrap(fsys, plan), farPlace(), newbox)
				if fired = plan.Fired(); !fired {
					require.NoError(t, err)
					require.Greater(t, n, 20)
					break
				}
				require.ErrorIs(t, err, errno)
				if mode == faultfs.Once {
					require.Empty(t, tree(t, fsys, "/"), "call %d", n)
				}
			}
		}
	}
}

// TestCreateFull has no space for this or that.
func TestCreateFull(t *testing.T) {
	t.Parallel()
	for _, delayed := range []bool{false, true} {
		failed := 0
		for blocks := int64(1); ; blocks++ {
			fsys := simfs.New(simfs.Options{NoTrace: true, Blocks: blocks, DelayedAlloc: delayed})
			_, err := Create(t.Context(), fsys, farPlace(), newbox)
			if err == nil {
				break
			}
			failed++
			require.ErrorIs(t, err, syscall.ENOSPC)
			require.Empty(t, tree(t, fsys, "/"))
		}
		require.Positive(t, failed)
	}
}

// TestCreateCrash stops the machine after every call. What was acknowledged is there, and each of the files that is not
// there whole can be removed by name.
func TestCreateCrash(t *testing.T) {
	t.Parallel()
	fsys := simfs.New(simfs.Options{})
	require.NoError(t, fsys.Mkdir("/meta", 0o755)) // as Cyrus does, without a sync
	p := farPlace()
	_, err := Create(t.Context(), fsys, p, newbox)
	require.NoError(t, err)
	fsys.Mark("made")
	images, whole := 0, 0
	for image := range fsys.Trace().Images(simfs.Search{Limit: 256}) {
		images++
		f, err := OpenFiles(image.FS, p.Paths)
		if err == nil {
			require.NoError(t, f.Close())
			whole++
		} else {
			require.NotContains(t, image.Marks, "made", image.Seed)
		}
		if slices.Contains(image.Marks, "made") {
			found, err := CheckFiles(t.Context(), image.FS, p.Paths, CheckOptions{Owner: "u"})
			require.NoError(t, err)
			require.Empty(t, found, image.Seed)
			_, err = image.Stat(p.Messages)
			require.NoError(t, err, image.Seed)
		}
	}
	require.Greater(t, images, 50)
	require.Positive(t, whole)
}

// TestCreateAsCyrus compares the files and directories of new mailboxes with those that Cyrus makes, byte for byte; then
// a server delivers into ours.
func TestCreateAsCyrus(t *testing.T) {
	realcyrus.EachLayout(t, func(t *testing.T, _ string, o realcyrus.Options) {
		s := realcyrus.StartServer(t, o)
		c := s.Dial(t, realcyrus.AdminUser)
		for _, box := range []string{"user.u000", "user.u000.sub"} {
			_, err := c.Cmd("CREATE %s", realcyrus.Quote(box))
			require.NoError(t, err)
		}
		_, err := c.Cmd("SETQUOTA user.u000 (STORAGE 1000)")
		require.NoError(t, err)
		_, err = c.Cmd("CREATE user.u000.quota")
		require.NoError(t, err)
		l, layout := openStore(t, s.Store)
		for _, box := range []string{"user.u000", "user.u000.sub", "user.u000.quota"} {
			rec, err := l.Lookup(t.Context(), mboxdb.InternalName(box))
			require.NoError(t, err)
			sameAsCreated(t, s.Store, layout, rec)
		}
		_, err = c.Cmd("SETACL user.u000.sub cyrus lrswipkxtecda")
		require.NoError(t, err)
		require.NoError(t, c.Append("user.u000.sub", `\Flagged Own`, Seconds(1500000000).Time(), []byte("Subject: x\r\n\r\ny\r\n")))
		lines, err := c.Cmd("SELECT user.u000.sub")
		require.NoError(t, err)
		require.Contains(t, lines, "1 EXISTS")
		require.NotContains(t, s.Run(t, "reconstruct", "-n", "-r", "user.u000"), "update")
	})
}

// sameAsCreated puts a mailbox of ours in the place of one that Cyrus has just made.
func sameAsCreated(t *testing.T, s *realcyrus.Store, layout mboxdb.Layout, rec mboxdb.Record) {
	p, err := PlaceOf(layout, rec)
	require.NoError(t, err)
	f, err := OpenFiles(vfs.OS(), p.Paths)
	require.NoError(t, err)
	h := f.Index.Header
	require.NoError(t, f.Close())
	want := map[string]string{}
	for _, path := range []string{p.Paths.Header, p.Paths.Index} {
		want[path] = fileBytes(t, vfs.OS(), path)
	}
	var dirs []string
	for _, dir := range p.dirs() {
		if info, err := os.Stat(dir); err == nil {
			dirs = append(dirs, dir+info.Mode().String())
		}
	}
	for path := range want {
		require.NoError(t, os.Remove(path))
	}
	for _, dir := range p.dirs() {
		_ = os.Remove(dir) // those of children are in it, in the legacy layout
	}
	c := Creation{HeaderFile: f.Header.values(), UIDValidity: h.UIDValidity, ModSeq: h.HighestModSeq}
	_, err = Create(t.Context(), atTime{vfs.OS(), h.ChangesEpoch}, p, c)
	require.NoError(t, err)
	for path, text := range want {
		require.Equal(t, text, fileBytes(t, vfs.OS(), path))
	}
	var ours []string
	for _, dir := range p.dirs() {
		if info, err := os.Stat(dir); err == nil {
			ours = append(ours, dir+info.Mode().String())
		}
		realcyrus.Give(t, dir)
	}
	require.Subset(t, ours, dirs) // a child's directory of messages comes with the first of them, in Cyrus
}
