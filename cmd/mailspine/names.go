package main

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/mailspine/mailspine/mboxdb"
	"github.com/mailspine/mailspine/skiplist"
)

// admin is the namespace in which names are given and printed: an administrator's.
func (st *store) admin() mboxdb.Namespace {
	ns := st.opts.Layout.Namespace
	ns.Admin = true
	return ns
}

// show is a name as an administrator sees it.
func (st *store) show(n mboxdb.Name) string {
	if s, ok := st.admin().External(n); ok {
		return s
	}
	return n.String()
}

// name reads a name as an administrator gives it.
func (st *store) name(arg string) (mboxdb.Name, error) {
	n, err := st.admin().Parse(arg)
	if err != nil {
		return n, &exitError{exitUsage, &advisedError{err, nameAdvice(st.admin(), arg)}}
	}
	return n, nil
}

// names is name for all arguments of a command.
func (st *store) names(args []string) (names []mboxdb.Name, err error) {
	for _, arg := range args {
		n, err := st.name(arg)
		if err != nil {
			return nil, err
		}
		names = append(names, n)
	}
	return names, nil
}

// find looks a mailbox up by name or unique id, tombstones too.
func (st *store) find(v *mboxdb.View, arg string, byID bool) (mboxdb.Record, error) {
	if byID {
		return v.LookupID(arg)
	}
	n, err := st.name(arg)
	if err != nil {
		return mboxdb.Record{}, err
	}
	rec, err := v.Entry(n)
	if err != nil {
		return rec, st.advise(err, []string{arg})
	}
	if full, err := v.LookupID(rec.UniqueID); rec.UniqueID != "" && err == nil && full.Name == rec.Name {
		rec.History = full.History
	}
	return rec, nil
}

// each calls do with the mailbox of each argument. One that is not in the list, or behind its damage, does not hide the
// others: its error comes at the end.
func (st *store) each(v *mboxdb.View, args []string, byID bool, do func(mboxdb.Record) error) (err error) {
	if !byID {
		if _, err := st.names(args); err != nil {
			return err
		}
	}
	var damage error
	for _, arg := range args {
		rec, e := st.find(v, arg, byID)
		if errors.Is(e, skiplist.ErrDamaged) && !rec.Name.IsZero() {
			damage, e = e, nil // it was committed before the damage
		}
		if e == nil {
			e = do(rec)
		}
		if errors.Is(e, skiplist.ErrDamaged) {
			damage, e = e, nil
		}
		if err = errors.Join(err, e); e != nil && !errors.Is(e, mboxdb.ErrNotFound) {
			return err
		}
	}
	return errors.Join(err, damage)
}

// filesHere fails, and says why, for what has no files on this server.
func (st *store) filesHere(v *mboxdb.View, rec mboxdb.Record) error {
	name := st.show(rec.Name)
	switch {
	case rec.Type.Remote():
		return fmt.Errorf("%s has no files here: it is on the server %s", name, rec.Server)
	case !rec.Type.Deleted():
		return nil
	}
	err := fmt.Errorf("%s: %w any more: deleted or renamed on %s", name, mboxdb.ErrNotFound, unixTime(rec.Modified))
	now, e := v.LookupID(rec.UniqueID)
	if e != nil {
		return &advisedError{err, "no mailbox has its unique id now, so what it held has gone with it"}
	}
	return &advisedError{err, fmt.Sprintf("the mailbox of its unique id is now %s: name that", shellWord(st.show(now.Name)))}
}

// advise adds to the error of names that are not in the list what the first of them may be missing.
func (st *store) advise(err error, args []string) error {
	if !errors.Is(err, mboxdb.ErrNotFound) {
		return err
	}
	for _, arg := range args {
		if advice := nameAdvice(st.admin(), arg); advice != "" {
			return &advisedError{err, advice}
		}
	}
	return &advisedError{err, "mailspine mailbox list prints the names that there are"}
}

// nameAdvice says how a name may have to be written that cannot be read or is not in the list; it is empty if nothing is
// wrong with it.
func nameAdvice(ns mboxdb.Namespace, arg string) string {
	setting := map[bool]string{true: "on", false: "off"}[ns.UnixSep]
	sep := string(ns.Separator())
	write := func(name string) string { return "write " + shellWord(name) }
	_, notUTF7 := mboxdb.DecodeUTF7(arg)
	switch {
	case strings.Trim(arg, sep) == "":
		return fmt.Sprintf("name a mailbox, such as user%salice; mailspine mailbox list prints all names", sep)
	case !utf8.ValidString(arg) || strings.IndexFunc(arg, func(r rune) bool { return r < ' ' || r == 0x7f }) >= 0:
		return "a name is printable ASCII, with modified UTF-7 for everything else: mailspine mailbox list prints all names as they are to be written"
	case !ns.UnixSep && strings.Contains(arg, "/"):
		name := arg
		if !strings.HasPrefix(arg, "user.") { // there dots separate levels already
			name = strings.ReplaceAll(arg, ".", "^")
		}
		return fmt.Sprintf("%s: levels are separated by %q here, as unixhierarchysep is %s", write(strings.ReplaceAll(name, "/", sep)), sep, setting)
	case ns.UnixSep && strings.Contains(arg, "^"):
		return fmt.Sprintf("%s: a dot stands for itself here, as unixhierarchysep is %s", write(strings.ReplaceAll(arg, "^", ".")), setting)
	case ns.UnixSep && strings.HasPrefix(arg, "user."):
		return fmt.Sprintf("%s: levels are separated by %q here, as unixhierarchysep is %s", write(strings.ReplaceAll(arg, ".", sep)), sep, setting)
	case notUTF7 != nil:
		return write(mboxdb.EncodeUTF7(arg)) + ": names are in modified UTF-7, in which a plain & is &-"
	case strings.EqualFold(arg, "INBOX") || len(arg) > 5 && strings.EqualFold(arg[:6], "INBOX"+sep):
		return fmt.Sprintf("INBOX is an administrator's own here; that of a user is user%[1]sNAME, a folder below it user%[1]sNAME%[1]sFOLDER", sep)
	case !strings.Contains(arg, sep):
		return fmt.Sprintf("the mailbox of a user is called user%sNAME; mailspine mailbox list prints all names", sep)
	}
	return ""
}

// shellWord is a word as it has to be given to a shell.
func shellWord(s string) string {
	plain := strings.IndexFunc(s, func(r rune) bool {
		return r > 0x7e || !strings.ContainsRune("./_-@,+:=", r) && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
	}) < 0
	if plain && s != "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
