//go:build linux || darwin

package vfs

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

const wordLenBytes = 8

// SharedWord keeps the word in a small file of /dev/shm (or, without one, of os.TempDir), whose name is a hash of name
// and of this boot. The word file gets the owner and mode of the file that name leads to, so whoever can use the one
// can use the other: root and the user cyrus share it whoever came first. A word file that belongs to a stranger is
// refused with EPERM. Processes in containers share the word only if they share /dev/shm.
func (osFS) SharedWord(name string) (SharedWord, error) {
	sum := sha256.Sum256([]byte(bootID() + "\x00" + name))
	base := "mailspine-" + hex.EncodeToString(sum[:16])
	w, err := openWord(filepath.Join(sharedDir(), base), name)
	if err != nil {
		return nil, fmt.Errorf("shared word of %s: %w", name, err)
	}
	return w, nil
}

// sharedDir depends on nothing but the machine: processes that differed about it would not see each other's words.
func sharedDir() string {
	const memory = "/dev/shm"
	if info, err := os.Stat(memory); err == nil && info.IsDir() {
		return memory
	}
	return os.TempDir()
}

func openWord(path, name string) (SharedWord, error) {
	owner := unix.Stat_t{Uid: uint32(unix.Geteuid()), Gid: uint32(unix.Getegid()), Mode: 0o600}
	if err := unix.Stat(name, &owner); err != nil && err != unix.ENOENT {
		return nil, pathError("stat", name, err)
	}
	for {
		w, err := mapWord(path, owner.Uid)
		if !errors.Is(err, unix.ENOENT) {
			return w, err
		}
		if err := createWord(path, &owner); err != nil {
			return nil, err
		}
	}
}

// createWord makes the file complete under another name before it links it, so that nobody meets it half made. (Nor
// may it be opened with O_CREAT: in a sticky directory Linux refuses that for files of others.)
func createWord(path string, owner *unix.Stat_t) error {
	temp := fmt.Sprintf("%s.%016x", path, rand.Uint64())
	fd, err := unix.Open(temp, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return pathError("create", temp, err)
	}
	defer func() { _ = unix.Close(fd); _ = unix.Unlink(temp) }()
	if err := unix.Ftruncate(fd, wordLenBytes); err != nil {
		return pathError("truncate", temp, err)
	}
	if err := unix.Fchown(fd, int(owner.Uid), int(owner.Gid)); err != nil && err != unix.EPERM {
		return pathError("chown", temp, err)
	}
	if err := unix.Fchmod(fd, uint32(owner.Mode)&0o666); err != nil {
		return pathError("chmod", temp, err)
	}
	if err := unix.Link(temp, path); err != nil && err != unix.EEXIST {
		return linkError("link", temp, path, err)
	}
	return nil
}

// mapWord maps an existing word; who may only read it gets one whose Store does nothing.
func mapWord(path string, owner uint32) (SharedWord, error) {
	prot := unix.PROT_READ | unix.PROT_WRITE
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err == unix.EACCES {
		prot = unix.PROT_READ
		fd, err = unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	}
	if err != nil {
		return nil, pathError("open", path, err)
	}
	defer func() { _ = unix.Close(fd) }()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, pathError("stat", path, err)
	}
	known := st.Uid == 0 || st.Uid == owner || int(st.Uid) == unix.Geteuid()
	if !known || st.Mode&unix.S_IFMT != unix.S_IFREG || st.Size != wordLenBytes {
		return nil, pathError("open", path, unix.EPERM)
	}
	data, err := unix.Mmap(fd, 0, wordLenBytes, prot, unix.MAP_SHARED)
	if err != nil {
		return nil, pathError("map", path, err)
	}
	return &osWord{data: data, word: (*atomic.Uint64)(unsafe.Pointer(&data[0])), writable: prot&unix.PROT_WRITE != 0}, nil
}

type osWord struct {
	data     []byte
	word     *atomic.Uint64
	writable bool
}

func (w *osWord) Load() uint64 { return w.word.Load() }

func (w *osWord) Store(v uint64) {
	if w.writable {
		w.word.Store(v)
	}
}

func (w *osWord) Close() error { return unix.Munmap(w.data) }
