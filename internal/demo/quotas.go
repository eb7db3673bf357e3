package demo

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/mailspine/mailspine/quota"
	"github.com/mailspine/mailspine/store"
)

// playQuotas plays the story with the quota roots of a store.
func (s *story) playQuotas(ctx context.Context) (err error) {
	dir := filepath.Join(s.dir, "quotas")
	if err := s.fs.Mkdir(dir, 0o700); err != nil {
		return err
	}
	st, err := newStore(ctx, s.fs, dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	other, err := store.OpenConfig(ctx, filepath.Join(dir, "imapd.conf"), "", store.Options{FS: s.fs})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, other.Close()) }()
	a, err := openAccounts(ctx, st, other)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.close()) }()
	s.head(fmt.Sprintf("Quota roots, %d of %d mailboxes", len(a.roots), len(boxes)))
	if err := s.outage(ctx, a); err != nil {
		return err
	}
	change := func(ctx context.Context, w, i int) error { return a.change(ctx, w, i) }
	if err := s.fillDisk(ctx, &a.tally, a.posts[boxes[0].name].box.Place().Paths.Cache, change, a.read); err != nil {
		return err
	}
	if err := s.lowerOnFullDisk(ctx, a); err != nil {
		return err
	}
	if err := s.mendQuotas(ctx, a); err != nil {
		return err
	}
	if err := s.compareQuotas(ctx, a); err != nil {
		return err
	}
	s.totals = append(s.totals, &a.tally)
	return nil
}

// outage delivers mail, sees that the numbers are right, and makes them wrong.
func (s *story) outage(ctx context.Context, a *accounts) error {
	for i := range 6 * len(boxes) {
		if err := a.change(ctx, i%writers, i); err != nil {
			return err
		}
	}
	report, err := a.st.Quota().Recalculate(ctx, quota.Recalculation{})
	if err != nil {
		return err
	}
	if d, err := a.differences(ctx, a.roots); err != nil || d != (accountDifferences{}) || report.Changed+report.Headers+report.Failed > 0 || a.refused.Load() > 0 {
		return errors.Join(err, errors.New("the numbers are wrong before the story begins"))
	}
	if err := a.outage(ctx); err != nil {
		return err
	}
	s.row("the outage", "%d roots say twice what is used, as the old quota -f left it, %d half of it,", len(doubled), len(halved))
	s.row("", "and %d mailboxes count for a wrong root", len(wrongRoots))
	return nil
}

// lowerOnFullDisk shows that what is too high goes down where there is no space.
func (s *story) lowerOnFullDisk(ctx context.Context, a *accounts) error {
	how, err := s.disk.StillFull()
	if err != nil {
		return err
	}
	const n = 20
	refused := a.refused.Load()
	all, err := a.beside(ctx, n, func(int) error {
		_, err := a.posts[boxes[0].name].append(ctx, 1)
		return err
	})
	if err != nil {
		return err
	}
	high, err := a.differences(ctx, doubled)
	if err != nil {
		return err
	}
	low, err := a.differences(ctx, halved)
	if err != nil {
		return err
	}
	lowered := len(doubled) - high.less - high.more - high.gone
	wait := ""
	if low.less > 0 {
		wait = fmt.Sprintf(", %d that are too low wait", low.less)
	}
	s.row("2  still no space", "%s: %s%s", how, s.good(fmt.Sprintf("%d of %d numbers lowered", lowered, len(doubled))), wait)
	s.row("", "by %s, while %d messages come in, %d of them refused", all, n, a.refused.Load()-refused)
	if lowered != len(doubled) {
		return errors.New("a number that was too high was not lowered for want of space")
	}
	return nil
}

// mendQuotas gives the space back, and has the rest put right while mail comes in.
func (s *story) mendQuotas(ctx context.Context, a *accounts) error {
	var all runs
	err := s.spaceAgain(ctx, 100, func(ctx context.Context, n int) (err error) {
		refused := a.refused.Load()
		all, err = a.beside(ctx, n, func(i int) error { return a.change(ctx, i%writers, i) })
		if err == nil && a.refused.Load() != refused {
			err = errors.New("a change was refused although there is space")
		}
		return err
	})
	if err != nil {
		return err
	}
	return s.tellMended(all)
}

func (s *story) tellMended(all runs) error {
	s.row("", "beside %s: %d numbers and %d headers put right,", all, all.changed, all.headers)
	if all.late > 0 {
		return errors.New("a number that had been put right was wrong again")
	}
	s.row("", "%s", s.good("and nothing found wrong again"))
	return nil
}

// compareQuotas holds the roots against what was acknowledged.
func (s *story) compareQuotas(ctx context.Context, a *accounts) error {
	d, err := a.differences(ctx, a.roots)
	if err != nil {
		return err
	}
	n := 0
	for _, sum := range a.wanted() {
		n += int(sum[quota.Messages])
	}
	text := fmt.Sprintf("%d too low, %d too high, %d doubled, %d removed", d.less, d.more, d.doubled, d.gone)
	if d == (accountDifferences{}) {
		text = s.good(text)
	}
	s.row("   the account", "%d roots against the %d acknowledged messages: %s", len(a.roots), n, text)
	if d != (accountDifferences{}) {
		return errors.New("the quota roots are not what was acknowledged")
	}
	return nil
}
