package index

import (
	"bytes"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/internal/realcyrus"
	"github.com/mailspine/mailspine/internal/vfs"
)

// measured opens a mailbox and reports, with the benchmark, how many bytes are read and written and how often it syncs.
func measured(b *testing.B, p Place) *Mailbox {
	c := &counting{FS: vfs.OS()}
	m, err := Open(b.Context(), c, p)
	require.NoError(b, err)
	// The first change makes the journal.
	require.NoError(b, m.Update(b.Context(), func(tx *Tx) error {
		return tx.EditHeader(func(h *Header) { h.RecentUID = 1 })
	}))
	flagNext(b, m, 0, 1)
	b.Cleanup(func() {
		b.ReportMetric(float64(c.syncs)/float64(b.N), "syncs/op")
		b.ReportMetric(float64(c.written)/float64(b.N), "written-B/op")
		b.ReportMetric(float64(c.read)/float64(b.N), "read-B/op")
		require.NoError(b, m.Close())
	})
	b.ResetTimer()
	*c = counting{FS: c.FS}
	return m
}

// flagNext turns a flag over in n messages of a large mailbox, spread over it.
func flagNext(b *testing.B, m *Mailbox, round, n int) {
	require.NoError(b, m.Update(b.Context(), func(tx *Tx) error {
		for i := range n {
			uid := largeUID((i*997 + round*7919) % count)
			rec, err := tx.Record(uid)
			if err != nil {
				return err
			}
			change := FlagChange{Op: AddFlags, Flags: FlagDraft}
			if rec.Flags&FlagDraft != 0 {
				change.Op = RemoveFlags
			}
			if _, err := tx.SetFlags(uid, change); err != nil {
				return err
			}
		}
		return nil
	}))
}

// BenchmarkFlag changes the flags of one message among a million, durably.
func BenchmarkFlag(b *testing.B) {
	m := measured(b, largeMailbox(b))
	round := 0
	for b.Loop() {
		flagNext(b, m, round, 1)
		round++
	}
}

// BenchmarkFlag1000 changes the flags of a thousand messages among a million in one transaction.
func BenchmarkFlag1000(b *testing.B) {
	m := measured(b, largeMailbox(b))
	round := 0
	for b.Loop() {
		flagNext(b, m, round, 1000)
		round++
	}
}

// BenchmarkAppend appends one message to a mailbox of a million, durably.
func BenchmarkAppend(b *testing.B) { appending(b, 1) }

// BenchmarkAppend100 appends a hundred messages in one transaction.
func BenchmarkAppend100(b *testing.B) { appending(b, 100) }

func appending(b *testing.B, n int) {
	body := realcyrus.Message(5, 3)
	m := measured(b, largeMailbox(b))
	for b.Loop() {
		require.NoError(b, m.Update(b.Context(), func(tx *Tx) error {
			for range n {
				if _, err := tx.Append(NewMessage{Body: bytes.NewReader(body)}); err != nil {
					return err
				}
			}
			return nil
		}))
	}
}

// BenchmarkRawSync writes and syncs 256 bytes of one file, the measure of what the disk can do.
func BenchmarkRawSync(b *testing.B) {
	f, err := os.Create(b.TempDir() + "/f")
	require.NoError(b, err)
	defer f.Close()
	fs := vfs.OS()
	g, err := fs.Open(f.Name(), vfs.ReadWrite, 0)
	require.NoError(b, err)
	defer g.Close()
	p := make([]byte, 256)
	for b.Loop() {
		_, err := g.WriteAt(p, 0)
		require.NoError(b, err)
		require.NoError(b, g.Datasync())
	}
}
