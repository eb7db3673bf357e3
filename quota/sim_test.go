package quota_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/internal/vfs"
)

// simulatedConf is the configuration of a store on a simulated disk.
const simulatedConf = "configdirectory: /conf\ndefaultpartition: default\npartition-default: /spool\nadmins: cyrus\n" +
	"virtdomains: off\naltnamespace: no\nunixhierarchysep: no\n"

// newSimulated makes an empty store on another file system than the real one.
func newSimulated(t testing.TB, fsys vfs.FS) *ground {
	g := &ground{t: t, fs: fsys, dir: "/"}
	for _, dir := range []string{"/conf/db", "/spool"} {
		require.NoError(t, vfs.MkdirAll(fsys, dir, 0o755))
	}
	g.write("imapd.conf", simulatedConf)
	g.makeList()
	return g
}
