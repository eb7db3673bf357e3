package fuzz

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/internal/vfs/faultfs"
	"github.com/mailspine/mailspine/internal/vfs/simfs"
	"github.com/mailspine/mailspine/mboxdb"
	"github.com/mailspine/mailspine/skiplist"
)

const listPath = "/mailboxes.db"

func listOptions(fsys vfs.FS, f skiplist.Format, seed uint64) mboxdb.Options {
	return mboxdb.Options{DB: options(fsys, f, seed), Admins: []string{"cyrus"}, ReverseACLs: true}
}

// listChange draws one change of the list. It refuses nothing: what cannot be done is an answer like another.
func listChange(r *rand.Rand) func(*mboxdb.List) error {
	name := func() mboxdb.Name {
		tops := []string{"user.alice", "user.bob", "shared"}
		rests := []string{"", ".a", ".a.b", ".c"}
		return mboxdb.InternalName(tops[r.IntN(len(tops))] + rests[r.IntN(len(rests))])
	}
	n, to := name(), name()
	switch k := r.IntN(8); k {
	case 0, 1, 2:
		return func(l *mboxdb.List) error {
			_, err := l.Create(ctx, mboxdb.NewMailbox{Name: n})
			return err
		}
	case 3, 4:
		return func(l *mboxdb.List) error {
			_, err := l.Rename(ctx, n, to, mboxdb.RenameOptions{})
			return err
		}
	case 5, 6:
		return func(l *mboxdb.List) error {
			_, err := l.Delete(ctx, n, k == 5)
			return err
		}
	default:
		id := []string{"bob", "anyone"}[r.IntN(2)]
		return func(l *mboxdb.List) error {
			_, err := l.SetACL(ctx, n, id, mboxdb.AddRights, mboxdb.RightLookup)
			return err
		}
	}
}

// isAnswer tells an error that says why a change cannot be made from one of the disk.
func isAnswer(err error) bool {
	return errors.Is(err, mboxdb.ErrNotFound) || errors.Is(err, mboxdb.ErrExists) || errors.Is(err, mboxdb.ErrName)
}

// wholeList is everything in a list, which has to be consistent.
func wholeList(l *mboxdb.List) (map[string]string, error) {
	all := map[string]string{}
	err := l.DB().View(ctx, func(s *skiplist.Snapshot) error {
		for r, err := range s.All() {
			if err != nil {
				return err
			}
			all[string(r.Key)] = string(r.Value)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	var bad error
	err = l.Check(ctx, func(f mboxdb.Finding) {
		if f.Severity > skiplist.Info && bad == nil {
			bad = fmt.Errorf("the list is not consistent: %v", f)
		}
	})
	return all, errors.Join(err, bad)
}

func readList(fsys vfs.FS, f skiplist.Format) (map[string]string, error) {
	opts := listOptions(fsys, f, 5)
	opts.DB.Create = false
	l, err := mboxdb.Open(ctx, listPath, opts)
	if err != nil {
		return nil, err
	}
	all, err := wholeList(l)
	return all, errors.Join(err, l.Close())
}

// TestMailboxListCrashImages cuts the power at every operation of create, rename with children, delete and setacl: the
// keys under names, unique ids and reverse ACLs agree in every image, and hold what was acknowledged.
func TestMailboxListCrashImages(t *testing.T) {
	for _, f := range []skiplist.Format{skiplist.Skiplist, skiplist.Twoskip} {
		t.Run(string(f), func(t *testing.T) {
			t.Parallel()
			want, images := campaign(3_000, 30_000), 0
			for seed := uint64(1); images < want; seed++ {
				disk := simfs.New(simfs.Options{})
				states := recordList(t, disk, f, seed)
				h := history{}
				trace := disk.Trace()
				for img := range trace.Images(simfs.Search{Limit: 32, Samples: 12, Seed: seed}) {
					acked, begun := h.allowed(img.Marks)
					if !listExists(img.FS) && acked == 0 {
						continue
					}
					images++
					got, err := readList(img.FS, f)
					if err == nil && !maps.Equal(got, states[acked]) && !maps.Equal(got, states[begun]) {
						err = fmt.Errorf("%d records, neither those of change %d nor of %d", len(got), acked, begun)
					}
					if err == nil {
						err = goOnWithList(img.FS, f)
					}
					if err != nil {
						_ = trace.Dump(os.Stderr, img.Seed)
						t.Fatalf("%s, seed %d, %s: %v", f, seed, img.Seed, err)
					}
				}
			}
			t.Logf("%d crash images", images)
		})
	}
}

func listExists(disk *simfs.FS) bool {
	_, err := disk.Stat(listPath)
	return err == nil
}

// recordList runs changes and returns the list after each.
func recordList(t *testing.T, disk *simfs.FS, f skiplist.Format, seed uint64) []map[string]string {
	r := rand.New(rand.NewPCG(seed, 4))
	l, err := mboxdb.Open(ctx, listPath, listOptions(disk, f, seed))
	require.NoError(t, err)
	states := []map[string]string{{}}
	for i := range 12 {
		change := listChange(r)
		disk.Mark(fmt.Sprintf("begin %d", i+1))
		if err := change(l); err != nil && !isAnswer(err) {
			require.NoError(t, err)
		}
		disk.Mark(fmt.Sprintf("ack %d", i+1))
		all, err := wholeList(l)
		require.NoError(t, err)
		states = append(states, all)
	}
	require.NoError(t, l.Close())
	return states
}

// goOnWithList makes one more change in a list as the next process finds it.
func goOnWithList(disk *simfs.FS, f skiplist.Format) error {
	l, err := mboxdb.Open(ctx, listPath, listOptions(disk, f, 6))
	if err != nil {
		return err
	}
	if _, err = l.Create(ctx, mboxdb.NewMailbox{Name: mboxdb.InternalName("user.next")}); err == nil {
		_, err = wholeList(l)
	}
	return errors.Join(err, l.Close())
}

// TestMailboxListErrno fails every call of such changes in turn: a change that failed is invisible, now and to the next
// process, and the keys agree.
func TestMailboxListErrno(t *testing.T) {
	for _, f := range []skiplist.Format{skiplist.Skiplist, skiplist.Twoskip} {
		t.Run(string(f), func(t *testing.T) {
			t.Parallel()
			cells := 0
			for seed := range uint64(campaign(1, 4)) {
				for i, errno := range errnos {
					mode := []faultfs.Mode{faultfs.Once, faultfs.Onwards}[i%2]
					for n := 0; ; n++ {
						plan := &faultfs.Plan{N: n, Err: errno, Mode: mode, Kinds: faultfs.All}
						if err := faultyList(f, seed, plan); err != nil {
							t.Fatalf("%s, seed %d: %v: %v", f, seed, plan, err)
						}
						if !plan.Fired() {
							break
						}
						cells++
					}
				}
			}
			t.Logf("%d cells", cells)
		})
	}
}

func faultyList(f skiplist.Format, seed uint64, plan *faultfs.Plan) error {
	disk := simfs.New(simfs.Options{Seed: seed})
	r := rand.New(rand.NewPCG(seed, 8))
	l, err := mboxdb.Open(ctx, listPath, listOptions(disk, f, seed))
	if err != nil {
		return err
	}
	for range 6 {
		if err := listChange(r)(l); err != nil && !isAnswer(err) {
			return err
		}
	}
	state, err := wholeList(l)
	if err := errors.Join(err, l.Close()); err != nil {
		return err
	}
	bad := faultfs.Wrap(disk, plan)
	if l, err = mboxdb.Open(ctx, listPath, listOptions(bad, f, seed)); err != nil {
		plan.Stop()
		return sameList(disk, f, state, state)
	}
	defer l.Close()
	for range 3 {
		err := listChange(r)(l)
		if err != nil && !isAnswer(err) {
			next := state
			if errors.Is(err, skiplist.ErrCommitUnknown) {
				plan.Stop()
				return nil // which of the two it is, is the database's to say: TestErrnoEverywhere
			}
			if err := sameList(disk, f, state, next); err != nil {
				return fmt.Errorf("after %w", err)
			}
			continue
		}
		if state, err = readList(disk.Kill(), f); err != nil {
			return err
		}
	}
	plan.Stop()
	if _, err := l.Create(ctx, mboxdb.NewMailbox{Name: mboxdb.InternalName("user.next")}); err != nil {
		return fmt.Errorf("the next change: %w", err)
	}
	_, err = readList(disk.Kill(), f)
	return err
}

func sameList(disk *simfs.FS, f skiplist.Format, states ...map[string]string) error {
	got, err := readList(disk.Kill(), f)
	if err != nil {
		return err
	}
	for _, s := range states {
		if maps.Equal(got, s) {
			return nil
		}
	}
	var keys strings.Builder
	for k, v := range got {
		if states[0][k] != v {
			fmt.Fprintf(&keys, " %q", k)
		}
	}
	return fmt.Errorf("a change that failed is visible:%s", keys.String())
}

// TestUpgradeCrashImages cuts the power at every operation of an upgrade: the list is the old one or the new one, whole,
// and the upgrade can be run again; the old file is there under one of its names.
func TestUpgradeCrashImages(t *testing.T) {
	for _, f := range []skiplist.Format{skiplist.Skiplist, skiplist.Twoskip, skiplist.Flat} {
		t.Run(string(f), func(t *testing.T) {
			t.Parallel()
			disk := simfs.New(simfs.Options{})
			db, err := skiplist.Open(ctx, listPath, options(disk, f, 1))
			require.NoError(t, err)
			require.NoError(t, db.Update(ctx, func(tx *skiplist.Tx) error {
				return errors.Join(
					tx.Put([]byte("user.alice"), []byte("(uniqueid 4f5e6d7c00000001) 0 default alice\tlrs\t")),
					tx.Put([]byte("user.alice.x"), []byte("%(A %(alice lrs) I 4f5e6d7c00000002 P default V 1 F 7 M 1500000000)")),
					tx.Put([]byte("user.broken"), []byte("%(A")))
			}))
			require.NoError(t, db.Close())
			start := disk.Trace().Len()
			upgrade := func(fsys vfs.FS) error {
				_, err := mboxdb.Upgrade(ctx, listPath, mboxdb.UpgradeOptions{Options: listOptions(fsys, f, 2)})
				return err
			}
			require.NoError(t, upgrade(disk))
			trace, images := disk.Trace(), 0
			for img := range trace.Images(simfs.Search{Limit: 64, Samples: campaign(12, 64), Seed: 1, From: start}) {
				images++
				err := upgrade(img.FS)
				if err == nil {
					err = upgraded(img.FS, f)
				}
				if err != nil {
					_ = trace.Dump(os.Stderr, img.Seed)
					t.Fatalf("%s: %v", img.Seed, err)
				}
			}
			t.Logf("%d crash images", images)
		})
	}
}

// upgraded tells whether a list was upgraded, with nothing lost.
func upgraded(disk *simfs.FS, f skiplist.Format) error {
	l, err := mboxdb.Open(ctx, listPath, listOptions(disk, f, 3))
	if err != nil {
		return err
	}
	defer l.Close()
	for _, n := range []string{"user.alice", "user.alice.x"} {
		if _, err := l.Lookup(ctx, mboxdb.InternalName(n)); err != nil {
			return err
		}
	}
	if _, err := l.DB().Get(ctx, []byte("Nuser\x1fbroken")); err != nil || l.Form() != mboxdb.Form36 {
		return fmt.Errorf("the unreadable record, form %v: %w", l.Form(), err)
	}
	old, err := skiplist.Open(ctx, listPath+".before-upgrade", skiplist.Options{FS: disk, ReadOnly: true, Format: f})
	if err != nil {
		return err
	}
	defer old.Close()
	_, err = old.Get(ctx, []byte("user.broken"))
	return err
}
