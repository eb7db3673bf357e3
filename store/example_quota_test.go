package store_test

import (
	"context"
	"errors"
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

// A user gets a quota root with a limit. Whatever changes the mailboxes keeps the usage right; what would pass the limit is
// refused, and leaves no trace.
func ExampleStore_Quota() {
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
	for _, n := range []string{"user.fred", "user.fred.Sent"} {
		_, err := s.Create(ctx, store.NewMailbox{Name: mboxdb.InternalName(n)})
		check(err)
	}
	_, err = s.Quota().Set(ctx, "user.fred", map[quota.Resource]int64{quota.Messages: 2})
	check(err)

	box, err := s.OpenMailbox(ctx, mboxdb.InternalName("user.fred.Sent"))
	check(err)
	defer box.Close()
	for range 3 {
		err := box.Update(ctx, func(tx *index.Tx) error {
			_, err := tx.Append(index.NewMessage{Body: strings.NewReader("Subject: Hello\r\n\r\nHello.\r\n")})
			return err
		})
		if over := (*quota.OverError)(nil); errors.As(err, &over) {
			fmt.Printf("refused: %s of %s is %d of %d\n", over.Resource, over.Root, over.Used, over.Limit)
			continue
		}
		check(err)
	}
	root, err := s.Quota().Roots().Get(ctx, "user.fred")
	check(err)
	fmt.Println(root.Used[quota.Messages], "messages,", root.Used[quota.Storage], "bytes,", root.Used[quota.Folders], "mailboxes")
	// Output:
	// refused: MESSAGE of user.fred is 2 of 2
	// 2 messages, 52 bytes, 2 mailboxes
}
