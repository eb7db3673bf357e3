package twoskip

import (
	"github.com/mailspine/mailspine/skiplist/internal/codec"
	"github.com/mailspine/mailspine/skiplist/internal/tree"
)

var _ codec.Sizer = format{}

// RewriteSize implements codec.Sizer.
func (f format) RewriteSize(v *codec.View, live tree.Tree) (int64, error) {
	_, end, err := f.layOut(v, live)
	if err != nil || live.Len() == 0 {
		return end, err
	}
	return end + blankSize*blanks(end, markSize) + markSize, nil
}
