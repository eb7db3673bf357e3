package quota

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/mailspine/mailspine/index"
	"github.com/mailspine/mailspine/internal/journal"
	"github.com/mailspine/mailspine/internal/locks"
	"github.com/mailspine/mailspine/internal/planted"
	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/mboxdb"
)

// Keeper keeps the usage of quota roots right while mailboxes change. It is the [index.Participant] of the mailboxes of a
// store, and of the steps that make, rename and delete them. Any number of keepers may be at work, in many processes.
//
// # How a usage stays right
//
// A change of a mailbox adds to the root that the header of the mailbox names, right after its commit and still under the lock of
// the mailbox, under the lock of the record (Apply). What was committed and not added, because the process died or the disk failed,
// is known by the entry of the change in a journal. Who finds it does not add: whether the record had it already, and what Cyrus has
// done since, nobody can tell. It marks the root as dirty (Recover), and when it holds no lock any more the root is counted from its
// mailboxes (Settle). A mark is durable before the entry of the change goes, and goes after the count is published; so after any
// crash a root is right, or is marked, or will be by whoever opens the mailbox.
//
// # How a limit is kept
//
// A change that needs more of what the root limits asks before it begins (Begin), under the lock of the record: what is used, what
// others of our processes have asked for and not added yet, and what it needs itself have to fit. Then it leaves a token, which goes
// under the same lock when the usage is added. Cyrus looks at the record alone, and does not see tokens.
type Keeper struct {
	roots  *Roots
	list   *mboxdb.List
	layout mboxdb.Layout
	fs     vfs.FS
	logger *slog.Logger
	dir    string
	random func() uint64
	tokens *tokens
	// marked says that there may be roots that are dirty and that Settle has not tried yet.
	marked atomic.Bool
}

// NewKeeper returns a keeper of the roots of a store with this mailbox list. It touches no file yet. The list is needed to settle
// what is dirty alone, and may be nil for who does not.
func NewKeeper(roots *Roots, list *mboxdb.List, layout mboxdb.Layout, o Options) *Keeper {
	k := &Keeper{roots: roots, list: list, layout: layout, fs: vfs.OrOS(o.FS), logger: o.Logger, dir: o.StateDir, random: o.Random}
	if k.logger == nil {
		k.logger = slog.New(slog.DiscardHandler)
	}
	if k.dir == "" {
		k.dir = filepath.Join(layout.ConfigDir, "mailspine", "quota")
	}
	if k.random == nil {
		k.random = rand.Uint64
	}
	k.tokens = &tokens{fs: k.fs, dir: filepath.Join(k.dir, "tokens")}
	k.marked.Store(true) // a process before this one may have died
	return k
}

// Roots are those that are kept.
func (k *Keeper) Roots() *Roots { return k.roots }

// OverError says which limit a change would pass. It unwraps to [index.ErrOverQuota].
type OverError struct {
	Root     string
	Resource Resource
	// Used is what is used, Pending what other changes under way have asked for, Asked what this one needs more; in bytes or
	// numbers. Limit is in the unit of limits.
	Used, Pending, Asked, Limit int64
}

func (e *OverError) Error() string {
	text := fmt.Sprintf("%v: %s of the quota root %q: %d used", index.ErrOverQuota, e.Resource, e.Root, e.Used)
	if e.Pending > 0 {
		text += fmt.Sprintf(", %d more asked for", e.Pending)
	}
	limit := fmt.Sprint(e.Limit)
	if e.Resource.Unit() == 1024 {
		limit += " KiB"
	}
	return text + fmt.Sprintf(", %d needed, %s allowed", e.Asked, limit)
}

// Unwrap returns index.ErrOverQuota.
func (e *OverError) Unwrap() error { return index.ErrOverQuota }

// Check tells whether a root has room for a change, now: the error is an *[OverError] if it has not. A mailbox that counts for no
// root has, and so has one whose record is lost; Cyrus sees that no other way.
func (k *Keeper) Check(ctx context.Context, root string, delta Amounts) error {
	r, err := k.roots.Get(ctx, root)
	if unlimited(err) {
		return nil
	}
	if err != nil {
		return err
	}
	return k.fits(root, &r, delta)
}

// unlimited tells whether an error means that there is no limit to be kept: no root, or none that anybody can read.
func unlimited(err error) bool {
	return errors.Is(err, ErrNotFound) || errors.Is(err, ErrEmpty) || errors.Is(err, ErrDamaged) || errors.Is(err, ErrName)
}

// fits fails if a change would pass a limit, with what other changes under way have asked for.
func (k *Keeper) fits(root string, r *Record, delta Amounts) error {
	if !bounds(r, delta) {
		return nil
	}
	pending, err := k.tokens.pending(root)
	if err != nil {
		return err
	}
	if planted.On(planted.QuotaTokensIgnored) {
		pending = Amounts{}
	}
	all, _ := pending.Plus(delta)
	for i := range all {
		if delta[i] <= 0 {
			all[i] = 0
		}
	}
	if res, over := r.Over(all); over {
		return &OverError{Root: root, Resource: res, Used: r.Used[res], Pending: pending[res], Asked: delta[res], Limit: r.Limits[res]}
	}
	return nil
}

// bounds tells whether a record limits anything of which a change needs more.
func bounds(r *Record, delta Amounts) bool {
	for i := range delta {
		if delta[i] > 0 && r.Limits[i] >= 0 {
			return true
		}
	}
	return false
}

func grows(delta Amounts) bool {
	for _, n := range delta {
		if n > 0 {
			return true
		}
	}
	return false
}

// Reserve keeps room for a change: until the token is committed or released, other changes of our processes that would need that
// room are refused. The error is an *[OverError] if there is no room.
func (k *Keeper) Reserve(ctx context.Context, root string, delta Amounts) (*Token, error) {
	if err := CheckName(root); err != nil {
		return nil, err
	}
	t := &Token{k: k, root: root, delta: delta}
	if !grows(delta) {
		return t, nil
	}
	if err := k.ready(ctx); err != nil {
		return nil, err
	}
	var refused error
	_, err := k.roots.Update(ctx, root, func(r *Record) (err error) {
		t.drop()
		if refused = k.fits(root, r, delta); refused == nil && bounds(r, delta) {
			t.slot, refused = k.tokens.take(root, delta)
		}
		return refused
	})
	switch {
	case refused != nil:
		err = writeError(refused)
	case unlimited(err):
		k.logger.Warn("a mailbox counts for a quota root that has no record, or none that can be read: nothing limits it", "root", root, "error", err)
		err = nil
	}
	if err != nil {
		t.drop()
		return nil, err
	}
	return t, nil
}

// ready sees to it that what follows a change that is made will find space: the new record, or the mark that it is wrong.
func (k *Keeper) ready(ctx context.Context) error {
	err := k.roots.Prepare(ctx)
	if err == nil {
		err = k.makeDir()
	}
	if err == nil {
		err = k.journal().Reserve(ctx)
	}
	if errors.Is(err, journal.ErrFull) {
		// Roots that nobody can count, on however many accounts, are no reason to refuse mail for others. If this change cannot be added
		// its own entry in the journal of the mailbox stays instead of a mark.
		k.logger.Warn("no mark is left for a quota root that would have to be counted", "error", err)
		err = nil
	}
	if err = writeError(err); errors.Is(err, ErrNoSpace) {
		return fmt.Errorf("keep room for the usage of a quota root: %w", err)
	}
	if err == nil {
		k.readyUndo()
	}
	return err
}

// readyUndo prepares a log for a recalculation on a full disk. A change does without one.
func (k *Keeper) readyUndo() {
	if err := k.prepareUndo(); err != nil {
		k.logger.Debug("no undo log is prepared for a full disk", "error", err)
	}
}

// makeDir makes the directory of what has to outlive a crash.
func (k *Keeper) makeDir() error { return vfs.MkdirAll(k.fs, k.dir, 0o700) }

// Begin is asked for a change of a mailbox, or of several: see [index.Participant].
func (k *Keeper) Begin(ctx context.Context, u index.Usage) (index.Pledge, error) {
	p := &pledge{usage: u}
	if err := checkLength(u.QuotaRoot); err != nil {
		k.logger.Warn("a mailbox names what cannot be a quota root", "mailbox", u.Mailbox, "root", u.QuotaRoot)
		return p, nil
	}
	p.Token = &Token{k: k, root: u.QuotaRoot, delta: AmountsOf(u), parts: parts(u)}
	if !grows(p.delta) {
		return p, nil
	}
	if u.Moved {
		if err := k.ready(ctx); err != nil {
			return nil, err
		}
		return p, nil
	}
	t, err := k.Reserve(ctx, u.QuotaRoot, p.delta)
	if err != nil {
		return nil, err
	}
	p.slot = t.slot
	return p, nil
}

// rootMax bounds the names that are taken for those of roots: a mailbox has a much shorter one, and what is longer is damage.
const rootMax = 2048

func checkLength(root string) error {
	if len(root) > rootMax {
		return ErrName
	}
	return CheckName(root)
}

// parts are what the mailboxes that change have a part in.
func parts(u index.Usage) []part {
	if len(u.Parts) == 0 {
		return []part{{u.Mailbox, AmountsOf(u)}}
	}
	var list []part
	for _, p := range u.Parts {
		list = append(list, part{p.Mailbox, AmountsOf(p)})
	}
	return list
}

// The bytes of a pledge: journalVersion, then the name of the root.
const journalVersion = 1

// Recover marks the root of a change that was interrupted as dirty. It is called under locks of mailboxes.
func (k *Keeper) Recover(ctx context.Context, note []byte) error {
	if len(note) < 2 || note[0] != journalVersion || checkLength(string(note[1:])) != nil {
		return fmt.Errorf("%q: what a later release has noted of a quota root cannot be read", note)
	}
	if planted.On(planted.QuotaMarkForgotten) {
		return nil
	}
	return k.mark(ctx, string(note[1:]))
}

// Doubt notes that the usage of a root may be wrong, for reasons that the caller knows: [Keeper.Settle] counts it.
func (k *Keeper) Doubt(ctx context.Context, root string) error {
	if checkLength(root) != nil {
		return nil // there is no root of such a name
	}
	return k.mark(ctx, root)
}

// journal has an entry for each root that is dirty. The key is its name; the payload is markVersion and a random number.
func (k *Keeper) journal() *journal.Journal { return journal.Open(k.fs, filepath.Join(k.dir, "dirty")) }

const (
	markVersion = 1
	// markWait bounds how long a mark waits for another that is being made.
	markWait = 10 * time.Second
)

// mark makes a durable note that the usage of a root may be wrong. It gets a number of its own, so that a count which began before
// does not take it away.
func (k *Keeper) mark(ctx context.Context, root string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), markWait)
	defer cancel()
	defer k.marked.Store(true) // behind the mark: a Settle that did not see it yet would let it lie
	if err := k.makeDir(); err != nil {
		return err
	}
	old, err := k.marks(ctx, root)
	if err != nil {
		return err
	}
	number := k.random()
	payload := binary.BigEndian.AppendUint64([]byte{markVersion}, number)
	for ; old[string(payload)]; number++ {
		payload = binary.BigEndian.AppendUint64([]byte{markVersion}, number+1)
	}
	slot, err := k.journal().Take(ctx, root, len(payload))
	if len(old) > 0 && (errors.Is(err, journal.ErrFull) || isSpace(err)) {
		return k.renumber(ctx, root, payload)
	}
	if err != nil {
		return err
	}
	err = slot.Write(payload)
	slot.Close() // who looks for the older ones waits for every slot of the root
	if err != nil {
		return err
	}
	// The newer one stands for both, whatever becomes of the older ones.
	if err := k.unmark(ctx, root, old); err != nil {
		k.logger.Warn("the older mark of a quota root stays", "root", root, "error", err)
	}
	return nil
}

// renumber gives the marks that a root has the number of a new one, for which there is no space. They stay marks, whatever stops it:
// but for very long names an entry lies in one sector.
func (k *Keeper) renumber(ctx context.Context, root string, payload []byte) error {
	slots, err := k.journal().Pending(ctx, root)
	if err == nil && len(slots) == 0 {
		err = journal.ErrFull
	}
	for _, s := range slots {
		err = errors.Join(err, s.Write(payload))
		s.Close()
	}
	return err
}

func isSpace(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EFBIG)
}

// marks are the numbers of the marks that a root has.
func (k *Keeper) marks(ctx context.Context, root string) (numbers map[string]bool, err error) {
	slots, err := k.journal().Pending(ctx, root)
	numbers = map[string]bool{}
	for _, s := range slots {
		numbers[string(s.Payload())] = true
		s.Close()
	}
	return numbers, err
}

// unmark takes these marks of a root away. They may come back after a crash: then it is counted once more.
func (k *Keeper) unmark(ctx context.Context, root string, numbers map[string]bool) error {
	if len(numbers) == 0 {
		return nil
	}
	slots, err := k.journal().Pending(ctx, root)
	for _, s := range slots {
		if numbers[string(s.Payload())] {
			err = errors.Join(err, s.Clear(false))
		}
		s.Close()
	}
	return err
}

// Dirty are the roots whose usage may be wrong, because a change of one of their mailboxes was interrupted.
func (k *Keeper) Dirty(ctx context.Context) ([]string, error) {
	keys, err := k.journal().Keys(ctx)
	// What is left of an entry that could not be written is none.
	return slices.DeleteFunc(keys, func(root string) bool { return checkLength(root) != nil }), err
}

// settleWait bounds how long a change that is made waits for somebody who makes or removes roots, or for a run of Cyrus's program,
// before it leaves what is dirty to others.
const settleWait = 200 * time.Millisecond

// Settle counts the roots that are dirty, unless it has tried that before and failed. The caller holds no lock.
func (k *Keeper) Settle(ctx context.Context) error {
	if !k.marked.Swap(false) {
		return nil
	}
	_, err := k.settleAll(ctx, settleWait)
	if context.Cause(ctx) != nil {
		k.marked.Store(true)
	}
	return err
}

// SettleAll counts all roots that are dirty, and returns those that are right now. The caller holds no lock.
func (k *Keeper) SettleAll(ctx context.Context) (settled []string, err error) {
	return k.settleAll(ctx, 0)
}

// settleAll is SettleAll with a bound, if it is not 0, of the wait for the lock of changes of roots. Without that lock a mark may be
// of a root that somebody is about to make or to remove: it would be counted before, and the mark gone if he dies after.
func (k *Keeper) settleAll(ctx context.Context, wait time.Duration) (settled []string, err error) {
	dirty, err := k.Dirty(ctx)
	if err != nil || len(dirty) == 0 {
		return nil, err
	}
	if k.list == nil {
		return nil, nil // they stay for who can count
	}
	waits := ctx
	if wait > 0 {
		var cancel context.CancelFunc
		waits, cancel = context.WithTimeout(ctx, wait)
		defer cancel()
	}
	lock := k.roots.LockChanges
	if planted.On(planted.QuotaSettlesBeside) {
		lock = func(context.Context) (*locks.Held, error) { return &locks.Held{}, nil }
	}
	changes, err := lock(waits)
	if err != nil && wait > 0 && waits.Err() != nil && ctx.Err() == nil {
		k.marked.Store(true)
		return nil, nil // they stay marked
	}
	if err != nil {
		return nil, err
	}
	defer changes.Release()
	before := map[string]map[string]bool{}
	for _, root := range dirty {
		if before[root], err = k.marks(ctx, root); err != nil {
			return nil, err
		}
	}
	dirty = slices.DeleteFunc(dirty, func(root string) bool { return len(before[root]) == 0 })
	if len(dirty) == 0 { // a recalculation of no root in particular would be one of all
		return nil, nil
	}
	if planted.On(planted.QuotaMarkClearedFirst) {
		for _, root := range dirty {
			_ = k.unmark(ctx, root, before[root])
		}
	}
	failed := k.recountRoots(ctx, dirty, changes)
	var all []error
	for _, root := range dirty {
		err := failed[root]
		if err == nil || errors.Is(err, ErrNotFound) {
			err = k.unmark(ctx, root, before[root])
		}
		if err != nil {
			all = append(all, fmt.Errorf("count quota root %q: %w", root, err))
			continue
		}
		k.logger.Info("the usage of a quota root was counted, after a change that was interrupted", "root", root)
		settled = append(settled, root)
	}
	return settled, errors.Join(all...)
}
