package quota_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/mailspine/mailspine/index"
	"github.com/mailspine/mailspine/mboxdb"
	"github.com/mailspine/mailspine/quota"
	"github.com/mailspine/mailspine/skiplist"
	"github.com/mailspine/mailspine/store"
)

// A record says twice what is used, as the quota -f of Cyrus before 2.4.10 could leave it. It is looked at, put right, and, as an
// example, that is taken back.
func ExampleKeeper_Recalculate() {
	ctx := context.Background()
	s, end := exampleStore(ctx)
	defer end()
	k := s.Quota()
	_, err := k.Roots().Update(ctx, "user.fred", func(r *quota.Record) error {
		r.Used[quota.Messages] *= 2
		return nil
	})
	check(err)

	for _, dry := range []bool{true, false} {
		report, err := k.Recalculate(ctx, quota.Recalculation{DryRun: dry, Explain: true})
		check(err)
		for _, o := range report.Outcomes {
			fmt.Println(o.Root, o.Before[quota.Messages], "->", o.After[quota.Messages])
			for _, m := range o.Members {
				fmt.Println("  ", m.Mailbox, m.Usage[quota.Messages])
			}
		}
		if report.Undo != "" {
			_, err := k.Undo(ctx, report.Undo, quota.UndoOptions{})
			check(err)
		}
	}
	root, err := k.Roots().Get(ctx, "user.fred")
	check(err)
	fmt.Println("now", root.Used[quota.Messages])
	// Output:
	// user.fred 2 -> 1
	//    user.fred 1
	//    user.fred.Sent 0
	// user.fred 2 -> 1
	//    user.fred 1
	//    user.fred.Sent 0
	// now 2
}

// exampleStore is a store with a user who has a message, two mailboxes, and a quota root.
func exampleStore(ctx context.Context) (s *store.Store, end func()) {
	dir, err := os.MkdirTemp("", "quota")
	check(err)
	check(os.Mkdir(filepath.Join(dir, "conf"), 0o755))
	conf := filepath.Join(dir, "imapd.conf")
	check(os.WriteFile(conf, fmt.Appendf(nil, "configdirectory: %[1]s/conf\npartition-default: %[1]s/spool\ndefaultpartition: default\n", dir), 0o644))
	check(skiplist.Create(ctx, filepath.Join(dir, "conf", "mailboxes.db"), skiplist.Options{Format: skiplist.Twoskip}))
	s, err = store.OpenConfig(ctx, conf, "", store.Options{})
	check(err)
	for _, n := range []string{"user.fred", "user.fred.Sent"} {
		_, err := s.Create(ctx, store.NewMailbox{Name: mboxdb.InternalName(n)})
		check(err)
	}
	box, err := s.OpenMailbox(ctx, mboxdb.InternalName("user.fred"))
	check(err)
	check(box.Update(ctx, func(tx *index.Tx) error {
		_, err := tx.Append(index.NewMessage{Body: strings.NewReader("Subject: Hello\r\n\r\nHello.\r\n")})
		return err
	}))
	check(box.Close())
	_, err = s.Quota().Set(ctx, "user.fred", map[quota.Resource]int64{quota.Storage: 1000})
	check(err)
	return s, func() {
		check(s.Close())
		check(os.RemoveAll(dir))
	}
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
