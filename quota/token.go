package quota

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io/fs"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/mailspine/mailspine/internal/vfs"
)

// tokens are what changes under way have asked for. Each is a file whose lock is held by the process that works on the change: a
// file that nobody holds is free, whatever stands in it, as its holder has died. Nothing of it has to outlive the machine, and nothing
// is synced. Tokens of a root are made and counted under the lock of its record.
//
// A file is magic (8), a CRC-32C of what follows (4), the length of the name (4), the amounts (8 each), all big-endian, and the name of
// the root. It is written at once, and its magic is overwritten when it is given back.
//
// Whoever makes a token out of a file that a dead process has left holds its lock for a moment in which the old name stands in it. Who
// counts for that name then finds more asked for than is, never less.
type tokens struct {
	fs  vfs.FS
	dir string
}

var tokenMagic = [8]byte{'M', 'S', 'q', 'u', 'o', 't', 'a', 1}

const (
	tokenHead = 16 + 8*Resources
	// tokensMax bounds the number of files: that of the changes at one time.
	tokensMax = 4096
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// errTokens means that too many changes are under way.
var errTokens = errors.New("too many changes under way ask for room in quota roots")

// tokenSlot is a file that this process holds.
type tokenSlot struct{ f vfs.File }

func (t *tokens) path(n int) string { return filepath.Join(t.dir, strconv.Itoa(n)) }

// take makes a token. The caller holds the lock of the root.
func (t *tokens) take(root string, delta Amounts) (*tokenSlot, error) {
	if err := vfs.MkdirAll(t.fs, t.dir, 0o700); err != nil {
		return nil, err
	}
	b := appendToken(nil, root, delta)
	for n := 0; n < tokensMax; {
		f, err := t.hold(n)
		switch {
		case errors.Is(err, fs.ErrExist): // somebody else has just made it
			continue
		case errors.Is(err, errHeld):
			n++
			continue
		case err != nil:
			return nil, err
		}
		if _, err := f.WriteAt(b, 0); err != nil {
			s := &tokenSlot{f}
			s.release()
			return nil, err
		}
		return &tokenSlot{f}, nil
	}
	return nil, errTokens
}

// hold locks file n, and makes it if it is not there.
func (t *tokens) hold(n int) (vfs.File, error) {
	f, err := t.fs.Open(t.path(n), vfs.ReadWrite, 0)
	if errors.Is(err, fs.ErrNotExist) {
		f, err = t.fs.Open(t.path(n), vfs.ReadWrite|vfs.Create|vfs.Exclusive, 0o600)
	}
	if err != nil {
		return nil, err
	}
	if err := f.TryLock(vfs.Exclusively); err != nil {
		_ = f.Close()
		if isHeld(err) {
			err = errHeld
		}
		return nil, err
	}
	return f, nil
}

var errHeld = errors.New("somebody holds it")

// isHeld tells whether a lock is somebody's. POSIX lets fcntl answer either.
func isHeld(err error) bool { return errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EACCES) }

// release gives the token back. It may be nil.
func (s *tokenSlot) release() {
	if s == nil {
		return
	}
	_, _ = s.f.WriteAt(make([]byte, len(tokenMagic)), 0)
	_ = s.f.Close() // with the lock goes the token, also if the write has failed
}

// pending adds up what living processes have asked for in a root.
func (t *tokens) pending(root string) (sum Amounts, err error) {
	for n := range tokensMax {
		f, err := t.fs.Open(t.path(n), vfs.ReadWrite, 0)
		if errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err != nil {
			return sum, err
		}
		delta, alive, err := living(f, root)
		if e := f.Close(); err == nil {
			err = e
		}
		if err != nil {
			return sum, err
		}
		if alive {
			sum, _ = sum.Plus(delta)
		}
	}
	return sum, nil
}

// living tells whether a file is a token for the root that somebody holds. What a dead process has left is overwritten.
func living(f vfs.File, root string) (delta Amounts, alive bool, err error) {
	read := func() bool {
		b := make([]byte, tokenHead+len(root))
		n, _ := f.ReadAt(b, 0)
		var name string
		name, delta, alive = decodeToken(b[:n])
		return alive && name == root
	}
	if !read() {
		return Amounts{}, false, nil
	}
	err = f.TryLock(vfs.Exclusively)
	if isHeld(err) {
		return delta, read(), nil
	}
	if err == nil && read() {
		_, err = f.WriteAt(make([]byte, len(tokenMagic)), 0)
	}
	return Amounts{}, false, err
}

func appendToken(dst []byte, root string, delta Amounts) []byte {
	start := len(dst)
	dst = append(append(dst, tokenMagic[:]...), 0, 0, 0, 0)
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(root)))
	for _, n := range delta {
		dst = binary.BigEndian.AppendUint64(dst, uint64(max(n, 0))) // what is freed is room once the change is made
	}
	dst = append(dst, root...)
	binary.BigEndian.PutUint32(dst[start+8:], crc32.Checksum(dst[start+12:], castagnoli))
	return dst
}

// decodeToken reads a token at the start of b.
func decodeToken(b []byte) (root string, delta Amounts, ok bool) {
	if len(b) < tokenHead || [8]byte(b) != tokenMagic {
		return "", delta, false
	}
	n := binary.BigEndian.Uint32(b[12:])
	if int64(n) > int64(len(b)-tokenHead) {
		return "", delta, false
	}
	b = b[:tokenHead+int(n)]
	if crc32.Checksum(b[12:], castagnoli) != binary.BigEndian.Uint32(b[8:]) {
		return "", delta, false
	}
	for i := range delta {
		delta[i] = max(0, int64(binary.BigEndian.Uint64(b[16+8*i:])))
	}
	return string(b[tokenHead:]), delta, true
}
