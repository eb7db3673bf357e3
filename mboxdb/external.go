package mboxdb

import "strings"

// External is the name as the user who looks sees it. It is false for a name that has none in this namespace: a
// mailbox of another domain, or a deleted one in the alternate namespace.
func (ns Namespace) External(n Name) (string, bool) {
	p := ns.take(n)
	levels, ok := ns.show(p)
	if !ok {
		return "", false
	}
	for i, l := range levels {
		if !ns.UnixSep {
			levels[i] = strings.ReplaceAll(l, ".", "^")
		}
	}
	s := strings.Join(levels, string(ns.Separator()))
	if ns.VirtDomains && ns.Admin && p.domain != "" {
		s += "@" + p.domain
	}
	return s, true
}

// owned tells whether a mailbox is the one of the user who looks.
func (ns Namespace) owned(p parts) bool {
	user, domain := ns.splitUser(ns.User)
	return p.hasUser && p.user == user && p.domain == domain && ns.User != ""
}

func (ns Namespace) show(p parts) ([]string, bool) {
	if ns.isAlt() {
		return ns.showAlt(p)
	}
	var levels []string
	if p.deleted != 0 {
		levels = append(levels, ns.deletedPrefix())
	}
	_, own := ns.splitUser(ns.User)
	foreign := !(ns.VirtDomains && ns.Admin) && p.domain != own
	switch {
	case !p.hasUser:
		if len(p.levels) == 0 || strings.EqualFold(p.levels[0], "INBOX") || foreign {
			return nil, false
		}
	case p.deleted != 0 || !ns.owned(p):
		user := ns.withDomain(p.user, p)
		if user == p.user && foreign && !ns.crosses() {
			return nil, false
		}
		levels = append(levels, userLevel, user)
	default:
		levels = append(levels, "INBOX")
	}
	levels = append(levels, p.levels...)
	if p.deleted != 0 {
		levels = append(levels, hexTime(p.deleted))
	}
	return levels, true
}

func (ns Namespace) showAlt(p parts) ([]string, bool) {
	if p.deleted != 0 {
		return nil, false
	}
	switch {
	case !p.hasUser && len(p.levels) == 0:
		return nil, false
	case !p.hasUser && len(p.levels) == 1 && p.levels[0] == userLevel:
		return []string{ns.userPrefix()}, true
	case !p.hasUser:
		shared := []string{ns.sharedPrefix(), ns.withDomain(p.levels[0], p)}
		return append(shared, p.levels[1:]...), true
	case !ns.owned(p):
		return append([]string{ns.userPrefix(), ns.withDomain(p.user, p)}, p.levels...), true
	case len(p.levels) == 0:
		return []string{"INBOX"}, true
	case ns.needsAltPrefix(p.levels):
		return append([]string{ns.altPrefix()}, p.levels...), true
	}
	return append([]string(nil), p.levels...), true
}

// needsAltPrefix tells whether a folder of one's own would be taken for something else by its first level. INBOX is
// special: it stands for itself if it is spelled so and has folders below.
func (ns Namespace) needsAltPrefix(levels []string) bool {
	top := levels[0]
	if strings.EqualFold(top, "INBOX") {
		return len(levels) == 1 || top != "INBOX"
	}
	return top == ns.userPrefix() || top == ns.sharedPrefix() || top == ns.altPrefix()
}

// withDomain adds the domain to a level, in a namespace that crosses domains.
func (ns Namespace) withDomain(level string, p parts) string {
	if !ns.crosses() {
		return level
	}
	if _, own := ns.splitUser(ns.User); ns.CrossDomainsOther && p.domain == own {
		return level
	}
	return level + "@" + orElse(p.domain, ns.DefaultDomain)
}
