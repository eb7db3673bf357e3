//go:build !linux || !(amd64 || arm64)

package killsup

import (
	"context"
	"fmt"
	"os"
	"os/exec"
)

// Supported always returns [ErrUnsupported] on this platform.
func Supported() error { return ErrUnsupported }

// Run always fails with [ErrUnsupported] on this platform; the command is not started.
func Run(context.Context, *exec.Cmd, Plan) (Result, error) { return Result{}, ErrUnsupported }

// shim ends the process: nothing on this platform can have asked for it.
func shim(string) {
	fmt.Fprintln(os.Stderr, "killsup:", ErrUnsupported)
	os.Exit(126)
}
