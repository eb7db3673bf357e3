package mboxdb

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/internal/vfs/faultfs"
	"github.com/mailspine/mailspine/internal/vfs/simfs"
	"github.com/mailspine/mailspine/skiplist"
)

// cyrusDump is one of a store with a mailbox that was renamed, and one that others may see.
const cyrusDump = `{
"Notes": {"name": "Notes", "mtime": "1795432815", "uidvalidity": "1795432816", "createdmodseq": "1", "foldermodseq": "1", "mbtype": "e", "partition": "default", "acl": {"anyone": "lrs"}, "uniqueid": "id-5", "name_history": []},
"user.alice.New": {"name": "user.alice.New", "mtime": "1795432900", "uidvalidity": "1795432816", "createdmodseq": "1", "foldermodseq": "4", "mbtype": "e", "partition": "default", "acl": {"alice": "lrswipkxtecdan"}, "uniqueid": "id-4", "name_history": []},
"user.alice.Old": {"name": "user.alice.Old", "mtime": "1795432900", "uidvalidity": "1795432816", "createdmodseq": "1", "foldermodseq": "4", "mbtype": "ed", "acl": {}, "uniqueid": "id-4", "name_history": []}
}
`

func undumpOptions(disk vfs.FS) UndumpOptions {
	o := testOptions(nil, skiplist.Twoskip, true)
	o.DB.FS, o.DB.Create = disk, false
	return UndumpOptions{Options: o}
}

// rootNames are the files of a disk beside the configuration directory.
func rootNames(t *testing.T, disk vfs.FS) (names []string) {
	list, err := disk.ReadDir("/")
	require.NoError(t, err)
	for _, e := range list {
		if e.Name != "conf" {
			names = append(names, e.Name)
		}
	}
	return names
}

// TestDumpOfNoText: a name that no JSON can hold is left out of the dump of Cyrus, which stays JSON, and counted.
func TestDumpOfNoText(t *testing.T) {
	l, err := Open(ctx, "/mailboxes.db", testOptions(newDisk(t), skiplist.Twoskip, false))
	require.NoError(t, err)
	defer l.Close()
	require.NoError(t, l.DB().Update(ctx, func(tx *skiplist.Tx) error {
		return errors.Join(tx.Put([]byte("Na"), []byte("%(T e I id-1 M 1 A %())")), tx.Put([]byte("Na\xff"), []byte("%(T e I id-2 M 1 A %())")),
			tx.Put([]byte("Nb"), []byte("%(T e I id-3 M 1 A %())")))
	}))
	var out, all strings.Builder
	require.NoError(t, l.View(ctx, func(v *View) error {
		unreadable, err := v.DumpCyrus(&out)
		require.Equal(t, 1, unreadable)
		return errors.Join(err, v.Dump(&all))
	}))
	members := map[string]any{}
	require.NoError(t, json.Unmarshal([]byte(out.String()), &members))
	require.Len(t, members, 2)
	require.Equal(t, 3, strings.Count(all.String(), "\n"))
}

// TestUndumpDryRun: a dry run counts the records that a real run makes, refuses what that refuses, and writes nothing.
func TestUndumpDryRun(t *testing.T) {
	for _, existing := range []string{"missing", "zero bytes", "empty", "mark"} {
		t.Run(existing, func(t *testing.T) {
			disk := newDisk(t)
			opts := undumpOptions(disk)
			switch existing {
			case "zero bytes":
				f, err := disk.Open("/list", vfs.ReadWrite|vfs.Create, 0o600)
				require.NoError(t, err)
				require.NoError(t, f.Close())
			case "empty", "mark":
				create := opts.Options
				create.DB.Create = true
				l, err := Open(ctx, "/list", create)
				require.NoError(t, err)
				if existing == "mark" {
					require.NoError(t, l.DB().Put(ctx, []byte(raclMarker), nil))
					opts.ReverseACLs = false
				}
				require.NoError(t, l.Close())
			}
			dry := opts
			dry.DryRun = true
			before := disk.Trace().Len()
			planned, err := UndumpTo(ctx, "/list", strings.NewReader(cyrusDump), dry)
			require.NoError(t, err)
			_, err = UndumpTo(ctx, "/list", strings.NewReader("no dump"), dry)
			require.ErrorIs(t, err, ErrDump)
			require.Equal(t, before, disk.Trace().Len(), "a dry run has changed the disk")
			n, err := UndumpTo(ctx, "/list", strings.NewReader(cyrusDump), opts)
			require.NoError(t, err)
			require.Equal(t, 7, n, "three names, two ids, a reverse ACL key and the mark")
			require.Equal(t, n, planned)
			for _, o := range []UndumpOptions{dry, opts} {
				_, err = UndumpTo(ctx, "/list", strings.NewReader(cyrusDump), o)
				require.ErrorIs(t, err, ErrExists)
			}
			require.Equal(t, []string{"list"}, rootNames(t, disk))
			l, err := Open(ctx, "/list", opts.Options)
			require.NoError(t, err)
			require.Len(t, everything(t, l), n)
			require.NoError(t, l.Check(ctx, func(f Finding) { t.Error(f) }))
			require.NoError(t, l.Close())
		})
	}
}

// TestUndumpLeavesNothing fails every call in turn, and has the input end early: there is no list then, nor anything else, or
// the empty one that was there.
func TestUndumpLeavesNothing(t *testing.T) {
	for _, after := range []bool{false, true} {
		for n := 0; ; n++ {
			disk := newDisk(t)
			plan := &faultfs.Plan{N: n, Err: syscall.ENOSPC, After: after}
			_, err := UndumpTo(ctx, "/list", strings.NewReader(cyrusDump), undumpOptions(faultfs.Wrap(disk, plan)))
			if !plan.Fired() {
				require.NoError(t, err)
				require.Greater(t, n, 20)
				break
			}
			plan.Stop()
			var placed *vfs.NotDurableError
			if err == nil || errors.As(err, &placed) || errors.Is(err, skiplist.ErrCommitUnknown) {
				continue // it is in place; or the disk failed so that it cannot even be said
			}
			require.NotContains(t, rootNames(t, disk), "list", "%v: %v", plan, err)
		}
	}
	broken := io.MultiReader(strings.NewReader(cyrusDump[:len(cyrusDump)-30]), errReader{})
	for what, in := range map[string]io.Reader{"cut off": strings.NewReader(cyrusDump[:len(cyrusDump)-30]), "broken": broken,
		"two dumps": strings.NewReader(cyrusDump + cyrusDump), "no dump": strings.NewReader("configdirectory: /x"), "half a line": strings.NewReader(`{"key":"Nx","value":"v"}` + "\n{")} {
		disk := newDisk(t)
		_, err := UndumpTo(ctx, "/list", in, undumpOptions(disk))
		require.ErrorIs(t, err, ErrDump, what)
		require.Empty(t, rootNames(t, disk), what)
	}
}

type errReader struct{}

func (errReader) Read([]byte) (int, error) { return 0, syscall.EIO }

// TestUndumpKeepsWhatComesBetween: a list that another process makes meanwhile, as a server does that is started, stays.
func TestUndumpKeepsWhatComesBetween(t *testing.T) {
	disk := newDisk(t)
	theirs := io.MultiReader(strings.NewReader(cyrusDump[:100]), &callReader{func() {
		require.NoError(t, vfs.ReplaceFile(disk, "/list", vfs.ReplaceOptions{}, func(f vfs.File) error {
			_, err := f.WriteAt([]byte("theirs"), 0)
			return err
		}))
	}}, strings.NewReader(cyrusDump[100:]))
	_, err := UndumpTo(ctx, "/list", theirs, undumpOptions(disk))
	require.ErrorIs(t, err, fs.ErrExist)
	got, err := vfs.ReadFile(disk, "/list")
	require.NoError(t, err)
	require.Equal(t, "theirs", string(got))
	require.Equal(t, []string{"list"}, rootNames(t, disk))
	require.NoError(t, disk.Unlink("/list"))
	opts := undumpOptions(disk)
	opts.DB.Create = true
	l, err := Open(ctx, "/live", opts.Options)
	require.NoError(t, err)
	require.NoError(t, l.Close())
	for _, dry := range []bool{true, false} {
		o := undumpOptions(disk)
		o.DryRun = dry
		_, err = UndumpTo(ctx, "/live.NEW", strings.NewReader(cyrusDump), o)
		require.ErrorIs(t, err, skiplist.ErrOutputName)
	}
}

// callReader makes a call, and is at its end.
type callReader struct{ call func() }

func (r *callReader) Read([]byte) (int, error) {
	if r.call != nil {
		r.call()
		r.call = nil
	}
	return 0, io.EOF
}

// TestUndumpSurvivesCrashes: after a crash at any moment there is no list, or the whole one.
func TestUndumpSurvivesCrashes(t *testing.T) {
	disk := newDisk(t)
	require.NoError(t, disk.SyncDir("/"))
	before := disk.Ops()
	n, err := UndumpTo(ctx, "/list", bytes.NewReader([]byte(cyrusDump)), undumpOptions(disk))
	require.NoError(t, err)
	disk.Mark("done")
	found := map[int]int{}
	for img := range disk.Trace().Images(simfs.Search{From: before, Samples: 5}) {
		if _, err := img.Stat("/list"); errors.Is(err, fs.ErrNotExist) {
			require.Empty(t, img.Marks, img.Seed)
			found[0]++
			continue
		}
		l, err := Open(ctx, "/list", undumpOptions(img.FS).Options)
		require.NoError(t, err, img.Seed)
		require.Len(t, everything(t, l), n, img.Seed)
		require.NoError(t, l.Close())
		found[n]++
	}
	require.Len(t, found, 2)
	t.Log(found)
}
