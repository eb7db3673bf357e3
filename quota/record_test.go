package quota

import (
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func limits(s, m, as, nf int64) Limits { return Limits{s, m, as, nf} }

// TestParseRecord: every form that Cyrus has written is read, and written again byte for byte.
func TestParseRecord(t *testing.T) {
	for _, c := range []struct {
		text string
		want Record
	}{
		{"%(S (7000 100000) M (5) AS (0) NF (2) MODSEQ 12)", Record{Used: Amounts{7000, 5, 0, 2}, Limits: limits(100000, -1, -1, -1), ModSeq: 12}},
		{"%(S (0 0) M (0 0) AS (0 0) NF (0 0) MODSEQ 1)", Record{ModSeq: 1}},
		{"%(S (7) M (5) AS (9))", Record{Used: Amounts{7, 5, 9, 0}, Limits: NoLimits()}},
		{"%(AS (9) X-NEW (1 2) M (5) S (7 8) MODSEQ 3 Y %(a b))", Record{Used: Amounts{7, 5, 9, 0}, Limits: limits(8, -1, -1, -1), ModSeq: 3}},
		{
			`%(S (7 8) M (5) AS (0) NF (2) SCAN %(MBOX "user.foo.Sent Mail" S 1 M 2 AS 3 NF 4) MODSEQ 18446744073709551615)`,
			Record{
				Used: Amounts{7, 5, 0, 2}, Limits: limits(8, -1, -1, -1), ModSeq: math.MaxUint64,
				Scan: &Scan{Mailbox: "user.foo.Sent Mail", Used: Amounts{1, 2, 3, 4}},
			},
		},
		{
			"%(S (9223372036854775807 9223372036854775807) M (007) AS (0))",
			Record{Used: Amounts{math.MaxInt64, 7, 0, 0}, Limits: limits(math.MaxInt64, -1, -1, -1)},
		},
		{"1234 5000", Record{Used: Amounts{1234}, Limits: limits(5000, -1, -1, -1)}},
		{"1234 -1", Record{Used: Amounts{1234}, Limits: NoLimits()}},
		{"99 100 M 5 1000", Record{Used: Amounts{99, 5}, Limits: limits(100, 1000, -1, -1)}},
		{"99 100 77 M 5 -1 4 AS 6 7 8", Record{Used: Amounts{99, 5, 6, 0}, Limits: limits(100, -1, 7, -1)}},
		{"99 100 AS 6 7", Record{Used: Amounts{99, 0, 6, 0}, Limits: limits(100, -1, 7, -1)}},
		{"6001  100000 ", Record{Used: Amounts{6001}, Limits: limits(100000, -1, -1, -1)}},
	} {
		r, err := ParseRecord([]byte(c.text))
		require.NoError(t, err, c.text)
		require.True(t, r.same(&c.want), "%s: %+v", c.text, r)
		require.Equal(t, c.text, string(r.Append(nil)))
	}
}

// TestChangedRecord: what is changed is changed, and nothing else; old forms become the new one.
func TestChangedRecord(t *testing.T) {
	for _, c := range []struct {
		text   string
		change func(*Record)
		want   string
	}{
		{"%(S (7000 100000) M (5) AS (0) NF (2) MODSEQ 12)", func(r *Record) { r.Used[Storage]++ }, "%(S (7001 100000) M (5) AS (0) NF (2) MODSEQ 12)"},
		{"%(S (7000 100000) M (5) AS (0) NF (2) MODSEQ 12)", func(r *Record) { r.Limits = NoLimits() }, "%(S (7000) M (5) AS (0) NF (2) MODSEQ 12)"},
		{"%(S (7) M (5) AS (0) NF (2))", func(r *Record) { r.Limits[Messages] = 0; r.ModSeq = 1 }, "%(S (7) M (5 0) AS (0) NF (2) MODSEQ 1)"},
		{"%(AS (9) X-NEW (1 2) M (005) S (7 8) MODSEQ 3 Y %(a b))", func(r *Record) { r.Used[Folders] = 4 }, "%(AS (9) X-NEW (1 2) M (005) S (7 8) NF (4) MODSEQ 3 Y %(a b))"},
		{"%(S (7) M (5) AS (0) NF (2) Z 1)", func(r *Record) { r.ModSeq = 4 }, "%(S (7) M (5) AS (0) NF (2) Z 1 MODSEQ 4)"},
		{"%(S (7) M (5) AS (0) SCAN %(MBOX a S 1 M 2 AS 3 NF 4) MODSEQ 9)", func(r *Record) { r.Scan = nil }, "%(S (7) M (5) AS (0) NF (0) MODSEQ 9)"},
		{"%(S (7) M (5) AS (0) NF (1) SCAN %(MBOX a S 1 X 7) MODSEQ 9)", func(r *Record) { r.ModSeq++ }, "%(S (7) M (5) AS (0) NF (1) SCAN %(MBOX a S 1 X 7) MODSEQ 10)"},
		{
			"%(S (7) M (5) AS (0) NF (1) MODSEQ 9)", func(r *Record) { r.Scan = &Scan{Mailbox: "user.a b", Used: Amounts{1, 2, 3, 4}} },
			`%(S (7) M (5) AS (0) NF (1) SCAN %(MBOX "user.a b" S 1 M 2 AS 3 NF 4) MODSEQ 9)`,
		},
		{"1234 5000", func(r *Record) { r.Used[Storage] = 1; r.ModSeq = 1 }, "%(S (1 5000) M (0) AS (0) NF (0) MODSEQ 1)"},
		{"99 100 77 M 5 -1", func(r *Record) { r.Used[Folders] = 2 }, "%(S (99 100) M (5) AS (0) NF (2) MODSEQ 0)"},
	} {
		r, err := ParseRecord([]byte(c.text))
		require.NoError(t, err)
		before := r.copied()
		c.change(&r)
		require.Equal(t, c.want, string(r.Append(nil)))
		require.Equal(t, c.text, string(before.Append(nil)), "a record is not changed with another")
	}
	require.Equal(t, "%(S (0) M (0) AS (0) NF (0) MODSEQ 0)", string((&Record{Limits: NoLimits()}).Append(nil)))
	require.Equal(t, "x%(S (1 0) M (0 0) AS (0 0) NF (0 0) MODSEQ 7)", string((&Record{Used: Amounts{1}, ModSeq: 7}).Append([]byte("x"))))
}

// TestDamagedRecord: what is not whole is never interpreted, and the error tells where it breaks off.
func TestDamagedRecord(t *testing.T) {
	const whole = "%(S (7000 100000) M (5 10) AS (0) NF (2) MODSEQ 12)"
	for n := range whole {
		_, err := ParseRecord([]byte(whole[:n]))
		if n == 0 {
			require.ErrorIs(t, err, ErrEmpty)
			continue
		}
		require.ErrorIs(t, err, ErrDamaged, whole[:n])
	}
	for _, c := range []struct {
		text   string
		offset int
	}{
		{whole + ")", len(whole)},
		{whole + " ", len(whole)},
		{"%(M (5) AS (0) NF (2))", 22},
		{"%(S (7) AS (0) NF (2))", 22},
		{"%(S (7) M (5) NF (2))", 21},
		{"%(S (7) M (5) AS (0) S (8))", 21},
		{"%(S (7) M (5) AS (0) MODSEQ 1 MODSEQ 1)", 30},
		{"%(S (-7) M (5) AS (0))", 2},
		{"%(S (7 -1) M (5) AS (0))", 2},
		{"%(S (7) M (5 9223372036854775808) AS (0))", 8},
		{"%(S (7) M () AS (0))", 8},
		{"%(S (7) M (5 6 7) AS (0))", 8},
		{"%(S (7) M 5 AS (0))", 8},
		{"%(S (7) M (5) AS (NIL))", 14},
		{"%(S (7) M (5) AS (0) MODSEQ x)", 21},
		{"%(S (7) M (5) AS (0) SCAN (1))", 21},
		{"%(S (7) M (5) AS (0) SCAN %(MBOX (a)))", 21},
		{"%(S (7) M (5) AS (0) SCAN %(MBOX a S -1))", 21},
		{"%(S (7) M (5) AS (0) SCAN %(MBOX {3+}\r\na\nb S 1))", 21},
		{"1234", 4},
		{"1234 ", 5},
		{"-4 1000", 0},
		{"18446744073709551615 1000", 0},
		{"7 -2", 2},
		{"7 8 9 10", 6},
		{"7 8 X 1 2", 4},
		{"7 8 S 1 2", 4},
		{"7 8 AS 1 2 M 3 4", 11},
		{"7 8 M 1", 7},
		{"\x00\x00\x00", 0},
		{"(S (7))", 0},
		{strings.Repeat(" ", maxRecordBytes) + "1 2", maxRecordBytes},
		{"%(S (7) M (5) AS (0) X " + strings.Repeat("(", 100), 55},
	} {
		_, err := ParseRecord([]byte(c.text))
		var e *RecordError
		require.ErrorAs(t, err, &e, c.text)
		require.ErrorIs(t, err, ErrDamaged, c.text)
		require.Equal(t, c.offset, e.Offset, "%.80s: %v", c.text, err)
	}
	for _, blank := range []string{"", " ", "\n", "\r\n "} {
		_, err := ParseRecord([]byte(blank))
		require.ErrorIs(t, err, ErrEmpty)
		require.NotErrorIs(t, err, ErrDamaged)
	}
}

// TestOver: a limit of KiB is compared with bytes, without overflow; 0 is a limit; what does not grow passes none.
func TestOver(t *testing.T) {
	r := Record{Used: Amounts{1023, 5, 0, 1}, Limits: limits(1, 5, -1, 0)}
	for _, c := range []struct {
		delta Amounts
		res   Resource
		over  bool
	}{
		{Amounts{1, 0, 0, 0}, 0, false},
		{Amounts{2, 0, 0, 0}, Storage, true},
		{Amounts{1, 1, 0, 0}, Messages, true},
		{Amounts{-5, -1, math.MaxInt64, 0}, 0, false},
		{Amounts{0, 0, 0, 1}, Folders, true},
		{Amounts{math.MaxInt64, 0, 0, 0}, Storage, true},
		{Amounts{}, 0, false},
	} {
		res, over := r.Over(c.delta)
		require.Equal(t, c.over, over, c.delta)
		if over {
			require.Equal(t, c.res, res)
		}
	}
	huge := Record{Used: Amounts{math.MaxInt64 - 1}, Limits: limits(math.MaxInt64, -1, -1, -1)}
	_, over := huge.Over(Amounts{1})
	require.False(t, over)
	_, over = huge.Over(Amounts{2})
	require.True(t, over)
}

// TestAmounts: sums do not wrap around.
func TestAmounts(t *testing.T) {
	sum, exact := Amounts{1, -2, 3, 4}.Plus(Amounts{1, 1, 1, -9})
	require.True(t, exact)
	require.Equal(t, Amounts{2, -1, 4, -5}, sum)
	clamped, negative := sum.Clamped()
	require.True(t, negative)
	require.Equal(t, Amounts{2, 0, 4, 0}, clamped)
	sum, exact = Amounts{math.MaxInt64, math.MinInt64}.Plus(Amounts{1, -1})
	require.False(t, exact)
	require.Equal(t, Amounts{math.MaxInt64, math.MinInt64}, sum)
	require.Equal(t, "X-NUM-FOLDERS", Folders.String())
	require.Equal(t, int64(1024), Annotations.Unit())
}
