// Command mailspine opens, checks, repairs and changes the metadata stores of mail servers.
package main

import (
	"context"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/term"
)

func main() { os.Exit(program()) }

// patience is how long after the first Ctrl-C another one does not count: the programs between a terminal and this one,
// timeout and sudo among them, may pass on what it has got itself.
const patience = time.Second

// program runs the command line of this process. The first Ctrl-C ends the work where nothing is half done; the second
// ends the process. The signals stay caught to the end, so that a late one does not take the place of the exit status.
func program() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, func() { time.AfterFunc(patience, stop) })
	s := streams{
		in: os.Stdin, out: os.Stdout, err: os.Stderr,
		outTerminal: term.IsTerminal(int(os.Stdout.Fd())), errTerminal: term.IsTerminal(int(os.Stderr.Fd())),
	}
	if filepath.Base(os.Args[0]) == linkName {
		return runLink(ctx, os.Args[0], os.Args[1:], s)
	}
	return run(ctx, os.Args[1:], s)
}
