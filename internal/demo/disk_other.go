//go:build !linux

package demo

import (
	"context"
	"errors"
	"io"
)

// Main plays the story on a small disk. Only Linux can make one without privileges.
func Main(context.Context, io.Writer, io.Writer) error {
	return errors.New("the demo needs Linux")
}
