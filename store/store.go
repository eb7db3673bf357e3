package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/mailspine/mailspine/internal/imapdconf"
	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/mboxdb"
	"github.com/mailspine/mailspine/quota"
	"github.com/mailspine/mailspine/skiplist"
)

// Options say how a store is opened. The zero value is useful.
type Options struct {
	// FS is the file system; the real one by default.
	FS vfs.FS
	// Logger hears what nobody is told otherwise: what went wrong after a change was made, and what a recovery did.
	Logger *slog.Logger
	// List is another mailbox list than the one configured.
	List string
	// ReadOnly opens the store for plans alone: nothing is written, no lock is taken.
	ReadOnly bool
	// KeepList opens the mailbox list for reading: messages can be changed, and mailboxes cannot.
	KeepList bool
	// Progress is told how a long opening of the mailbox list goes on.
	Progress func(doing string, done, total int64)
	// Random chooses unique ids.
	Random func() uint64
}

// Store is the mail store that an imapd.conf describes. Its methods may be called at once from many goroutines; other
// processes, Cyrus's own too, may use the store at the same time.
type Store struct {
	fs     vfs.FS
	opts   Options
	logger *slog.Logger
	layout mboxdb.Layout
	list   *mboxdb.List
	roots  *quota.Roots
	quota  *quota.Keeper
	// db are the options of the databases besides the list.
	db     skiplist.Options
	log    *syncLog
	cache  *statusCache
	config settings
}

// settings are those of imapd.conf that decide how a change is made.
type settings struct {
	conversations, legacyDirs, delayed bool
	mailboxOptions                     uint32
	annotations                        string
}

// Open opens the store that c describes. A mailbox list in an old form is opened for reading only.
func Open(ctx context.Context, c *imapdconf.Config, o Options) (*Store, error) {
	s, err := newStore(ctx, c, o)
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	if err := s.openList(ctx, c); err != nil {
		return nil, err
	}
	return s, nil
}

// OpenConfig opens the store that an imapd.conf describes; service is whose options hold where a service has its own, such
// as "imap", and "" for those of all.
func OpenConfig(ctx context.Context, path, service string, o Options) (*Store, error) {
	c, err := imapdconf.Read(vfs.OrOS(o.FS), path).Config(service)
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	return Open(ctx, c, o)
}

// newStore is Open without the mailbox list.
func newStore(ctx context.Context, c *imapdconf.Config, o Options) (*Store, error) {
	if o.FS == nil {
		o.FS = vfs.OS()
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	_, opts := mboxdb.Configured(c)
	s := &Store{fs: o.FS, opts: o, logger: o.Logger, layout: opts.Layout}
	s.config = settings{
		conversations: c.Bool("conversations"), legacyDirs: c.Bool("mailbox_legacy_dirs"), delayed: c.Enum("delete_mode") != "immediate",
		mailboxOptions: uint32(c.Int("mailbox_default_options")), annotations: c.Path("annotation_db_path"),
	}
	return s, s.configure(ctx, c)
}

// openList opens the mailbox list.
func (s *Store) openList(ctx context.Context, c *imapdconf.Config) (err error) {
	path, opts := mboxdb.Configured(c)
	if s.opts.List != "" {
		path = s.opts.List
	}
	opts.DB.FS, opts.DB.Logger, opts.DB.Progress, opts.DB.ReadOnly, opts.DB.Random = s.fs, s.logger, s.opts.Progress, s.opts.ReadOnly || s.opts.KeepList, s.opts.Random
	if s.list, err = mboxdb.Open(ctx, path, opts); err != nil {
		return err
	}
	s.keepAccounts()
	return nil
}

// configure finds the other files that changes touch.
func (s *Store) configure(ctx context.Context, c *imapdconf.Config) error {
	s.db = skiplist.Options{FS: s.fs, Logger: s.logger, Skipstamp: c.Skipstamp(), Random: s.opts.Random}
	if c.Bool("sync_log") {
		s.log = newSyncLog(s.fs, c.ConfigDirectory(), c.String("sync_log_channels"))
	}
	if c.Bool("statuscache") {
		s.cache = &statusCache{path: c.Path("statuscache_db_path"), opts: s.db}
	}
	var err error
	if s.roots, err = quota.OpenRoots(ctx, c, s.quotaOptions()); err != nil {
		return err
	}
	s.keepAccounts()
	return nil
}

func (s *Store) quotaOptions() quota.Options {
	return quota.Options{FS: s.fs, Logger: s.logger, ReadOnly: s.opts.ReadOnly, Random: s.opts.Random}
}

// keepAccounts makes the keeper of the quota roots. As soon as there is a mailbox list it can count them.
func (s *Store) keepAccounts() {
	s.quota = quota.NewKeeper(s.roots, s.list, s.layout, s.quotaOptions())
}

// Close closes the store.
func (s *Store) Close() error { return errors.Join(s.list.Close(), s.cache.close(), s.roots.Close()) }

// Quota keeps the usage of the quota roots.
func (s *Store) Quota() *quota.Keeper { return s.quota }

// List is the mailbox list of the store. Changes of it alone leave directories and headers behind: use those of the store.
func (s *Store) List() *mboxdb.List { return s.list }

// Layout is where mailboxes lie.
func (s *Store) Layout() mboxdb.Layout { return s.layout }

// Changed tells those who follow the store that a mailbox was changed, by its internal name: a replica by the sync log,
// and the cache of STATUS by dropping what it has. It is to be called after the commit, before the lock of the index is
// given back. The change is made; what fails here is logged.
func (s *Store) Changed(ctx context.Context, name string) { s.tell(ctx, logChanged(name), name) }

// Appended is Changed for a mailbox that got new messages.
func (s *Store) Appended(ctx context.Context, name string) {
	s.tell(ctx, append(logAppended(name), logChanged(name)...), name)
}

// tell writes lines to the sync log, and drops the cached status of mailboxes. It does not end with the context of the
// change, which is made.
func (s *Store) tell(ctx context.Context, lines []string, names ...string) {
	ctx = context.WithoutCancel(ctx)
	if err := s.log.add(ctx, lines...); err != nil {
		s.logger.Error("a replica will not hear of a change", "lines", strings.Join(lines, "; "), "error", err)
	}
	for _, name := range names {
		if err := s.cache.drop(ctx, name); err != nil {
			s.logger.Error("the cached status of a mailbox may be old", "mailbox", name, "error", err)
		}
	}
}
