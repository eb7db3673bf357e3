package quota

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"slices"
	"strings"

	"github.com/mailspine/mailspine/index"
	"github.com/mailspine/mailspine/internal/finding"
	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/mboxdb"
)

// Errors of Undo.
var (
	// ErrNoRun means that there is no log of such a run.
	ErrNoRun = errors.New("there is no record of such a run")
	// ErrUndone means that all that the run has changed was taken back already.
	ErrUndone = errors.New("the run was undone already")
)

// unseal reads a line, and tells whether it is whole.
func unseal(b []byte) (l undoLine, ok bool) {
	var s sealed
	if json.Unmarshal(b, &s) != nil || fmt.Sprintf("%08x", crc32.ChecksumIEEE(s.Entry)) != s.CRC {
		return l, false
	}
	return l, json.Unmarshal(s.Entry, &l) == nil
}

// UndoRun is a run that has changed something.
type UndoRun struct {
	// Name is what [Keeper.Undo] takes. It begins with the time.
	Name string `json:"name"`
	// Changes is how many changes were made, Of the run that it has undone, if it is an undo, and UndoneBy that by which it was undone.
	Changes  int    `json:"changes"`
	Of       string `json:"of,omitempty"`
	UndoneBy string `json:"undone_by,omitempty"`
}

// pastRun is a log that was read.
type pastRun struct {
	UndoRun
	// lines are the changes, in the order in which they were made; void ones are left out.
	lines []undoLine
	// unsure are those of which the log does not say whether they were made.
	unsure map[int64]bool
	whole  bool // an undo that came to its end
}

// UndoRuns are the runs that can be undone, the oldest first.
func (k *Keeper) UndoRuns(ctx context.Context) (list []UndoRun, err error) {
	all, err := k.pastRuns(ctx)
	for _, p := range all {
		list = append(list, p.UndoRun)
	}
	return list, err
}

func (k *Keeper) pastRuns(ctx context.Context) (all []*pastRun, err error) {
	entries, err := k.fs.ReadDir(k.undoDir())
	if err != nil {
		return nil, ignoreMissing(err)
	}
	undos := map[string][]*pastRun{}
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name, undoSuffix)
		if !ok || e.Dir {
			continue
		}
		if err := context.Cause(ctx); err != nil {
			return nil, err
		}
		b, err := vfs.ReadFile(k.fs, k.undoPath(name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("undo log: %w", err)
		}
		p := readRun(name, b)
		if len(p.lines) > 0 || p.Of != "" {
			all = append(all, p)
		}
	}
	slices.SortFunc(all, func(a, b *pastRun) int { return compareRuns(a.Name, b.Name) })
	for _, p := range all {
		if p.Of != "" && p.whole {
			undos[p.Of] = append(undos[p.Of], p)
		}
	}
	// An undo that was undone itself is none any more, until that undo is undone. It is later than what it undoes.
	for _, p := range slices.Backward(all) {
		for _, by := range undos[p.Name] {
			if by.UndoneBy == "" {
				p.UndoneBy = by.Name
			}
		}
	}
	return all, nil
}

// compareRuns orders runs by the time in their names, those of one second by their numbers.
func compareRuns(a, b string) int {
	at, bt := a[:min(len(a), len(undoTime))], b[:min(len(b), len(undoTime))]
	return cmp.Or(strings.Compare(at, bt), cmp.Compare(len(a), len(b)), strings.Compare(a, b))
}

// readRun reads a log. It ends at the first line that is not whole.
func readRun(name string, b []byte) *pastRun {
	p := &pastRun{UndoRun: UndoRun{Name: name}, unsure: map[int64]bool{}}
	for len(b) > 0 {
		line, rest, ok := bytes.Cut(b, []byte("\n"))
		l, whole := unseal(line)
		if !ok || !whole {
			break
		}
		b = rest
		switch l.Kind {
		case undoUndoing:
			p.Of = l.Of
		case undoUndone:
			p.whole = true
		case undoMade:
			delete(p.unsure, l.N)
		case undoVoid:
			delete(p.unsure, l.N)
			p.lines = slices.DeleteFunc(p.lines, func(o undoLine) bool { return o.N == l.N })
		default:
			p.lines = append(p.lines, l)
			p.unsure[l.N] = true
		}
	}
	p.Changes = len(p.lines)
	return p
}

// UndoOptions say how a run is undone.
type UndoOptions struct {
	// DryRun changes nothing.
	DryRun bool
}

// Undone is what became of one change that a run had made.
type Undone struct {
	// Kind is usage, header, limits, created or deleted. Root or Mailbox is what was changed.
	Kind, Root, Mailbox string
	// Before and After are the usage before and after the undo, From and To the root that a header names, LimitsBefore and
	// LimitsAfter limits.
	Before, After             Amounts
	From, To                  string
	LimitsBefore, LimitsAfter Limits
	// Changed says that it was, or in a dry run would be, taken back; if not, Reason says why. Err is what failed.
	Changed bool
	Reason  string
	Err     error
}

// UndoReport is what an undo did.
type UndoReport struct {
	// Run is the name of the undo itself, which can be undone; empty if nothing was changed.
	Run      string
	Changes  []Undone
	Problems []finding.Finding
}

// Undo takes back what a run has changed, the last change first. What the run has added to a usage is taken from what is used now, so
// that what has changed since stays in it; a usage that would be below 0 becomes 0. A header goes back only if it still says
// what the run has written. Undo leaves numbers as wrong as they were: it is for a run that should not have been. A root that the
// run has made is removed, and one that it has removed is made again, with its limits, and counted.
//
// It is a run itself, with a log, and may be undone. If it is cut off, the next Undo of the same run goes on where it ended.
func (k *Keeper) Undo(ctx context.Context, run string, o UndoOptions) (report *UndoReport, err error) {
	report = &UndoReport{}
	all, err := k.pastRuns(ctx)
	if err != nil {
		return report, err
	}
	i := slices.IndexFunc(all, func(p *pastRun) bool { return p.Name == run })
	if i < 0 {
		return report, fmt.Errorf("%q: %w", run, ErrNoRun)
	}
	past := all[i]
	if past.UndoneBy != "" {
		return report, fmt.Errorf("%q, by %q: %w", run, past.UndoneBy, ErrUndone)
	}
	u := &undoing{k: k, run: past, dry: o.DryRun, log: k.newUndoLog(o.DryRun), did: map[int64]bool{}, begun: map[int64]undoLine{}}
	for _, p := range all {
		if p.Of == run && !p.whole && p.UndoneBy == "" {
			u.goOn(p)
		}
	}
	defer func() {
		u.log.close()
		report.Run = u.log.name
	}()
	return report, u.all(ctx, report)
}

// undoing is an undo at work.
type undoing struct {
	k   *Keeper
	run *pastRun
	dry bool
	log *undoLog
	// did are the changes that an undo which was cut off has taken back; begun are those of which it is not known, by its lines.
	did   map[int64]bool
	begun map[int64]undoLine
}

// goOn takes note of what an undo has done that was cut off.
func (u *undoing) goOn(p *pastRun) {
	for _, l := range p.lines {
		switch {
		case !p.unsure[l.N]:
			u.did[l.OfN] = true
			delete(u.begun, l.OfN)
		case l.Kind == undoUsage && l.Old != nil && l.New != nil && !u.did[l.OfN]:
			u.begun[l.OfN] = l // what else there is tells by itself whether it was taken back
		}
	}
}

func (u *undoing) all(ctx context.Context, report *UndoReport) error {
	if !u.dry {
		if _, err := u.log.write(&undoLine{Kind: undoUndoing, Of: u.run.Name}); err != nil {
			return err
		}
	}
	failed := false
	// A root that is made or removed is counted, and so is the one above it. That puts usage and headers right, so what such a run has
	// changed in them must not be taken back as well.
	counted := slices.ContainsFunc(u.run.lines, func(l undoLine) bool { return l.Kind == undoCreated || l.Kind == undoDeleted })
	for _, l := range slices.Backward(u.run.lines) {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		if u.did[l.N] || counted && (l.Kind == undoUsage || l.Kind == undoHeader) {
			continue
		}
		one := u.one(ctx, &l)
		failed = failed || one.Err != nil
		report.Changes = append(report.Changes, one)
	}
	if u.dry || failed {
		return nil
	}
	_, err := u.log.write(&undoLine{Kind: undoUndone, Of: u.run.Name})
	return err
}

// one takes back one change.
func (u *undoing) one(ctx context.Context, l *undoLine) Undone {
	d := Undone{Kind: l.Kind, Root: string(l.Root), Mailbox: string(l.Mailbox)}
	var err error
	switch l.Kind {
	case undoUsage:
		err = u.usage(ctx, l, &d)
	case undoHeader:
		err = u.header(ctx, l, &d)
	case undoLimits:
		err = u.limits(ctx, l, &d)
	case undoCreated:
		err = u.created(ctx, l, &d)
	case undoDeleted:
		err = u.deleted(ctx, l, &d)
	default:
		d.Reason = "a later release has noted it"
	}
	if errors.Is(err, ErrNotFound) || errors.Is(err, mboxdb.ErrNotFound) {
		err, d.Reason = nil, "it is gone"
	}
	d.Err = err
	return d
}

// unsure tells whether a change may not have been made: the log does not say, and the record has not changed since it was noted.
func (u *undoing) unsure(l *undoLine, rec *Record) bool {
	return u.run.unsure[l.N] && (rec.ModSeq <= l.ModSeq || rec.Used != *l.New)
}

const reasonUnsure = "the run was cut off here, and it is not known whether it had made the change"

const reasonBegun = "an undo that was cut off has taken it back"

func (u *undoing) usage(ctx context.Context, l *undoLine, d *Undone) error {
	if l.Old == nil || l.New == nil {
		return errors.New("the line of the log lacks the usage")
	}
	var line *undoLine
	begun, isBegun := u.begun[l.N]
	decide := func(rec *Record) (to Amounts, ok bool) {
		d.Before, d.After, d.Reason = rec.Used, rec.Used, ""
		if isBegun && rec.Used == *begun.New {
			d.Reason = reasonBegun
			return rec.Used, false
		}
		if u.unsure(l, rec) || isBegun && rec.Used != *begun.Old {
			d.Reason = reasonUnsure
			return rec.Used, false
		}
		for i := range to {
			// Neither is negative, so the difference fits.
			to[i] = l.Old[i] - l.New[i]
		}
		to, _ = rec.Used.Plus(to)
		to, _ = to.Clamped()
		d.After = to
		return to, to != rec.Used
	}
	if u.dry {
		rec, err := u.k.roots.Get(ctx, string(l.Root))
		if err == nil {
			_, d.Changed = decide(&rec)
		}
		return err
	}
	_, err := u.k.roots.Update(ctx, string(l.Root), func(rec *Record) (err error) {
		u.log.settle(line, errUnsteady)
		line = nil
		to, ok := decide(rec)
		if d.Changed = ok; !ok {
			return nil
		}
		was := rec.Used
		line, err = u.log.write(&undoLine{Kind: undoUsage, Root: l.Root, Old: &was, New: &to, ModSeq: rec.ModSeq, OfN: l.N})
		rec.Used = to
		return err
	})
	u.log.settle(line, err)
	d.Changed = d.Changed && err == nil
	return err
}

// header gives a mailbox its old header back, wherever it is by now.
func (u *undoing) header(ctx context.Context, l *undoLine, d *Undone) error {
	d.From, d.To = string(l.To), string(l.From)
	rec, err := u.k.list.LookupID(ctx, string(l.UniqueID))
	if err != nil {
		return err
	}
	place, err := index.PlaceOf(u.k.layout, rec)
	if err != nil {
		return err
	}
	const reason = "the header names another root by now"
	if u.dry {
		root, err := headerRoot(u.k.fs, place)
		if d.Changed = err == nil && root == string(l.To); !d.Changed {
			d.Reason = reason
		}
		return err
	}
	fix := &HeaderFix{Mailbox: rec.Name.String(), From: string(l.To), To: string(l.From)}
	d.Reason = reason
	return u.k.changeHeader(ctx, place, func(h *index.HeaderFile) (*undoLine, error) {
		if h.QuotaRoot != fix.From {
			return nil, nil
		}
		h.QuotaRoot = fix.To
		d.Changed, d.Reason = true, ""
		return u.log.write(&undoLine{Kind: undoHeader, Mailbox: text(fix.Mailbox), UniqueID: l.UniqueID, From: text(fix.From), To: text(fix.To), OfN: l.N})
	}, u.log)
}

// limits gives a root those limits back that are still as the run has made them.
func (u *undoing) limits(ctx context.Context, l *undoLine, d *Undone) error {
	if l.OldLimits == nil || l.NewLimits == nil {
		return errors.New("the line of the log lacks the limits")
	}
	decide := func(rec *Record) Limits {
		to := rec.Limits
		for i := range to {
			if rec.Limits[i] == l.NewLimits[i] {
				to[i] = l.OldLimits[i]
			}
		}
		d.LimitsBefore, d.LimitsAfter, d.Changed = rec.Limits, to, to != rec.Limits
		return to
	}
	if u.dry {
		rec, err := u.k.roots.Get(ctx, string(l.Root))
		if err == nil {
			decide(&rec)
		}
		return err
	}
	return u.k.changeLimits(ctx, string(l.Root), u.log, l.N, func(rec *Record) (Limits, error) { return decide(rec), nil })
}

// created removes a root that the run has made, if it still has the limits that it was made with, and counts the one above it.
func (u *undoing) created(ctx context.Context, l *undoLine, d *Undone) error {
	if l.NewLimits == nil {
		return errors.New("the line of the log lacks the limits")
	}
	rec, err := u.k.roots.Get(ctx, string(l.Root))
	if err != nil {
		return err
	}
	d.LimitsBefore = rec.Limits
	if rec.Limits != *l.NewLimits {
		d.Reason = "the run has made the root, and its limits have changed since; delete it, if it is not wanted"
		return nil
	}
	d.Changed = true
	if u.dry {
		return nil
	}
	_, err = u.k.remove(ctx, string(l.Root), u.log)
	d.Changed = err == nil
	return err
}

// deleted makes a root again that the run has deleted, with its limits, and counts it.
func (u *undoing) deleted(ctx context.Context, l *undoLine, d *Undone) error {
	if l.OldLimits == nil {
		return errors.New("the line of the log lacks the limits")
	}
	d.LimitsAfter = *l.OldLimits
	exists, err := u.k.roots.Exists(ctx, string(l.Root))
	if err != nil {
		return err
	}
	if exists {
		d.Reason = "there is such a root again"
		return nil
	}
	d.Changed = true
	if u.dry {
		return nil
	}
	_, err = u.k.set(ctx, string(l.Root), func(*Record) (Limits, error) { return *l.OldLimits, nil }, u.log, l.N)
	d.Changed = err == nil
	return err
}
