package v1

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
	b, err := os.ReadFile("../../../docs/format/skiplist.md")
	require.NoError(t, err)
	doc := string(b)
	at := 0
	for _, h := range []struct {
		off, size int
		name      string
	}{
		{0, len(magic), "magic"}, {offVersion, word, "version"}, {offMinor, word, "minor version"}, {offMaxLevel, word, "maxlevel"},
		{offCurLevel, word, "curlevel"}, {offListSize, word, "listsize"}, {offLogStart, word, "logstart"}, {offLastRec, word, "last recovery"},
	} {
		require.Equal(t, at, h.off)
		require.Contains(t, doc, fmt.Sprintf("| %d | %d | %s |", h.off, h.size, h.name))
		at += h.size
	}
	require.Equal(t, headerSize, at)
	for _, s := range []string{
		fmt.Sprintf("0x%03x  header                %d bytes", 0, headerSize),
		fmt.Sprintf("0x%03x  DUMMY                 %d bytes", offDummy, emptySize-offDummy),
		fmt.Sprintf("0x%03x  INORDER records", emptySize),
		fmt.Sprintf("`% X`, `%s`, three zero bytes", magic[:4], magic[4:17]),
		fmt.Sprintf("| version | %d;", version),
		fmt.Sprintf("| minor version | %d;", versionMinor),
		fmt.Sprintf("| maxlevel | %d |", maxLevel),
		fmt.Sprintf("; %d in a new file", emptySize),
		fmt.Sprintf("| %d | DUMMY | two zero words, %d pointers, terminator | %d |", typeDummy, maxLevel, emptySize-offDummy),
		fmt.Sprintf("| %d | INORDER |", typeInorder),
		fmt.Sprintf("| %d + key + value + %d × level |", recordSize(0, 0, 0), recordSize(0, 0, 1)-recordSize(0, 0, 0)),
		fmt.Sprintf("| %d | ADD |", typeAdd),
		fmt.Sprintf("| %d | DELETE | offset of the record removed | %d |", typeDelete, deleteSize),
		fmt.Sprintf("| %d | COMMIT | nothing | %d |", typeCommit, commitSize),
		fmt.Sprintf("The terminator is `%X`", uint32(terminator)),
		fmt.Sprintf("at most %d. An empty", maxLevel),
		fmt.Sprintf("smaller than %d GiB", maxFile>>30),
		fmt.Sprintf("over %d + 2 × logstart", checkpointSlack),
		fmt.Sprintf("less than %d bytes", emptySize),
		fmt.Sprintf("below %d,", emptySize),
	} {
		require.Contains(t, doc, s)
	}
	for _, code := range []string{codeLogStart, codeZeroGap, codeAddExists, codeDeleteMissing, codePadding} {
		require.Contains(t, doc, "`"+code+"`")
	}
	tests := testsIn(t, ".", "../..", "../../../fuzz")
	named := regexp.MustCompile("`(Test\\w+)`").FindAllStringSubmatch(doc, -1)
	require.NotEmpty(t, named)
	for _, m := range named {
		require.Contains(t, tests, "func "+m[1]+"(")
	}
	for _, letter := range "ABCDEFGHIJKLMNOPQS" {
		require.Regexp(t, fmt.Sprintf("(?m)^\\| %c \\|.*`TestWindow%c`.*\\|$", letter, letter), doc)
	}
}

// testsIn returns the text of all tests of some directories.
func testsIn(t *testing.T, dirs ...string) string {
	var tests strings.Builder
	for _, dir := range dirs {
		files, err := os.ReadDir(dir)
		require.NoError(t, err)
		for _, f := range files {
			if strings.HasSuffix(f.Name(), "_test.go") {
				b, err := os.ReadFile(dir + "/" + f.Name())
				require.NoError(t, err)
				tests.Write(b)
			}
		}
	}
	return tests.String()
}
