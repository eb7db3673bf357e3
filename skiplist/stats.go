package skiplist

import (
	"path/filepath"
	"sync/atomic"
	"time"
)

// counters are updated while the database is used.
type counters struct {
	commits, syncs, bytes, recoveries, checkpoints, failedCheckpoints atomic.Int64
}

// Stats describe a database and what this handle has done with it.
type Stats struct {
	Path   string `json:"path"`
	Format Format `json:"format"`
	Order  string `json:"order"`
	// Records is the number of live records.
	Records int `json:"records"`
	// Size is the size of the file in bytes, Committed the offset after its last commit, LogStart the end of its
	// checkpointed part.
	Size      int64 `json:"size"`
	Committed int64 `json:"committed"`
	LogStart  int64 `json:"log_start"`
	// HeaderRecords is the number of records as the header has it; in skiplist as of the last recovery.
	HeaderRecords uint64 `json:"header_records"`
	// Version, Generation and Levels are the header's; zero where the format has none.
	Version    uint32 `json:"version"`
	Generation uint64 `json:"generation"`
	Levels     int    `json:"levels"`
	// LastRecovery is when a skiplist file was last recovered or checkpointed.
	LastRecovery time.Time `json:"last_recovery,omitzero"`
	// State is clean, torn or damaged, or empty for a file of zero bytes, whose format the first writer decides; Problem says why, at Offset.
	State   string `json:"state"`
	Problem string `json:"problem,omitempty"`
	Offset  int64  `json:"offset,omitempty"`
	// CheckpointDue tells whether the next commit would checkpoint.
	CheckpointDue bool `json:"checkpoint_due"`
	// AllocatedBytes is the disk space of the file, including what is reserved after its end; DeleteBytes is what one
	// deletion needs.
	AllocatedBytes int64 `json:"allocated_bytes"`
	DeleteBytes    int   `json:"delete_bytes"`

	// Commits, Syncs, BytesAppended, Recoveries, Checkpoints and FailedCheckpoints count what this handle did.
	Commits           int64 `json:"commits"`
	Syncs             int64 `json:"syncs"`
	BytesAppended     int64 `json:"bytes_appended"`
	Recoveries        int64 `json:"recoveries"`
	Checkpoints       int64 `json:"checkpoints"`
	FailedCheckpoints int64 `json:"failed_checkpoints"`
}

// Stats describes the state last read or written by this handle. It makes no system call.
func (db *DB) Stats() Stats {
	s := Stats{
		Path: db.path, Format: db.format, Order: db.Order().String(),
		Commits: db.stats.commits.Load(), Syncs: db.stats.syncs.Load(), BytesAppended: db.stats.bytes.Load(),
		Recoveries: db.stats.recoveries.Load(), Checkpoints: db.stats.checkpoints.Load(),
		FailedCheckpoints: db.stats.failedCheckpoints.Load(),
	}
	st := db.state.Load()
	if st == nil {
		return s
	}
	h := st.header
	s.Records, s.Size, s.Committed = st.live.Len(), st.seen.Size, st.log.End
	s.LogStart, s.HeaderRecords, s.Version = h.LogStart, h.Records, h.Version
	s.Generation, s.Levels, s.LastRecovery = h.Generation, h.CurLevel, h.LastRecovery
	s.State = [...]string{"clean", "torn", "damaged"}[st.log.State]
	if st.blank {
		s.State = "empty"
		if !db.told {
			s.Format = Auto // the first writer decides
		}
	}
	s.Problem, s.Offset = st.log.Problem, st.log.Offset
	s.CheckpointDue = !st.blank && st.codec.CheckpointDue(h, st.log.End)
	s.AllocatedBytes, s.DeleteBytes = st.seen.Blocks*512, st.codec.Traits().DeleteBytes
	return s
}

// dirOf is the directory of a path.
func dirOf(path string) string { return filepath.Dir(path) }
