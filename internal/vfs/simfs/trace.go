package simfs

import (
	"fmt"
	"io"
	"iter"
	"slices"
	"strconv"
	"strings"
)

// Trace is what was recorded of a disk: where it began, and every operation since.
type Trace struct {
	opts Options
	base *snapshot
	ops  []op
}

// Search tells which images to build. The zero value looks at every operation.
type Search struct {
	// Limit is the greatest number of images at one operation that are all built; 4096 by default, -1 for none.
	Limit int
	// Samples is how many are drawn where there are more than Limit; 64 by default.
	Samples int
	// Seed decides the samples.
	Seed uint64
	// Whole leaves torn and garbage sectors out.
	Whole bool
	// From and To bound the operations: crashes after From operations up to and with To, 0 for the end.
	From, To int
}

// Image is the disk that a crash left.
type Image struct {
	*FS
	// Op is how many operations were made before the crash.
	Op int
	// Seed is the line that [Trace.Image] makes this image from again.
	Seed string
	// Marks are the notes written before the crash.
	Marks []string
}

// Len is the number of operations.
func (t *Trace) Len() int { return len(t.ops) }

// Op describes one operation.
func (t *Trace) Op(n int) string { return t.ops[n].String() }

// Images yields images of the disk after each operation: all that can be, or samples. Where an operation changes
// neither what a crash can leave nor the marks, nothing is built. An image is the caller's: it may be changed, and
// traced in its turn.
func (t *Trace) Images(s Search) iter.Seq[*Image] {
	if s.Limit == 0 {
		s.Limit = 4096
	}
	if s.Samples == 0 {
		s.Samples = 64
	}
	if s.To == 0 || s.To > len(t.ops) {
		s.To = len(t.ops)
	}
	return func(yield func(*Image) bool) {
		m := newModel(t.base, &t.opts)
		var marks []string
		for at := 0; ; at++ {
			if at >= s.From && (at == 0 || at == s.From || t.ops[at-1].matters()) && !t.imagesAt(m, marks, s, yield) {
				return
			}
			if at == s.To {
				return
			}
			m.apply(&t.ops[at])
			if t.ops[at].kind == opMark {
				marks = append(marks[:len(marks):len(marks)], t.ops[at].note)
			}
		}
	}
}

// matters tells whether there is anything new to look at after an operation.
func (o *op) matters() bool { return o.kind != opEvict && o.kind != opAllocate && o.kind != opTimes }

func (t *Trace) imagesAt(m *model, marks []string, s Search, yield func(*Image) bool) bool {
	build := func(c chooser, seed string) *Image {
		return &Image{FS: m.image(c, s.Whole).open(t.opts), Op: m.at, Seed: seed, Marks: marks}
	}
	prefix := "op=" + strconv.Itoa(m.at)
	if s.Whole {
		prefix += " whole"
	}
	if s.Limit < 0 || m.count(s.Limit, s.Whole) > s.Limit {
		for k := range s.Samples {
			seed := mix(s.Seed, uint64(m.at)<<32|uint64(k))
			if !yield(build(newSampler(seed), prefix+" seed=0x"+strconv.FormatUint(seed, 16))) {
				return false
			}
		}
		return true
	}
	for o := new(odometer); ; {
		img := build(o, "")
		img.Seed = prefix + " pick=" + o.String()
		if !yield(img) {
			return false
		}
		if !o.next() {
			return true
		}
	}
}

// String writes the choices.
func (o *odometer) String() string {
	text := make([]byte, 0, 16)
	for _, d := range o.digits[:o.used] {
		text = strconv.AppendInt(text, int64(d), 10)
		text = append(text, '.')
	}
	return strings.TrimSuffix(string(text), ".")
}

// Image builds one image again from its seed line.
func (t *Trace) Image(line string) (*Image, error) {
	at, whole, c, err := parseSeed(line)
	if err != nil {
		return nil, err
	}
	if at < 0 || at > len(t.ops) {
		return nil, fmt.Errorf("seed %q: the trace has operations 0 to %d", line, len(t.ops))
	}
	m, marks := t.modelAt(at)
	return &Image{FS: m.image(c, whole).open(t.opts), Op: at, Seed: line, Marks: marks}, nil
}

func (t *Trace) modelAt(at int) (*model, []string) {
	m := newModel(t.base, &t.opts)
	var marks []string
	for k := range t.ops[:at] {
		m.apply(&t.ops[k])
		if t.ops[k].kind == opMark {
			marks = append(marks, t.ops[k].note)
		}
	}
	return m, marks
}

func parseSeed(line string) (at int, whole bool, c chooser, err error) {
	for field := range strings.FieldsSeq(line) {
		key, value, _ := strings.Cut(field, "=")
		switch key {
		case "op":
			at, err = strconv.Atoi(value)
		case "whole":
			whole = true
		case "seed":
			var seed uint64
			seed, err = strconv.ParseUint(value, 0, 64)
			c = newSampler(seed)
		case "pick":
			o := new(odometer)
			for digit := range strings.SplitSeq(value, ".") {
				if value == "" {
					break
				}
				d, e := strconv.Atoi(digit)
				if e != nil {
					err = e
				}
				o.digits, o.bases = append(o.digits, d), append(o.bases, d+1)
			}
			c = o
		default:
			err = fmt.Errorf("unknown field %q", field)
		}
		if err != nil {
			return 0, false, nil, fmt.Errorf("seed %q: %w", line, err)
		}
	}
	if c == nil {
		return 0, false, nil, fmt.Errorf("seed %q: neither seed= nor pick=", line)
	}
	return at, whole, c, nil
}

// Killed returns the disk as the next process finds it if all were killed after the given number of operations.
func (t *Trace) Killed(at int) *FS {
	m, _ := t.modelAt(at)
	head := *t
	head.ops = t.ops[:at:at]
	return head.kill(m)
}

// Kills yields the disk after each operation as a killed process leaves it, with the marks written before.
func (t *Trace) Kills() iter.Seq[*Image] {
	return func(yield func(*Image) bool) {
		m := newModel(t.base, &t.opts)
		var marks []string
		for at := 0; ; at++ {
			head := *t
			head.ops = t.ops[:at:at]
			img := &Image{FS: head.kill(m), Op: at, Seed: fmt.Sprintf("op=%d kill", at), Marks: marks}
			if !yield(img) || at == len(t.ops) {
				return
			}
			m.apply(&t.ops[at])
			if t.ops[at].kind == opMark {
				marks = append(marks[:len(marks):len(marks)], t.ops[at].note)
			}
		}
	}
}

// kill makes a disk that goes on where the trace ends, with the page cache of m.
func (t *Trace) kill(m *model) *FS {
	fs := t.base.open(t.opts)
	d := fs.d
	d.ops, d.nops = t.ops, len(t.ops)
	d.clock = m.time - int64(len(t.ops))*1000
	d.inodes = make([]*inode, len(m.nodes))
	links := make([]int, len(m.nodes))
	links[rootIno] = 1
	for ino := range m.nodes {
		for _, e := range m.cacheAt(ino).ents {
			links[e.ino]++
		}
	}
	for ino, n := range m.nodes {
		if ino == 0 || n == nil && (ino >= len(t.base.nlink) || links[ino] == t.base.nlink[ino]) {
			continue
		}
		i := &inode{frozen: *m.cacheAt(ino), ino: ino, nlink: links[ino],
			tabShared: true, entsShared: true, blocksShared: true, gone: links[ino] == 0}
		if n != nil {
			n.cacheShared = true
		}
		d.inodes[ino] = i
	}
	if d.opts.Blocks > 0 || d.opts.Inodes > 0 {
		d.recount()
	}
	return fs
}

// cacheAt is what reads of an inode see.
func (m *model) cacheAt(ino int) *frozen {
	if ino < len(m.nodes) && m.nodes[ino] != nil {
		return &m.nodes[ino].cache
	}
	if f := m.base.frozenAt(ino); f != nil {
		return f
	}
	return &frozen{}
}

// Dump writes what led to an image: the operations, and for each file what differs from the page cache at the crash.
func (t *Trace) Dump(w io.Writer, line string) error {
	at, whole, c, err := parseSeed(line)
	if err != nil {
		return err
	}
	m, _ := t.modelAt(max(0, min(at, len(t.ops))))
	for k := range m.at {
		fmt.Fprintf(w, "%4d %s\n", k+1, t.ops[k].String())
	}
	s := m.image(c, whole)
	fmt.Fprintf(w, "crash: %s\n", line)
	for ino := 1; ino < len(s.inodes); ino++ {
		dumpInode(w, ino, s.inodes[ino], m.cacheAt(ino))
	}
	return nil
}

func dumpInode(w io.Writer, ino int, got, cache *frozen) {
	switch {
	case got == nil:
		fmt.Fprintf(w, "inode %d is gone\n", ino)
	case got.dir:
		if !slices.Equal(got.ents, cache.ents) {
			fmt.Fprintf(w, "inode %d has the names %v instead of %v\n", ino, got.ents, cache.ents)
		}
	default:
		var old []int
		for k := range sectorCount(got.size) {
			if *got.at(k).bytes() != *cache.at(k).bytes() {
				old = append(old, k)
			}
		}
		if got.size != cache.size || len(old) > 0 {
			fmt.Fprintf(w, "inode %d has size %d instead of %d, and differs in sectors %v\n", ino, got.size, cache.size, old)
		}
	}
}
