package quota_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/mailspine/mailspine/internal/imapdconf"
	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/quota"
)

// The roots of a store are found by its imapd.conf. A root is made under the lock of all changes, and changed under its own.
func ExampleRoots() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "quota")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = os.RemoveAll(dir) }()
	conf := filepath.Join(dir, "imapd.conf")
	if err := os.WriteFile(conf, []byte("configdirectory: "+dir+"\n"), 0o600); err != nil {
		fmt.Println(err)
		return
	}
	c, err := imapdconf.Read(vfs.OS(), conf).Config("")
	if err != nil {
		fmt.Println(err)
		return
	}
	roots, err := quota.OpenRoots(ctx, c, quota.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = roots.Close() }()

	held, err := roots.LockChanges(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	limits := quota.NoLimits()
	limits[quota.Storage] = 1000 // KiB
	err = roots.Create(ctx, "user.fred", quota.Record{Limits: limits})
	held.Release()
	if err != nil {
		fmt.Println(err)
		return
	}
	owner, err := roots.Owner(ctx, "user.fred.Sent")
	if err != nil {
		fmt.Println(err)
		return
	}
	rec, err := roots.Update(ctx, owner, func(r *quota.Record) error {
		r.Used[quota.Storage] += 2_000
		return nil
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	_, over := rec.Over(quota.Amounts{quota.Storage: 1_100_000})
	fmt.Println(owner, rec.Used[quota.Storage], over)
	fmt.Printf("%s\n", rec.Append(nil))
	// Output:
	// user.fred 2000 true
	// %(S (2000 1000) M (0) AS (0) NF (0) MODSEQ 2)
}
