package fuzz

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/mailspine/mailspine/index"
	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/internal/vfs/vfstest"
	"github.com/mailspine/mailspine/mboxdb"
)

// The code here counts usage on its own, from the records of mailboxes and the texts of root files: it shares nothing with
// package quota but the formats.

// tally is what a quota root says, or should say, is used.
type tally struct{ bytes, messages, annotations, folders int64 }

func (c *tally) plus(o tally) {
	c.bytes, c.messages, c.annotations, c.folders = c.bytes+o.bytes, c.messages+o.messages, c.annotations+o.annotations, c.folders+o.folders
}

func (c tally) String() string {
	return fmt.Sprintf("%d bytes in %d messages, %d of annotations, %d mailboxes", c.bytes, c.messages, c.annotations, c.folders)
}

// rootText is the text of a quota root in its parts.
type rootText struct {
	used   tally
	limits [4]string // " 100" or ""
	scan   string    // the mailbox that a scan has reached, with scanned
	under  bool      // there is a scan
	sums   tally
	modseq int64
}

var (
	rootForm = regexp.MustCompile(`^%\(S \((\d+)( \d+)?\) M \((\d+)( \d+)?\) AS \((\d+)( \d+)?\) NF \((\d+)( \d+)?\)` +
		`(?: SCAN %\(MBOX ("[^"]*"|\S+) S (\d+) M (\d+) AS (\d+) NF (\d+)\))? MODSEQ (\d+)\)\n$`)
	errNotRoot = errors.New("that is no text of a quota root")
)

func parseRoot(text string) (r rootText, err error) {
	m := rootForm.FindStringSubmatch(text)
	if m == nil {
		return r, fmt.Errorf("%q: %w", text, errNotRoot)
	}
	number := func(i int) int64 {
		n, e := strconv.ParseInt(m[i], 10, 64)
		if e != nil && m[i] != "" {
			err = e
		}
		return n
	}
	r.used = tally{number(1), number(3), number(5), number(7)}
	r.limits = [4]string{m[2], m[4], m[6], m[8]}
	if r.under = m[9] != ""; r.under {
		r.scan, r.sums = strings.Trim(m[9], `"`), tally{number(10), number(11), number(12), number(13)}
	}
	r.modseq = number(14)
	return r, err
}

func (r *rootText) String() string {
	scan := ""
	if r.under {
		scan = fmt.Sprintf(" SCAN %%(MBOX %q S %d M %d AS %d NF %d)", r.scan, r.sums.bytes, r.sums.messages, r.sums.annotations, r.sums.folders)
	}
	u := &r.used
	return fmt.Sprintf("%%(S (%d%s) M (%d%s) AS (%d%s) NF (%d%s)%s MODSEQ %d)\n", u.bytes, r.limits[0], u.messages, r.limits[1],
		u.annotations, r.limits[2], u.folders, r.limits[3], scan, r.modseq)
}

// add is Cyrus's update of a root: below 0 nothing is used, and what is found before the mark of a scan counts for the scan too.
func (r *rootText) add(mailbox string, by tally) {
	for _, to := range []*tally{&r.used, &r.sums} {
		if to == &r.sums && (!r.under || mailbox > r.scan) {
			continue
		}
		to.plus(by)
		*to = tally{max(0, to.bytes), max(0, to.messages), max(0, to.annotations), max(0, to.folders)}
	}
	r.modseq++
}

// accountsFound is what a look at a store finds: what every root says, what it should say, and which root the header of
// every mailbox names, and which one owns it.
type accountsFound struct {
	says   map[string]rootText
	should map[string]tally
	header map[string]string
	owner  map[string]string
}

// countAccounts looks at a store on which nothing happens.
func (k *accountKind) countAccounts(fsys vfs.FS) (*accountsFound, error) {
	a := &accountsFound{should: map[string]tally{}, header: map[string]string{}, owner: map[string]string{}}
	var err error
	if a.says, err = readRoots(fsys); err != nil {
		return nil, err
	}
	listPath, opts := mboxdb.Configured(k.config)
	opts.DB.FS, opts.DB.ReadOnly = fsys, true
	list, err := mboxdb.Open(ctx, listPath, opts)
	if err != nil {
		return nil, err
	}
	err = list.View(ctx, func(v *mboxdb.View) error {
		for rec, err := range v.All() {
			if err != nil {
				return err
			}
			if !rec.Type.Exists() {
				continue
			}
			if err := a.count(fsys, opts.Layout, rec); err != nil {
				return fmt.Errorf("%s: %w", rec.Name, err)
			}
		}
		return nil
	})
	return a, errors.Join(err, list.Close())
}

func (a *accountsFound) count(fsys vfs.FS, l mboxdb.Layout, rec mboxdb.Record) error {
	p, err := index.PlaceOf(l, rec)
	if err != nil {
		return err
	}
	f, err := index.OpenFiles(fsys, p.Paths)
	if err != nil {
		return err
	}
	defer f.Close()
	c := tally{folders: 1, annotations: int64(f.Index.Header.QuotaAnnot)}
	for e, err := range f.Index.Records(1) {
		if err != nil {
			return err
		}
		if !e.Expunged() {
			c.bytes, c.messages = c.bytes+int64(e.Size), c.messages+1
		}
	}
	name, owner := rec.Name.String(), ""
	for root := range a.says {
		if (name == root || strings.HasPrefix(name, root+".")) && len(root) > len(owner) {
			owner = root
		}
	}
	a.header[name], a.owner[name] = f.Header.QuotaRoot, owner
	if owner != "" {
		sum := a.should[owner]
		sum.plus(c)
		a.should[owner] = sum
	}
	return nil
}

// readRoots reads all root files.
func readRoots(fsys vfs.FS) (map[string]rootText, error) {
	all := map[string]rootText{}
	err := vfstest.Walk(fsys, "/conf/quota", func(name string, isDir bool) error {
		if isDir || strings.HasSuffix(name, ".NEW") {
			return nil
		}
		b, err := vfs.ReadFile(fsys, name)
		if err != nil {
			return err
		}
		r, err := parseRoot(string(b))
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		all[path.Base(name)] = r
		return nil
	})
	return all, err
}

// wrong lists what of the given roots is not as it should be.
func (a *accountsFound) wrong(roots ...string) (list []string) {
	for _, root := range roots {
		says, ok := a.says[root]
		switch should := a.should[root]; {
		case !ok:
			list = append(list, root+" is gone")
		case says.used != should:
			list = append(list, fmt.Sprintf("%s says %v, and has %v", root, says.used, should))
		case says.under:
			list = append(list, root+" has still a scan")
		}
	}
	return list
}

// misnamed lists the mailboxes whose header names another root than the one that owns them. Where none does, the name of one that
// is not there does no harm, and tells an operator what is missing.
func (a *accountsFound) misnamed() (list []string) {
	for _, name := range slices.Sorted(maps.Keys(a.header)) {
		_, there := a.says[a.header[name]]
		if a.header[name] != a.owner[name] && (there || a.owner[name] != "") {
			list = append(list, fmt.Sprintf("%s names %q and belongs to %q", name, a.header[name], a.owner[name]))
		}
	}
	return list
}

func (a *accountsFound) roots() []string { return slices.Sorted(maps.Keys(a.says)) }
