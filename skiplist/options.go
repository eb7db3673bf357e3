package skiplist

import (
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"

	"github.com/mailspine/mailspine/internal/finding"
	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/skiplist/internal/order"
)

// Format names a file format by the name that Cyrus gives the engine.
type Format string

const (
	// Auto finds out the format of an existing file; a new one is made as Twoskip.
	Auto     Format = ""
	Skiplist Format = "skiplist"
	Twoskip  Format = "twoskip"
	Flat     Format = "flat"
)

// Order is a key order. No file of Cyrus records the one it was written in.
type Order = order.Order

const (
	// DefaultOrder is the order of the format: SignedOrder for skiplist, UnsignedOrder for twoskip, MailboxOrder for flat.
	DefaultOrder = order.Default
	// SignedOrder compares bytes as signed numbers, as Cyrus's skiplist does on x86.
	SignedOrder = order.Signed
	// UnsignedOrder compares bytes as unsigned numbers.
	UnsignedOrder = order.Unsigned
	// MailboxOrder is the order of Cyrus's improved_mboxlist_sort (releases 2.3.8 to 3.4).
	MailboxOrder = order.Mailbox
)

// Finding is one thing that Check or Salvage saw.
type Finding = finding.Finding

// Grades of a Finding.
const (
	Info    = finding.Info
	Warning = finding.Warning
	Damage  = finding.Damage
)

// DefaultReserve is the space, in bytes, that is kept allocated after the end of a file so that deletions succeed on a
// full disk.
const DefaultReserve = 64 << 10

// maxReserve leaves room to add a reserve to the length of a file; no disk full of mailbox lists needs more.
const maxReserve = 1 << 40

// Options say how to open a database. The zero value opens an existing one, of any format, for reading and writing.
type Options struct {
	// Format is the format of a new file; an existing one must have it, unless it is Auto.
	Format Format
	// Create makes the file if it is missing; its directory must exist.
	Create bool
	// Mode is the permission of a new file, before umask; 0 stands for 0644.
	Mode fs.FileMode
	// ReadOnly opens for reading. Nothing is written, not even a repair.
	ReadOnly bool
	// AllowDamaged opens a damaged file for reading: what was committed before the damage can be read, and every call
	// also returns ErrDamaged.
	AllowDamaged bool
	// Order is the key order, if it is not that of the format.
	Order Order
	// Reserve is the number of bytes to keep allocated for deletions on a full disk; 0 stands for DefaultReserve, a
	// negative number for none, and 1 TiB is the most.
	Reserve int64
	// ManualCheckpoint leaves checkpoints to the caller; otherwise a commit that makes one due, by the rules of Cyrus,
	// performs it.
	ManualCheckpoint bool
	// Prepared is a directory for prepared files, on the file system of the database and best for nothing else (with
	// Cyrus <configdirectory>/mailspine): it is made if its parent exists, and any number of databases may share it. With
	// it a flat database can still be changed when the disk is full. Empty stands for none.
	Prepared string
	// Skipstamp is the path of Cyrus's skipstamp file (<configdirectory>/db/skipstamp), if there is one: a skiplist file
	// that was last recovered before that time is recovered before the first write.
	Skipstamp string
	// Progress, if set, hears now and then how far Open, Check, Salvage, Checkpoint and Backup have come: what is being
	// done, and how many of how many bytes or records are done. It is called in the caller's goroutine and must be quick.
	Progress func(doing string, done, total int64)
	// Logger hears of recoveries, checkpoints and their failures. Nil is silent.
	Logger *slog.Logger
	// FS is the file system; nil is the operating system's.
	FS vfs.FS
	// Random supplies the random bits for the heights of new records; nil is a good source.
	Random func() uint64
}

// withDefaults fills in the zero fields.
func (o Options) withDefaults() (Options, error) {
	switch o.Format {
	case Auto, Skiplist, Twoskip, Flat:
	default:
		return o, fmt.Errorf("unknown database format %q (known are skiplist, twoskip, flat)", string(o.Format))
	}
	if o.Reserve > maxReserve {
		return o, fmt.Errorf("a reserve of %d bytes is more than the %d that are possible", o.Reserve, int64(maxReserve))
	}
	if o.Mode == 0 {
		o.Mode = 0o644
	}
	if o.Reserve == 0 {
		o.Reserve = DefaultReserve
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.FS == nil {
		o.FS = vfs.OS()
	}
	if o.Random == nil {
		o.Random = rand.Uint64
	}
	return o, nil
}

// ticks returns what a long loop calls now and then: it tells the caller how far the loop has come, and ends it with an
// error when ctx has ended.
func (db *DB) ticks(ctx context.Context, doing string, total int64) func(done int64) error {
	return func(done int64) error {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		if db.opts.Progress != nil {
			db.opts.Progress(doing, done, total)
		}
		return nil
	}
}
