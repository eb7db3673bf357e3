package index

import (
	"context"
	"fmt"
	"iter"
)

// Messages yields UID, flags and modification sequence of all messages in the order of their UIDs, expunged ones too, as of
// the last refresh. It is [Mailbox.Records] for those who look at many messages and need no more of them.
func (m *Mailbox) Messages(ctx context.Context) iter.Seq2[Message, error] {
	return func(yield func(Message, error) bool) {
		f, done, err := m.use()
		if err != nil {
			yield(Message{}, err)
			return
		}
		defer done()
		checksums := f.Index.Version().HasChecksums()
		for batch, err := range f.Index.Batches(1) {
			if err == nil {
				err = context.Cause(ctx)
			}
			if err != nil {
				yield(Message{}, err)
				return
			}
			for i := range batch.Len() {
				r, no := batch.At(i), batch.First+RecordNo(i)
				switch {
				case !checksums || !r.Intact():
					msg, err := f.message(ctx, no)
					if (msg.UID != 0 || err != nil) && !yield(msg, err) {
						return
					}
				case r.UID() != 0 && !yield(r.message(no), nil):
					return
				}
			}
		}
	}
}

// errTorn stands for a record that was not whole when it was read.
var errTorn = fmt.Errorf("a record was read while it was written: %w", ErrDamaged)

// message reads a record under the lock.
func (o *opened) message(ctx context.Context, no RecordNo) (Message, error) {
	var rec Record
	err := o.whole(ctx, no, &rec, errTorn)
	return Message{No: no, UID: rec.UID, Flags: rec.Flags, UserFlags: rec.UserFlags, ModSeq: rec.ModSeq}, err
}

// message is what a Snapshot knows of the record.
func (r Raw) message(no RecordNo) Message {
	return Message{No: no, UID: r.UID(), Flags: r.Flags(), UserFlags: r.UserFlags(), ModSeq: r.ModSeq()}
}

// Message is what a Snapshot knows of a message.
type Message struct {
	No        RecordNo
	UID       UID
	Flags     Flags
	UserFlags UserFlags
	ModSeq    ModSeq
}

// Snapshot is a mailbox at one instant.
type Snapshot struct {
	Header Header
	// Messages are those that are not expunged, by UID: sequence number n is Messages[n-1]. Expunged are the others that
	// are still in the file. Before version 12 the header counts both as existing, and Cyrus tells STATUS so, but not FETCH.
	Messages, Expunged []Message
}

// Snapshot copies UID, flags and modification sequence of every message, under the lock, so that they are of one instant.
func (m *Mailbox) Snapshot(ctx context.Context) (*Snapshot, error) {
	if err := m.Refresh(ctx); err != nil {
		return nil, err
	}
	f, done, err := m.use()
	if err != nil {
		return nil, err
	}
	defer done()
	s := &Snapshot{}
	err = f.locked(ctx, func() error {
		now, err := f.reread()
		if err != nil {
			return err
		}
		s.Header = now.Header
		s.Messages = make([]Message, 0, min(now.Header.Exists, uint32(now.Len())))
		for batch, err := range now.Batches(1) {
			if err != nil {
				return err
			}
			if err := s.add(batch, now); err != nil {
				return err
			}
		}
		return context.Cause(ctx)
	})
	return s, err
}

func (s *Snapshot) add(batch Batch, f *File) error {
	for i := range batch.Len() {
		r := batch.At(i)
		no := batch.First + RecordNo(i)
		if !r.Intact() {
			_, err := f.Record(no)
			return err
		}
		msg := r.message(no)
		switch {
		case msg.UID == 0:
		case msg.Flags&FlagExpunged != 0:
			s.Expunged = append(s.Expunged, msg)
		default:
			s.Messages = append(s.Messages, msg)
		}
	}
	return nil
}

// reread is the index as its header is now.
func (f *Files) reread() (*File, error) {
	old := f.Index
	info, err := f.index.file.Stat()
	if err != nil {
		return nil, err
	}
	return NewFile(f.index.file, info.Size, old.path)
}

// Changes are what happened in a mailbox since a modification sequence.
type Changes struct {
	// HighestModSeq is that of the mailbox: the next question begins there.
	HighestModSeq ModSeq
	// Changed are the messages that are new or have changed, by UID.
	Changed []Message
	// Vanished are the UIDs of messages that are gone, ascending. Exact tells whether they have all gone since. If it is
	// false a repack has dropped records since then, and Vanished holds every UID up to the last one given out that no
	// message has.
	Vanished []UIDRange
	Exact    bool
}

// UIDRange are the UIDs from First to Last.
type UIDRange struct{ First, Last UID }

func appendUID(list []UIDRange, first, last UID) []UIDRange {
	if n := len(list); n > 0 && list[n-1].Last+1 == first {
		list[n-1].Last = last
		return list
	}
	return append(list, UIDRange{first, last})
}

// Changes returns what happened since a modification sequence, which an earlier answer or the header gave. In an index
// before version 8 there are no modification sequences: everything has changed. Before version 12 nobody recorded what a
// repack dropped: what has vanished is not exact, unless nothing has changed.
func (m *Mailbox) Changes(ctx context.Context, since ModSeq) (*Changes, error) {
	s, err := m.Snapshot(ctx)
	if err != nil {
		return nil, err
	}
	h := s.Header.Normalized()
	c := &Changes{HighestModSeq: h.HighestModSeq, Exact: since >= h.DeletedModSeq}
	everything := since == 0 || h.Version < versionModSeq
	for _, msg := range s.Messages {
		if msg.ModSeq > since || everything {
			c.Changed = append(c.Changed, msg)
		}
	}
	c.Exact = c.Exact && h.Version >= versionModSeq
	if c.Exact {
		for _, msg := range s.Expunged {
			if msg.ModSeq > since {
				c.Vanished = appendUID(c.Vanished, msg.UID, msg.UID)
			}
		}
		return c, nil
	}
	next := UID(1)
	for _, msg := range s.Messages {
		if msg.UID > next {
			c.Vanished = appendUID(c.Vanished, next, msg.UID-1)
		}
		next = max(next, msg.UID+1)
	}
	if last := s.Header.LastUID; next <= last && next != 0 {
		c.Vanished = appendUID(c.Vanished, next, last)
	}
	return c, nil
}
