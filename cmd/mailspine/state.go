package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"

	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/skiplist"
)

// info is what db info tells.
type info struct {
	skiplist.Stats
	// LiveBytes is the size that a checkpoint would give the file, DeadBytes what it would free. Not given for a
	// damaged file.
	LiveBytes int64 `json:"live_bytes"`
	DeadBytes int64 `json:"dead_bytes"`
	// ReserveBytes is the space allocated after the end of the file, ReserveDeletes how many deletions it is good for.
	ReserveBytes   int64 `json:"reserve_bytes"`
	ReserveDeletes int64 `json:"reserve_deletes"`
	// DiskFreeBytes and DiskBytes describe the file system; CheckpointFits tells whether a checkpoint has room on it.
	DiskFreeBytes  int64 `json:"disk_free_bytes"`
	DiskBytes      int64 `json:"disk_bytes"`
	CheckpointFits bool  `json:"checkpoint_fits"`
	// Recovery is what the next writer, or mailspine db recover, would repair.
	Recovery skiplist.Recovery `json:"recovery"`
}

func infoVerb() verb {
	return verb{
		use: "info FILE", short: "Describe the file: format, records, state, reserve, space",
		long: "Describe the file: format, records, state, fragmentation, the reserve for deletions on a full disk, and whether a\n" +
			"checkpoint has room. Every record is read, with its checksums; mailspine db check looks at the links too.",
		exits: readExits(""),
		run: func(ss *session, _ []string) error {
			return ss.with(false, func(db *skiplist.DB) error {
				i, err := describe(ss, db)
				if err != nil && !errors.Is(err, skiplist.ErrDamaged) && !errors.Is(err, skiplist.ErrOrder) {
					return err
				}
				ss.line.Clear()
				return errors.Join(ss.out.result(i, i.print), err)
			})
		},
	}
}

// describe collects the facts. ErrDamaged and ErrOrder come with those that can be had.
func describe(ss *session, db *skiplist.DB) (i info, err error) {
	if i.Recovery, err = db.PlanRecovery(ss.ctx); err == nil && db.Stats().State != "empty" {
		var c skiplist.Copied
		c, err = db.Backup(ss.ctx, io.Discard)
		i.LiveBytes = c.Size
	}
	i.Stats = db.Stats()
	if i.LiveBytes > 0 {
		i.DeadBytes = max(i.Size-i.LiveBytes, 0)
	}
	if i.DeleteBytes > 0 {
		i.ReserveBytes = max(i.AllocatedBytes-i.Size, 0)
		i.ReserveDeletes = i.ReserveBytes / int64(i.DeleteBytes)
	}
	space, e := vfs.OS().StatFS(filepath.Dir(ss.path))
	i.DiskFreeBytes, i.DiskBytes = space.FreeBytes, space.TotalBytes
	i.CheckpointFits = e == nil && space.FreeBytes > i.LiveBytes+skiplist.DefaultReserve && space.FreeInodes > 0
	return i, errors.Join(err, e)
}

func (i info) print(w io.Writer) {
	row := func(name, format string, args ...any) {
		fmt.Fprintf(w, "  %-14s %s\n", name, fmt.Sprintf(format, args...))
	}
	fmt.Fprintln(w, i.Path)
	switch {
	case i.Format == skiplist.Auto:
		row("format", "none yet: the first writer decides")
	case i.Generation > 0:
		row("format", "%s, version %d, generation %d", i.Format, i.Version, i.Generation)
	case i.Version > 0:
		row("format", "%s, version %d", i.Format, i.Version)
	default:
		row("format", "%s", i.Format)
	}
	row("key order", "%s", i.Order)
	row("records", "%s", count(i.Records))
	if i.Committed == i.Size {
		row("size", "%s bytes, all committed", count(i.Size))
	} else {
		row("size", "%s bytes, committed up to %#x (%[2]d)", count(i.Size), i.Committed)
	}
	if i.LiveBytes > 0 && i.State != "empty" {
		row("fragmentation", "%d %%: a checkpoint would leave %s bytes", i.DeadBytes*100/max(i.Size, 1), count(i.LiveBytes))
	}
	if i.CheckpointDue {
		row("checkpoint", "due: the next commit makes one")
	}
	if !i.LastRecovery.IsZero() {
		row("last recovery", "%s", i.LastRecovery.UTC().Format("2006-01-02 15:04:05Z"))
	}
	if i.DeleteBytes > 0 && i.Format != skiplist.Auto && i.State != "damaged" {
		row("reserve", "%s after the end: %s deletions on a full disk", size(i.ReserveBytes), count(i.ReserveDeletes))
	}
	room := "a checkpoint has room"
	if !i.CheckpointFits {
		room = "no room for a checkpoint"
	}
	if i.State == "damaged" {
		room = "nothing is written to a damaged file"
	}
	row("disk", "%s free of %s: %s", size(i.DiskFreeBytes), size(i.DiskBytes), room)
	row("state", "%s", i.health())
}

// health is the state in words, with what to do.
func (i info) health() string {
	switch {
	case i.State == "damaged":
		return fmt.Sprintf("DAMAGED at %#x: %s", i.Offset, i.Problem)
	case i.State == "torn":
		return fmt.Sprintf("torn at %#x: %s; nothing committed is lost, the next writer repairs it", i.Offset, i.Problem)
	case i.Recovery.Needed:
		return i.State + ", recovery is due: " + i.Recovery.Reason
	}
	return i.State
}

func checkVerb() verb {
	return verb{
		use: "check FILE", short: "Compare everything in the file with everything else",
		long: "Compare header, log, key order, links and checksums with each other. Every finding names the place, what was found,\n" +
			"and the command that mends it. Nothing is changed.",
		exits: map[int]string{
			exitOK:     "the file is whole",
			exitNo:     "something is wrong that recovery mends; nothing committed is lost",
			exitDamage: "committed data is missing or unreadable",
			exitFailed: "the check could not be made: the file is missing, no database, or may not be read",
		},
		run: func(ss *session, _ []string) error {
			found, err := skiplist.Check(ss.ctx, ss.path, ss.opts)
			if err != nil {
				return err
			}
			ss.line.Clear()
			return printFindings(ss.out, ss.path, found)
		},
	}
}

// created is the JSON of db create.
type created struct {
	Path   string          `json:"path"`
	Format skiplist.Format `json:"format"`
	DryRun bool            `json:"dry_run"`
}

func createVerb() verb {
	return verb{
		use: "create FILE", short: "Make an empty database; writes", writes: true,
		long: "Make an empty database, complete and durable, or fail if there is something already. The format is that of --format,\n" +
			"that which -C configures for a file of this name, or twoskip. An empty flat file is zero bytes long: name its format\n" +
			"when you first store something in it.",
		exits: writeExits(""),
		run: func(ss *session, _ []string) error {
			c := created{Path: ss.path, Format: ss.opts.Format, DryRun: ss.dry}
			if c.Format == skiplist.Auto {
				c.Format = skiplist.Twoskip
			}
			did := "made"
			if ss.dry {
				did = "would make"
				if _, err := vfs.OS().Stat(ss.path); err == nil {
					return fmt.Errorf("%s: %w", ss.path, fs.ErrExist)
				}
			} else if err := skiplist.Create(ss.ctx, ss.path, ss.opts); err != nil {
				return err
			}
			return ss.out.report(c, "%s: %s an empty database in format %s", c.Path, did, c.Format)
		},
	}
}

// recovered is the JSON of db recover.
type recovered struct {
	Path    string `json:"path"`
	DryRun  bool   `json:"dry_run"`
	Records int    `json:"records"`
	// Recovered tells whether anything was repaired; Plan is what was to be done.
	Recovered bool              `json:"recovered"`
	Plan      skiplist.Recovery `json:"plan"`
}

func recoverVerb() verb {
	return verb{
		use: "recover FILE", short: "Repair the file after a crash; loses nothing that was committed; writes", writes: true,
		long: "Do what the first writer after a crash does: cut off a transaction without its commit, set links right, mark the\n" +
			"file as recovered. Nothing that was committed is changed, and no disk space is needed. A damaged file is not touched.",
		exits: writeExits(""),
		run: func(ss *session, _ []string) error {
			return ss.with(!ss.dry, func(db *skiplist.DB) error { return ss.recover(db) })
		},
	}
}

func (ss *session) recover(db *skiplist.DB) error {
	r := recovered{Path: ss.path, DryRun: ss.dry}
	var err error
	if r.Plan, err = db.PlanRecovery(ss.ctx); err != nil {
		return err
	}
	if !ss.dry {
		if r.Recovered, err = db.Recover(ss.ctx); err != nil {
			return err
		}
	}
	r.Records = db.Stats().Records
	what := ""
	switch p := r.Plan; {
	case !p.Needed && !r.Recovered:
		return ss.out.report(r, "%s: nothing to recover, %s", r.Path, plural(r.Records, "record"))
	case p.CutBytes > 0 && p.Mends > 0:
		what = fmt.Sprintf("%s bytes without a commit cut off, %s mended", count(p.CutBytes), plural(p.Mends, "link"))
	case p.CutBytes > 0:
		what = fmt.Sprintf("%s bytes without a commit cut off", count(p.CutBytes))
	case p.Mends > 0:
		what = fmt.Sprintf("%s mended", plural(p.Mends, "link"))
	default:
		what = "marked as recovered"
	}
	did := "recovered"
	if ss.dry {
		did = "would be recovered"
	}
	reason := ""
	if r.Plan.Reason != "" {
		reason = " (" + r.Plan.Reason + ")"
	}
	return ss.out.report(r, "%s: %s: %s%s; %s", r.Path, did, what, reason, plural(r.Records, "record"))
}

// repacked is the JSON of db repack.
type repacked struct {
	Path    string `json:"path"`
	DryRun  bool   `json:"dry_run"`
	Records int    `json:"records"`
	Before  int64  `json:"size_before"`
	Size    int64  `json:"size"`
}

func repackVerb() verb {
	return verb{
		use: "repack FILE", short: "Checkpoint: rewrite the file without dead records; writes", writes: true,
		long: "Rewrite the file without dead records, read the new one back, compare it record by record, and put it in the place\n" +
			"of the old one, with its owner and mode. Until then the old one is untouched.",
		exits: writeExits(""),
		run: func(ss *session, _ []string) error {
			return ss.with(!ss.dry, func(db *skiplist.DB) error {
				r := repacked{Path: ss.path, DryRun: ss.dry, Before: db.Stats().Size}
				did := "rewritten"
				if ss.dry {
					c, err := db.Backup(ss.ctx, io.Discard)
					if err != nil {
						return err
					}
					r.Records, r.Size, did = c.Records, c.Size, "would be rewritten"
				} else if err := db.Checkpoint(ss.ctx); err != nil {
					return err
				} else {
					s := db.Stats()
					r.Records, r.Size = s.Records, s.Size
				}
				ss.line.Clear()
				return ss.out.report(r, "%s: %s: %s, %s bytes, was %s", r.Path, did, plural(r.Records, "record"), count(r.Size), count(r.Before))
			})
		},
	}
}
