package main

import (
	"bytes"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/quota"
)

// TestQuotaReport holds the report against lines that Cyrus 3.6.1 has printed.
func TestQuotaReport(t *testing.T) {
	for _, c := range []struct {
		rec  quota.Record
		want string
	}{
		{quota.Record{Used: quota.Amounts{0, 1, 0, 1}, Limits: quota.Limits{10, -1, -1, -1}}, "" +
			"      10        0        0              STORAGE user.foo\n" +
			"                         1              MESSAGE user.foo\n" +
			"                         0 X-ANNOTATION-STORAGE user.foo\n" +
			"                         1        X-NUM-FOLDERS user.foo\n"},
		{quota.Record{Used: quota.Amounts{2000, 1, 3, 1}, Limits: quota.Limits{0, 10, 4, 0}}, "" +
			"       0                 1              STORAGE user.foo\n" +
			"      10       10        1              MESSAGE user.foo\n" +
			"       4        0        0 X-ANNOTATION-STORAGE user.foo\n" +
			"       0                 1        X-NUM-FOLDERS user.foo\n"},
		{quota.Record{Used: quota.Amounts{1023, 5, math.MaxInt64, 123456789012}, Limits: quota.Limits{1, math.MaxInt64, 12, 12345678901}}, "" +
			"       1        0        0              STORAGE user.foo\n" +
			" 9223372036854775807        0        5              MESSAGE user.foo\n" +
			"      12 75059993789508258 9007199254740991 X-ANNOTATION-STORAGE user.foo\n" +
			" 12345678901     1000 123456789012        X-NUM-FOLDERS user.foo\n"},
	} {
		require.Equal(t, c.want, string(appendQuota(nil, "user.foo", &c.rec)))
	}
}

func TestPercent(t *testing.T) {
	for _, c := range [][3]int64{
		{0, 1, 0}, {1, 1, 100}, {2, 3, 66}, {math.MaxInt64, math.MaxInt64, 100}, {math.MaxInt64, 1, math.MaxInt64},
		{math.MaxInt64, 100, math.MaxInt64}, {math.MaxInt64, 101, 9132051521638391888}, {1 << 62, 1 << 61, 200}, {-1, 5, 0},
	} {
		require.Equal(t, c[2], percent(c[0], c[1]), "%d of %d", c[0], c[1])
	}
	require.Equal(t, int64(math.MaxInt64), inUnits(math.MaxInt64/1024+1, 1024))
	require.Equal(t, int64(math.MaxInt64), inUnits(math.MaxInt64, 1))
	require.Equal(t, int64(3072), inUnits(3, 1024))
}

// TestQuotaCyrusJSON holds the JSON against what Cyrus 3.6.1 has printed.
func TestQuotaCyrusJSON(t *testing.T) {
	var out bytes.Buffer
	c := newCyrusJSON(&out)
	require.NoError(t, c.end())
	require.Equal(t, "{}\n", out.String())

	out.Reset()
	c = newCyrusJSON(&out)
	bob := quota.Record{Used: quota.Amounts{2000, 1, 3, 1}, Limits: quota.Limits{0, 10, 4, -1}}
	require.NoError(t, c.add("user.bob", &bob))
	require.NoError(t, c.add(`user.w"y`, &quota.Record{Limits: quota.Limits{-1, -1, -1, -1}}))
	require.NoError(t, c.add("user.bob", &bob), "a root that two arguments name is there once")
	require.NoError(t, c.end())
	require.Equal(t, `{
  "user.bob": {
    "STORAGE": {
      "used": 2000
    },
    "MESSAGE": {
      "used": 1,
      "limit": 10
    },
    "X-ANNOTATION-STORAGE": {
      "used": 3,
      "limit": 4096
    },
    "X-NUM-FOLDERS": {
      "used": 1
    }
  },
  "user.w\"y": {
    "STORAGE": {
      "used": 0
    },
    "MESSAGE": {
      "used": 0
    },
    "X-ANNOTATION-STORAGE": {
      "used": 0
    },
    "X-NUM-FOLDERS": {
      "used": 0
    }
  }
}
`, out.String())
}
