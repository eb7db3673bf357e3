package fuzz

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/mailspine/mailspine/index"
	"github.com/mailspine/mailspine/internal/finding"
	"github.com/mailspine/mailspine/internal/journal"
	"github.com/mailspine/mailspine/internal/vfs"
)

// boxNames are the mailboxes, both of one user and on one partition.
var boxNames = [2]string{"box", "other"}

// boxPlaces are the places of the mailboxes below a directory, as in a store.
func boxPlaces(root string) (places [2]index.Place) {
	for i, name := range boxNames {
		p := index.PlaceIn(filepath.Join(root, "part", name))
		p.Journal, p.Stage = filepath.Join(root, "part", "mailspine."), filepath.Join(root, "part", "stage.")
		p.UserLocks = []string{filepath.Join(root, "lock", "user.lock")}
		p.NameLock = filepath.Join(root, "lock", name+".lock")
		p.Owner = "u"
		places[i] = p
	}
	return places
}

// boxRun carries steps out.
type boxRun struct {
	fs     vfs.FS
	root   string
	places [2]index.Place
	opts   index.OpenOptions
	boxes  [2]*index.Mailbox
	hold   bool // somebody else has the first slot of the journal
	// The last step is made in spite of an error: of a move the copies, or a repack after which the mailbox could not be
	// read again.
	copied, made bool
}

// accounts stand for what keeps the usage of the mailboxes' quota root.
type accounts struct {
	applied   func() // called when a change is told of
	begun     int
	ended     int
	recovered int
}

// quotaRoot is what a journal entry has of the accounts.
const quotaRoot = "user.u"

func (a *accounts) Begin(context.Context, index.Usage) (index.Pledge, error) {
	a.begun++
	return &pledge{a: a}, nil
}

func (a *accounts) Recover(_ context.Context, b []byte) error {
	a.recovered++
	if string(b) != quotaRoot {
		return fmt.Errorf("the journal has %q of the accounts", b)
	}
	return nil
}

func (a *accounts) Doubt(context.Context, string) error { return nil }

func (a *accounts) Settle(context.Context) error { return nil }

type pledge struct{ a *accounts }

func (p *pledge) Journal() []byte { return []byte(quotaRoot) }
func (p *pledge) Undo() error     { p.a.ended++; return nil }
func (p *pledge) Leave()          { p.a.ended++ }

func (p *pledge) Apply(context.Context) error {
	p.a.ended++
	p.a.applied()
	return nil
}

// createBoxes makes both mailboxes, and the directories that a store has.
func createBoxes(fsys vfs.FS, root string, v index.Version) error {
	for _, dir := range []string{"part", "part/stage.", "lock"} {
		if err := vfs.MkdirAll(fsys, filepath.Join(root, dir), 0o755); err != nil {
			return err
		}
	}
	for i, p := range boxPlaces(root) {
		c := index.Creation{Version: v, UIDValidity: uint32(7 + i), HeaderFile: index.HeaderFile{Form: index.HeaderList, Type: "e",
			Name: "user.u." + boxNames[i], UniqueID: "0123456789abcde" + fmt.Sprint(i), QuotaRoot: quotaRoot, ACL: []index.ACLEntry{{Identifier: "u", Rights: "lrswipkxtecdan"}}}}
		if _, err := index.Create(ctx, fsys, p, c); err != nil {
			return err
		}
		// The locks are there before anything else, or their names would be most of what a crash can lose.
		for _, path := range append(p.UserLocks, p.NameLock) {
			f, err := fsys.Open(path, vfs.ReadWrite|vfs.Create, 0o600)
			if err == nil {
				err = f.Close()
			}
			if err != nil {
				return err
			}
		}
	}
	return fsys.SyncDir(filepath.Join(root, "lock"))
}

// openBoxes opens both mailboxes.
func openBoxes(fsys vfs.FS, root string, opts index.OpenOptions) (*boxRun, error) {
	opts.Zone = time.UTC
	b := &boxRun{fs: fsys, root: root, places: boxPlaces(root), opts: opts}
	for i, p := range b.places {
		m, err := index.OpenWith(ctx, fsys, p, opts)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("%s: %w", boxNames[i], err), b.close())
		}
		b.boxes[i] = m
	}
	return b, nil
}

func (b *boxRun) close() error {
	var all []error
	for i, m := range b.boxes {
		if m != nil {
			all = append(all, m.Close())
			b.boxes[i] = nil
		}
	}
	return errors.Join(all...)
}

// step carries out a step, with a slot of the journal taken by another mailbox now and then.
func (b *boxRun) step(s boxStep) error {
	b.copied, b.made = false, false
	if !b.hold {
		return b.do(s)
	}
	slot, err := journal.Open(b.fs, b.places[0].Journal).Take(ctx, "another mailbox", 100)
	if err != nil {
		return err
	}
	defer slot.Close()
	return b.do(s)
}

func (b *boxRun) do(s boxStep) error {
	if s.kind == "repack" || s.kind == "convert" {
		to := index.Version(0)
		if s.kind == "convert" {
			h, err := b.boxes[0].Header()
			if err != nil {
				return err
			}
			if to = (&box{version: h.Version}).convertTo(); to == h.Version {
				to = 0
			}
		}
		done, err := b.boxes[0].Repack(ctx, to, index.RepackOptions{})
		b.made = err != nil && done != nil
		return err
	}
	if s.kind == "copy" || s.kind == "move" {
		copied, err := index.Copy(ctx, b.boxes[0], b.boxes[1], s.uids, index.CopyOptions{Move: s.kind == "move"})
		b.copied = err != nil && len(copied) > 0
		return err
	}
	return b.boxes[0].Update(ctx, func(tx *index.Tx) error {
		for _, o := range s.ops {
			if err := o.run(tx); err != nil {
				return fmt.Errorf("%s: %w", o.what, err)
			}
		}
		return nil
	})
}

func (o *boxOp) run(tx *index.Tx) (err error) {
	switch o.what {
	case "append":
		_, err = tx.Append(index.NewMessage{Body: strings.NewReader(o.text), InternalDate: boxDate, Flags: o.change.Flags, User: o.change.User})
	case "flag":
		_, err = tx.SetFlags(o.uid, o.change)
	case "expunge":
		_, err = tx.Expunge(o.uid, index.ExpungeDelayed)
	case "remove":
		_, err = tx.Expunge(o.uid, index.ExpungeImmediate)
	case "unexpunge":
		_, err = tx.Unexpunge(o.uid, 0)
	case "cleanup":
		_, err = tx.Cleanup(0)
	}
	return err
}

// readBoxes reads both mailboxes as they lie there, with nothing recovered, in the form of the model.
func readBoxes(fsys vfs.FS, root string) (map[string]string, error) {
	all := map[string]string{}
	for i, p := range boxPlaces(root) {
		if err := readBox(fsys, p, boxNames[i], all); err != nil {
			return nil, fmt.Errorf("%s: %w", boxNames[i], err)
		}
	}
	return all, nil
}

func readBox(fsys vfs.FS, p index.Place, name string, into map[string]string) error {
	f, err := index.OpenFiles(fsys, p.Paths)
	if err != nil {
		return err
	}
	defer f.Close()
	h := &f.Index.Header
	high := h.HighestModSeq
	if !modSeqs(h.Version) {
		high = 0
	}
	into[name] = fmt.Sprintf("version %d, last UID %d, highest modseq %d", h.Version, h.LastUID, high)
	for e, err := range f.Index.Records(1) {
		if err != nil {
			return err
		}
		users := f.Header.FlagNames(0, e.UserFlags)
		slices.Sort(users)
		text := ""
		if e.Flags&index.FlagUnlinked == 0 {
			b, err := vfs.ReadFile(fsys, p.Message(&e.Record))
			if err != nil {
				return fmt.Errorf("the message of UID %d: %w", e.UID, err)
			}
			text = string(b)
		}
		user := ""
		for _, u := range users {
			user += u + " "
		}
		into[fmt.Sprintf("%s %d", name, e.UID)] = describeMessage(e.Flags&keptFlags, user, e.ModSeq, text)
	}
	return nil
}

// checkBoxes finds nothing wrong, but for what a crash may leave beside a mailbox and the next change puts right: message
// files above its last UID, bytes behind the last record of a file, and a cache of an empty mailbox that was just made.
func checkBoxes(fsys vfs.FS, root string) error {
	for i, p := range boxPlaces(root) {
		found, err := index.Check(ctx, fsys, p, index.CheckOptions{Owner: "u"})
		if err != nil {
			return err
		}
		for _, x := range found {
			if x.Severity <= finding.Info {
				continue
			}
			if left, err := isLeftover(fsys, p, x); err != nil || !left {
				return errors.Join(fmt.Errorf("check of %s: %v", boxNames[i], x), err)
			}
		}
	}
	return nil
}

func isLeftover(fsys vfs.FS, p index.Place, x finding.Finding) (bool, error) {
	f, err := index.OpenFiles(fsys, p.Paths)
	if err != nil {
		return false, err
	}
	h := f.Index.Header
	if err := f.Close(); err != nil {
		return false, err
	}
	switch x.Code {
	case "message-above":
		var uid index.UID
		_, err := fmt.Sscanf(filepath.Base(x.Path), "%d.", &uid)
		return err == nil && uid > h.LastUID, nil
	case "cache-short", "cache-generation":
		return h.NumRecords == 0, nil
	}
	return false, nil
}

// boxFiles are the bytes of a mailbox that readers look at: header and records of cyrus.index, and cyrus.header.
type boxFiles struct {
	version      index.Version
	generation   uint32
	head         []byte
	records      [][]byte
	header       []byte
	first        int64 // the place of the first record
	sizeOfRecord int64
}

// filesOf reads them, as they lie there.
func filesOf(fsys vfs.FS, p index.Place) (*boxFiles, error) {
	f, err := index.OpenFiles(fsys, p.Paths)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	h := &f.Index.Header
	raw, err := vfs.ReadFile(fsys, p.Paths.Index)
	if err != nil {
		return nil, err
	}
	b := &boxFiles{version: h.Version, generation: h.Generation, first: int64(h.StartOffset), sizeOfRecord: int64(h.RecordSize)}
	if int64(len(raw)) < b.first+int64(h.NumRecords)*b.sizeOfRecord {
		return nil, fmt.Errorf("cyrus.index has %d bytes, too few for %d records", len(raw), h.NumRecords)
	}
	b.head, raw = raw[:b.first], raw[b.first:]
	for range h.NumRecords {
		b.records, raw = append(b.records, raw[:b.sizeOfRecord]), raw[b.sizeOfRecord:]
	}
	b.header, err = vfs.ReadFile(fsys, p.Paths.Header)
	return b, err
}

func (b *boxFiles) equal(o *boxFiles) bool {
	return bytes.Equal(b.head, o.head) && bytes.Equal(b.header, o.header) && slices.EqualFunc(b.records, o.records, bytes.Equal)
}

// mixed tells whether a record is one of the candidates, or one of them in each sector that it lies in.
func (b *boxFiles) mixed(no int, candidates []*boxFiles) (whole, torn bool) {
	got, off := b.records[no], b.first+int64(no)*b.sizeOfRecord
	edge := min(b.sizeOfRecord, 512-off%512)
	var left, right bool
	for _, c := range candidates {
		if c.generation != b.generation || c.version != b.version || no >= len(c.records) {
			continue
		}
		whole = whole || bytes.Equal(got, c.records[no])
		left = left || bytes.Equal(got[:edge], c.records[no][:edge])
		right = right || bytes.Equal(got[edge:], c.records[no][edge:])
	}
	return whole, left && right
}

// asCyrusFinds looks at a mailbox that nobody has recovered, as a Cyrus process does that comes first after a crash, which
// knows nothing of the journal. It can be opened; cyrus.header and the header of the index are each old or new; so is each
// record, but that one which lies across the edge of a sector may be old on the one side of it and new on the other; a new
// message is there with all that belongs to it, or not at all.
func asCyrusFinds(fsys vfs.FS, p index.Place, candidates []*boxFiles) error {
	got, err := filesOf(fsys, p)
	if err != nil {
		return err
	}
	same := func(part func(*boxFiles) []byte) bool {
		return slices.ContainsFunc(candidates, func(c *boxFiles) bool { return bytes.Equal(part(got), part(c)) })
	}
	switch {
	case !same(func(b *boxFiles) []byte { return b.head }):
		return errors.New("the header of cyrus.index is neither old nor new")
	case !same(func(b *boxFiles) []byte { return b.header }):
		return errors.New("cyrus.header is neither old nor new")
	}
	for no := range got.records {
		whole, torn := got.mixed(no, candidates)
		if !whole && !torn {
			return fmt.Errorf("record %d of cyrus.index is neither old nor new", no+1)
		}
	}
	repacked := slices.ContainsFunc(candidates, func(c *boxFiles) bool { return c.generation != candidates[0].generation })
	return messagesAreThere(fsys, p, repacked)
}

// messagesAreThere looks for the message file and the cache record of every record that can be read. While files are being
// replaced by a repack, there may be no cache.
func messagesAreThere(fsys vfs.FS, p index.Place, repacked bool) error {
	f, err := index.OpenFiles(fsys, p.Paths)
	if err != nil {
		return err
	}
	defer f.Close()
	for e, err := range f.Index.Records(1) {
		if errors.Is(err, index.ErrDamaged) {
			continue // torn, as it may be
		}
		if err != nil {
			return err
		}
		if e.Flags&index.FlagUnlinked == 0 {
			info, err := fsys.Stat(p.Message(&e.Record))
			if err != nil || info.Size != int64(e.Size) {
				return fmt.Errorf("the message of UID %d: %d bytes, %w", e.UID, info.Size, err)
			}
		}
		if _, err := f.CacheRecord(&e.Record); err != nil && !(repacked && errors.Is(err, index.ErrNoCache)) {
			return fmt.Errorf("the cache record of UID %d: %w", e.UID, err)
		}
	}
	return nil
}

// recoverBoxes does what "mailspine recover" does.
func recoverBoxes(fsys vfs.FS, root string, opts index.OpenOptions) error {
	for _, p := range boxPlaces(root) {
		if _, err := index.Recover(ctx, fsys, p, opts); err != nil {
			return err
		}
	}
	return nil
}
