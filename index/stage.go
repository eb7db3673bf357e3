package index

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/mailspine/mailspine/internal/message"
	"github.com/mailspine/mailspine/internal/planted"
	"github.com/mailspine/mailspine/internal/vfs"
)

// NewMessage is a message that is to be appended.
type NewMessage struct {
	// Body is the whole message.
	Body io.Reader
	// InternalDate is when it arrived; now if it is zero.
	InternalDate time.Time
	// Flags are system flags of those that clients see, User the names of others.
	Flags Flags
	User  []string
}

// Staged is a message that was written, made durable and parsed, and has no number yet.
type Staged struct {
	fs    vfs.FS
	path  string
	rec   Record // without what only the mailbox knows
	cache []byte
	msg   NewMessage
}

// copyBytes is how much of a message is written at once.
const copyBytes = 256 << 10

// Stage writes a message to the partition of the mailbox and parses it, without any lock: what takes long is done before
// others have to wait. [Tx.AppendStaged] makes it a message of the mailbox, within a day; if it is not given to a transaction call
// Discard.
// After an error, such as ErrNoSpace, there is nothing left of it.
func (m *Mailbox) Stage(ctx context.Context, msg NewMessage) (*Staged, error) {
	s, err := m.stage(ctx, msg)
	if err != nil {
		return nil, writeError("stage message", err)
	}
	return s, nil
}

func (m *Mailbox) stage(ctx context.Context, msg NewMessage) (*Staged, error) {
	if msg.InternalDate.IsZero() {
		msg.InternalDate = m.fs.Now()
	}
	f, err := m.stageFile()
	if err != nil {
		return nil, err
	}
	s := &Staged{fs: m.fs, path: f.Name(), msg: msg}
	err = s.write(ctx, f, m.opts.Zone)
	if e := f.Close(); err == nil {
		err = e
	}
	if err != nil {
		s.Discard()
		return nil, err
	}
	return s, nil
}

// stagedSuffix is behind the names of files that we stage. Cyrus's are like ours without it, and nothing tells whether one of its
// processes is still at one.
const stagedSuffix = ".mailspine"

// stagedAge is how old a staged file has to be to be nobody's: no delivery takes a day. One that did would fail for want of its
// file, and be told so.
const stagedAge = 24 * time.Hour

// RemoveStaged removes from a stage directory the files of transactions that were killed: those that this package has made, more
// than a day ago by their names, as their times are those of the messages. It returns how many there are; a dry run removes none.
func RemoveStaged(fsys vfs.FS, dir string, dry bool) (n int, err error) {
	fsys = vfs.OrOS(fsys)
	entries, err := fsys.ReadDir(dir)
	if err != nil {
		return 0, ignoreMissing(err)
	}
	before := fsys.Now().Add(-stagedAge).Unix()
	for _, e := range entries {
		made, ok := stagedAt(e.Name)
		if !ok || e.Dir || made >= before {
			continue
		}
		if !dry {
			if err := fsys.Unlink(filepath.Join(dir, e.Name)); err != nil {
				if ignoreMissing(err) == nil {
					continue // another recovery has
				}
				return n, err
			}
		}
		n++
	}
	return n, nil
}

// stagedAt reads when a file was staged out of its name, in seconds since 1970.
func stagedAt(name string) (unix int64, ok bool) {
	name, ok = strings.CutSuffix(name, stagedSuffix)
	parts := strings.Split(name, "-")
	if !ok || len(parts) != 3 {
		return 0, false
	}
	for i, part := range parts {
		n, err := strconv.ParseInt(part, 10, 64)
		if err != nil || n < 0 || part != strconv.FormatInt(n, 10) {
			return 0, false
		}
		if i == 1 {
			unix = n
		}
	}
	return unix, true
}

// stageFile creates a file in the stage directory, under a name as Cyrus gives them, PID-TIME-SEQ, with a suffix.
func (m *Mailbox) stageFile() (vfs.File, error) {
	now := m.fs.Now()
	for seq := uint64(now.Nanosecond()); ; seq++ {
		path := filepath.Join(m.place.Stage, fmt.Sprintf("%d-%d-%d%s", os.Getpid(), now.Unix(), seq, stagedSuffix))
		f, err := m.fs.Open(path, vfs.ReadWrite|vfs.Create|vfs.Exclusive, fileMode)
		switch {
		case errors.Is(err, fs.ErrExist):
		case errors.Is(err, fs.ErrNotExist):
			// It need not outlive a crash: what is in it does not either.
			if err := m.fs.Mkdir(m.place.Stage, dirMode); err != nil && !errors.Is(err, fs.ErrExist) {
				return nil, err
			}
		default:
			return f, err
		}
	}
}

// write writes the message, parses it, and syncs it with the date as the time of the file.
func (s *Staged) write(ctx context.Context, f vfs.File, zone *time.Location) error {
	size, err := copyTo(ctx, f, s.msg.Body)
	if err != nil {
		return err
	}
	if err := s.parse(f, size, zone); err != nil {
		return err
	}
	if err := f.SetModTime(time.Unix(s.msg.InternalDate.Unix(), 0)); err != nil {
		return err
	}
	// Sync and not Datasync: a reconstruct takes the date from the file.
	if planted.On(planted.TxMessageUnsynced) {
		return nil
	}
	return f.Sync()
}

func copyTo(ctx context.Context, f vfs.File, r io.Reader) (size int64, err error) {
	buf := make([]byte, bytes.MinRead)
	for {
		n, readErr := io.ReadFull(r, buf)
		if err := context.Cause(ctx); err != nil {
			return size, err
		}
		if n > 0 {
			if _, err := f.WriteAt(buf[:n], size); err != nil {
				return size, err
			}
			size += int64(n)
		}
		switch readErr {
		case nil:
			if len(buf) < copyBytes {
				buf = make([]byte, copyBytes)
			}
		case io.EOF, io.ErrUnexpectedEOF:
			return size, nil
		default:
			return size, fmt.Errorf("read the message: %w", readErr)
		}
	}
}

// parse fills in what follows from the message.
func (s *Staged) parse(f io.ReaderAt, size int64, zone *time.Location) error {
	var p message.Parser
	m, err := p.ParseAt(f, size)
	if err != nil {
		return err
	}
	if zone == nil {
		zone = time.Local
	}
	internal := s.msg.InternalDate.Unix()
	sent, gm := m.Dates(internal, zone)
	s.cache = m.AppendCache(nil)
	s.rec = Record{InternalDate: TimeOf(time.Unix(internal, 0)), SentDate: low32(sent), GMTime: low32(gm), Size: uint64(m.Size), HeaderSize: uint32(m.HeaderSize),
		CacheVersion: message.CacheVersion, CacheCRC: message.CacheCRC(s.cache), GUID: m.GUID}
	return nil
}

// low32 is a number of seconds as an index record holds it: its low 32 bits.
func low32(unix int64) Time { return Seconds(uint32(unix)) }

// Discard removes the file. It may be called again, and after the message was appended.
func (s *Staged) Discard() {
	if s.path != "" {
		_ = s.fs.Unlink(s.path)
		s.path = ""
	}
}

// copyFile makes name a copy of source that is durable but for its name.
func copyFile(ctx context.Context, fsys vfs.FS, source, name string) error {
	from, err := fsys.Open(source, vfs.ReadOnly, 0)
	if err != nil {
		return err
	}
	defer from.Close()
	info, err := from.Stat()
	if err != nil {
		return err
	}
	to, err := fsys.Open(name, vfs.ReadWrite|vfs.Create|vfs.Exclusive, fileMode)
	if err != nil {
		return err
	}
	_, err = copyTo(ctx, to, sectionOf(from, info.Size))
	if err == nil {
		err = to.SetModTime(info.Mtime)
	}
	if err == nil {
		err = to.Sync()
	}
	return errors.Join(err, to.Close())
}

func sectionOf(r io.ReaderAt, size int64) io.Reader { return io.NewSectionReader(r, 0, size) }
