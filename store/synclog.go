package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/mailspine/mailspine/internal/locks"
	"github.com/mailspine/mailspine/internal/planted"
	"github.com/mailspine/mailspine/internal/vfs"
)

// syncLog is the log from which sync_client learns what to replicate: a file for each channel, to which lines are added
// under a lock of the whole file. Readers rename it first, so the name is looked at again under the lock.
type syncLog struct {
	fs vfs.FS
	// files are the logs of the channels; none if there is no replication.
	files []string
}

// syncLogMode is the mode of a new log, before umask.
const syncLogMode fs.FileMode = 0o640

// newSyncLog finds the files of the channels (sync_log_channels): "" is the one without a name.
func newSyncLog(fsys vfs.FS, configDir, channels string) *syncLog {
	l := &syncLog{fs: fsys}
	names := strings.Fields(channels)
	if len(names) == 0 {
		names = []string{`""`}
	}
	for _, name := range names {
		if name == `""` {
			name = ""
		}
		l.files = append(l.files, filepath.Join(configDir, "sync", name, "log"))
	}
	return l
}

// add writes lines to the logs of all channels, and syncs them.
func (l *syncLog) add(ctx context.Context, lines ...string) error {
	if l == nil || len(lines) == 0 {
		return nil
	}
	text := strings.Join(lines, "\n") + "\n"
	var all []error
	for _, path := range l.files {
		if err := l.append(ctx, path, text); err != nil {
			all = append(all, fmt.Errorf("sync log: %w", err))
		}
	}
	return errors.Join(all...)
}

func (l *syncLog) append(ctx context.Context, path, text string) (err error) {
	f, err := locks.File(ctx, l.fs, vfs.Exclusively, path, syncLogMode)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	// A line that another writer could not end would swallow ours; an empty one is passed over.
	var last [1]byte
	if info.Size > 0 {
		if _, err := f.ReadAt(last[:], info.Size-1); err != nil {
			return err
		}
		if last[0] != '\n' && !planted.On(planted.LogLineSwallowed) {
			text = "\n" + text
		}
	}
	if _, err := f.WriteAt([]byte(text), info.Size); err != nil {
		return errors.Join(err, f.Truncate(info.Size))
	}
	return f.Datasync()
}

// logName writes a name as an argument of a line.
func logName(name string) string {
	var b strings.Builder
	quote := name == ""
	for i := range len(name) {
		switch c := name[i]; c {
		case '\\', '"', '{', '}':
			quote = true
			b.WriteByte('\\')
			b.WriteByte(c)
		case ' ', '\t', '(', ')':
			quote = true
			b.WriteByte(c)
		default:
			b.WriteByte(c)
		}
	}
	if quote {
		return `"` + b.String() + `"`
	}
	return b.String()
}

// The lines, by what happened to a mailbox.
func logChanged(name string) []string { return []string{"MAILBOX " + logName(name)} }
func logAppended(name string) []string {
	return []string{"APPEND " + logName(name)}
}
func logDeleted(name string) []string { return []string{"UNMAILBOX " + logName(name)} }

func logRenamed(from, to string) []string {
	from, to = logName(from), logName(to)
	return []string{"RENAME " + from + " " + to, "MAILBOX " + from, "MAILBOX " + to}
}
