package simfs

import (
	"io/fs"
	"syscall"

	"github.com/mailspine/mailspine/internal/vfs"
)

// Poison is what a mapping shows beyond the end of the file, where a real one would fault.
const Poison = 0xDB

// poisonMax is how far beyond the end the poison is laid out; a large mapping should not cost its length each time.
const poisonMax = 64 << 10

func modeBits(perm uint32) fs.FileMode { return fs.FileMode(perm & 0o777) }

// mapping is a copy of the file that every later write is copied into as well.
type mapping struct {
	v    *FS
	node *inode
	file *File // that it was made from
	name string
	data []byte
}

func (f *File) Map(n int64) (vfs.Mapping, error) {
	if err := f.enter("map"); err != nil {
		return nil, err
	}
	defer f.v.d.mu.Unlock()
	switch {
	case n <= 0 || n != int64(int(n)):
		return nil, pathError("map", f.name, syscall.EINVAL)
	case f.v.d.opts.NoMap || f.node.dir:
		return nil, pathError("map", f.name, syscall.ENODEV)
	}
	m := &mapping{v: f.v, node: f.node, file: f, name: f.name, data: make([]byte, n)}
	f.node.opens++
	f.node.maps = append(f.node.maps, m)
	m.refresh(0, f.node.size)
	return m, nil
}

// refreshMaps shows the bytes of [from, to) in all mappings.
func (i *inode) refreshMaps(from, to int64) {
	for _, m := range i.maps {
		m.refresh(from, to)
	}
}

func (m *mapping) refresh(from, to int64) {
	n := int64(len(m.data))
	if end := min(to, n, m.node.size); from < end {
		m.node.copyOut(m.data[from:end], from)
	}
	beyond := m.data[min(n, m.node.size):min(n, max(to, m.node.size)+poisonMax)]
	for k := range beyond {
		beyond[k] = Poison
	}
}

func (m *mapping) Bytes() []byte { return m.data }

func (m *mapping) Close() error {
	if err := m.v.enter("unmap", m.name); err != nil {
		return err
	}
	defer m.v.d.mu.Unlock()
	maps := m.node.maps
	for k, other := range maps {
		if other == m {
			m.node.maps = append(maps[:k:k], maps[k+1:]...)
			m.data = nil
			m.node.opens--
			m.v.d.release(m.node)
			return nil
		}
	}
	return pathError("unmap", m.name, syscall.EINVAL)
}
