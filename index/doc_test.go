package index

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func document(t *testing.T, name string) string {
	b, err := os.ReadFile("../docs/format/" + name)
	require.NoError(t, err)
	return string(b)
}

// rows are the lines of a document that match, which are those of one of its tables.
func rows(doc, first string) (list []string) {
	row := regexp.MustCompile(first)
	for line := range strings.Lines(doc) {
		if line = strings.TrimSuffix(line, "\n"); row.MatchString(line) {
			list = append(list, line)
		}
	}
	return list
}

// TestIndexDocument compares the tables of docs/format/index.md with those of the code, in both directions.
func TestIndexDocument(t *testing.T) {
	doc := document(t, "index.md")
	var want []string
	for _, v := range versions {
		want = append(want, fmt.Sprintf("| %d | %d | %d |", v.version, v.headerSize, v.recordSize))
	}
	sameRows(t, want, rows(doc, `^\| \d+ \| \d+ \| \d+ \|`))
	want = nil
	for _, f := range append(append([]field{}, headerFields...), recordFields...) {
		span := fmt.Sprintf("%d-%d", f.since, f.until)
		if f.since == f.until {
			span = fmt.Sprint(f.since)
		}
		want = append(want, fmt.Sprintf("| %s | %s | %d | %d |", f.name, span, f.off, f.size))
	}
	sameRows(t, want, rows(doc, `^\| \w+ \| [\d-]+ \| \d+ \| \d+ \|`))
	for _, f := range systemFlags {
		require.Regexp(t, fmt.Sprintf(`\b%d %s`, bit(uint32(f.bit)), regexp.QuoteMeta(f.name)), doc)
	}
	for _, o := range optionNames {
		require.Regexp(t, fmt.Sprintf(`\b%d %s`, bit(uint32(o.bit)), o.name), doc)
	}
	require.Contains(t, doc, fmt.Sprintf("Version %d may have records of %d bytes", oddVersion, oddRecordSize))
	require.Contains(t, doc, fmt.Sprintf("synccrc_annot is %d", SyncAnnotStart))
	sameFindings(t, doc, func(code string) bool {
		return !strings.HasPrefix(code, "header-") && !strings.HasPrefix(code, "cache-")
	})
	requireTests(t, doc)
}

// sameRows checks that the rows of a document begin as wanted, and that there are no others.
func sameRows(t *testing.T, want, got []string) {
	require.Len(t, got, len(want))
	for i := range want {
		require.True(t, strings.HasPrefix(got[i], want[i]), "%s\n%s", got[i], want[i])
	}
}

func bit(v uint32) (n int) {
	for ; v > 1; v >>= 1 {
		n++
	}
	return n
}

// sameFindings checks the table of findings in a document.
func sameFindings(t *testing.T, doc string, here func(code string) bool) {
	var want []string
	for _, k := range kinds {
		if here(k.code) {
			want = append(want, fmt.Sprintf("| `%s` | %s | %s |", k.code, k.severity, k.meaning))
		}
	}
	require.Equal(t, want, rows(doc, "^\\| `[a-z-]+` \\| (info|warning|error|damage) \\|"))
}

func TestHeaderDocument(t *testing.T) {
	doc := document(t, "header.md")
	require.Contains(t, doc, fmt.Sprintf("magic    %d bytes", len(headerMagic)))
	require.Contains(t, doc, fmt.Sprintf("more than %d bytes", headerMax))
	require.Contains(t, doc, fmt.Sprintf("at most %d flags", UserFlagsMax))
	keys := rows(doc, `^\| [A-Z] \|`)
	require.Len(t, keys, len(headerKeys))
	for i, k := range headerKeys {
		require.Regexp(t, fmt.Sprintf(`^\| %s \| .* \| %s \|$`, k.key, k.written), keys[i])
	}
	sameFindings(t, doc, func(code string) bool { return strings.HasPrefix(code, "header-") })
	requireTests(t, doc)
}

func TestCacheDocument(t *testing.T) {
	doc := document(t, "cache.md")
	var want []string
	for i := range CacheItems {
		want = append(want, fmt.Sprintf("| %d | %s |", int(i), i))
	}
	sameRows(t, want, rows(doc, `^\| \d \| (`+strings.Join(cacheItemNames[:], "|")+`) \|`))
	yes := map[bool]string{true: "yes", false: "no"}
	want = nil
	for _, l := range sectionLayouts {
		want = append(want, fmt.Sprintf("| %d | %s | %s | %s | %s |", l.since, map[bool]string{true: "name", false: "number"}[l.names], yes[l.guid], yes[l.size], yes[l.lines]))
	}
	sameRows(t, want, rows(doc, `^\| \d \| (name|number) \|`))
	require.Contains(t, doc, fmt.Sprintf("more than\n%d bytes", cacheRecordMax))
	require.Contains(t, doc, fmt.Sprintf("Versions 0 to %d", CacheVersionLatest))
	require.Contains(t, doc, fmt.Sprintf("%d neither charset", EncodingNone))
	sameFindings(t, doc, func(code string) bool { return strings.HasPrefix(code, "cache-") })
	requireTests(t, doc)
}

func TestCountersDocument(t *testing.T) {
	doc := document(t, "counters.md")
	var want []string
	for v := range countersVersions {
		want = append(want, fmt.Sprintf("| %d | %d |", v, countersSize(uint32(v))))
	}
	sameRows(t, want, rows(doc, `^\| \d \| \d+ \|$`))
	want = nil
	for i := range counterCount {
		since := 0
		for countersVersions[since] <= i {
			since++
		}
		want = append(want, fmt.Sprintf("| %d | 8 | %s | %d |", countersHead+8*i, Counter(i), since))
	}
	sameRows(t, want, rows(doc, `^\| \d+ \| 8 \|`))
	require.Contains(t, doc, fmt.Sprintf("writes %d.", CountersVersionWritten))
}

// requireTests checks that every test that a document names exists.
func requireTests(t *testing.T, doc string) {
	files, err := os.ReadDir(".")
	require.NoError(t, err)
	var tests strings.Builder
	for _, f := range files {
		if strings.HasSuffix(f.Name(), "_test.go") {
			b, err := os.ReadFile(f.Name())
			require.NoError(t, err)
			tests.Write(b)
		}
	}
	for _, m := range regexp.MustCompile("`(Test\\w+)").FindAllStringSubmatch(doc, -1) {
		require.Contains(t, tests.String(), "func "+m[1]+"(")
	}
}
