package vfstest

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"testing"

	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/internal/vfs/simfs"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// pair makes the same calls on the real and on the simulated file system.
type pair struct {
	*rapid.T
	fs    [2]vfs.FS
	dir   [2]string
	files [2][]vfs.File
}

// same makes a call on both and compares the errno, and what the call returns.
func (p *pair) same(what string, call func(k int) (any, error)) bool {
	var results [2]string
	var err error
	for k := range 2 {
		var got any
		var errno syscall.Errno
		got, err = call(k)
		if errors.As(err, &errno) {
			results[k] = errno.Error()
		} else {
			results[k] = fmt.Sprint(got, err)
		}
	}
	require.Equal(p, results[0], results[1], "real and simulated: %s", what)
	return err == nil
}

func (p *pair) name(label string) string {
	return rapid.SampledFrom([]string{"a", "b", "c", "d", "d/a", "d/b", "d/e", "d/e/a", "e", "e/a"}).Draw(p.T, label)
}

func (p *pair) path(k int, name string) string { return p.dir[k] + "/" + name }

func (p *pair) file() int {
	if len(p.files[0]) == 0 {
		p.Skip("no open file")
	}
	return rapid.IntRange(0, len(p.files[0])-1).Draw(p.T, "file")
}

func (p *pair) one(call func(fs vfs.FS, path string) error) {
	name := p.name("name")
	p.same(name, func(k int) (any, error) { return nil, call(p.fs[k], p.path(k, name)) })
}

func (p *pair) two(call func(fs vfs.FS, a, b string) error) {
	a, b := p.name("a"), p.name("b")
	p.same(a+" "+b, func(k int) (any, error) { return nil, call(p.fs[k], p.path(k, a), p.path(k, b)) })
}

func (p *pair) open() {
	name := p.name("name")
	flag := rapid.SampledFrom([]vfs.Flag{
		vfs.ReadOnly, vfs.ReadWrite, vfs.ReadWrite | vfs.Create, vfs.ReadWrite | vfs.Create | vfs.Exclusive,
	}).Draw(p.T, "flag")
	var opened [2]vfs.File
	if p.same("open "+name, func(k int) (_ any, err error) {
		opened[k], err = p.fs[k].Open(p.path(k, name), flag, 0o644)
		return nil, err
	}) {
		for k := range 2 {
			p.files[k] = append(p.files[k], opened[k])
		}
	}
}

func (p *pair) write() {
	f := p.file()
	off := rapid.Int64Range(0, 9000).Draw(p.T, "off")
	data := make([]byte, rapid.IntRange(0, 5000).Draw(p.T, "len"))
	fill := rapid.Byte().Draw(p.T, "fill")
	for k := range data {
		data[k] = fill
	}
	p.same("write", func(k int) (any, error) { n, err := p.files[k][f].WriteAt(data, off); return n, err })
}

func (p *pair) read() {
	f := p.file()
	off := rapid.Int64Range(0, 9000).Draw(p.T, "off")
	n := rapid.IntRange(0, 5000).Draw(p.T, "len")
	p.same("read", func(k int) (any, error) {
		data := make([]byte, n)
		n, err := p.files[k][f].ReadAt(data, off)
		return data[:n], err
	})
}

func (p *pair) lock() {
	f := p.file()
	kind := rapid.SampledFrom([]vfs.LockKind{vfs.Shared, vfs.Exclusively}).Draw(p.T, "kind")
	p.same("lock", func(k int) (any, error) { return nil, p.files[k][f].TryLock(kind) })
}

func (p *pair) close() {
	f := p.file()
	p.same("close", func(k int) (any, error) {
		err := p.files[k][f].Close()
		p.files[k] = append(p.files[k][:f:f], p.files[k][f+1:]...)
		return nil, err
	})
}

// check compares the trees, and the open files.
func (p *pair) check(dir string) {
	var lists [2][]vfs.Entry
	p.same("list "+dir, func(k int) (_ any, err error) {
		lists[k], err = p.fs[k].ReadDir(p.path(k, dir))
		return lists[k], err
	})
	for _, e := range lists[0] {
		name := dir + "/" + e.Name
		if e.Dir {
			p.check(name)
			continue
		}
		p.same("content of "+name, func(k int) (any, error) { return vfs.ReadFile(p.fs[k], p.path(k, name)) })
		p.same("stat of "+name, func(k int) (any, error) {
			info, err := p.fs[k].Stat(p.path(k, name))
			return []any{info.Size, info.Nlink, info.Mode}, err
		})
	}
}

// TestSimulatedIsReal makes random calls on both file systems: same results, same errors, same content.
func TestSimulatedIsReal(t *testing.T) {
	base := t.TempDir()
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp(base, "")
		require.NoError(rt, err)
		sim := simfs.New(simfs.Options{})
		require.NoError(rt, sim.Mkdir("/t", 0o755))
		p := &pair{T: rt, fs: [2]vfs.FS{vfs.OS(), sim}, dir: [2]string{dir, "/t"}}
		defer func() {
			for k := range 2 {
				for _, f := range p.files[k] {
					_ = f.Close()
				}
			}
			_ = os.RemoveAll(dir)
		}()
		action := func(do func()) func(*rapid.T) { return func(rt *rapid.T) { p.T = rt; do() } }
		rt.Repeat(map[string]func(*rapid.T){
			"open":  action(p.open),
			"write": action(p.write),
			"read":  action(p.read),
			"lock":  action(p.lock),
			"close": action(p.close),
			"unlock": action(func() {
				f := p.file()
				p.same("unlock", func(k int) (any, error) { return nil, p.files[k][f].Unlock() })
			}),
			"truncate": action(func() {
				f, size := p.file(), rapid.Int64Range(0, 12000).Draw(p.T, "size")
				p.same("truncate", func(k int) (any, error) { return nil, p.files[k][f].Truncate(size) })
			}),
			"size": action(func() {
				f := p.file()
				p.same("stat", func(k int) (any, error) {
					info, err := p.files[k][f].Stat()
					if info.Mode.IsDir() {
						return nil, err
					}
					return []any{info.Size, info.Nlink}, err
				})
			}),
			"sync": action(func() {
				f := p.file()
				p.same("sync", func(k int) (any, error) { return nil, p.files[k][f].Sync() })
			}),
			"mkdir":    action(func() { p.one(func(fs vfs.FS, path string) error { return fs.Mkdir(path, 0o755) }) }),
			"rmdir":    action(func() { p.one(vfs.FS.Rmdir) }),
			"unlink":   action(func() { p.one(vfs.FS.Unlink) }),
			"syncdir":  action(func() { p.one(vfs.FS.SyncDir) }),
			"rename":   action(func() { p.two(vfs.FS.Rename) }),
			"exchange": action(func() { p.two(vfs.FS.Exchange) }),
			"link":     action(func() { p.two(vfs.FS.Link) }),
			"":         action(func() { p.check("") }),
		})
	})
}
