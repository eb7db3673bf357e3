package store_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/mailspine/mailspine/index"
	"github.com/mailspine/mailspine/mboxdb"
	"github.com/mailspine/mailspine/skiplist"
	"github.com/mailspine/mailspine/store"
)

// A mailbox is created with its directory, and with what is missing above it; a message is delivered into it; and it is
// renamed with what lies below it.
func Example() {
	dir, err := os.MkdirTemp("", "store")
	check(err)
	defer os.RemoveAll(dir)
	check(os.Mkdir(filepath.Join(dir, "conf"), 0o755))
	conf := filepath.Join(dir, "imapd.conf")
	check(os.WriteFile(conf, fmt.Appendf(nil, "configdirectory: %[1]s/conf\npartition-default: %[1]s/spool\ndefaultpartition: default\n", dir), 0o644))
	ctx := context.Background()
	check(skiplist.Create(ctx, filepath.Join(dir, "conf", "mailboxes.db"), skiplist.Options{Format: skiplist.Twoskip}))

	s, err := store.OpenConfig(ctx, conf, "", store.Options{})
	check(err)
	defer s.Close()
	for _, n := range []string{"user.fred", "user.fred.Work.2026"} {
		_, err := s.Create(ctx, store.NewMailbox{Name: mboxdb.InternalName(n)})
		check(err)
	}
	box, err := s.OpenMailbox(ctx, mboxdb.InternalName("user.fred"))
	check(err)
	check(box.Update(ctx, func(tx *index.Tx) error {
		rec, err := tx.Append(index.NewMessage{Body: strings.NewReader("Subject: Welcome\r\n\r\nHello, Fred.\r\n")})
		fmt.Println("message", rec.UID)
		return err
	}))
	check(box.Close())
	moved, err := s.Rename(ctx, store.Renaming{From: mboxdb.InternalName("user.fred.Work"), To: mboxdb.InternalName("user.fred.Old")})
	check(err)
	for _, m := range moved {
		fmt.Println(m.Before.Name, "is", m.After.Name)
	}
	// Output:
	// message 1
	// user.fred.Work is user.fred.Old
	// user.fred.Work.2026 is user.fred.Old.2026
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
