package imapdconf

import (
	"fmt"
	"time"
)

func ExampleCheck() {
	files := mem(
		"/etc/imapd.conf", "configdirectory: /c\npartition-default: /p\ndefaultpartition: default\nunixheirarchysep: yes\n", "/c/", "", "/c/db/", "", "/p/", "",
		"/etc/cyrus.conf", "SERVICES {\n  imap cmd=\"imapd\", listen=\"imap\" prefork=5\n}\n",
	)
	for _, f := range Check(Options{FS: files, Imapd: "/etc/imapd.conf", Cyrus: "/etc/cyrus.conf"}) {
		fmt.Println(f)
	}
	// Output:
	// error misplaced-comma /etc/cyrus.conf:2:19: found ",", expected an argument NAME="value", or the end of the line (remove it: arguments are separated by spaces)
	// warning option-unknown /etc/imapd.conf:4:1: found option "unixheirarchysep", expected an option of Cyrus 3.6 (did you mean unixhierarchysep?)
}

func ExampleRead() {
	files := mem("imapd.conf", "configdirectory: /c\npartition-default: /p\ntimeout: 30\nimap_timeout: 1h\n")
	source := Read(files, "imapd.conf")
	for _, service := range []string{"pop3", "imap"} {
		c, err := source.Config(service)
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(service, c.Duration("timeout").Round(time.Minute), c.Path("mboxlist_db_path"), c.Partition("default").Root)
	}
	// Output:
	// pop3 30m0s /c/mailboxes.db /p
	// imap 1h0m0s /c/mailboxes.db /p
}
