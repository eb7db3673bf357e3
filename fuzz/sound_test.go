package fuzz

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/internal/vfs/simfs"
	"github.com/mailspine/mailspine/skiplist"
)

// sound holds a file against what Cyrus makes of it. Cyrus follows the links, which this library never does for itself:
// either something about the file has every opener recover it first (a tail without its commit, the DIRTY mark, a
// recovery before the machine started), or its links must be those of the log.
func sound(disk vfs.FS, f skiplist.Format) error {
	found, err := skiplist.Check(ctx, dbPath, skiplist.Options{FS: disk, Format: f})
	if err != nil {
		return err
	}
	for _, x := range found {
		if x.Severity >= skiplist.Damage {
			return fmt.Errorf("check: %v: %w", x, skiplist.ErrDamaged)
		}
	}
	if slices.ContainsFunc(found, func(x skiplist.Finding) bool { return x.Code == "torn" || x.Code == "stale-recovery" }) {
		return nil
	}
	for _, x := range found {
		if x.Severity > skiplist.Info {
			return fmt.Errorf("Cyrus would take the file as it is, with: %v", x)
		}
	}
	return nil
}

// TestKills kills the process after every operation of workloads, and its successor after every operation of the
// recovery and the change with which it begins. Unlike a power cut that loses nothing that was written, and nothing
// tells Cyrus that the machine was down.
func TestKills(t *testing.T) {
	for _, f := range []skiplist.Format{skiplist.Skiplist, skiplist.Twoskip, skiplist.Flat} {
		t.Run(string(f), func(t *testing.T) {
			t.Parallel()
			kills, second := 0, 0
			for seed := range uint64(campaign(3, 60)) {
				disk := simfs.New(simfs.Options{})
				h := record(t, disk, f, 500+seed, 8)
				for img := range disk.Trace().Kills() {
					acked, begun := h.allowed(img.Marks)
					if !exists(img.FS) && acked == 0 {
						continue
					}
					kills++
					n, err := killed(img, f, h.states, acked, begun)
					second += n
					if err != nil {
						t.Fatalf("%s/%d %s: after %d kills: %v", f, 500+seed, img.Seed, kills, err)
					}
				}
			}
			t.Logf("%d kills, %d of a successor", kills, second)
		})
	}
}

func killed(img *simfs.Image, f skiplist.Format, states []map[string]string, acked, begun int) (second int, err error) {
	if err := sound(img.FS, f); err != nil {
		return 0, err
	}
	state, err := verify(img.FS, f, states, acked, begun)
	if err != nil {
		return 0, err
	}
	if err := goOn(img.FS, f, state); err != nil {
		return 0, err
	}
	after := maps.Clone(state)
	after["next"] = "works"
	for again := range img.FS.Trace().Kills() {
		if again.Op <= img.Op {
			continue
		}
		second++
		err := sound(again.FS, f)
		if err == nil {
			var got map[string]string
			if got, err = verify(again.FS, f, []map[string]string{state, after}, 0, 1); err == nil {
				err = goOn(again.FS, f, got)
			}
		}
		if err != nil {
			return second, fmt.Errorf("the successor, %s: %w", again.Seed, err)
		}
	}
	return second, nil
}
