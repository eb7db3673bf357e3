package imapdconf

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/mailspine/mailspine/internal/vfs"
)

// argKind is how the master reads an argument.
type argKind uint8

const (
	argText argKind = iota
	argNumber
	argSwitch
	argProto
	argTime
)

// arguments are those that the master looks for in the entries of each section.
var arguments = map[string]map[string]argKind{
	"START": {"cmd": argText},
	"SERVICES": {"cmd": argText, "listen": argText, "proto": argProto, "prefork": argNumber, "babysit": argSwitch,
		"maxchild": argNumber, "maxfds": argNumber, "maxforkrate": argNumber},
	"EVENTS": {"cmd": argText, "period": argNumber, "at": argTime},
	"DAEMON": {"cmd": argText, "maxfds": argNumber, "maxforkrate": argNumber, "wait": argSwitch},
}

var protocols = []string{"tcp", "tcp4", "tcp6", "udp", "udp4", "udp6"}

// socketPathMax is the longest path of a UNIX socket.
const socketPathMax = 107

// Check returns what is wrong with the file, its syntax included.
func (c *Cyrus) Check(o Options) []*Problem {
	k := entryCheck{c: c, o: o, names: map[string]Pos{}, sockets: map[string]Pos{}}
	for _, e := range c.Entries {
		k.entry(e)
	}
	if _, ok := c.start["SERVICES"]; !ok && len(c.lines) > 0 {
		c.report(warning(Pos{File: c.Path}, "no-services", "no section SERVICES that Cyrus finds", "one", "the master listens on nothing"))
	}
	return c.Problems
}

// entryCheck looks at entries in the order in which the master acts on them.
type entryCheck struct {
	c       *Cyrus
	o       Options
	names   map[string]Pos // of services and daemons
	sockets map[string]Pos
	// programs are the names in the directories of programs, listed once one was missing.
	programs []string
	listed   bool
}

func (k *entryCheck) entry(e *Entry) {
	k.args(e)
	needed := []string{"cmd"}
	if e.Section == "SERVICES" {
		needed = append(needed, "listen")
	}
	for _, name := range needed {
		if e.Get(name) != "" {
			continue
		}
		fix := ""
		for _, a := range e.Args {
			if nearest(strings.ToLower(a.Name), []string{name}) != "" {
				fix = "write " + name + " in the place of " + a.Name
			}
		}
		k.c.report(refused(e.Pos, "argument-missing", fmt.Sprintf("entry %q of %s without %s", e.Name, e.Section, name), name+`="..."`, fix))
		return
	}
	if e.Section == "SERVICES" || e.Section == "DAEMON" {
		if first, twice := k.names[e.Name]; twice {
			k.c.report(refused(e.Pos, "entry-twice", fmt.Sprintf("name %q again, first at %v", e.Name, first), "a name of its own for each service and daemon", ""))
		} else {
			k.names[e.Name] = e.Pos
		}
	}
	k.program(e)
	switch e.Section {
	case "SERVICES":
		k.listen(e)
	case "EVENTS":
		k.event(e)
	}
}

// args looks at each argument by itself.
func (k *entryCheck) args(e *Entry) {
	kinds := arguments[e.Section]
	for i, a := range e.Args {
		kind, known := kinds[a.Name]
		if !known {
			var names []string
			for name := range kinds {
				names = append(names, name)
			}
			slices.Sort(names)
			fix := "Cyrus ignores it"
			if near := nearest(strings.ToLower(a.Name), names); near != "" {
				fix = "did you mean " + near + "?"
			}
			k.c.report(warning(a.Pos, "argument-unknown", "argument "+show(a.Name)+" in "+e.Section, "one of "+strings.Join(names, ", "), fix))
			continue
		}
		if e.arg(a.Name) != &e.Args[i] {
			k.c.report(warning(a.Pos, "argument-twice", "argument "+show(a.Name)+" again", "each argument once", "Cyrus takes the first"))
			continue
		}
		k.value(e, a, kind)
	}
}

func (k *entryCheck) value(e *Entry, a Arg, kind argKind) {
	odd := func(expected, fix string) {
		k.c.report(warning(a.ValuePos, "bad-value", show(a.Value)+" for "+a.Name, expected, fix))
	}
	switch kind {
	case argNumber, argTime:
		if _, err := strconv.ParseInt(strings.TrimRight(a.Value, ",;"), 10, 32); err != nil {
			odd("a number", "Cyrus takes the default, or the digits at its start")
		}
	case argSwitch:
		if _, ok := parseSwitch(a.Value); !ok {
			odd("yes or no", "Cyrus takes it for no")
		}
	case argProto:
		if !slices.Contains(protocols, a.Value) {
			k.c.report(harmful(a.ValuePos, "bad-value", show(a.Value)+" for proto", oneOf(protocols), "Cyrus starts without service "+show(e.Name)))
		}
	}
}

// program looks for the program of a command. Without it the master does not start, unless it is for an event.
func (k *entryCheck) program(e *Entry) {
	a := e.arg("cmd")
	list := words(a.Value)
	if len(list) == 0 {
		k.c.report(harmful(a.ValuePos, "program-missing", "a command of white space", "the name of a program", ""))
		return
	}
	name := list[0].text
	places := []string{name}
	if !strings.HasPrefix(name, "/") {
		places = nil
		for _, dir := range k.o.ProgramDirs {
			places = append(places, path.Join(dir, name))
		}
		if places == nil {
			return
		}
	}
	for _, place := range places {
		info, err := k.o.FS.Stat(place)
		if err == nil && info.Mode.IsRegular() && info.Mode&0o100 != 0 || err != nil && !errors.Is(err, fs.ErrNotExist) {
			return
		}
	}
	p := harmful(a.ValuePos, "program-missing", "program "+show(name)+", which is not there or not executable", "a program of Cyrus", k.similar(name))
	p.Refused = e.Section != "EVENTS"
	k.c.report(p)
}

// similar names a program that a misspelt name could mean.
func (k *entryCheck) similar(name string) string {
	if len(k.c.Problems) > maxProblems {
		return ""
	}
	for i := 0; i < len(k.o.ProgramDirs) && !k.listed; i++ {
		list, err := k.o.FS.ReadDir(k.o.ProgramDirs[i])
		if err != nil {
			continue
		}
		for _, entry := range list {
			k.programs = append(k.programs, entry.Name)
		}
	}
	k.listed = true
	if near := nearest(path.Base(name), k.programs); near != "" {
		return "did you mean " + near + "?"
	}
	return ""
}

// listen looks at where a service listens.
func (k *entryCheck) listen(e *Entry) {
	a := e.arg("listen")
	proto := e.Get("proto")
	if proto == "" {
		proto = "tcp"
	}
	if first, twice := k.sockets[proto+" "+a.Value]; twice {
		k.c.report(warning(a.ValuePos, "socket-twice", show(a.Value)+" again, first at "+first.String(), "a socket of its own for each service",
			"Cyrus starts without service "+show(e.Name)))
	} else {
		k.sockets[proto+" "+a.Value] = a.ValuePos
	}
	if !strings.HasPrefix(a.Value, "/") {
		return
	}
	if len(a.Value) > socketPathMax {
		k.c.report(harmful(a.ValuePos, "socket-path-long", fmt.Sprintf("a path of %d bytes", len(a.Value)), fmt.Sprintf("at most %d", socketPathMax), ""))
	}
	if dir := path.Dir(a.Value); missing(k.o.FS, dir) {
		k.c.report(harmful(a.ValuePos, "directory-missing", "no directory "+show(dir)+" for a socket", "one", "create it and give it to the user of Cyrus"))
	}
}

func missing(fsys vfs.FS, name string) bool {
	_, err := fsys.Stat(name)
	return errors.Is(err, fs.ErrNotExist)
}

// event looks at when an event happens.
func (k *entryCheck) event(e *Entry) {
	period, _ := strconv.Atoi(strings.TrimRight(e.Get("period"), ",;"))
	at := e.arg("at")
	if at != nil {
		n, err := strconv.Atoi(strings.TrimRight(at.Value, ",;"))
		if err == nil && n >= 0 && n/100 <= 23 && n%100 <= 59 {
			return
		}
		k.c.report(warning(at.ValuePos, "bad-value", show(at.Value)+" for at", "a time of the day from 0000 to 2359", "Cyrus ignores it"))
	}
	if period <= 0 {
		k.c.report(warning(e.Pos, "event-once", fmt.Sprintf("event %q without a period or a time", e.Name), "period=MINUTES or at=HHMM",
			"it happens once, when the master starts"))
	}
}
