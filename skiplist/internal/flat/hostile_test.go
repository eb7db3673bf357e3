package flat

import (
	"bytes"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/skiplist/internal/codec"
	"github.com/mailspine/mailspine/skiplist/internal/tree"
)

// TestHostileFilesAreBounded reads large files (100 MB in a campaign) that are made to cost time or memory: each is read
// in linear time, and what is ever allocated, in four passes over the file, is a small multiple of it and of its lines.
func TestHostileFilesAreBounded(t *testing.T) {
	size := 2 << 20
	if os.Getenv("MAILSPINE_CAMPAIGN") != "" {
		size = 100 << 20
	}
	fill := func(pattern string) []byte { return bytes.Repeat([]byte(pattern), size/len(pattern)) }
	long := fill("k")
	long[size-3], long[size-1] = '\t', '\n'
	for name, file := range map[string][]byte{
		"no TAB and no LF":    fill("x"),
		"no TAB":              fill("xxxxxxx\n"),
		"only LF":             fill("\n"),
		"only NULs":           make([]byte, size),
		"NULs after a line":   append([]byte("a\t1\n"), make([]byte, size)...),
		"only TABs":           fill("\t"),
		"one long key":        long,
		"one long value":      append(append([]byte("k\t"), fill("v")...), '\n'),
		"escapes":             append(append([]byte("k\t"), fill("\xff\x80")...), '\n'),
		"half of an escape":   append([]byte("k\t"), fill("\xff")...),
		"one line, again":     fill("key\tvalue\n"),
		"a key, other values": fill("key\tvalue\nkey\tother\n"),
	} {
		t.Run(name, func(t *testing.T) {
			for i, v := range []*codec.View{mapped(file), unmapped(file)} {
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				start := time.Now()
				_, err := New().ReadHeader(v)
				if err != nil {
					require.ErrorIs(t, err, codec.ErrNotDatabase)
				}
				for _, opt := range []codec.ReplayOptions{{}, {Salvage: true}} {
					ed := tree.Edit(tree.Tree{}, lookup(v))
					log, err := New().Replay(v, codec.Header{}, opt, ed)
					require.NoError(t, err)
					require.LessOrEqual(t, len(log.Findings), 6*maxFindings)
				}
				for range New().Spans(v) {
					break
				}
				runtime.ReadMemStats(&after)
				require.Less(t, time.Since(start), time.Duration(size>>20)*10*time.Second)
				limit := 16*size + 1<<20
				if i > 0 { // Without a mapping each key is read by itself.
					limit += bytes.Count(file, []byte("\n")) * 4 * keyStep
				}
				require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(limit), "mapped %v", i == 0)
			}
		})
	}
}
