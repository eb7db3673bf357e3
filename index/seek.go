package index

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"sync"
)

const (
	// sampleEvery is the distance of the records whose UIDs are remembered.
	sampleEvery = 512
	// guesses is how many records a search looks at where UIDs that spread evenly would have put the one that is sought,
	// before it halves what is left.
	guesses = 3
	// longRun is the number of wiped records in a row from which on it pays to remember where they are.
	longRun = 64
)

// Find returns the record with a UID and its number, or ErrNotFound. UIDs ascend, so it looks at few records; in a file
// where they do not it may miss one. Wiped records, with UID 0, are stepped over.
func (f *File) Find(uid UID) (RecordNo, Record, error) {
	no, err := f.Seek(uid)
	if err != nil {
		return 0, Record{}, err
	}
	rec, err := f.Record(no)
	if rec.UID != uid || uid == 0 {
		if err == nil || errors.Is(err, ErrNotFound) {
			err = fmt.Errorf("UID %d in %s: %w", uid, f.path, ErrNotFound)
		}
		return 0, Record{}, err
	}
	return no, rec, err
}

// Seek returns the number of the first record whose UID is at least uid, Len+1 if there is none. In a file where UIDs do
// not ascend it is some record.
//
// It halves the file by the UIDs of every 512th record, which are remembered, and then looks at the records where UIDs that
// spread evenly would have put the one that is sought: in most mailboxes at two or three, in any at 12. A look at a wiped
// record is a look at its neighbours to the left, too. Runs of wiped records that are long are remembered: in all searches
// together each is passed once.
func (f *File) Seek(uid UID) (RecordNo, error) {
	buf := make([]byte, 4)
	b, err := f.coarse(buf, uid)
	if err != nil {
		return 0, err
	}
	for looks := 0; b.low < b.high; looks++ {
		mid := b.low + (b.high-b.low)/2
		if looks < guesses {
			mid = b.guess(uid)
		}
		no, found, err := f.liveBefore(buf, mid, b.low)
		switch {
		case err != nil:
			return 0, err
		case found == uid && uid != 0:
			return RecordNo(no), nil
		case found == 0:
			b.low = mid + 1
		case found < uid:
			b.low, b.below = mid+1, found
		default:
			b.high, b.above = no, found
		}
	}
	return RecordNo(b.high), nil
}

// bracket is what is left of the file in a search: records before low have a smaller UID than the one that is sought or
// were wiped, those from high on have not or were wiped. The UIDs next to it are for guesses only.
type bracket struct {
	low, high    int64
	below, above UID
}

// guess is where the UID is if they spread evenly.
func (b *bracket) guess(uid UID) int64 {
	if uid < b.below || uid >= b.above {
		return b.low + (b.high-b.low)/2
	}
	// Neither factor has more than 32 bits, and the quotient is less than high-low.
	return b.low + int64(uint64(uid-b.below)*uint64(b.high-b.low)/uint64(b.above-b.below))
}

// coarse finds the records between two samples that a UID must be among.
func (f *File) coarse(buf []byte, uid UID) (bracket, error) {
	b := bracket{low: 1, high: int64(f.count) + 1, above: f.Header.LastUID}
	for first, end := 0, len(f.samples); first < end; {
		i := first + (end-first)/2
		no := int64(i+1) * sampleEvery
		found := UID(f.samples[i].Load())
		if found == 0 {
			var err error
			if found, err = f.uid(buf, no); err != nil {
				return b, err
			}
			if found == 0 {
				return b, nil // it was wiped, and tells nothing
			}
			f.samples[i].Store(uint32(found))
		}
		if found < uid {
			first, b.low, b.below = i+1, no+1, found
		} else {
			end, b.high, b.above = i, no, found
		}
	}
	return b, nil
}

// liveBefore returns the last record from low to no that was not wiped, and its UID; 0 if all were.
func (f *File) liveBefore(buf []byte, no, low int64) (int64, UID, error) {
	first := no
	for ; no >= low; no-- {
		uid, err := f.uid(buf, no)
		if err != nil || uid != 0 {
			f.wiped.add(no+1, first)
			return no, uid, err
		}
		if run, ok := f.wiped.holds(no); ok {
			no = run.first
		}
	}
	f.wiped.add(max(no+1, low), first)
	return 0, 0, nil
}

// uid reads the UID of a record through buf.
func (f *File) uid(buf []byte, no int64) (UID, error) {
	if err := f.read(buf, f.Offset(RecordNo(no))+int64(f.layout.record[rUID].off)); err != nil {
		return 0, err
	}
	return UID(place{size: 4}.get32(buf)), nil
}

// run are wiped records from first to last.
type run struct{ first, last int64 }

// runs are the long runs of wiped records that searches have come upon, ascending. In a file as Cyrus keeps it there are
// none: a wiped record stays wiped until a repack, which makes another file without it.
type runs struct {
	mu   sync.RWMutex
	list []run
}

// holds returns the run with record no.
func (r *runs) holds(no int64) (run, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	i, _ := slices.BinarySearchFunc(r.list, no, func(x run, no int64) int { return cmp.Compare(x.last, no) })
	if i == len(r.list) || r.list[i].first > no {
		return run{}, false
	}
	return r.list[i], true
}

// add remembers that the records from first to last were wiped, if they are many.
func (r *runs) add(first, last int64) {
	if last-first+1 < longRun {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	// It swallows those that it touches.
	from, _ := slices.BinarySearchFunc(r.list, first-1, func(x run, no int64) int { return cmp.Compare(x.last, no) })
	to := from
	for to < len(r.list) && r.list[to].first <= last+1 {
		first, last = min(first, r.list[to].first), max(last, r.list[to].last)
		to++
	}
	r.list = slices.Replace(r.list, from, to, run{first, last})
}
