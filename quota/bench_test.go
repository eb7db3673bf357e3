package quota_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/internal/realcyrus"
	"github.com/mailspine/mailspine/quota"
)

const benchUsers, benchFolders = 1000, 20

// benchStates are what is wrong with a store of the benchmark.
var benchStates = []struct {
	name string
	make func(f *filled)
}{
	{"right", func(f *filled) { f.setRoots(f.right()) }},
	{"numbers", func(f *filled) { f.setRoots("1/1/1") }},
	{"headers", func(f *filled) {
		f.setRoots(f.right())
		for u := range f.users {
			for folder := 1; folder < f.folders; folder += 10 {
				f.writeHeader(u, folder, "user.somebody")
			}
		}
	}},
}

// BenchmarkQuotaBesideCyrus recalculates all roots of a store of 1,000 users with 20 mailboxes each, by us and by the real program,
// in one run on one disk: when all is right, when all numbers are wrong, and when one header in ten is. Everything is
// synced as ever. Run it with -benchtime 1x.
func BenchmarkQuotaBesideCyrus(b *testing.B) {
	realcyrus.NeedPrograms(b)
	f := newFilled(b, benchUsers, benchFolders)
	for _, state := range benchStates {
		for _, jobs := range []int{1, 4} {
			b.Run(state.name+map[int]string{1: "", 4: "/jobs4"}[jobs], func(b *testing.B) {
				f.t = b
				var ours, theirs time.Duration
				for range b.N {
					state.make(f)
					f.give()
					ours += f.timeOurs(jobs)
					f.mustBeRight()
					if jobs > 1 {
						continue
					}
					state.make(f)
					f.give()
					theirs += f.timeTheirs()
					f.mustBeRight()
				}
				b.ReportMetric(ours.Seconds()/float64(b.N), "s/ours")
				if jobs == 1 {
					b.ReportMetric(theirs.Seconds()/float64(b.N), "s/cyrus")
					b.ReportMetric(theirs.Seconds()/ours.Seconds(), "times-faster")
				}
			})
		}
	}
}

func (f *filled) timeOurs(jobs int) time.Duration {
	began := time.Now()
	k := f.keep(f.fs, false)
	report, err := k.Recalculate(f.t.Context(), quota.Recalculation{Jobs: jobs, Each: func(o quota.Outcome) { require.NoError(f.t, o.Err) }})
	require.NoError(f.t, err)
	require.NoError(f.t, k.close())
	require.Equal(f.t, f.users, report.Roots)
	require.Zero(f.t, report.Incomplete+report.Orphans+report.Failed)
	return time.Since(began)
}

func (f *filled) timeTheirs() time.Duration {
	began := time.Now()
	out := f.real.Try(f.t, "quota", nil, "-f", "-q")
	took := time.Since(began)
	require.Equal(f.t, 0, out.Code, out.Stderr)
	return took
}
