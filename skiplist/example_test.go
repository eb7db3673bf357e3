package skiplist_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/mailspine/mailspine/skiplist"
)

// exampleDir is a directory for the files of one example; done removes it.
func exampleDir() (dir string, done func()) {
	dir, err := os.MkdirTemp("", "skiplist-example-")
	if err != nil {
		log.Fatal(err)
	}
	return dir, func() { _ = os.RemoveAll(dir) }
}

// exampleDB is a mailbox list with four records; done closes and removes it.
func exampleDB() (db *skiplist.DB, done func()) {
	dir, remove := exampleDir()
	ctx := context.Background()
	db, err := skiplist.Open(ctx, filepath.Join(dir, "mailboxes.db"), skiplist.Options{Create: true})
	if err != nil {
		log.Fatal(err)
	}
	err = db.Update(ctx, func(tx *skiplist.Tx) error {
		for _, name := range []string{"user.anna", "user.fred", "user.fred.Sent", "user.zoe"} {
			if err := tx.Put([]byte(name), []byte("default")); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
	return db, func() { _ = db.Close(); remove() }
}

// Open a database, whatever of the formats it has, or make one.
func ExampleOpen() {
	dir, done := exampleDir()
	defer done()
	ctx := context.Background()

	db, err := skiplist.Open(ctx, filepath.Join(dir, "mailboxes.db"), skiplist.Options{Create: true, Format: skiplist.Skiplist})
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	if err := db.Put(ctx, []byte("user.fred"), []byte("default")); err != nil {
		log.Fatal(err)
	}
	value, err := db.Get(ctx, []byte("user.fred"))
	fmt.Printf("%s: %s, %v\n", db.Format(), value, err)
	_, err = db.Get(ctx, []byte("user.nobody"))
	fmt.Println(errors.Is(err, skiplist.ErrNotFound))
	// Output:
	// skiplist: default, <nil>
	// true
}

// Make an empty database, or fail if there is something already.
func ExampleCreate() {
	dir, done := exampleDir()
	defer done()
	path := filepath.Join(dir, "annotations.db")
	fmt.Println(skiplist.Create(context.Background(), path, skiplist.Options{}))
	fmt.Println(errors.Is(skiplist.Create(context.Background(), path, skiplist.Options{}), os.ErrExist))
	// Output:
	// <nil>
	// true
}

// Move a mailbox: both changes are on the disk when Update returns, or neither ever will be.
func ExampleDB_Update() {
	db, done := exampleDB()
	defer done()
	err := db.Update(context.Background(), func(tx *skiplist.Tx) error {
		value, err := tx.Get([]byte("user.fred.Sent"))
		if err != nil {
			return err
		}
		if err := tx.Insert([]byte("user.fred.Old"), value); err != nil {
			return err // ErrExists, for example: the transaction is dropped
		}
		return tx.Delete([]byte("user.fred.Sent"))
	})
	fmt.Println(err, db.Stats().Records)
	// Output: <nil> 4
}

// Try a part of a transaction, and take it back.
func ExampleTx_Nested() {
	db, done := exampleDB()
	defer done()
	err := db.Update(context.Background(), func(tx *skiplist.Tx) error {
		err := tx.Nested(func() error {
			if err := tx.Put([]byte("user.max"), nil); err != nil {
				return err
			}
			return tx.Insert([]byte("user.zoe"), nil)
		})
		fmt.Println(errors.Is(err, skiplist.ErrExists), tx.Len())
		return nil
	})
	fmt.Println(err)
	// Output:
	// true 4
	// <nil>
}

// Read several things in one and the same state.
func ExampleDB_View() {
	db, done := exampleDB()
	defer done()
	err := db.View(context.Background(), func(s *skiplist.Snapshot) error {
		found, err := s.Has([]byte("user.fred"))
		fmt.Println(s.Len(), found)
		return err
	})
	fmt.Println(err)
	// Output:
	// 4 true
	// <nil>
}

// Small changes of many callers share their syncs.
func ExampleDB_Batch() {
	db, done := exampleDB()
	defer done()
	ctx := context.Background()
	errs := make(chan error)
	for i := range 10 {
		go func() {
			errs <- db.Batch(ctx, func(tx *skiplist.Tx) error {
				return tx.Put(fmt.Appendf(nil, "user.u%d", i), []byte("default"))
			})
		}()
	}
	for range 10 {
		if err := <-errs; err != nil {
			log.Fatal(err)
		}
	}
	fmt.Println(db.Stats().Records)
	// Output: 14
}

// List a user's mailboxes.
func ExampleSnapshot_Prefix() {
	db, done := exampleDB()
	defer done()
	err := db.View(context.Background(), func(s *skiplist.Snapshot) error {
		for r, err := range s.Prefix([]byte("user.fred")) {
			if err != nil {
				return err
			}
			fmt.Printf("%s\n", r.Key)
		}
		return nil
	})
	fmt.Println(err)
	// Output:
	// user.fred
	// user.fred.Sent
	// <nil>
}

// List what is between two keys; the second is not among it.
func ExampleSnapshot_Range() {
	db, done := exampleDB()
	defer done()
	err := db.View(context.Background(), func(s *skiplist.Snapshot) error {
		for r, err := range s.Range([]byte("user.b"), []byte("user.zoe")) {
			if err != nil {
				return err
			}
			fmt.Printf("%s\n", r.Key)
		}
		return nil
	})
	fmt.Println(err)
	// Output:
	// user.fred
	// user.fred.Sent
	// <nil>
}

// A snapshot keeps its state, whatever is changed and rewritten meanwhile.
func ExampleDB_Snapshot() {
	db, done := exampleDB()
	defer done()
	ctx := context.Background()
	s, err := db.Snapshot(ctx)
	if err != nil {
		log.Fatal(err)
	}
	defer s.Close()
	if err := db.Delete(ctx, []byte("user.zoe")); err != nil {
		log.Fatal(err)
	}
	if err := db.Checkpoint(ctx); err != nil {
		log.Fatal(err)
	}
	value, err := s.Get([]byte("user.zoe"))
	fmt.Printf("%s, %v, now %d records\n", value, err, db.Stats().Records)
	// Output: default, <nil>, now 3 records
}

// Rewrite a file without its dead records.
func ExampleDB_Checkpoint() {
	db, done := exampleDB()
	defer done()
	ctx := context.Background()
	for range 20 {
		for _, value := range []string{"a", "b"} {
			if err := db.Put(ctx, []byte("user.fred"), []byte(value)); err != nil {
				log.Fatal(err)
			}
		}
	}
	before := db.Stats().Size
	err := db.Checkpoint(ctx)
	fmt.Println(err, db.Stats().Size < before/2)
	// Output: <nil> true
}

// Copy a database that is in use.
func ExampleDB_Backup() {
	db, done := exampleDB()
	defer done()
	var copied bytes.Buffer
	written, err := db.Backup(context.Background(), &copied)
	fmt.Println(err, written.Records, written.Size == int64(copied.Len()))
	// Output: <nil> 4 true
}

// Copy a database that is in use into a file, which takes its name when it is complete and compared.
func ExampleDB_BackupFile() {
	db, done := exampleDB()
	defer done()
	ctx := context.Background()
	out := db.Path() + ".backup"
	if _, err := db.BackupFile(ctx, out); err != nil {
		log.Fatal(err)
	}
	found, err := skiplist.Check(ctx, out, skiplist.Options{})
	fmt.Println(len(found), err)
	// Output: 0 <nil>
}

// tear leaves at the end of a file what a crash leaves.
func tear(path string) {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		log.Fatal(err)
	}
	if _, err := f.WriteString("half a transaction.."); err != nil {
		log.Fatal(err)
	}
	if err := f.Close(); err != nil {
		log.Fatal(err)
	}
}

// A check tells what is wrong, how bad it is, and what mends it.
func ExampleCheck() {
	db, done := exampleDB()
	defer done()
	tear(db.Path())
	found, err := skiplist.Check(context.Background(), db.Path(), skiplist.Options{})
	for _, f := range found {
		fmt.Println(f.Severity, f.Code, f.Fix == "mailspine db recover "+db.Path())
	}
	fmt.Println(err)
	// Output:
	// warning torn true
	// <nil>
}

// Recover does what the first write after a crash would do.
func ExampleDB_Recover() {
	db, done := exampleDB()
	defer done()
	tear(db.Path())
	ctx := context.Background()
	plan, err := db.PlanRecovery(ctx)
	fmt.Println(plan.Needed, plan.CutBytes, err)
	repaired, err := db.Recover(ctx)
	fmt.Println(repaired, db.Stats().Records, err)
	// Output:
	// true 20 <nil>
	// true 4 <nil>
}

// damageFile destroys the third record of the example.
func damageFile(path string) {
	b, err := os.ReadFile(path)
	if err != nil {
		log.Fatal(err)
	}
	copy(b[bytes.Index(b, []byte("user.fred.Sent")):], "....")
	if err := os.WriteFile(path, b, 0); err != nil {
		log.Fatal(err)
	}
}

// Bring everything readable out of a damaged file.
func ExampleSalvage() {
	db, done := exampleDB()
	defer done()
	damageFile(db.Path())
	ctx := context.Background()
	_, err := skiplist.Open(ctx, db.Path(), skiplist.Options{})
	fmt.Println(errors.Is(err, skiplist.ErrDamaged))
	out := db.Path() + ".salvaged"
	res, err := skiplist.Salvage(ctx, db.Path(), out, skiplist.SalvageOptions{})
	fmt.Println(res.Records, err)
	saved, err := skiplist.Open(ctx, out, skiplist.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer saved.Close()
	value, err := saved.Get(ctx, []byte("user.zoe"))
	fmt.Printf("%s, %v\n", value, err)
	// Output:
	// true
	// 3 <nil>
	// default, <nil>
}

// Walk through every byte of a file, damaged or not.
func ExampleDump() {
	dir, done := exampleDir()
	defer done()
	ctx := context.Background()
	path := filepath.Join(dir, "mailboxes.db")
	if err := skiplist.Create(ctx, path, skiplist.Options{Format: skiplist.Skiplist}); err != nil {
		log.Fatal(err)
	}
	tear(path)
	err := skiplist.Dump(ctx, path, skiplist.Options{}, func(s skiplist.Span, _ []byte) error {
		fmt.Println(s.Off, s.Len, s.Kind, s.Problem != "")
		return nil
	})
	fmt.Println(err)
	// Output:
	// 0 48 header false
	// 48 96 dummy false
	// 144 20 garbage true
	// <nil>
}

// Tell the format of a file by its first bytes.
func ExampleDetect() {
	for _, text := range []string{"\xa1\x02\x8b\x0dtwoskip file\x00\x00\x00\x00", "user.fred\tdefault\n", "", "%PDF-1.7"} {
		format, err := skiplist.Detect(bytes.NewReader([]byte(text)))
		fmt.Printf("%q %v\n", format, err)
	}
	// Output:
	// "twoskip" <nil>
	// "flat" <nil>
	// "" <nil>
	// "" not a database of a known format
}
