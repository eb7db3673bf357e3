package main

import (
	"slices"
	"strings"

	"github.com/mailspine/mailspine/mboxdb"
)

// domainMark ends a domain in the internal name of a root, which alone is the root of the whole domain.
const domainMark = "!"

// rootName reads the name of a quota root as an administrator gives it, which is that of a mailbox, or "@DOMAIN" for the root
// of a whole domain.
func (st *store) rootName(arg string) (string, error) {
	if domain, ok := strings.CutPrefix(arg, "@"); ok && domain != "" && st.admin().VirtDomains {
		return domain + domainMark, nil
	}
	n, err := st.name(arg)
	return n.String(), err
}

// rootNames is rootName for all arguments.
func (st *store) rootNames(args []string) (roots []string, err error) {
	for _, arg := range args {
		root, err := st.rootName(arg)
		if err != nil {
			return nil, err
		}
		roots = append(roots, root)
	}
	return roots, nil
}

// showRoot is a root as an administrator sees it.
func (st *store) showRoot(root string) string {
	if domain, ok := strings.CutSuffix(root, domainMark); ok && st.admin().VirtDomains {
		return "@" + domain
	}
	if name, ok := st.admin().External(mboxdb.InternalName(root)); ok {
		return name
	}
	return root
}

// rootSet tells which roots are meant: all, or those that a test says yes to.
type rootSet struct {
	tests []func(root string) bool
	// args are the arguments, each of which has a test.
	args []string
}

// has tells whether a root is meant, and notes for which arguments there is one.
func (s *rootSet) has(root string, found []bool) bool {
	meant := len(s.tests) == 0
	for i, test := range s.tests {
		if test(root) {
			meant = true
			if found != nil {
				found[i] = true
			}
		}
	}
	return meant
}

// missing are the arguments for which no root was found.
func (s *rootSet) missing(found []bool) (args []string) {
	for i, arg := range s.args {
		if !found[i] && !slices.Contains(args, arg) {
			args = append(args, arg)
		}
	}
	return args
}

// below tells whether a root is top or in the tree below it.
func below(root, top string) bool {
	return root == top || strings.HasPrefix(root, top) && (strings.HasSuffix(top, domainMark) || root[len(top)] == '.')
}

// selectRoots reads arguments: roots with all below them, or users, of one domain if that is given.
func (st *store) selectRoots(args []string, users bool, domain string) (s rootSet, err error) {
	ns := st.admin()
	if domain != "" && !ns.VirtDomains {
		return s, usageError("--domain: there are no domains here, as virtdomains is off")
	}
	inDomain := func(name string) string {
		if domain == "" {
			return name
		}
		return name + "@" + domain
	}
	if domain != "" && len(args) == 0 {
		s.args = []string{"@" + domain}
		s.tests = append(s.tests, func(root string) bool {
			if domain == ns.DefaultDomain {
				return !strings.Contains(root, domainMark)
			}
			return strings.HasPrefix(root, domain+domainMark)
		})
		return s, nil
	}
	for _, arg := range args {
		test, err := st.rootTest(inDomain(arg), users)
		if err != nil {
			return s, err
		}
		s.args, s.tests = append(s.args, arg), append(s.tests, test)
	}
	return s, nil
}

func (st *store) rootTest(arg string, user bool) (func(string) bool, error) {
	ns := st.admin()
	if user {
		if arg == "" || strings.ContainsAny(arg, "\x00\x1d\x1e\x1f") {
			return nil, usageError("%q is not the name of a user", arg)
		}
		inbox := ns.UserInbox(arg)
		return func(root string) bool {
			name := mboxdb.InternalName(root)
			_, deleted := name.Deleted(ns)
			return name.Inbox(ns) == inbox && !deleted
		}, nil
	}
	top, err := st.rootName(arg)
	return func(root string) bool { return below(root, top) }, err
}
