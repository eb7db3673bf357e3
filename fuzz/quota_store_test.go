package fuzz

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/mailspine/mailspine/index"
	"github.com/mailspine/mailspine/internal/imapdconf"
	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/internal/vfs/simfs"
	"github.com/mailspine/mailspine/internal/vfs/vfstest"
	"github.com/mailspine/mailspine/mboxdb"
	"github.com/mailspine/mailspine/store"
)

// accountKind is a configuration of the stores whose quota roots are counted.
type accountKind struct {
	name, conf string
	boxes      []string
	once       sync.Once
	disk       *simfs.FS
	config     *imapdconf.Config
	err        error
}

// accountKinds have what decides how roots are found and kept: files or a database, directories by unique id or by name.
var accountKinds = []*accountKind{
	{name: "files", conf: "mboxlist_db: twoskip\n", boxes: accountBoxes},
	{name: "legacy", conf: "mboxlist_db: skiplist\nmailbox_legacy_dirs: yes\nhashimapspool: yes\nfulldirhash: yes\n", boxes: accountBoxes},
}

// smallAccounts is a store in which a campaign can look at every operation of a change.
var smallAccounts = &accountKind{name: "small", conf: "mboxlist_db: twoskip\n", boxes: []string{"user.base", "user.base.a", "user.base.a.b", "user.baseplus"}}

const accountConf = "/imapd.conf"

// accountBoxes are the mailboxes of the store: nested roots, names of which one is the beginning of another, and names with
// bytes that sort before the separator.
var accountBoxes = []string{
	"user.base", "user.base.a", "user.base.a.b", "user.base.a.b.c", "user.base.a-x", "user.base.a x", "user.base.z",
	"user.baseplus", "user.baseplus.a", "user.ba", "shared", "shared.dept", "shared.dept.in", "shared.other",
}

// accountOldRoots are the quota roots that there are at first, and accountLimits their limits of storage in KiB. Where there is
// none, nothing is limited.
var (
	accountOldRoots = []string{"user.base", "user.base.a.b", "user.baseplus", "user.ba", "shared.dept"}
	accountLimits   = map[string]string{"user.base": " 900", "user.base.a.b": " 40", "user.ba": " 0", "shared.dept": " 100"}
)

// fresh returns a store of a kind on a disk of its own.
func (k *accountKind) fresh() (*simfs.FS, error) {
	k.once.Do(func() { k.disk, k.err = k.make() })
	if k.err != nil {
		return nil, k.err
	}
	return k.disk.Kill(), nil
}

func (k *accountKind) make() (*simfs.FS, error) {
	disk := simfs.New(simfs.Options{})
	for _, dir := range []string{"/conf", "/conf/db", "/conf/lock", "/spool"} {
		if err := vfs.MkdirAll(disk, dir, 0o755); err != nil {
			return nil, err
		}
	}
	text := "configdirectory: /conf\ndefaultpartition: default\npartition-default: /spool\nadmins: cyrus\naltnamespace: no\nunixhierarchysep: no\n" + k.conf
	if err := writeWhole(disk, accountConf, text); err != nil {
		return nil, err
	}
	var err error
	if k.config, err = imapdconf.Read(disk, accountConf).Config("mailspine"); err != nil {
		return nil, err
	}
	listPath, opts := mboxdb.Configured(k.config)
	opts.DB.FS, opts.DB.Format = disk, opts.NewFormat
	if err := mboxdb.Create(ctx, listPath, opts); err != nil {
		return nil, err
	}
	if err := k.furnish(disk); err != nil {
		return nil, err
	}
	if err := vfstest.WriteBack(disk, "/"); err != nil {
		return nil, err
	}
	// As a crash leaves it, with nothing to lose: a copy of it is cheap, as nothing has happened to it yet.
	trace := disk.Trace()
	img, err := trace.Image(fmt.Sprintf("op=%d seed=1", trace.Len()))
	if err != nil {
		return nil, err
	}
	return img.FS, nil
}

func (k *accountKind) furnish(disk *simfs.FS) error {
	st, err := k.open(ctx, disk, 0)
	if err != nil {
		return err
	}
	for _, root := range accountOldRoots { // without limits, so that there is room for the messages
		text := rootText{modseq: 1}
		if err := writeWhole(disk, k.roots(disk).path(root), text.String()); err != nil {
			return err
		}
	}
	for i, n := range k.boxes {
		name := mboxdb.InternalName(n)
		if _, err := st.Create(ctx, store.NewMailbox{Name: name}); err != nil {
			return fmt.Errorf("%s: %w", n, err)
		}
		m, err := st.OpenMailbox(ctx, name)
		if err != nil {
			return err
		}
		err = m.Update(ctx, func(tx *index.Tx) error {
			for j := range 1 + i%3 {
				if _, err := tx.Append(accountMessage(uint64(i*10 + j))); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		if err := m.Close(); err != nil {
			return err
		}
	}
	return errors.Join(st.Close(), k.setRoots(disk))
}

// setRoots writes every root with its limit and with what it should say.
func (k *accountKind) setRoots(disk *simfs.FS) error {
	a, err := k.countAccounts(disk)
	if err != nil {
		return err
	}
	for root, says := range a.says {
		says.used, says.limits[0] = a.should[root], accountLimits[root]
		if err := writeWhole(disk, k.roots(disk).path(root), says.String()); err != nil {
			return err
		}
	}
	return nil
}

func (k *accountKind) roots(fsys vfs.FS) rootFiles {
	return rootFiles{fs: fsys, dir: "/conf", fullHash: k.config.Bool("fulldirhash")}
}

// accountMessage is a message whose size a number decides.
func accountMessage(n uint64) index.NewMessage {
	text := fmt.Sprintf("Subject: %d\r\n\r\n%s\r\n", n, strings.Repeat("x", int(n*37%300)))
	return index.NewMessage{Body: strings.NewReader(text), InternalDate: time.Unix(1_790_000_000, 0)}
}

// open opens the store as a process of its own does, with random numbers that none had before.
func (k *accountKind) open(ctx context.Context, fsys vfs.FS, process int) (*store.Store, error) {
	n := uint64(fsys.Now().UnixNano()) ^ uint64(process)<<48
	return store.Open(ctx, k.config, store.Options{FS: fsys, Random: func() uint64 { n = n*6364136223846793005 + 1442695040888963407; return n >> 33 }})
}

// writeWhole replaces a file, with the directories that lead to it.
func writeWhole(fsys vfs.FS, name, text string) error {
	if err := vfs.MkdirAll(fsys, path.Dir(name), 0o755); err != nil {
		return err
	}
	return vfs.ReplaceFile(fsys, name, vfs.ReplaceOptions{Perm: 0o600}, func(f vfs.File) error {
		_, err := f.WriteAt([]byte(text), 0)
		return err
	})
}
