package index

import (
	"fmt"
	"slices"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/internal/vfs"
)

// verify compares the mailbox with what was acknowledged.
func (b *beside) verify() {
	t := b.t
	l, layout := openStore(t, b.s.Store)
	m := openMailbox(t, l, layout, besideBox)
	h, err := m.Header()
	require.NoError(t, err)
	records, modseqs := map[UID]Record{}, map[ModSeq]UID{}
	last := UID(0)
	for e, err := range m.Records(t.Context()) {
		require.NoError(t, err)
		require.Greater(t, e.UID, last)
		require.Zero(t, modseqs[e.ModSeq], "the messages %d and %d have one modification sequence, %d", modseqs[e.ModSeq], e.UID, e.ModSeq)
		require.LessOrEqual(t, e.ModSeq, h.HighestModSeq)
		last, records[e.UID], modseqs[e.ModSeq] = e.UID, e.Record, e.UID
	}
	gone := b.sameMessages(records)
	counts := b.sameFlags(m, records, gone)
	for i := range 2 * besideUsers {
		worker := fmt.Sprintf("p%d-%d", i/besideUsers, i%besideUsers)
		require.Greater(t, counts[worker], 5, worker)
	}
	for i := range besideUsers {
		require.Greater(t, counts[fmt.Sprintf("imap%d", i)], 5)
	}
	found, err := Check(t.Context(), vfs.OS(), m.Place(), CheckOptions{Owner: "u000", Contents: true})
	require.NoError(t, err)
	require.Empty(t, found)
	out := b.s.Try(t, "reconstruct", nil, "-n", besideBox)
	require.Equal(t, besideBox+"\n", out.Stdout)
	c := b.s.Dial(t, "u000")
	require.Equal(t, int(h.Exists), sameAnswers(t, c, m, "INBOX.beside", false))
	t.Logf("%d changes acknowledged, by worker: %v; %d records, %d messages", len(b.acks), counts, len(records), h.Exists)
}

// sameMessages looks for every message that was appended, and returns those that were expunged.
func (b *beside) sameMessages(records map[UID]Record) map[UID]bool {
	t := b.t
	given, numbers, gone := map[UID]string{}, map[ModSeq]UID{}, map[UID]bool{}
	for _, a := range b.acks {
		if a.ModSeq != 0 {
			require.LessOrEqual(t, a.ModSeq, records[a.UID].ModSeq)
			// A change that changes nothing, as on a copy that has the flag already, has the number that was there.
			require.Contains(t, []UID{0, a.UID}, numbers[a.ModSeq], "modification sequence %d was given to the messages %d and %d", a.ModSeq, numbers[a.ModSeq], a.UID)
			numbers[a.ModSeq] = a.UID
		}
		switch a.Op {
		case "append":
			require.Empty(t, given[a.UID], "UID %d was given to two messages", a.UID)
			given[a.UID] = a.GUID
			require.Equal(t, a.GUID, records[a.UID].GUID.String(), "UID %d of %s", a.UID, a.Worker)
		case "expunge":
			gone[a.UID] = true
		}
	}
	require.Len(t, records, len(given), "messages that nobody was told of")
	for uid := range given {
		rec := records[uid]
		require.Equal(t, gone[uid], rec.Expunged(), "UID %d", uid)
	}
	return gone
}

// sameFlags compares the flag of each worker with the last change of it, and counts what each has done.
func (b *beside) sameFlags(m *Mailbox, records map[UID]Record, gone map[UID]bool) map[string]int {
	t := b.t
	type key struct {
		worker string
		uid    UID
	}
	want, counts := map[key]bool{}, map[string]int{}
	for _, a := range b.acks {
		counts[a.Worker]++
		if a.Op == "flag" || a.Op == "unflag" {
			want[key{a.Worker, a.UID}] = a.Op == "flag"
		}
	}
	flagged := 0
	for k, on := range want {
		if gone[k.uid] {
			continue
		}
		rec := records[k.uid]
		names, err := m.FlagNames(rec.Flags, rec.UserFlags)
		require.NoError(t, err)
		require.Equal(t, on, slices.Contains(names, k.worker), "UID %d and the flag of %s", k.uid, k.worker)
		flagged++
	}
	require.Greater(t, flagged, 20)
	return counts
}
