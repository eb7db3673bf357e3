package index

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/internal/vfs/simfs"
)

// counting counts the syncs and the bytes written of what passes through it.
type counting struct {
	vfs.FS
	syncs, written, read int64
}

type countedFile struct {
	vfs.File
	c *counting
}

func (c *counting) Open(name string, flag vfs.Flag, perm fs.FileMode) (vfs.File, error) {
	f, err := c.FS.Open(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return &countedFile{f, c}, nil
}

func (c *counting) SyncDir(name string) error { c.syncs++; return c.FS.SyncDir(name) }

func (f *countedFile) Datasync() error { f.c.syncs++; return f.File.Datasync() }
func (f *countedFile) Sync() error     { f.c.syncs++; return f.File.Sync() }
func (f *countedFile) CopyMetadata(from vfs.File) error {
	return f.File.CopyMetadata(from.(*countedFile).File)
}

func (f *countedFile) WriteAt(p []byte, off int64) (int, error) {
	f.c.written += int64(len(p))
	return f.File.WriteAt(p, off)
}

func (f *countedFile) ReadAt(p []byte, off int64) (int, error) {
	f.c.read += int64(len(p))
	return f.File.ReadAt(p, off)
}

// TestSyncs holds the number of syncs of each kind of change.
func TestSyncs(t *testing.T) {
	t.Parallel()
	base := simfs.New(simfs.Options{NoTrace: true})
	startBoxes(t, base, 17)
	c := &counting{FS: base}
	boxes := openBoxes(t, t.Context(), c)
	defer closeBoxes(t, boxes)
	want := map[string]int64{"append": 5, "flag": 2, "flags of several": 2, "new flag": 4, "append several with a new flag": 3 + 4 + 3,
		"expunge": 2, "restore": 5, "expunge at once": 6, "expunge two": 2, "clean up": 2, "copy": 7, "move": 6, "append again": 5}
	for _, step := range boxSteps() {
		c.syncs = 0
		require.NoError(t, step.do(t.Context(), boxes))
		require.Equal(t, want[step.name], c.syncs, step.name)
	}
	c.syncs = 0
	require.NoError(t, boxes[0].Update(t.Context(), func(tx *Tx) error {
		for n := range 100 {
			if _, err := tx.Append(newMail(n)); err != nil {
				return err
			}
		}
		return nil
	}))
	require.EqualValues(t, 104, c.syncs)
}

// TestLargeMailbox: what a change reads and writes does not grow with the mailbox.
func TestLargeMailbox(t *testing.T) {
	t.Parallel()
	const n = 100_000
	fsys := simfs.New(simfs.Options{NoTrace: true})
	m := newTestBox(t, fsys, 17)
	require.NoError(t, m.Close())
	b, err := vfs.ReadFile(fsys, "/m/cyrus.index")
	require.NoError(t, err)
	var h Header
	require.NoError(t, h.Decode(b))
	h.NumRecords, h.Exists, h.Unseen, h.LastUID, h.HighestModSeq = n, n, n, 2*n, 3*n
	b = h.Append(nil)
	for i := range n {
		r := Record{UID: UID(2*i + 1), Size: 1000, HeaderSize: 10, ModSeq: ModSeq(i + 1), CreatedModSeq: 1, GUID: GUID{1}}
		b = r.Append(b, 17)
	}
	write(t, fsys, "/m/cyrus.index", b)
	c := &counting{FS: fsys}
	m = openTestBox(t, c, PlaceIn("/m"), OpenOptions{})
	flag := func(count, every int) {
		require.NoError(t, m.Update(t.Context(), func(tx *Tx) error {
			for i := range count {
				if _, err := tx.SetFlags(UID(2*i*every+1), FlagChange{Op: AddFlags, Flags: FlagFlagged}); err != nil {
					return err
				}
			}
			return nil
		}))
	}
	flag(1, 1) // makes the journal
	c.written, c.read = 0, 0
	flag(2, 7)
	require.Less(t, c.written, int64(2000))
	require.Less(t, c.read, int64(20_000))
	c.written, c.read = 0, 0
	flag(1000, 50)
	require.Less(t, c.written, int64(1000*400+4000))
	require.Less(t, c.read, int64(1000*2000))
	now, err := m.Header()
	require.NoError(t, err)
	require.EqualValues(t, 1001, now.Flagged)
}

// TestZeroBytesFree: on a full disk an append answers ErrNoSpace and changes nothing, and flags and expunges still work.
func TestZeroBytesFree(t *testing.T) {
	t.Parallel()
	for _, o := range []simfs.Options{{NoTrace: true, Blocks: 400}, {NoTrace: true, Blocks: 400, DelayedAlloc: true}} {
		fsys := simfs.New(o)
		startBoxes(t, fsys, 17)
		boxes := openBoxes(t, t.Context(), fsys)
		for free := range int64(6) {
			fsys.FreeUp()
			fsys.FillUp(free, false)
			before := boxFiles(t, fsys)
			err := boxes[0].Update(t.Context(), func(tx *Tx) error {
				for n := range 3 {
					if _, err := tx.Append(newMail(n, fmt.Sprint("flag", free))); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				require.ErrorIs(t, err, ErrNoSpace)
				require.Equal(t, before, boxFiles(t, fsys))
			}
		}
		fsys.FillUp(0, true)
		for round := range 30 {
			op := FlagOp(round % 2)
			require.NoError(t, boxes[0].Update(t.Context(), func(tx *Tx) error {
				for uid := UID(1); uid <= 3; uid++ {
					if _, err := tx.SetFlags(uid, FlagChange{Op: op, Flags: FlagAnswered, User: []string{"Work"}}); err != nil {
						return err
					}
				}
				return nil
			}))
		}
		require.NoError(t, boxes[0].Update(t.Context(), func(tx *Tx) error { _, err := tx.Expunge(1, ExpungeDelayed); return err }))
		require.NoError(t, boxes[0].Update(t.Context(), func(tx *Tx) error { _, err := tx.Expunge(2, ExpungeImmediate); return err }))
		before := boxFiles(t, fsys)
		err := boxes[0].Update(t.Context(), func(tx *Tx) error {
			_, err := tx.SetFlags(3, FlagChange{User: []string{"a-new-name"}})
			return err
		})
		require.ErrorIs(t, err, ErrNoSpace)
		require.Equal(t, before, boxFiles(t, fsys))
		closeBoxes(t, boxes)
		sound(t, fsys, boxPlaces()[0], "full")
	}
}

// accounts is a participant that keeps its books in memory, and remembers how it was called.
type accounts struct {
	bytes, messages int64
	limit           int64
	failApply       bool
	calls           []string
	last            Usage
	// settle is called with each Settle, if it is set.
	settle func() error
	// applying is called with each Apply, if it is set.
	applying func(ctx context.Context)
}

type accountPledge struct {
	a *accounts
	u Usage
}

var errOver = errors.New("over quota")

func (a *accounts) Begin(_ context.Context, u Usage) (Pledge, error) {
	a.calls = append(a.calls, "begin")
	a.last = u
	if a.limit > 0 && a.bytes+u.Bytes > a.limit {
		return nil, errOver
	}
	return &accountPledge{a, u}, nil
}

func (a *accounts) Recover(_ context.Context, b []byte) error {
	var u Usage
	if err := json.Unmarshal(b, &u); err != nil {
		return err
	}
	a.calls = append(a.calls, "recover "+u.QuotaRoot)
	return nil
}

func (a *accounts) Doubt(_ context.Context, root string) error {
	a.calls = append(a.calls, "doubt "+root)
	return nil
}

func (a *accounts) Settle(context.Context) error {
	if a.settle == nil {
		return nil
	}
	return a.settle()
}

func (p *accountPledge) Journal() []byte { b, _ := json.Marshal(p.u); return b }

func (p *accountPledge) Apply(ctx context.Context) error {
	if p.a.applying != nil {
		p.a.applying(ctx)
	}
	p.a.calls = append(p.a.calls, "apply")
	if p.a.failApply {
		return syscall.EIO
	}
	p.a.bytes += p.u.Bytes
	p.a.messages += p.u.Messages
	return nil
}

func (p *accountPledge) Undo() error { p.a.calls = append(p.a.calls, "undo"); return nil }
func (p *accountPledge) Leave()      { p.a.calls = append(p.a.calls, "leave") }

// TestParticipant: a participant is asked before a change, told after it, and called by the recovery where it was not told.
func TestParticipant(t *testing.T) {
	t.Parallel()
	fsys := simfs.New(simfs.Options{})
	c := newbox
	c.HeaderFile.QuotaRoot = "user.u"
	p := PlaceIn("/m")
	_, err := Create(t.Context(), fsys, p, c)
	require.NoError(t, err)
	a := &accounts{}
	m := openTestBox(t, fsys, p, OpenOptions{Participant: a})
	one := appendTo(t, m, text(1), 0)
	appendTo(t, m, text(2), 0)
	require.EqualValues(t, 2*one.Size, a.bytes)
	require.EqualValues(t, 2, a.messages)
	flagIt := func(tx *Tx) error { _, err := tx.SetFlags(1, FlagChange{Flags: FlagSeen}); return err }
	require.NoError(t, m.Update(t.Context(), flagIt))
	require.Equal(t, []string{"begin", "apply", "begin", "apply"}, a.calls, "flags do not count")
	require.NoError(t, m.Update(t.Context(), func(tx *Tx) error { _, err := tx.Expunge(1, ExpungeDelayed); return err }))
	require.EqualValues(t, one.Size, a.bytes)

	before := files(t, fsys, "/m")
	a.limit, a.calls = int64(one.Size)+1, nil
	err = m.Update(t.Context(), func(tx *Tx) error { _, err := tx.Append(newMail(3)); return err })
	require.ErrorIs(t, err, errOver)
	require.Equal(t, before, files(t, fsys, "/m"))
	require.Equal(t, []string{"begin"}, a.calls)

	a.limit, a.failApply, a.calls = 0, true, nil
	appendTo(t, m, text(4), 0)
	a.failApply = false
	require.NoError(t, m.Update(t.Context(), func(tx *Tx) error { return nil }))
	require.Equal(t, []string{"begin", "apply", "recover user.u"}, a.calls)
	require.NoError(t, m.Update(t.Context(), func(tx *Tx) error { return nil }))
	require.Len(t, a.calls, 3, "once is enough")

	// Killed or stopped between the change and the accounts: nobody forgets them, whoever looks first.
	from := fsys.Ops()
	appendTo(t, m, text(5), 0)
	fsys.Mark("done")
	told, untold := 0, 0
	for img := range fsys.Trace().Images(simfs.Search{From: from, Limit: 20, Samples: 10}) {
		_, err := Recover(t.Context(), img.FS, p, OpenOptions{}) // one who keeps no accounts
		require.NoError(t, err)
		b := &accounts{}
		_, err = RecoverJournal(t.Context(), img.FS, p.Journal, OpenOptions{Participant: b})
		require.NoError(t, err)
		h, err := Open(t.Context(), img.FS, p)
		require.NoError(t, err)
		header, err := h.Header()
		require.NoError(t, err)
		switch {
		case len(b.calls) > 0:
			require.Equal(t, "recover user.u", b.calls[0])
			told++
		case len(img.Marks) == 0 && header.LastUID == 5:
			untold++ // only once the entry was cleared, which follows the accounts
		}
		require.NoError(t, h.Close())
		sound(t, img.FS, p, img.Seed)
	}
	require.Positive(t, told)
	t.Log(told, "told", untold, "already applied")
}

// TestSettle: a participant that has heard of anything is called once more when no lock is held any more, so that it can take
// all of them; one that has not is not, nor one that is to settle later. A change of which the caller gives up once it is made
// is told of as any other.
func TestSettle(t *testing.T) {
	t.Parallel()
	fsys := simfs.New(simfs.Options{})
	require.NoError(t, fsys.Mkdir("/lock", 0o755))
	c := newbox
	c.HeaderFile.QuotaRoot = "user.u"
	places := []Place{PlaceIn("/m"), PlaceIn("/n")}
	var boxes []*Mailbox
	settled := 0
	a := &accounts{}
	a.settle = func() error {
		settled++
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		for _, p := range places {
			release, err := writeLocks(ctx, fsys, p)
			require.NoError(t, err)
			f, _, err := openLocked(ctx, fsys, p.Paths.Index)
			require.NoError(t, err)
			require.NoError(t, f.Close())
			release()
		}
		for _, m := range boxes {
			require.NoError(t, m.takeTurn(ctx))
			<-m.turn
		}
		return syscall.EIO // to the log alone
	}
	for i := range places {
		p := &places[i]
		_, err := Create(t.Context(), fsys, *p, c)
		require.NoError(t, err)
		p.UserLocks, p.NameLock = []string{"/lock/u"}, fmt.Sprintf("/lock/%d", i)
		boxes = append(boxes, openTestBox(t, fsys, *p, OpenOptions{Participant: a}))
	}
	appendTo(t, boxes[0], text(1), 0)
	require.Equal(t, 1, settled)
	require.Equal(t, "user.u", a.last.Mailbox)
	require.NoError(t, boxes[0].Update(t.Context(), func(tx *Tx) error { _, err := tx.SetFlags(1, FlagChange{Flags: FlagSeen}); return err }))
	require.Equal(t, 1, settled, "flags do not count")
	_, err := Copy(t.Context(), boxes[0], boxes[1], []UID{1}, CopyOptions{})
	require.NoError(t, err)
	require.Equal(t, 2, settled, "one of two mailboxes changes")
	require.False(t, a.last.Moved)

	a.calls = nil
	a.failApply = true
	ctx, cancel := context.WithCancel(t.Context())
	a.applying = func(ctx context.Context) {
		cancel()
		require.NoError(t, ctx.Err(), "the change is made")
	}
	require.NoError(t, boxes[0].Update(ctx, func(tx *Tx) error { _, err := tx.Append(newMail(7)); return err }))
	require.Equal(t, []string{"begin", "apply"}, a.calls)
	a.failApply, a.applying = false, nil
	settled = 0
	r, err := Recover(t.Context(), fsys, places[0], OpenOptions{Participant: SettleLater(a)})
	require.NoError(t, err)
	require.Len(t, r, 1)
	require.Zero(t, settled)
	require.Equal(t, "recover user.u", a.calls[2])

	a.failApply = true
	appendTo(t, boxes[1], text(8), 0)
	a.failApply, settled = false, 0
	_, err = RecoverJournal(t.Context(), fsys, places[1].Journal, OpenOptions{Participant: a})
	require.NoError(t, err)
	require.Equal(t, 1, settled)
	_, err = RecoverJournal(t.Context(), fsys, places[1].Journal, OpenOptions{Participant: a})
	require.NoError(t, err)
	require.Equal(t, 1, settled, "nothing was told")

	_, err = Copy(t.Context(), boxes[0], boxes[1], []UID{1}, CopyOptions{Move: true})
	require.NoError(t, err)
	require.Equal(t, int64(-1), a.last.Messages)
	require.Nil(t, SettleLater(nil))
}

// TestOvertaken: where another program has changed the mailbox since, an entry of the journal touches nothing that is whole,
// and sets back a record that the crash tore.
func TestOvertaken(t *testing.T) {
	t.Parallel()
	fsys := simfs.New(simfs.Options{})
	startBoxes(t, fsys, 17)
	from := fsys.Ops()
	boxes := openBoxes(t, t.Context(), fsys)
	require.NoError(t, boxSteps()[2].do(t.Context(), boxes))
	closeBoxes(t, boxes)
	overtaken, mended := 0, 0
	for img := range fsys.Trace().Images(simfs.Search{From: from, Limit: 200, Samples: 100}) {
		// What Cyrus does when it comes first: it changes a record that has no part in this, and the header.
		b, err := vfs.ReadFile(img.FS, "/box0/cyrus.index")
		require.NoError(t, err)
		var h Header
		require.NoError(t, h.Decode(b))
		h.RecentUID, h.HighestModSeq = 3, h.HighestModSeq+10
		copy(b, h.Append(nil))
		f, err := img.FS.Open("/box0/cyrus.index", vfs.ReadWrite, 0)
		require.NoError(t, err)
		_, err = f.WriteAt(b[:160], 0)
		require.NoError(t, err)
		require.NoError(t, f.Close())
		r, err := Recover(t.Context(), img.FS, PlaceIn("/box0"), OpenOptions{})
		require.NoError(t, err)
		after, err := vfs.ReadFile(img.FS, "/box0/cyrus.index")
		require.NoError(t, err)
		require.Equal(t, b[:160], after[:160])
		for _, x := range r {
			if x.Outcome != Overtaken {
				continue
			}
			overtaken++
			mended += x.Records
			require.Empty(t, x.Torn)
		}
		for no := range 9 {
			raw := Raw{l: layoutOf(17), b: after[160+112*no : 272+112*no]}
			require.True(t, raw.Intact(), img.Seed)
			if was := (Raw{l: layoutOf(17), b: b[160+112*no : 272+112*no]}); was.Intact() {
				require.Equal(t, was.b, raw.b, img.Seed)
			}
		}
	}
	require.Positive(t, overtaken)
	require.Positive(t, mended)
}

// TestManyWriters has processes append, flag and expunge in one mailbox, one of them killed at some call: no UID is given out
// twice, nothing that was acknowledged is lost.
func TestManyWriters(t *testing.T) {
	t.Parallel()
	total := 0
	defer func() { require.Greater(t, total, 40) }()
	for seed := range uint64(campaign(15, 60, 1000)) {
		fsys := simfs.New(simfs.Options{NoTrace: true})
		startBoxes(t, fsys, 17)
		acknowledged := make([][]UID, 3)
		var tasks []simfs.Task
		for i := range acknowledged {
			tasks = append(tasks, func(ctx context.Context, view *simfs.FS) {
				m, err := OpenWith(ctx, view, PlaceIn("/box0"), OpenOptions{Zone: time.UTC})
				if err != nil {
					return
				}
				for n := range 3 {
					var rec Record
					err := m.Update(ctx, func(tx *Tx) (err error) {
						if rec, err = tx.Append(NewMessage{Body: strings.NewReader(text(100*i + n)), InternalDate: arrived}); err == nil {
							_, err = tx.SetFlags(UID(1+i), FlagChange{Op: FlagOp(n % 2), Flags: FlagAnswered})
						}
						return err
					})
					if err != nil {
						return
					}
					acknowledged[i] = append(acknowledged[i], rec.UID)
				}
			})
		}
		simfs.Run(t, fsys, simfs.Schedule{Seed: seed, Kill: int(seed % 3), KillAt: int(20 + seed*7%300)}, tasks...)
		recoverBoxes(t, fsys)
		sound(t, fsys, PlaceIn("/box0"), fmt.Sprint(seed))
		m := openTestBox(t, fsys, PlaceIn("/box0"), OpenOptions{})
		seen := map[UID]bool{}
		total += len(acknowledged[0]) + len(acknowledged[1]) + len(acknowledged[2])
		for i, uids := range acknowledged {
			for n, uid := range uids {
				require.False(t, seen[uid], "UID %d twice", uid)
				seen[uid] = true
				rec, err := m.Record(t.Context(), uid)
				require.NoError(t, err)
				body, err := vfs.ReadFile(fsys, m.place.Message(&rec))
				require.NoError(t, err)
				require.Equal(t, text(100*i+n), string(body))
			}
		}
	}
}
