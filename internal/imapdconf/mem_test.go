package imapdconf

import (
	"fmt"
	"io"
	"io/fs"
	"strings"
	"syscall"

	"github.com/mailspine/mailspine/internal/vfs"
)

// memFS is a file system of texts. A name that ends in "/" is a directory. Only what this package calls is there.
type memFS struct {
	vfs.FS
	files map[string]string
}

func mem(files ...string) memFS {
	m := memFS{files: map[string]string{}}
	for i := 0; i < len(files); i += 2 {
		m.files[files[i]] = files[i+1]
	}
	return m
}

func (m memFS) Open(name string, _ vfs.Flag, _ fs.FileMode) (vfs.File, error) {
	text, ok := m.files[name]
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: name, Err: syscall.ENOENT}
	}
	return memFile{text: text}, nil
}

func (m memFS) Stat(name string) (vfs.Info, error) {
	if _, ok := m.files[strings.TrimSuffix(name, "/")+"/"]; ok {
		return vfs.Info{Mode: fs.ModeDir | 0o755}, nil
	}
	if text, ok := m.files[name]; ok {
		return vfs.Info{Mode: 0o755, Size: int64(len(text))}, nil
	}
	return vfs.Info{}, &fs.PathError{Op: "stat", Path: name, Err: syscall.ENOENT}
}

func (m memFS) ReadDir(name string) (list []vfs.Entry, err error) {
	for file := range m.files {
		if base, ok := strings.CutPrefix(file, name+"/"); ok && base != "" {
			list = append(list, vfs.Entry{Name: base})
		}
	}
	return list, nil
}

type memFile struct {
	vfs.File
	text string
}

func (f memFile) ReadAt(p []byte, off int64) (int, error) {
	return strings.NewReader(f.text).ReadAt(p, off)
}

func (f memFile) Stat() (vfs.Info, error) {
	return vfs.Info{Mode: 0o644, Size: int64(len(f.text))}, nil
}

func (f memFile) Close() error { return nil }

var _ io.ReaderAt = memFile{}

// brief lists problems as "line:column code", with "!" in front if Cyrus refuses.
func brief(problems []*Problem) []string {
	var list []string
	for _, p := range problems {
		mark := ""
		if p.Refused {
			mark = "!"
		}
		list = append(list, fmt.Sprintf("%s%d:%d %s", mark, p.Line, p.Column, p.Code))
	}
	return list
}
