package mboxdb

import (
	"bytes"
	"iter"
	"maps"
	"slices"

	"github.com/mailspine/mailspine/skiplist"
)

// draft is a transaction on an empty list that lives in memory alone, for a dry run.
type draft map[string][]byte

var _ transaction = draft{}

// newDraft begins a change of a list that lives in d.
func newDraft(opts Options, d draft) (*Tx, error) {
	t := &Tx{View: View{l: &List{opts: opts}, s: d}, tx: d, now: opts.DB.FS.Now().Unix()}
	return t, t.learn()
}

func (d draft) Get(key []byte) ([]byte, error) {
	if value, ok := d[string(key)]; ok {
		return value, nil
	}
	return nil, skiplist.ErrNotFound
}

func (d draft) Has(key []byte) (bool, error) {
	_, ok := d[string(key)]
	return ok, nil
}

func (d draft) Put(key, value []byte) error {
	d[string(key)] = bytes.Clone(value)
	return nil
}

func (d draft) Delete(key []byte) error {
	delete(d, string(key))
	return nil
}

func (d draft) Len() int { return len(d) }

func (d draft) UseReserve() {}

func (d draft) All() iter.Seq2[skiplist.Record, error] { return d.Range(nil, nil) }

func (d draft) Prefix(prefix []byte) iter.Seq2[skiplist.Record, error] {
	return d.scan(func(key []byte) bool { return bytes.HasPrefix(key, prefix) })
}

func (d draft) Range(from, to []byte) iter.Seq2[skiplist.Record, error] {
	return d.scan(func(key []byte) bool {
		return bytes.Compare(key, from) >= 0 && (to == nil || bytes.Compare(key, to) < 0)
	})
}

func (d draft) scan(wanted func(key []byte) bool) iter.Seq2[skiplist.Record, error] {
	return func(yield func(skiplist.Record, error) bool) {
		for _, key := range slices.Sorted(maps.Keys(d)) {
			if wanted([]byte(key)) && !yield(skiplist.Record{Key: []byte(key), Value: d[key]}, nil) {
				return
			}
		}
	}
}
