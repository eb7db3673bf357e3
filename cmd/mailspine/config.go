package main

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/skiplist"
)

// readConfig takes from imapd.conf what a database file does not say itself: where the skipstamp is, and whether the
// mailbox list is in mailbox order.
func readConfig(path string, o *skiplist.Options) error {
	text, err := vfs.ReadFile(vfs.OS(), path)
	if err != nil {
		return fmt.Errorf("read the configuration: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), ":")
		if !ok || strings.HasPrefix(name, "#") {
			continue
		}
		value = strings.TrimSpace(value)
		switch strings.TrimSpace(name) {
		case "configdirectory":
			o.Skipstamp = filepath.Join(value, "db", "skipstamp")
		case "improved_mboxlist_sort":
			switch strings.ToLower(value) {
			case "1", "yes", "on", "t", "true", "y":
				o.Order = skiplist.MailboxOrder
			}
		}
	}
	return nil
}
