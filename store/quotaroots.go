package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/mboxdb"
	"github.com/mailspine/mailspine/skiplist"
)

// quotaRoots finds the quota roots that there are. What they say is not looked at here.
type quotaRoots struct {
	fs vfs.FS
	// dir is below which quotalegacy keeps a file for each root; "" if they are in the database at path.
	dir, path string
	opts      skiplist.Options
	// domains and fullHash are virtdomains and fulldirhash.
	domains, fullHash bool
}

// find returns the root that counts for a mailbox, by its internal name: the longest that is the name or above it; "" if
// there is none.
func (q *quotaRoots) find(ctx context.Context, name string) (string, error) {
	has, done, err := q.open(ctx)
	if err != nil {
		return "", fmt.Errorf("quota roots: %w", err)
	}
	defer done()
	domain := ""
	if i := strings.IndexByte(name, '!'); i >= 0 && q.domains {
		domain, name = name[:i+1], name[i+1:]
	}
	for root := name; ; {
		switch found, err := has(domain + root); {
		case err != nil:
			return "", fmt.Errorf("quota roots: %w", err)
		case found:
			return domain + root, nil
		}
		i := strings.LastIndexByte(root, '.')
		if i < 0 {
			break
		}
		root = root[:i]
	}
	if domain == "" {
		return "", nil
	}
	found, err := has(domain)
	if err != nil || !found {
		return "", err
	}
	return domain, nil
}

// open returns a function that tells whether there is a root of a name.
func (q *quotaRoots) open(ctx context.Context) (has func(string) (bool, error), done func(), err error) {
	if q.dir != "" {
		return q.hasFile, func() {}, nil
	}
	_, err = q.fs.Stat(q.path)
	if errors.Is(err, fs.ErrNotExist) {
		return func(string) (bool, error) { return false, nil }, func() {}, nil
	}
	if err != nil {
		return nil, nil, err
	}
	opts := q.opts
	opts.ReadOnly = true
	db, err := skiplist.Open(ctx, q.path, opts)
	if err != nil {
		return nil, nil, err
	}
	has = func(root string) (bool, error) {
		_, err := db.Get(ctx, []byte(root))
		if errors.Is(err, skiplist.ErrNotFound) {
			return false, nil
		}
		return err == nil, err
	}
	return has, func() { _ = db.Close() }, nil
}

// hasFile looks for the file of a root. Whatever has the name counts, as for Cyrus, even if nothing is in it.
func (q *quotaRoots) hasFile(root string) (bool, error) {
	if strings.IndexByte(root, '/') >= 0 {
		return false, nil
	}
	_, err := q.fs.Stat(q.file(root))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// file is where quotalegacy keeps a root: below a letter that is taken from what follows the first dot.
func (q *quotaRoots) file(root string) string {
	dir := q.dir
	if domain, rest, ok := strings.Cut(root, "!"); ok && q.domains {
		dir = filepath.Join(dir, "domain", string(mboxdb.Hash(domain, q.fullHash)), domain)
		if rest == "" {
			return filepath.Join(dir, "quota", "root")
		}
		root = rest
	}
	_, below, ok := strings.Cut(root, ".")
	if !ok {
		below = root
	}
	return filepath.Join(dir, "quota", string(mboxdb.Hash(below, q.fullHash)), root)
}
