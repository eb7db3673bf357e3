package skiplist

import (
	"context"
	"encoding/binary"
	"time"

	"github.com/mailspine/mailspine/internal/planted"
	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/skiplist/internal/codec"
)

// Recover repairs the file after a crash, as the first write would: it cuts off a transaction without its commit, sets
// links right, and marks the file as recovered. Nothing that was committed is changed. It fails with ErrDamaged if
// committed data is missing or unreadable: that needs Salvage. It reports whether there was anything to repair.
func (db *DB) Recover(ctx context.Context) (repaired bool, err error) {
	w, err := db.beginWrite(ctx)
	if err != nil {
		return false, err
	}
	defer w.end()
	if w.st.blank {
		return false, nil
	}
	before := w.st
	if err := w.prepare(); err != nil {
		return false, writeError("recover", err)
	}
	w.restoreReserve()
	return before.log.State != codec.Clean || db.stale(before.header) || w.st.header != before.header, nil
}

// Recovery is what Recover would do to a file.
type Recovery struct {
	// Needed tells whether there is anything to do. Reason says what is amiss.
	Needed bool   `json:"needed"`
	Reason string `json:"reason,omitempty"`
	// CutBytes is how much follows the last commit, CutRecords how many complete records are in it.
	CutBytes   int64 `json:"cut_bytes"`
	CutRecords int   `json:"cut_records"`
	// Mends is the number of places where links or header are not those of the log.
	Mends int `json:"mends"`
}

// PlanRecovery tells what Recover would do, without doing it. A damaged file is ErrDamaged, as for Recover.
func (db *DB) PlanRecovery(ctx context.Context) (plan Recovery, err error) {
	// A commit in between leaves the file in no need of recovery.
	st, err := db.loadNamed(ctx, "reading")
	if err != nil {
		return plan, err
	}
	defer st.gen.release()
	if st.damage != nil || st.blank {
		return plan, st.damage
	}
	mends, err := (&writer{db: db, st: st}).wrongLinks()
	if err != nil {
		return plan, err
	}
	if err := db.sortedAsLinked(st); err != nil {
		return plan, err
	}
	plan.Mends, plan.CutRecords, plan.Reason = len(mends), st.log.Uncommitted, st.log.Problem
	plan.CutBytes = max(st.seen.Size-st.log.End, 0)
	switch {
	case plan.Reason != "":
	case plan.Mends > 0:
		plan.Reason = "links are not those of the log"
	case db.stale(st.header):
		plan.Reason = "it was last recovered before the server or the machine was started"
	}
	plan.Needed = st.log.State != codec.Clean || plan.Reason != ""
	return plan, nil
}

// prepare brings the file into the state in which it may be written: its tail ends with a commit, its links are those
// that follow from the log. It needs no disk space. A crash in between leaves a file that the next writer prepares.
func (w *writer) prepare() error {
	db, st := w.db, w.st
	if planted.On(planted.TailKept) || st.linked && st.log.State == codec.Clean && !db.stale(st.header) {
		return nil
	}
	links, err := w.wrongLinks()
	if err != nil {
		return err
	}
	if len(links) > 0 {
		if o := db.linkedOrder(st); o != DefaultOrder {
			return db.orderError(o)
		}
	}
	if len(links) > 0 || st.log.State != codec.Clean || db.stale(st.header) {
		if err := w.recover(links); err != nil {
			return err
		}
		st = w.st
	}
	same := *st
	same.linked = true
	w.publish(&same)
	return nil
}

// keepName makes the file's name durable, once in its life in this process. Whoever gave it the name, in a checkpoint or
// when it was created, may have died before the directory was synced; without this a power cut could bring the file
// before it back, and take away what is going to be acknowledged in this one.
func (w *writer) keepName() error {
	if w.st.gen.named {
		return nil
	}
	name, err := w.db.fs.Resolve(w.db.path)
	if err == nil {
		err = w.db.fs.SyncDir(dirOf(name))
	}
	if err != nil {
		return err
	}
	w.st.gen.named = true
	return nil
}

// wrongLinks collects the writes that mend the links of the file, each place once.
func (w *writer) wrongLinks() (mend []codec.Write, err error) {
	defer vfs.CatchFault(vfs.ArmFault(), w.st.view.Mem, &err)
	if planted.On(planted.LinksNotCompared) {
		return nil, nil
	}
	seen := map[int64]bool{}
	err = w.st.codec.CheckLinks(w.st.view, w.st.header, w.st.live, func(l codec.WrongLink) bool {
		if len(l.Mend.New) > 0 && !seen[l.Mend.Off] {
			seen[l.Mend.Off] = true
			mend = append(mend, l.Mend)
		}
		return true
	})
	return mend, err
}

func (w *writer) recover(links []codec.Write) (err error) {
	db, st := w.db, w.st
	defer vfs.CatchFault(vfs.ArmFault(), st.view.Mem, &err)
	db.reserved = 0
	full := st.gen.view(st.seen.Size)
	plan, err := st.codec.Recover(full, st.header, st.log, links, st.live, db.now())
	if err != nil {
		return err
	}
	for _, phase := range plan.Phases {
		if _, _, err := writePhase(st.gen.wr, phase); err != nil {
			return w.failedRecovery(err)
		}
		if planted.On(planted.RecoveryUnsynced) {
			continue
		}
		if err := st.gen.wr.Datasync(); err != nil {
			return w.failedRecovery(err)
		}
		db.stats.syncs.Add(1)
	}
	db.stats.recoveries.Add(1)
	db.opts.Logger.Info("recovered", "path", db.path, "state", st.log.Problem, "links", len(links), "end", st.log.End)
	next := *st
	next.header, next.log.State, next.linked = plan.Header, codec.Clean, true
	next.log.Problem, next.log.Uncommitted = "", 0
	w.adopt(&next)
	return nil
}

// failedRecovery has the file read anew before the next attempt: the repair may have got half-way.
func (w *writer) failedRecovery(err error) error {
	same := *w.st
	same.seen = vfs.Info{}
	same.linked = false
	w.publish(&same)
	return err
}

// stale tells whether Cyrus would run recovery on a file with this header, because it was last recovered before the
// skipstamp or before the machine started, or at a time that has not come yet, which the skipstamp's may be.
func (db *DB) stale(h codec.Header) bool {
	if !db.codec.Traits().Timestamped {
		return false
	}
	if h.LastRecovery.Before(db.stamp) || h.LastRecovery.After(db.now().Add(time.Minute)) {
		return true
	}
	boot, err := db.fs.BootTime()
	return err == nil && h.LastRecovery.Before(boot.Truncate(time.Second))
}

// now is the time to write into a header: never before the skipstamp, or Cyrus would recover the file again at once.
func (db *DB) now() time.Time {
	now := db.fs.Now()
	if now.Before(db.stamp) {
		return db.stamp
	}
	return now
}

// readSkipstamp returns the time in Cyrus's skipstamp file: four bytes, big-endian. Zero if there is none.
func readSkipstamp(fsys vfs.FS, path string) time.Time {
	if path == "" {
		return time.Time{}
	}
	b, err := vfs.ReadFile(fsys, path)
	if err != nil || len(b) < 4 {
		return time.Time{}
	}
	return time.Unix(int64(binary.BigEndian.Uint32(b)), 0)
}
