package fuzz

import (
	"bytes"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/mailspine/mailspine/internal/realcyrus"
	"github.com/mailspine/mailspine/skiplist"
)

// TestRootLeavesFilesUsable has root change databases of the user cyrus in all the ways that replace files: the new ones
// have the owner, group, mode and attributes of the old. Then that user opens and changes each of them, with our library
// and with the real Cyrus. Else one repair run by root would lock a whole server out.
func TestRootLeavesFilesUsable(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can leave files that another user cannot use")
	}
	cyrusUser, err := user.Lookup("cyrus")
	if err != nil {
		t.Skip(err)
	}
	uid, err := strconv.ParseUint(cyrusUser.Uid, 10, 32)
	require.NoError(t, err)
	gid, err := strconv.ParseUint(cyrusUser.Gid, 10, 32)
	require.NoError(t, err)
	for _, f := range formats {
		for _, deed := range []string{"put", "delete", "txn", "group", "checkpoint", "recover", "torn"} {
			t.Run(string(f)+"/"+deed, func(t *testing.T) {
				path := filepath.Join(realcyrus.TempDir(t), "db")
				r := &asRoot{t: t, f: f, path: path, uid: uint32(uid), gid: uint32(gid)}
				r.prepare()
				r.do(deed)
				r.sameAttributes()
				r.asUser()
				r.asCyrus()
			})
		}
	}
}

type asRoot struct {
	t        *testing.T
	f        skiplist.Format
	path     string
	uid, gid uint32
	noXattr  bool
	state    map[string]string
}

const (
	ownMode  = 0o640
	ownXattr = "user.mailspine-test"
)

// prepare makes a database that belongs to the user, and has a mode and an attribute that no default gives.
func (r *asRoot) prepare() {
	cmd := role("writer", string(r.f), r.path, "1", "6", "die")
	out, err := cmd.CombinedOutput()
	require.NoError(r.t, err, "%s", out)
	require.NoError(r.t, os.Chown(r.path, int(r.uid), int(r.gid)))
	require.NoError(r.t, os.Chmod(r.path, ownMode))
	err = unix.Setxattr(r.path, ownXattr, []byte("kept"), 0)
	r.noXattr = err == unix.ENOTSUP
	if !r.noXattr {
		require.NoError(r.t, err)
	}
}

// do changes the database as root.
func (r *asRoot) do(deed string) {
	if deed == "torn" && r.f != skiplist.Flat {
		f, err := os.OpenFile(r.path, os.O_WRONLY|os.O_APPEND, 0)
		require.NoError(r.t, err)
		// The beginning of an ADD in skiplist, nothing at all in twoskip.
		_, err = f.Write([]byte{0, 0, 0, 2, 0, 0, 0, 9, 't', 'o'})
		require.NoError(r.t, err)
		require.NoError(r.t, f.Close())
	}
	db, err := skiplist.Open(ctx, r.path, skiplist.Options{Format: r.f})
	require.NoError(r.t, err)
	defer db.Close()
	w := &writer{path: r.path, db: db, opts: skiplist.Options{Format: r.f}}
	for _, s := range program(3, len(kinds)) {
		if s.kind == deed || deed == "torn" && s.kind == "recover" {
			for _, err := range w.step(s) {
				require.NoError(r.t, err)
			}
		}
	}
	if deed == "recover" || deed == "torn" {
		_, err := db.Recover(ctx)
		require.NoError(r.t, err)
	}
	r.state, err = contents(db)
	require.NoError(r.t, err)
}

func (r *asRoot) sameAttributes() {
	var st unix.Stat_t
	require.NoError(r.t, unix.Stat(r.path, &st))
	require.Equal(r.t, r.uid, st.Uid, "owner")
	require.Equal(r.t, r.gid, st.Gid, "group")
	require.Equal(r.t, uint32(ownMode), uint32(st.Mode)&0o7777, "mode")
	if !r.noXattr {
		value := make([]byte, 10)
		n, err := unix.Getxattr(r.path, ownXattr, value)
		require.NoError(r.t, err)
		require.Equal(r.t, "kept", string(value[:n]))
	}
	list, err := filepath.Glob(filepath.Dir(r.path) + "/*")
	require.NoError(r.t, err)
	require.Equal(r.t, []string{r.path}, list, "files left beside the database")
}

// asUser has a process of the user run a program with a change of each kind.
func (r *asRoot) asUser() {
	cmd := role("writer", string(r.f), r.path, "11", strconv.Itoa(len(kinds)))
	cmd.SysProcAttr.Credential = &syscall.Credential{Uid: r.uid, Gid: r.gid}
	cmd.Dir = "/"
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	require.NoError(r.t, cmd.Run(), "%s%s", &out, &errOut)
	o := &outcome{sure: r.state}
	require.NoError(r.t, o.read(program(11, len(kinds)), out.Bytes(), false))
	require.Zero(r.t, o.refused+o.unknown, "%s", &out)
	require.True(r.t, o.ended)
	require.NoError(r.t, os.Remove(r.path+".over"))
	r.state = o.sure
}

// asCyrus has the real Cyrus list and change it.
func (r *asRoot) asCyrus() {
	if !realcyrus.HaveOracle(r.t) {
		return
	}
	c := realcyrus.StartOracle(r.t, realcyrus.OracleOptions{AsCyrus: true})
	got, err := listThrough(c, r.f, r.path)
	require.NoError(r.t, err)
	require.Equal(r.t, r.state, got)
	db, err := c.Open(string(r.f), r.path, 0)
	require.NoError(r.t, err)
	require.NoError(r.t, db.Store([]byte("by"), []byte("cyrus")))
	require.NoError(r.t, db.Close())
	r.state["by"] = "cyrus"
	_, err = (&judge{format: r.f}).reader(r.path, &outcome{sure: r.state})
	require.NoError(r.t, err)
}
