package index_test

import (
	"fmt"

	"github.com/mailspine/mailspine/index"
)

// A mailbox is opened by the paths of its files. Records come in the order of their UIDs, and what a client wants to know
// of a message is in its cache record.
func ExampleOpenFiles() {
	files, err := index.OpenFiles(nil, index.PathsIn("testdata/real/v17"))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer files.Close()
	fmt.Println(files.Header.Name, files.Index.Header.Exists)
	for r, err := range files.Index.Records(1) {
		if err != nil {
			fmt.Println(err)
			continue
		}
		cache, err := files.CacheRecord(&r.Record)
		if err != nil {
			fmt.Println(err)
			continue
		}
		fmt.Printf("%d [%s] %d bytes, subject %q\n", r.UID, r.Flags, r.Size, cache.Item(index.CacheSubject))
	}
	// Output:
	// user.u000.gold 3
	// 1 [] 22 bytes, subject "\"one\""
	// 2 [\Flagged] 108 bytes, subject "NIL"
	// 3 [\Answered \Deleted expunged] 146 bytes, subject "{2}\r\nä"
	// 4 [\Draft] 14 bytes, subject "NIL"
}
