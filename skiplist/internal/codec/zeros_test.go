package codec_test

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/skiplist/internal/codec"
)

func TestPastZeros(t *testing.T) {
	file := make([]byte, 5*4096)
	file[3*4096+17] = 1
	tail := make([]byte, 4096)
	for _, v := range []*codec.View{
		{Size: int64(len(file)), Mem: file, Tail: tail},
		{Size: int64(len(file)), File: bytes.NewReader(file), Tail: tail},
	} {
		for _, c := range [][3]int64{
			{0, v.End(), 3 * 4096}, {4096, v.End(), 3 * 4096}, {0, 4096, 4096}, {0, 4095, 0}, {8, v.End(), 8},
			{3 * 4096, v.End(), 3 * 4096}, {4 * 4096, v.End(), 6 * 4096}, {6 * 4096, 9 * 4096, 6 * 4096},
		} {
			require.Equal(t, c[2], v.PastZeros(c[0], c[1]), "%v", c)
		}
	}
}
