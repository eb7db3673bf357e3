package mboxdb

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
)

// Located says whose a directory in a spool is.
type Located struct {
	// Partition is the partition in which the directory lies, and Root the root of it.
	Partition string `json:"partition"`
	Root      string `json:"root"`
	// Name is the mailbox by the list, or by the directory's own path in the legacy layout. It is zero if the directory is
	// that of a unique id that the list does not have.
	Name     Name   `json:"name"`
	UniqueID string `json:"unique_id,omitempty"`
	// Listed tells whether the list has a mailbox whose files lie there.
	Listed bool `json:"listed"`
}

// ErrNotInSpool means that a path lies in no partition, or is not the directory of a mailbox.
var ErrNotInSpool = errors.New("not the directory of a mailbox in a configured partition")

// Locate names the mailbox of a directory, given by its absolute path.
func (v *View) Locate(dir string) (Located, error) {
	dir = filepath.Clean(dir)
	found, sub := v.l.opts.Layout.partitionOf(dir)
	if sub == "" || sub == "." {
		return found, fmt.Errorf("%s: %w", dir, ErrNotInSpool)
	}
	parts := strings.Split(sub, "/")
	if parts[0] == "uuid" {
		if len(parts) != 4 || idPath(parts[3]) != sub {
			return found, fmt.Errorf("%s: %w", dir, ErrNotInSpool)
		}
		return v.locateID(found, parts[3])
	}
	n, ok := v.l.opts.Layout.nameOfPath(parts)
	if !ok {
		return found, fmt.Errorf("%s: %w", dir, ErrNotInSpool)
	}
	found.Name = n
	rec, err := v.Lookup(n)
	if err != nil && !isNotFound(err) {
		return found, err
	}
	if err == nil && rec.Type.Legacy() {
		found.Listed, found.UniqueID = true, rec.UniqueID
	}
	return found, nil
}

func (v *View) locateID(found Located, id string) (Located, error) {
	found.UniqueID = id
	rec, err := v.LookupID(id)
	if err != nil && !isNotFound(err) {
		return found, err
	}
	if err == nil && !rec.Type.Legacy() {
		found.Listed, found.Name = true, rec.Name
	}
	return found, nil
}

// partitionOf finds the partition whose root dir lies below, the deepest if there are several, and the rest of the path.
func (l Layout) partitionOf(dir string) (found Located, sub string) {
	for name, p := range l.Partitions {
		roots := []string{p.Data, p.Meta, p.Archive}
		for _, root := range p.MetaDirs {
			roots = append(roots, root)
		}
		for _, root := range roots {
			root = filepath.Clean(root)
			rest, ok := strings.CutPrefix(dir, strings.TrimSuffix(root, "/")+"/")
			if root != "." && ok && len(root) > len(found.Root) {
				found, sub = Located{Partition: name, Root: root}, rest
			}
		}
	}
	return found, sub
}

// nameOfPath is the name whose directory is the given path below a root, in the legacy layout.
func (l Layout) nameOfPath(parts []string) (Name, bool) {
	given := strings.Join(parts, "/")
	domain := ""
	if parts[0] == "domain" {
		if l.HashSpool && len(parts) > 1 {
			parts = parts[1:]
		}
		if len(parts) < 2 {
			return Name{}, false
		}
		domain, parts = parts[1], parts[2:]
	}
	if l.HashSpool && len(parts) > 0 {
		parts = parts[1:]
	}
	if len(parts) == 0 {
		return Name{}, false
	}
	n := Name{strings.ReplaceAll(strings.Join(parts, string(levelSep)), "^", ".")}
	if domain != "" {
		n = Name{domain + string(domainSep) + n.db}
	}
	return n, l.namePath(n) == given
}
