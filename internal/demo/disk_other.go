//go:build !linux

package demo

import (
	"context"
	"errors"
)

// Main plays the story on a small disk. Only Linux can make one without privileges.
func Main(context.Context, Options) error {
	return errors.New("the demo needs Linux")
}
