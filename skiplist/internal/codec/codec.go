// Package codec is the seam between the database of package skiplist and the file formats under it.
//
// A database keeps, in memory, a sorted tree of references to the records that are live (package tree). The tree is
// derived by replaying the committed log of the file; the link pointers in the file are derived from the tree. So a
// format has to say how its log is read, how a transaction and a whole file are written, and what the links of a
// given tree are. It keeps no state and does no input or output of its own: it reads through a [View] and answers
// with bytes and with plans, which package skiplist carries out. Whoever calls it does so inside vfs.CatchFault.
package codec

import (
	"iter"
	"time"

	"github.com/mailspine/mailspine/internal/finding"
	"github.com/mailspine/mailspine/skiplist/internal/order"
	"github.com/mailspine/mailspine/skiplist/internal/tree"
)

// Codec is one file format. Implementations are stateless; all methods may be called at once. No method panics, loops
// for ever or allocates more than a small multiple of the file's size, whatever the bytes are.
type Codec interface {
	// Traits tells what the format is and is able to do.
	Traits() Traits
	// Empty returns the bytes of a new, empty database.
	Empty(now time.Time) []byte
	// ReadHeader decodes and validates the header. A file that is not of this format is ErrNotDatabase.
	ReadHeader(v *View) (Header, error)
	// Replay reads the log from opt.From to the end of the view and applies every committed transaction, whole, to ed.
	// Damage is not an error of the call: it is described in the Log. An error means the file could not be read, or
	// opt.Context ended.
	Replay(v *View, h Header, opt ReplayOptions, ed *tree.Editor) (Log, error)
	// Key returns the key of a record that Replay has accepted, valid as long as the view's bytes; nil if the bytes
	// have changed so that there is none. It verifies no checksum.
	Key(v *View, r tree.Ref) []byte
	// Record returns key and value, valid as long as the view's bytes, after verifying what checksums there are.
	Record(v *View, r tree.Ref) (key, value []byte, err error)

	// Put appends to t the record of key and value. old is the live record of the same key, or 0. It returns the new
	// record, or old itself if the format's writers skip a value that is already there. On an error (ErrTooLarge,
	// ErrInvalidKey, ErrInvalidRecord) nothing is appended.
	Put(t *Txn, key, value []byte, old tree.Ref) (tree.Ref, error)
	// Delete appends to t the removal of old; next is the live record that follows it, or 0.
	Delete(t *Txn, old, next tree.Ref) error
	// Seal completes t: it sets the links inside t.View.Tail, appends what marks the commit, and plans the writes.
	Seal(t *Txn) (Plan, error)

	// CheckLinks compares every link of the file with the one that follows from live. It calls wrong for each that
	// differs, with the write that mends it, until wrong returns false.
	CheckLinks(v *View, h Header, live tree.Tree, wrong func(WrongLink) bool) error
	// Recover plans the repair of a file after a crash: mend the given links, cut the file at log.End, mark it clean.
	// It also serves, with no links and nothing to cut, to renew the time of the last recovery.
	Recover(v *View, h Header, log Log, links []Write, live tree.Tree, now time.Time) (Plan, error)
	// Rewrite produces a whole new file (a checkpoint) with the live records of v, in order, handing its bytes from
	// first to last to emit. Records are verified as by Record.
	Rewrite(v *View, h Header, live tree.Tree, now time.Time, emit func([]byte) error) (Rewritten, error)
	// CheckpointDue tells whether Cyrus would checkpoint a file with this header whose committed log ends at end.
	CheckpointDue(h Header, end int64) bool
	// Spans walks the file from the first byte to the last and describes every part of it, damaged parts included; the
	// spans are adjacent and cover the whole view.
	Spans(v *View) iter.Seq[Span]
}

// Sizer is implemented by codecs that can tell beforehand how long the file will be that Rewrite makes.
type Sizer interface {
	RewriteSize(v *View, live tree.Tree) (int64, error)
}

// Traits are the fixed properties of a format.
type Traits struct {
	// Name is the name that Cyrus gives the engine: skiplist, twoskip, flat.
	Name string
	// Order is the key order unless another is asked for.
	Order order.Order
	// Compare overrides Order.Func where the format compares keys in an encoded form.
	Compare func(a, b []byte) int
	// Head names the record at which the links of every level begin, with the highest level; 0 if there are no links.
	Head tree.Ref
	// Rewrites is set if every commit writes a whole new file: Put and Delete only collect, Seal is not used.
	Rewrites bool
	// LockedReads is set if readers of the format take the shared lock.
	LockedReads bool
	// Timestamped is set if the header's LastRecovery decides whether Cyrus runs recovery at open.
	Timestamped bool
	// DeleteBytes is what the commit of a single deletion adds to the file, at the most usual.
	DeleteBytes int
	// MarkBytes is how many bytes at the end of the log never change once they are committed: the record of the commit.
	// By them a log that goes on is told from one that was rewritten.
	MarkBytes int64
	// Syncs is the number of syncs a commit takes.
	Syncs int
}

// Header is what the headers of the formats hold; fields that a format lacks are zero.
type Header struct {
	Version, MinorVersion uint32
	MaxLevel, CurLevel    int
	// Generation counts checkpoints (twoskip).
	Generation uint64
	// Records is the number of live records as the header has it (in skiplist: as of the last recovery).
	Records uint64
	// LogStart is where the checkpointed part ends: skiplist's logstart, twoskip's repack_size.
	LogStart int64
	// End is twoskip's current_size: what follows is not committed.
	End int64
	// Dirty is set while a twoskip transaction is under way.
	Dirty bool
	// Torn is set if only a part of the twoskip header was written: the fields are those that the log confirms.
	Torn bool
	// LastRecovery is when skiplist was last recovered, checkpointed or created.
	LastRecovery time.Time
}

// ReplayOptions choose what Replay does.
type ReplayOptions struct {
	// From is where to go on: the End of an earlier Log of the same file; 0 starts with the first record.
	From int64
	// Salvage goes on after damage, wherever readable records or transactions are found again, and keeps a record in
	// doubt rather than dropping it.
	Salvage bool
	// Uncommitted, with Salvage, also applies complete records that no commit follows.
	Uncommitted bool
	// Progress, if set, is called now and then with the offset reached; an error from it ends the replay.
	Progress func(off int64) error
}

// LogState says how the log ends.
type LogState int

const (
	// Clean means that the file ends with its last commit, as the format demands of a closed file.
	Clean LogState = iota
	// Torn means that a transaction without its commit follows, as a crash leaves it, or that the header says so.
	Torn
	// Damaged means that committed data is unreadable or missing.
	Damaged
)

// Log is the result of a replay.
type Log struct {
	State LogState
	// End is the offset after the last commit that belongs to the unbroken log: what is live was committed before it.
	End int64
	// Offset and Problem say where and why the log is torn or damaged.
	Offset  int64
	Problem string
	// Uncommitted counts the complete records that follow End without a commit.
	Uncommitted int
	// Disorder is set if the checkpointed records are not in the order of the editor's comparison: the file was
	// probably written in another one. DisorderAt is the first record that is out of order. Of a format that is written
	// anew at each commit, and so sorted, it says that a key has two values, the second at DisorderAt.
	Disorder   bool
	DisorderAt int64
	// Astray is set if a deletion, which names its record by the place in the order, took one that was not linked as that
	// one was: the log was perhaps written in another order. DisorderAt is the deletion.
	Astray bool
	// Findings are the oddities that did not hinder.
	Findings []finding.Finding
}

// Txn is a write transaction that is being put together. Its records stand in View.Tail, at the offsets they will
// have in the file, so that they are read like any other.
type Txn struct {
	// View is the committed file and, as its Tail, the bytes to append. View.Size is where they will be written.
	View   *View
	Header Header
	// Live is the tree with all changes applied; it is set before Seal.
	Live tree.Tree
	// Touched lists every change in order.
	Touched []Touch
	// Random returns random bits for level counts.
	Random func() uint64
	// Compare is the key order.
	Compare func(a, b []byte) int
}

// Touch is a change of one key in a transaction.
type Touch struct {
	// Key is the key; its bytes outlive the transaction.
	Key []byte
	// Level is the higher of the levels of the record removed and of the record added.
	Level int
	// At is where the change stands in the log (the offset of its DELETE or ADD record).
	At int64
	// Deleted tells a removal.
	Deleted bool
}

// Plan is a list of phases to carry out in order. After the last one the change is durable.
type Plan struct {
	Phases []Phase
	// CommitPhase is the index of the phase that holds the commit point: before it begins, the change is invisible
	// after any crash; once its sync has returned, it is durable; between, it is whole or absent.
	CommitPhase int
	// Header is the header after the plan.
	Header Header
	// Size is the file's size after the plan.
	Size int64
}

// Phase is a list of writes that may reach the disk in any order, followed by a sync.
type Phase struct {
	Writes []Write
	// Cut, if not 0, truncates the file to this size after the writes.
	Cut int64
}

// Write puts New at Off. Old is what stands there, to be written back if the plan fails; it is nil for bytes that are
// appended.
type Write struct {
	Off      int64
	New, Old []byte
}

// WrongLink is a link pointer that differs from what the log says it should be.
type WrongLink struct {
	// From is the record that holds the link, Level the level (0 = all records).
	From  tree.Ref
	Level int
	// Have and Want are target offsets.
	Have, Want int64
	// Mend is the write that sets it right. Several wrong links of one record may come with the same Mend.
	Mend Write
}

// Rewritten describes a file that Rewrite produced.
type Rewritten struct {
	Live   tree.Tree
	Header Header
	Size   int64
}

// Span describes one stretch of a file for a byte map.
type Span struct {
	Off int64 `json:"offset"`
	Len int64 `json:"length"`
	// Kind is a short word: header, dummy, add, delete, commit, inorder, record, blank, line, zeros, garbage, pad...
	Kind string `json:"kind"`
	// Fields are its parts, in order, where it has any.
	Fields []Field `json:"fields,omitempty"`
	// Problem says what is wrong with it, empty if nothing is.
	Problem string `json:"problem,omitempty"`
}

// Field is a part of a span.
type Field struct {
	Off  int64  `json:"offset"`
	Len  int64  `json:"length"`
	Name string `json:"name"`
	// Value is the decoded meaning. Keys and values are quoted as Go strings, shortened.
	Value string `json:"value"`
}
