package main

import (
	"context"
	"io"
)

// interruptible is an input that stops waiting when the context ends. A read of a terminal or pipe cannot be called
// back: the goroutine that waits in it is left behind, until the process ends.
type interruptible struct {
	ctx  context.Context
	in   io.Reader
	next chan chunk
	want chan struct{}
	rest []byte
	err  error
}

type chunk struct {
	data []byte
	err  error
}

// Read implements io.Reader.
func (r *interruptible) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, context.Cause(r.ctx)
	}
	if len(r.rest) == 0 && r.err == nil {
		r.start()
		select {
		case r.want <- struct{}{}:
		case <-r.ctx.Done():
			return 0, context.Cause(r.ctx)
		}
		select {
		case c := <-r.next:
			r.rest, r.err = c.data, c.err
		case <-r.ctx.Done():
			return 0, context.Cause(r.ctx)
		}
	}
	n := copy(p, r.rest)
	if r.rest = r.rest[n:]; len(r.rest) > 0 {
		return n, nil
	}
	return n, r.err
}

// start begins to read, when the first byte is asked for.
func (r *interruptible) start() {
	if r.next != nil {
		return
	}
	r.next, r.want = make(chan chunk, 1), make(chan struct{})
	go func() {
		buf := make([]byte, 64<<10)
		for range r.want {
			n, err := r.in.Read(buf)
			r.next <- chunk{append([]byte(nil), buf[:n]...), err}
			if err != nil {
				return
			}
		}
	}()
}
