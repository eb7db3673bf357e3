package fuzz

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/index"
	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/internal/vfs/simfs"
)

// boxVersions are those of the campaigns: the oldest, the first with checksums, and the one that Cyrus 3.6 writes.
var boxVersions = []index.Version{6, 12, 17}

// boxHistory is what a workload did: the mailboxes after each of its commits, in the model and as bytes.
type boxHistory struct {
	models []boxes
	files  [][2]*boxFiles
	steps  []string
	from   int // the operation of the disk with which it began
	// counted is set if somebody keeps accounts of the usage. A mark "counted N" says that state N was told of.
	counted bool
}

func (h *boxHistory) add(fsys *simfs.FS, models []boxes, step string) error {
	var now [2]*boxFiles
	for i, p := range boxPlaces("/") {
		var err error
		if now[i], err = filesOf(fsys, p); err != nil {
			return err
		}
	}
	for i, m := range models {
		files := now
		if i < len(models)-1 { // between the two commits of a move, only the target has changed
			files[0] = h.files[len(h.files)-1][0]
		}
		h.models, h.files, h.steps = append(h.models, m), append(h.files, files), append(h.steps, step)
	}
	return nil
}

// recordBoxes runs a workload.
func recordBoxes(t testing.TB, disk *simfs.FS, v index.Version, seed uint64, n int) *boxHistory {
	r := rand.New(rand.NewPCG(seed, 21))
	require.NoError(t, createBoxes(disk, "/", v))
	h := &boxHistory{from: disk.Ops()}
	require.NoError(t, h.add(disk, []boxes{newBoxes(v)}, "create"))
	var opts index.OpenOptions
	commits := 0                            // of this step
	if h.counted = seed%2 == 0; h.counted { // then every append has a journal entry
		opts.Participant = &accounts{applied: func() {
			disk.Mark(fmt.Sprintf("counted %d", len(h.models)+commits))
			commits++
		}}
	}
	b, err := openBoxes(disk, "/", opts)
	require.NoError(t, err)
	for i := range n {
		model := &h.models[len(h.models)-1]
		s := model.draw(r, boxKind(r, seed, i))
		next := model.apply(s)
		b.hold, commits = r.IntN(4) == 0, 0
		disk.Mark(fmt.Sprintf("begin %d", len(h.models)-1+len(next)))
		require.NoError(t, b.step(s), "seed %d, step %d: %v", seed, i, s)
		disk.Mark(fmt.Sprintf("ack %d", len(h.models)-1+len(next)))
		got, err := readBoxes(disk, "/")
		require.NoError(t, err)
		if want := next[len(next)-1].state(); !maps.Equal(got, want) {
			t.Fatalf("seed %d, step %d, %v: %s", seed, i, s, differences(got, want))
		}
		require.NoError(t, h.add(disk, next, s.String()))
		if r.IntN(6) == 0 {
			require.NoError(t, b.close())
			b, err = openBoxes(disk, "/", opts)
			require.NoError(t, err)
		}
	}
	require.NoError(t, b.close())
	require.NoError(t, checkBoxes(disk, "/"))
	return h
}

// boxKind has each kind of step come in turn, beginning with another one from seed to seed; first of all there is something
// to do it to.
func boxKind(r *rand.Rand, seed uint64, i int) string {
	switch {
	case i == 0:
		return "append many"
	case i%4 == 3:
		return boxKinds[r.IntN(len(boxKinds))]
	}
	return boxKinds[(int(seed)*5+i)%len(boxKinds)]
}

func (h *boxHistory) describe(acked, begun int) string {
	return fmt.Sprintf("%d (%s) was acknowledged, %d (%s) under way", acked, h.steps[acked], begun, h.steps[begun])
}

// before is the verdict before recovery.
func (h *boxHistory) before(disk *simfs.FS, acked, begun int) error {
	for i, p := range boxPlaces("/") {
		var candidates []*boxFiles
		for _, f := range h.files[acked : begun+1] {
			candidates = append(candidates, f[i])
		}
		if err := asCyrusFinds(disk, p, candidates); err != nil {
			return fmt.Errorf("as Cyrus finds %s: %w", boxNames[i], err)
		}
	}
	return nil
}

// recovered is the verdict after it: byte for byte one of the states. It returns which.
func (h *boxHistory) recovered(disk *simfs.FS, acked, begun int, marks []string) (int, error) {
	a := &accounts{}
	if err := recoverBoxes(disk, "/", index.OpenOptions{Participant: a}); err != nil {
		return 0, fmt.Errorf("recovery: %w", err)
	}
	var got [2]*boxFiles
	for i, p := range boxPlaces("/") {
		var err error
		if got[i], err = filesOf(disk, p); err != nil {
			return 0, fmt.Errorf("%s, recovered: %w", boxNames[i], err)
		}
	}
	for n := begun; n >= acked; n-- {
		if got[0].equal(h.files[n][0]) && got[1].equal(h.files[n][1]) {
			return n, h.told(a, acked, n, marks)
		}
	}
	state, err := readBoxes(disk, "/")
	return 0, fmt.Errorf("recovered, it is none of the states: %s (%w)", differences(state, h.models[acked].state()), err)
}

// told returns an error if a change of usage was committed and nobody is told.
func (h *boxHistory) told(a *accounts, acked, n int, marks []string) error {
	for i := acked + 1; h.counted && i <= n; i++ {
		changes := h.models[i-1].usage() != h.models[i].usage()
		if changes && a.recovered == 0 && !slices.Contains(marks, fmt.Sprintf("counted %d", i)) {
			return errors.New("the change is committed, and the accounts were not told of it")
		}
	}
	return nil
}

// goOnWithBoxes makes one more transaction of all kinds of changes in recovered mailboxes, and checks them.
func goOnWithBoxes(fsys vfs.FS, root string, model boxes) (boxes, error) {
	if err := checkBoxes(fsys, root); err != nil {
		return model, err
	}
	r := rand.New(rand.NewPCG(uint64(model[0].last), 22))
	s := model.draw(r, "mixed")
	s.ops = append(s.ops, model[0].drawAppend(r))
	next := model.apply(s)[0]
	b, err := openBoxes(fsys, root, index.OpenOptions{})
	if err != nil {
		return next, err
	}
	if err := errors.Join(b.step(s), b.close()); err != nil {
		return next, fmt.Errorf("the next transaction: %w", err)
	}
	got, err := readBoxes(fsys, root)
	if err != nil {
		return next, fmt.Errorf("after the next transaction: %w", err)
	}
	if want := next.state(); !maps.Equal(got, want) {
		return next, fmt.Errorf("after the next transaction: %s", differences(got, want))
	}
	return next, checkBoxes(fsys, root)
}

// TestMailboxCrashImages cuts the power at every operation of all that changes a mailbox, and again while that is
// recovered. A Cyrus process that comes first finds what [asCyrusFinds] says; recovered, the mailbox is whole, with all that
// was acknowledged, and with what was under way whole or not at all; the next change works.
func TestMailboxCrashImages(t *testing.T) {
	lessCollecting(t)
	for _, v := range boxVersions {
		t.Run(fmt.Sprint(v), func(t *testing.T) {
			t.Parallel()
			want := campaign(1_500, 70_000)
			images, second := 0, 0
			for seed := uint64(1); images < want; seed++ {
				if *reproduce != "" {
					at, _, _ := strings.Cut(*reproduce, " ")
					version, number, _ := strings.Cut(at, "/")
					if version != fmt.Sprint(v) {
						t.Skip("the image is of another version")
					}
					var err error
					seed, err = strconv.ParseUint(number, 10, 64)
					require.NoError(t, err)
					want = 0 // this workload only
				}
				disk := simfs.New(simfs.Options{OrderedNames: seed%4 == 3})
				h := recordBoxes(t, disk, v, seed, 8)
				trace := disk.Trace()
				for img := range trace.Images(simfs.Search{Limit: 16, Samples: campaign(3, 5), Seed: seed, From: h.from}) {
					line := fmt.Sprintf("%d/%d %s", v, seed, img.Seed)
					if *reproduce != "" && *reproduce != line {
						continue
					}
					images++
					n, err := h.verdict(img, images%16 == 0 && second < want/4 || *reproduce != "")
					second += n
					if err != nil {
						if *reproduce != "" {
							_ = trace.Dump(os.Stderr, img.Seed)
						}
						t.Fatalf("after %d images: %v\nreproduce: go test ./fuzz -run '%s' -image '%s'", images, err, t.Name(), line)
					}
				}
			}
			t.Logf("%d crash images, %d of crashes during recovery", images, second)
		})
	}
}

// lessCollecting has memory collected less often: these campaigns make much of it and keep none.
func lessCollecting(t *testing.T) {
	before := debug.SetGCPercent(400)
	t.Cleanup(func() { debug.SetGCPercent(before) })
}

// verdict judges one image, and with again the crashes during its recovery, and returns how many of them there were.
func (h *boxHistory) verdict(img *simfs.Image, again bool) (second int, err error) {
	acked, begun := (&history{}).allowed(img.Marks)
	begun = max(begun, acked)
	if err = h.before(img.FS, acked, begun); err == nil {
		second, err = h.after(img, acked, begun, again)
	}
	if err != nil {
		err = fmt.Errorf("%s: %w", h.describe(acked, begun), err)
	}
	return second, err
}

func (h *boxHistory) after(img *simfs.Image, acked, begun int, again bool) (second int, err error) {
	n, err := h.recovered(img.FS, acked, begun, img.Marks)
	if err != nil {
		return 0, err
	}
	var states []boxes
	if again {
		states = []boxes{h.models[n]}
	}
	img.FS.Mark("recovered")
	next, err := goOnWithBoxes(img.FS, "/", h.models[n])
	if err != nil || !again {
		return 0, err
	}
	states = append(states, next)
	for twice := range img.FS.Trace().Images(simfs.Search{Limit: 12, Samples: 4, Seed: 3}) {
		second++
		possible := states
		if len(twice.Marks) == 0 { // recovery may yet decide either way
			possible = append(possible, h.models[acked:begun+1]...)
		}
		if err := recoveredTwice(twice.FS, possible); err != nil {
			return second, fmt.Errorf("second crash, %s: %w", twice.Seed, err)
		}
	}
	return second, nil
}

// recoveredTwice is the verdict after a second crash: the mailboxes are one of the states, and the next change works.
func recoveredTwice(disk *simfs.FS, states []boxes) error {
	if err := recoverBoxes(disk, "/", index.OpenOptions{Participant: &accounts{}}); err != nil {
		return err
	}
	return goOnWithOneOf(disk, "/", states)
}

// goOnWithOneOf finds out which of the states recovered mailboxes are in, and makes one more transaction.
func goOnWithOneOf(fsys vfs.FS, root string, states []boxes) error {
	got, err := readBoxes(fsys, root)
	if err != nil {
		return err
	}
	for i := range states {
		if maps.Equal(got, states[i].state()) {
			_, err := goOnWithBoxes(fsys, root, states[i])
			return err
		}
	}
	return fmt.Errorf("none of %d states: %s", len(states), differences(got, states[0].state()))
}
