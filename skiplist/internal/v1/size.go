package v1

import (
	"github.com/mailspine/mailspine/skiplist/internal/codec"
	"github.com/mailspine/mailspine/skiplist/internal/tree"
)

var _ codec.Sizer = format{}

// RewriteSize implements codec.Sizer.
func (f format) RewriteSize(v *codec.View, live tree.Tree) (int64, error) {
	lay, err := f.layOut(v, live)
	if err != nil {
		return 0, err
	}
	return lay.size, nil
}
