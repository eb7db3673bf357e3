package twoskip

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestDocument compares the tables of the format document with the code, and its tests with those there are.
func TestDocument(t *testing.T) {
	b, err := os.ReadFile("../../../docs/format/twoskip.md")
	require.NoError(t, err)
	doc := string(b)
	at := int64(0)
	for _, h := range headerFields {
		require.Equal(t, at, h.off)
		require.Contains(t, doc, fmt.Sprintf("| %d | %d | %s |", h.off, h.size, h.name))
		at += h.size
	}
	require.EqualValues(t, headerSize, at)
	for _, s := range []string{
		fmt.Sprintf("0x%03x  header                %d bytes", 0, headerSize),
		fmt.Sprintf("0x%03x  DUMMY                 %d bytes", offDummy, dummySize),
		fmt.Sprintf("0x%03x  log", emptySize),
		fmt.Sprintf("`%c` DUMMY, `%c` RECORD, `%c` DELETE, `%c` COMMIT", typeDummy, typeRecord, typeDelete, typeCommit),
		fmt.Sprintf("RECORD 1 to %d, DUMMY %d", maxLevel, maxLevel),
		fmt.Sprintf("| keylen | 2 | length of the key; %d:", longKey),
		fmt.Sprintf("| vallen | 4 | length of the value; %d:", int64(longValue)),
		fmt.Sprintf("| long keylen | %d |", ptrSize),
		fmt.Sprintf("| pointers | %d each |", ptrSize),
		fmt.Sprintf("| crc_head | %d |", crcSize),
		fmt.Sprintf("| crc_tail | %d |", crcSize),
		fmt.Sprintf("| DUMMY | %d |", dummySize),
		fmt.Sprintf("| RECORD | %d + %d × (level + 1) |", headSize(1, 1, 1)-2*ptrSize, ptrSize),
		fmt.Sprintf("| DELETE | %d |", markSize),
		fmt.Sprintf("| COMMIT | %d |", markSize),
		fmt.Sprintf("the 8 bytes `% X`", blank),
		fmt.Sprintf("at most %d bytes", maxGuarded),
		fmt.Sprintf("sectors of %d bytes", sector),
		fmt.Sprintf("current_size is over %d", checkpointMin),
	} {
		require.Contains(t, doc, s)
	}
	for _, code := range []string{codeUnreadable, codeUnclear, codeCount, codeAcross} {
		require.Contains(t, doc, "`"+code+"`")
	}
	requireTests(t, doc)
}

// requireTests checks that every test that the document names exists.
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
	for _, m := range regexp.MustCompile("`(?:TestRecovery2Defects|…)/(\\w+)`").FindAllStringSubmatch(doc, -1) {
		require.Contains(t, tests.String(), fmt.Sprintf("t.Run(%q", strings.ReplaceAll(m[1], "_", " ")))
	}
}
