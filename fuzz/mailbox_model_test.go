package fuzz

import (
	"fmt"
	"hash/crc32"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/mailspine/mailspine/index"
)

// boxMessage is a message as it should be.
type boxMessage struct {
	uid    index.UID
	flags  index.Flags // those that clients see, FlagExpunged and FlagUnlinked
	user   string      // the names of the user's flags, sorted, with a space after each
	modseq index.ModSeq
	text   string // "" once the file is gone
}

func (m *boxMessage) live() bool { return m.flags&index.FlagExpunged == 0 }

// box is a mailbox as it should be.
type box struct {
	version index.Version
	last    index.UID
	high    index.ModSeq
	msgs    []boxMessage
}

// boxes are the mailboxes of one test: one in which everything happens, and one that messages are copied and moved to.
type boxes [2]box

func newBoxes(v index.Version) (b boxes) {
	for i := range b {
		b[i] = box{version: v, high: 1}
	}
	return b
}

func (b *boxes) clone() boxes {
	c := *b
	for i := range c {
		c[i].msgs = slices.Clone(c[i].msgs)
	}
	return c
}

// shownFlags are the flags that clients see.
const shownFlags = index.FlagAnswered | index.FlagFlagged | index.FlagDeleted | index.FlagDraft | index.FlagSeen

// keptFlags are those of a record that the model has.
const keptFlags = shownFlags | index.FlagExpunged | index.FlagUnlinked

// modSeqs tells whether the version keeps modification sequences.
func modSeqs(v index.Version) bool { return v >= 8 }

// state is the mailbox as a map, to compare it with what was read.
func (b *box) state(into map[string]string, name string) {
	high := b.high
	if !modSeqs(b.version) {
		high = 0
	}
	into[name] = fmt.Sprintf("version %d, last UID %d, highest modseq %d", b.version, b.last, high)
	for i := range b.msgs {
		m := &b.msgs[i]
		put := m.modseq
		if !modSeqs(b.version) {
			put = 0
		}
		into[fmt.Sprintf("%s %d", name, m.uid)] = describeMessage(m.flags, m.user, put, m.text)
	}
}

func describeMessage(f index.Flags, user string, modseq index.ModSeq, text string) string {
	return fmt.Sprintf("%v +%08x [%s] modseq %d, text %d/%08x", f.Names(), uint32(f), user, modseq, len(text), crc32.ChecksumIEEE([]byte(text)))
}

func (b *boxes) state() map[string]string {
	all := map[string]string{}
	for i := range b {
		b[i].state(all, boxNames[i])
	}
	return all
}

// usage is what the messages count for a quota: live ones, and their bytes.
func (b *boxes) usage() (u [2]int) {
	for i := range b {
		for _, m := range b[i].msgs {
			if m.live() {
				u[0], u[1] = u[0]+1, u[1]+len(m.text)
			}
		}
	}
	return u
}

// differences lists in a line what of got is not as in want.
func differences(got, want map[string]string) string {
	var list []string
	for _, k := range slices.Sorted(maps.Keys(want)) {
		if got[k] != want[k] {
			list = append(list, fmt.Sprintf("%s: %q, should be %q", k, got[k], want[k]))
		}
	}
	for _, k := range slices.Sorted(maps.Keys(got)) {
		if _, ok := want[k]; !ok {
			list = append(list, fmt.Sprintf("%s: %q, should not be there", k, got[k]))
		}
	}
	return strings.Join(list, "; ")
}

// boxOp is one change within a transaction.
type boxOp struct {
	what   string
	uid    index.UID
	change index.FlagChange
	text   string
}

// boxStep is what happens between two looks at the mailboxes: a transaction of several changes in the first mailbox, or
// something that concerns all of it.
type boxStep struct {
	kind string
	ops  []boxOp
	uids []index.UID // for copy and move
}

func (s boxStep) String() string {
	text := s.kind
	for _, o := range s.ops {
		text += fmt.Sprintf(" %s(%d %v)", o.what, o.uid, o.change)
	}
	if len(s.uids) > 0 {
		text += fmt.Sprint(" ", s.uids)
	}
	return text
}

// boxKinds are the steps. The first so many are drawn at the beginning of a workload, one after the other, so that a short
// one has something of everything.
var boxKinds = []string{"append", "append many", "flags", "new flag", "many flags", "mixed", "expunge", "copy", "remove", "unexpunge", "move", "cleanup", "repack", "convert"}

// pick returns n of the messages that fit, in order.
func (b *box) pick(r *rand.Rand, n int, fits func(*boxMessage) bool) (uids []index.UID) {
	for i := range b.msgs {
		if fits(&b.msgs[i]) {
			uids = append(uids, b.msgs[i].uid)
		}
	}
	for len(uids) > n {
		at := r.IntN(len(uids))
		uids = slices.Delete(uids, at, at+1)
	}
	return uids
}

// draw makes up a step of a kind; if there is nothing to do it to, an append.
func (b *boxes) draw(r *rand.Rand, kind string) boxStep {
	s := boxStep{kind: kind}
	m := &b[0]
	live := func(n int) []index.UID { return m.pick(r, n, (*boxMessage).live) }
	each := func(what string, uids []index.UID) {
		for _, uid := range uids {
			s.ops = append(s.ops, boxOp{what: what, uid: uid})
		}
	}
	switch kind {
	case "append many":
		for range 2 + r.IntN(3) {
			s.ops = append(s.ops, m.drawAppend(r))
		}
	case "flags", "new flag", "many flags":
		for _, uid := range live(map[string]int{"flags": 1, "new flag": 1 + r.IntN(2), "many flags": 5}[kind]) {
			s.ops = append(s.ops, m.drawFlags(r, uid, kind == "new flag"))
		}
	case "mixed":
		for _, uid := range live(3) {
			s.ops = append(s.ops, m.drawFlags(r, uid, r.IntN(3) == 0))
		}
		s.ops = append(s.ops, m.drawAppend(r))
		if r.IntN(2) == 0 {
			each("expunge", live(1))
		}
	case "expunge", "remove":
		each(kind, live(1+r.IntN(2)))
	case "unexpunge":
		each(kind, m.pick(r, 1, func(m *boxMessage) bool { return !m.live() && m.flags&index.FlagUnlinked == 0 }))
	case "copy", "move":
		s.uids = live(1 + r.IntN(3))
	case "cleanup":
		s.ops = []boxOp{{what: "cleanup"}}
	}
	if len(s.ops)+len(s.uids) == 0 && kind != "repack" && kind != "convert" {
		return boxStep{kind: "append", ops: []boxOp{m.drawAppend(r)}}
	}
	return s
}

// boxDate is when all messages arrived.
var boxDate = time.Unix(1790000000, 0).UTC()

func (b *box) drawAppend(r *rand.Rand) boxOp {
	text := fmt.Sprintf("Date: Wed, 01 Jan 2025 10:11:12 +0100\r\nFrom: A <a@example.org>\r\nSubject: %s\r\nMessage-Id: <%d@example.org>\r\n\r\n%s\r\n",
		letters(r, 3+r.IntN(20)), r.IntN(1<<30), letters(r, r.IntN(900)))
	o := boxOp{what: "append", text: text}
	if r.IntN(3) == 0 {
		o.change = b.drawFlags(r, 0, r.IntN(2) == 0).change
	}
	return o
}

func (b *box) drawFlags(r *rand.Rand, uid index.UID, fresh bool) boxOp {
	c := index.FlagChange{Op: index.FlagOp(r.IntN(3)), Flags: index.Flags(r.IntN(32)) & shownFlags}
	if !b.version.HasChecksums() {
		c.Flags &^= index.FlagSeen // it is kept elsewhere
	}
	if r.IntN(3) == 0 {
		c.User = append(c.User, fmt.Sprint("f", r.IntN(3)))
	}
	if fresh {
		c.Op = index.AddFlags
		c.User = append(c.User, fmt.Sprint("new", r.IntN(60)))
	}
	return boxOp{what: "flag", uid: uid, change: c}
}

// apply makes a step in the model. A move has two commit points, and the state between them is returned as well.
func (b *boxes) apply(s boxStep) (states []boxes) {
	next := b.clone()
	switch s.kind {
	case "repack":
		next[0].msgs = slices.DeleteFunc(next[0].msgs, func(m boxMessage) bool { return m.flags&index.FlagUnlinked != 0 })
		return []boxes{next}
	case "convert":
		next[0].convert()
		return []boxes{next}
	case "copy", "move":
		for _, uid := range s.uids {
			next[1].add(*next[0].find(uid))
		}
		if s.kind == "copy" {
			return []boxes{next}
		}
		states = append(states, next.clone())
		for _, uid := range s.uids {
			next[0].expunge(uid, index.FlagExpunged)
		}
		return append(states, next)
	}
	for _, o := range s.ops {
		next[0].apply(o)
	}
	return []boxes{next}
}

// convertTo is the version to which a step converts a mailbox.
func (b *box) convertTo() index.Version {
	switch {
	case b.version >= 17:
		return 12
	case b.version >= 12:
		return 17
	}
	return 10
}

// convert is a repack with another version.
func (b *box) convert() {
	if !modSeqs(b.version) {
		b.high = 1
		for i := range b.msgs {
			b.msgs[i].modseq = 1
		}
	}
	b.version = b.convertTo()
	b.msgs = slices.DeleteFunc(b.msgs, func(m boxMessage) bool { return m.flags&index.FlagUnlinked != 0 })
}

func (b *box) find(uid index.UID) *boxMessage {
	i, found := slices.BinarySearchFunc(b.msgs, uid, func(m boxMessage, uid index.UID) int { return int(int64(m.uid) - int64(uid)) })
	if !found {
		return nil
	}
	return &b.msgs[i]
}

func (b *box) apply(o boxOp) {
	switch o.what {
	case "append":
		b.add(boxMessage{text: o.text, flags: o.change.Flags, user: addUser("", o.change.User)})
	case "flag":
		b.flag(o.uid, o.change)
	case "expunge":
		b.expunge(o.uid, index.FlagExpunged)
	case "remove":
		b.expunge(o.uid, index.FlagExpunged|index.FlagUnlinked)
	case "unexpunge":
		b.add(*b.find(o.uid))
		b.high++
		b.find(o.uid).modseq = b.high
		b.find(o.uid).unlink()
	case "cleanup":
		for i := range b.msgs {
			if !b.msgs[i].live() {
				b.msgs[i].unlink()
			}
		}
	}
}

func (m *boxMessage) unlink() { m.flags, m.text = m.flags|index.FlagUnlinked, "" }

// add appends a message, or a copy of one.
func (b *box) add(m boxMessage) {
	b.last++
	b.high++
	m.uid, m.modseq, m.flags = b.last, b.high, m.flags&shownFlags
	b.msgs = append(b.msgs, m)
}

func (b *box) expunge(uid index.UID, flags index.Flags) {
	m := b.find(uid)
	b.high++
	m.modseq, m.flags = b.high, m.flags|flags|index.FlagDeleted
	if flags&index.FlagUnlinked != 0 {
		m.unlink()
	}
}

func (b *box) flag(uid index.UID, c index.FlagChange) {
	m := b.find(uid)
	flags, user := m.flags, m.user
	switch c.Op {
	case index.AddFlags:
		flags, user = flags|c.Flags, addUser(user, c.User)
	case index.RemoveFlags:
		flags &^= c.Flags
		for _, u := range c.User {
			user = strings.ReplaceAll(user, u+" ", "")
		}
	case index.ReplaceFlags:
		flags, user = flags&^shownFlags|c.Flags, addUser("", c.User)
	}
	if flags == m.flags && user == m.user {
		return
	}
	b.high++
	m.flags, m.user, m.modseq = flags, user, b.high
}

// addUser adds names to a list of them.
func addUser(list string, names []string) string {
	all := append(strings.Fields(list), names...)
	slices.Sort(all)
	list = ""
	for _, n := range slices.Compact(all) {
		list += n + " "
	}
	return list
}
