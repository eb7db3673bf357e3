package index

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/internal/finding"
	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/internal/vfs/simfs"
)

// boxStep is one transaction of a workload on the mailboxes /box0 and /box1.
type boxStep struct {
	name string
	do   func(ctx context.Context, box []*Mailbox) error
}

func updating(name string, do func(tx *Tx) error) boxStep {
	return boxStep{name, func(ctx context.Context, box []*Mailbox) error { return box[0].Update(ctx, do) }}
}

func newMail(n int, user ...string) NewMessage {
	return NewMessage{Body: strings.NewReader(text(n)), InternalDate: arrived, Flags: FlagFlagged, User: user}
}

// boxSteps visit every path of a commit. Record 8 of version 17 has its flags in
// one sector and its modseq in the next.
func boxSteps() []boxStep {
	return []boxStep{
		updating("append", func(tx *Tx) error { _, err := tx.Append(newMail(10)); return err }),
		updating("flag", func(tx *Tx) error {
			_, err := tx.SetFlags(8, FlagChange{Op: AddFlags, Flags: FlagAnswered | FlagSeen})
			return err
		}),
		updating("flags of several", func(tx *Tx) error {
			for _, uid := range []UID{1, 8, 9} {
				if _, err := tx.SetFlags(uid, FlagChange{Op: ReplaceFlags, Flags: FlagDraft, User: []string{"Work"}}); err != nil {
					return err
				}
			}
			return nil
		}),
		updating("new flag", func(tx *Tx) error {
			_, err := tx.SetFlags(8, FlagChange{Op: AddFlags, User: []string{"Fresh"}})
			return err
		}),
		updating("append several with a new flag", func(tx *Tx) error {
			for n := 11; n <= 13; n++ {
				if _, err := tx.Append(newMail(n, "Newer")); err != nil {
					return err
				}
			}
			return nil
		}),
		updating("expunge", func(tx *Tx) error { _, err := tx.Expunge(5, ExpungeDelayed); return err }),
		updating("restore", func(tx *Tx) error { _, err := tx.Unexpunge(5, 0); return err }),
		updating("expunge at once", func(tx *Tx) error {
			if _, err := tx.Expunge(4, ExpungeImmediate); err != nil {
				return err
			}
			_, err := tx.Append(newMail(14))
			return err
		}),
		updating("expunge two", func(tx *Tx) error {
			_, err := tx.Expunge(1, ExpungeDelayed)
			if err == nil {
				_, err = tx.Expunge(6, ExpungeDelayed)
			}
			return err
		}),
		updating("clean up", func(tx *Tx) error { _, err := tx.Cleanup(0); return err }),
		{"copy", func(ctx context.Context, box []*Mailbox) error {
			_, err := Copy(ctx, box[0], box[1], []UID{2, 3}, CopyOptions{})
			return err
		}},
		{"move", func(ctx context.Context, box []*Mailbox) error {
			_, err := Copy(ctx, box[1], box[0], []UID{2}, CopyOptions{Move: true})
			return err
		}},
		updating("append again", func(tx *Tx) error { _, err := tx.Append(newMail(15)); return err }),
	}
}

// boxPlaces are those of the workload.
func boxPlaces() []Place { return []Place{PlaceIn("/box0"), PlaceIn("/box1")} }

func openBoxes(t testing.TB, ctx context.Context, fsys vfs.FS) []*Mailbox {
	var boxes []*Mailbox
	for _, p := range boxPlaces() {
		m, err := OpenWith(ctx, fsys, p, OpenOptions{Zone: time.UTC})
		require.NoError(t, err)
		boxes = append(boxes, m)
	}
	return boxes
}

func closeBoxes(t testing.TB, boxes []*Mailbox) {
	for _, m := range boxes {
		require.NoError(t, m.Close())
	}
}

// startBoxes makes the mailboxes, the first with nine messages.
func startBoxes(t testing.TB, fsys *simfs.FS, v Version) {
	twoBoxes(t, fsys, v, v)
	boxes := openBoxes(t, t.Context(), fsys)
	for n := 1; n <= 9; n++ {
		appendTo(t, boxes[0], text(n), FlagFlagged, "Work")
	}
	appendTo(t, boxes[1], text(7), 0, "Else")
	for _, m := range boxes {
		require.NoError(t, m.Update(t.Context(), func(tx *Tx) error { // so that there is a journal
			_, err := tx.SetFlags(1, FlagChange{Op: AddFlags, Flags: FlagDraft})
			return err
		}))
	}
	closeBoxes(t, boxes)
}

// lookOf is all that anybody can see of a mailbox: the bytes of its index, the names of flags, and its messages. It fails
// where a message that is not expunged has not its file, or a record no cache.
func lookOf(t testing.TB, fsys vfs.FS, p Place) string {
	f, err := OpenFiles(fsys, p.Paths)
	require.NoError(t, err)
	defer f.Close()
	var b strings.Builder
	h := f.Index.Header
	h.HeaderFileCRC = 0
	fmt.Fprintf(&b, "%x %q\n", h.Append(nil), f.Header.Flags)
	require.True(t, h.Exists == 0 || f.Cache != nil)
	for e, err := range f.Index.Records(1) {
		require.NoError(t, err)
		fmt.Fprintf(&b, "%d: %x\n", e.No, e.Record.Append(nil, h.Version))
		if e.Flags&FlagUnlinked != 0 {
			continue
		}
		body, err := vfs.ReadFile(fsys, p.Message(&e.Record))
		require.NoError(t, err)
		require.EqualValues(t, e.Size, len(body))
		_, err = f.CacheRecord(&e.Record)
		require.NoError(t, err)
		b.Write(body)
	}
	return b.String()
}

func boxStates(t testing.TB, fsys vfs.FS) (all []string) {
	for _, p := range boxPlaces() {
		all = append(all, lookOf(t, fsys, p))
	}
	return all
}

// sound requires a check without findings, but for what a crash may leave and nobody sees: files and bytes beyond the end.
func sound(t testing.TB, fsys vfs.FS, p Place, seed string) {
	found, err := Check(t.Context(), fsys, p, CheckOptions{Owner: "u", Contents: true})
	require.NoError(t, err, seed)
	f, err := OpenFiles(fsys, p.Paths)
	require.NoError(t, err, seed)
	defer f.Close()
	for _, x := range found {
		if x.Code == messageAbove.code {
			uid, _ := messageName(x.Path[strings.LastIndexByte(x.Path, '/')+1:])
			require.Greater(t, uid, f.Index.Header.LastUID, seed)
			continue
		}
		require.Equal(t, finding.Info, x.Severity, "%s: %v", seed, x)
	}
}

// seenByC requires of an image, before we have recovered it, what a program that knows nothing of a journal may find: a
// mailbox that opens, new messages all or none, each record old or new, or torn at the edge of a sector.
func seenByC(t testing.TB, fsys vfs.FS, p Place, old, fresh vfs.FS, seed string) {
	f, err := OpenFiles(fsys, p.Paths)
	require.NoError(t, err, seed)
	defer f.Close()
	before, err := OpenFiles(old, p.Paths)
	require.NoError(t, err)
	defer before.Close()
	after, err := OpenFiles(fresh, p.Paths)
	require.NoError(t, err)
	defer after.Close()
	n := f.Index.Len()
	require.Contains(t, []RecordNo{before.Index.Len(), after.Index.Len()}, n, seed)
	raw := func(x *Files, no RecordNo) []byte {
		b := make([]byte, x.Index.stride)
		require.NoError(t, x.Index.read(b, x.Index.Offset(no)))
		return b
	}
	for no := RecordNo(1); no <= n; no++ {
		now, is := raw(f, no), raw(after, no)
		if no > before.Index.Len() {
			require.Equal(t, is, now, "%s: an appended record is not whole", seed)
			continue
		}
		was := raw(before, no)
		if !bytes.Equal(now, was) && !bytes.Equal(now, is) {
			require.True(t, torn(now, was, is, f.Index.Offset(no)), "%s: record %d is neither old nor new", seed, no)
			continue
		}
		rec, err := f.Index.Record(no)
		require.NoError(t, err)
		for n := range UserFlagsMax {
			require.True(t, !rec.UserFlags.Has(n) || n < len(f.Header.Flags) && f.Header.Flags[n] != "", "%s: a flag without a name", seed)
		}
		if rec.Flags&FlagUnlinked == 0 {
			_, err := fsys.Stat(p.Message(&rec))
			require.NoError(t, err, seed)
		}
	}
}

func recoverBoxes(t testing.TB, fsys vfs.FS) {
	for _, p := range boxPlaces() {
		_, err := Recover(t.Context(), fsys, p, OpenOptions{})
		require.NoError(t, err)
	}
}

// noUnlinked requires that the files of messages are gone whose records say so, and those of copies that were not committed.
func noUnlinked(t testing.TB, fsys vfs.FS, p Place, seed string) {
	f, err := OpenFiles(fsys, p.Paths)
	require.NoError(t, err)
	defer f.Close()
	for e, err := range f.Index.Records(1) {
		require.NoError(t, err)
		if e.Flags&FlagUnlinked != 0 {
			_, err := fsys.Stat(p.Message(&e.Record))
			require.ErrorIs(t, err, os.ErrNotExist, seed)
		}
	}
}

// campaign scales a number with the length of the campaign.
func campaign(short, ci, nightly int) int {
	switch os.Getenv("MAILSPINE_CAMPAIGN") {
	case "":
		return short
	case "ci":
		return ci
	}
	return nightly
}

// TestTxCrash stops the machine at every moment of every kind of transaction. What was acknowledged is there, what was under
// way is there whole or not at all, every image opens, and after the recovery a check finds nothing and the mailbox works on.
func TestTxCrash(t *testing.T) {
	t.Parallel()
	for _, v := range []Version{17, 10, 20} {
		t.Run(fmt.Sprint(v), func(t *testing.T) {
			t.Parallel()
			fsys := simfs.New(simfs.Options{})
			startBoxes(t, fsys, v)
			images := 0
			for i, step := range boxSteps() {
				before := boxStates(t, fsys)
				old := fsys.Kill()
				from := fsys.Ops()
				boxes := openBoxes(t, t.Context(), fsys)
				require.NoError(t, step.do(t.Context(), boxes), step.name)
				closeBoxes(t, boxes)
				fsys.Mark(step.name)
				after := boxStates(t, fsys)
				require.NotEqual(t, before, after)
				search := simfs.Search{From: from, Limit: campaign(24, 200, 4000), Samples: campaign(8, 60, 1000), Seed: uint64(i)}
				if v != VersionWritten {
					search.Limit, search.Samples = search.Limit/3, search.Samples/3
				}
				for img := range fsys.Trace().Images(search) {
					images++
					seed := step.name + ": " + img.Seed
					for _, p := range boxPlaces() {
						seenByC(t, img.FS, p, old, fsys, seed)
					}
					begin := img.FS.Ops()
					recoverBoxes(t, img.FS)
					recovery := img.FS.Trace()
					afterCrash(t, img.FS, before, after, slices.Contains(img.Marks, step.name), seed)
					if images%campaign(25, 10, 4) == 0 {
						for second := range recovery.Images(simfs.Search{From: begin, Limit: 8, Samples: 3}) {
							recoverBoxes(t, second.FS)
							afterCrash(t, second.FS, before, after, slices.Contains(img.Marks, step.name), seed+", then "+second.Seed)
						}
					}
				}
				for img := range fsys.Trace().Kills() {
					if img.Op < from {
						continue
					}
					recoverBoxes(t, img.FS)
					for _, p := range boxPlaces() {
						noUnlinked(t, img.FS, p, step.name+": "+img.Seed)
					}
					afterCrash(t, img.FS, before, after, slices.Contains(img.Marks, step.name), step.name+": "+img.Seed)
				}
			}
			t.Log(images, "images")
		})
	}
}

// afterCrash requires the state before or after a step, and a mailbox that works on.
func afterCrash(t testing.TB, fsys *simfs.FS, before, after []string, acknowledged bool, seed string) {
	now := boxStates(t, fsys)
	for i := range now {
		if acknowledged {
			require.Equal(t, after[i], now[i], "%s: box %d is not as it was acknowledged", seed, i)
		} else {
			require.True(t, now[i] == before[i] || now[i] == after[i], "%s: box %d is\n%s\nneither\n%s\nnor\n%s", seed, i, now[i], before[i], after[i])
		}
		sound(t, fsys, boxPlaces()[i], seed)
	}
	// A move may leave both messages, but never none: the copy comes first.
	if strings.HasPrefix(seed, "move") && now[1] == after[1] {
		require.Equal(t, after[0], now[0], seed)
	}
	boxes := openBoxes(t, t.Context(), fsys)
	rec := appendTo(t, boxes[0], text(99), 0, "Last")
	require.NoError(t, boxes[0].Update(t.Context(), func(tx *Tx) error {
		_, err := tx.SetFlags(rec.UID, FlagChange{Op: AddFlags, Flags: FlagSeen | FlagAnswered})
		return err
	}))
	body, err := vfs.ReadFile(fsys, "/box0/"+strconv.Itoa(int(rec.UID))+".")
	require.NoError(t, err)
	require.Equal(t, text(99), string(body), seed)
	closeBoxes(t, boxes)
	sound(t, fsys, boxPlaces()[0], seed)
}
