package codectest

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/skiplist/internal/codec"
)

// sector is what a disk writes whole or not at all.
const sector = 512

// Torn is what may be on the disk after a crash in a phase: each sector of 512 bytes as it was before or after, the size
// anything between.
func Torn(rnd *rand.Rand, before []byte, ph codec.Phase) []byte {
	after := Perform(before, ph)
	size := len(before)
	if d := len(after) - len(before); d != 0 {
		size += int(float64(d) * []float64{0, rnd.Float64(), 1}[rnd.IntN(3)])
	}
	out := make([]byte, size)
	copy(out, before[:min(len(before), size)])
	for s := 0; s < min(size, len(after)); s += sector {
		if rnd.IntN(2) == 0 {
			copy(out[s:], after[s:min(s+sector, size, len(after))])
		}
	}
	return out
}

// Recovered brings a file into order as package skiplist does. If rnd is not nil there is a crash on the way, and what
// it leaves is returned.
func Recovered(t T, c codec.Codec, rnd *rand.Rand, b []byte) (_ []byte, whole bool) {
	v := Mapped(b)
	h, live, log := Replayed(t, c, v, codec.ReplayOptions{})
	require.NotEqual(t, codec.Damaged, log.State, log.Problem)
	var mend []codec.Write
	seen := map[int64]bool{}
	for _, w := range WrongLinks(t, c, v.Sub(log.End), h, live) {
		if !seen[w.Mend.Off] {
			seen[w.Mend.Off] = true
			mend = append(mend, w.Mend)
		}
	}
	p, err := c.Recover(v, h, log, mend, live, Now)
	require.NoError(t, err)
	stop := -1
	if rnd != nil && len(p.Phases) > 0 {
		stop = rnd.IntN(len(p.Phases))
	}
	for i, ph := range p.Phases {
		RequireOld(t, b, ph)
		if i == stop {
			return Torn(rnd, b, ph), false
		}
		b = Perform(b, ph)
	}
	require.EqualValues(t, p.Size, len(b))
	return b, true
}

// RandomOps are changes among few keys, so that they meet often.
func RandomOps(rnd *rand.Rand, keys int) (ops []Op) {
	for range 1 + rnd.IntN(5) {
		key := fmt.Sprintf("key%02d", rnd.IntN(keys))
		if rnd.IntN(5) < 2 {
			ops = append(ops, Del(key))
		} else {
			ops = append(ops, Set(key, fmt.Sprintf("%0*d", rnd.IntN(300), rnd.IntN(1000))))
		}
	}
	return ops
}

// Model is what a database should hold.
type Model map[string]string

// Apply performs changes.
func (m Model) Apply(ops []Op) {
	for _, o := range ops {
		if o.Del {
			delete(m, o.Key)
		} else {
			m[o.Key] = o.Value
		}
	}
}

// List is the content as "key=value", in the order of c.
func (m Model) List(c codec.Codec) (list []string) {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	compare := c.Traits().Order.Func()
	slices.SortFunc(keys, func(a, b string) int { return cmp.Compare(compare([]byte(a), []byte(b)), 0) })
	for _, k := range keys {
		list = append(list, k+"="+m[k])
	}
	return list
}

// Effective leaves out what changes nothing, and applies the rest to m.
func Effective(m Model, ops []Op) (out []Op) {
	for _, o := range ops {
		old, exists := m[o.Key]
		if o.Del && exists || !o.Del && (!exists || old != o.Value) {
			out = append(out, o)
			m.Apply([]Op{o})
		}
	}
	return out
}

// Script is a transaction in the language of cyr_dbtool's batch.
func Script(ops []Op) string {
	var b strings.Builder
	b.WriteString("BEGIN\n")
	for _, o := range ops {
		if o.Del {
			fmt.Fprintf(&b, "DELETE %s\n", o.Key)
		} else {
			fmt.Fprintf(&b, "SET %s {%d+}\r\n%s\n", o.Key, len(o.Value), o.Value)
		}
	}
	b.WriteString("COMMIT\n")
	return b.String()
}
