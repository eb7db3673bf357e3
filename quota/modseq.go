package quota

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync"

	"github.com/mailspine/mailspine/index"
	"github.com/mailspine/mailspine/internal/imapdconf"
	"github.com/mailspine/mailspine/internal/locks"
	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/mboxdb"
)

// modSeqs gives changed records their ModSeq, as Cyrus 3.6 does. A shared root keeps the one it has, which is 0. That of a user's
// root grows by one. With "conversations: yes" it is taken from the counters of the user instead, all of whose modification sequences
// come from there: one that was made otherwise would be given out a second time, and a client that has seen the first (JMAP, a
// replica) would never hear of the second.
//
// The counters are raised before the record is written. After a crash in between one number was never used.
type modSeqs struct {
	fs       vfs.FS
	logger   *slog.Logger
	layout   mboxdb.Layout
	counted  bool // conversations: yes
	listPath string
	listOpts mboxdb.Options
	spares   *vfs.Spares

	mu   sync.Mutex
	list *mboxdb.List
}

func newModSeqs(c *imapdconf.Config, o Options) *modSeqs {
	m := &modSeqs{fs: o.FS, logger: o.Logger, counted: c.Bool("conversations")}
	m.listPath, m.listOpts = mboxdb.Configured(c)
	m.layout = m.listOpts.Layout
	m.listOpts.DB.FS, m.listOpts.DB.Logger, m.listOpts.DB.ReadOnly = o.FS, o.Logger, true
	if prepared := c.Prepared(); prepared != "" && !o.ReadOnly {
		m.spares = vfs.NewSpares(o.FS, prepared)
	}
	return m
}

func (m *modSeqs) close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.list == nil {
		return nil
	}
	err := m.list.Close()
	m.list = nil
	return err
}

// next is the ModSeq of a record that had last before it was changed. Where the counters cannot be used it is one more, and the
// log says so: that a usage is right is worth more.
func (m *modSeqs) next(ctx context.Context, root string, last uint64) uint64 {
	user := mboxdb.InternalName(root).User(m.layout.Namespace)
	if user == "" || last == math.MaxUint64 {
		return last
	}
	if m.counted {
		n, err := m.raise(ctx, root, user, last)
		if err == nil {
			return n
		}
		m.logger.Warn("the modification sequence of a quota root does not come from the counters of the user", "root", root, "error", err)
	}
	return last + 1
}

// raise takes the next number from the counters of a user.
func (m *modSeqs) raise(ctx context.Context, root, user string, last uint64) (uint64, error) {
	path, err := m.countersPath(ctx, root, user)
	if err != nil {
		return 0, err
	}
	f, err := locks.Existing(ctx, m.fs, vfs.Exclusively, path)
	if err != nil {
		return 0, err
	}
	defer func() { _ = f.Close() }()
	content, err := read(f)
	if err != nil {
		return 0, err
	}
	var c index.Counters
	if err := c.Decode(content); err != nil {
		return 0, err
	}
	highest := max(c.Values[index.CounterHighest], index.ModSeq(last))
	if highest == math.MaxUint64 || !c.Has(index.CounterQuota) {
		return 0, fmt.Errorf("%s: no counter for quotas", path)
	}
	highest++
	c.Values[index.CounterHighest], c.Values[index.CounterQuota] = highest, highest
	c.Generation++
	return uint64(highest), m.write(path, c.Append(nil))
}

// write replaces the counters, as Cyrus does, whose lock the caller holds.
func (m *modSeqs) write(path string, content []byte) error {
	opts := vfs.ReplaceOptions{Size: int64(len(content)), Spares: m.spares}
	opts.Verify = func(f vfs.File) error {
		written, err := read(f)
		if err == nil && !bytes.Equal(written, content) {
			err = errors.New("the new counters are not those that were written")
		}
		return err
	}
	err := vfs.ReplaceFile(m.fs, path, opts, func(f vfs.File) error {
		_, err := f.WriteAt(content, 0)
		return err
	})
	if notDurable(err) {
		return nil // a number that a crash makes be given out again is what there would be without the counters, too
	}
	return err
}

// countersPath is the file with the counters of a user, whose place follows from that of the INBOX.
func (m *modSeqs) countersPath(ctx context.Context, root, user string) (string, error) {
	list, err := m.open(ctx)
	if err != nil {
		return "", err
	}
	rec, err := list.Lookup(ctx, mboxdb.InternalName(root).Inbox(m.layout.Namespace))
	if err != nil {
		return "", err
	}
	if rec.Type.Legacy() {
		return m.layout.UserFile(user, "counters"), nil
	}
	return m.layout.UserFileByID(rec.UniqueID, "counters")
}

// open opens the mailbox list, in which the lock of a record may be held.
func (m *modSeqs) open(ctx context.Context) (*mboxdb.List, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.list != nil {
		return m.list, nil
	}
	list, err := mboxdb.Open(ctx, m.listPath, m.listOpts)
	if err != nil {
		return nil, err
	}
	m.list = list
	return list, nil
}
