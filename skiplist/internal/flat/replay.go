package flat

import (
	"bytes"
	"fmt"

	"github.com/mailspine/mailspine/internal/finding"
	"github.com/mailspine/mailspine/internal/planted"
	"github.com/mailspine/mailspine/skiplist/internal/codec"
	"github.com/mailspine/mailspine/skiplist/internal/tree"
)

// The codes of the findings.
const (
	codeUnsorted     = "line-unsorted"
	codeDuplicate    = "line-duplicate"
	codeUnreadable   = "line-unreadable"
	codeNUL          = "line-with-nul"
	codeUnterminated = "line-unterminated"
	codeSpelling     = "key-spelling"
)

const (
	// maxFindings bounds the findings of one kind; the last says how many there are more.
	maxFindings = 100
	// progressStep is how many bytes are read between two reports.
	progressStep = 1 << 20
)

// Replay reads the lines from opt.From on.
func (format) Replay(v *codec.View, _ codec.Header, opt codec.ReplayOptions, ed *tree.Editor) (codec.Log, error) {
	rp := &replay{v: v.Sub(v.Size), opt: opt, ed: ed, look: ed.Lookup(), count: map[string]int{}}
	rp.log.End = opt.From
	if err := rp.begin(); err != nil {
		return codec.Log{}, err
	}
	if err := rp.run(); err != nil {
		return codec.Log{}, err
	}
	for i, f := range rp.log.Findings {
		if n := rp.count[f.Code]; n > maxFindings {
			rp.log.Findings[i].Detail += fmt.Sprintf(" (the first of %d; only %d are listed)", n, maxFindings)
			rp.count[f.Code] = 0
		}
	}
	return rp.log, nil
}

type replay struct {
	v    *codec.View
	opt  codec.ReplayOptions
	ed   *tree.Editor
	look tree.Lookup
	log  codec.Log
	// count is how many findings of each code there were.
	count map[string]int
	// prev is the key of the line before, last the greatest so far; nil before the first.
	prev, last []byte
}

// begin learns where lines that were replayed before have ended.
func (rp *replay) begin() error {
	c := rp.ed.Last()
	if c.Ref() == 0 {
		return nil
	}
	if rp.last = rp.look.Key(c.Ref()); rp.last == nil {
		return rp.v.Errorf(c.Ref().Offset(), "", "the line of a record is not there any more")
	}
	rp.prev = rp.last
	return nil
}

func (rp *replay) run() error {
	report := rp.opt.From + progressStep
	for s := scan(rp.v, rp.opt.From); ; {
		l, ok, err := s.next()
		if err != nil || !ok {
			return err
		}
		if rp.opt.Progress != nil && l.off >= report {
			report = l.off + progressStep
			if err := rp.opt.Progress(l.off); err != nil {
				return err
			}
		}
		off, problem := l.flaw()
		switch {
		case !l.whole:
			rp.unterminated(l, problem)
			return nil
		case problem == "":
			rp.add(l)
		default:
			if rp.log.State != codec.Damaged {
				rp.log.State, rp.log.Offset, rp.log.Problem = codec.Damaged, off, problem
			}
			if !rp.opt.Salvage {
				return nil
			}
			rp.salvage(l, off, problem)
		}
		if rp.log.State != codec.Damaged {
			rp.log.End = s.off
		}
	}
}

// add takes up a good line.
func (rp *replay) add(l line) {
	enc, _, _ := l.split()
	key := decode(enc)
	if !canonical(enc) {
		rp.find(codeSpelling, finding.Warning, l.off, "a key that Cyrus would spell otherwise and so does not find", "", 0, "any change rewrites it")
	}
	if rp.prev != nil && rp.look.Compare(rp.prev, key) > 0 {
		rp.find(codeUnsorted, finding.Warning, l.off, "the key sorts before that of the line before, so that Cyrus may not find it", "", 0,
			"any change sorts the file")
	}
	rp.prev = key
	r := tree.NewRef(l.off, 1)
	if rp.last == nil || rp.look.Compare(rp.last, key) < 0 {
		rp.ed.Append(r, key)
		rp.last = key
	} else if old := rp.ed.Put(key, r); old != 0 {
		rp.duplicate(l, old)
	}
}

// duplicate deals with a line whose key has stood in another line before. If they differ, a change of the file would
// drop a value that Cyrus may have been using.
func (rp *replay) duplicate(l line, old tree.Ref) {
	_, enc, _ := l.split()
	if _, was, err := New().Record(rp.v, old); err == nil && bytes.Equal(was, decode(enc)) {
		rp.find(codeDuplicate, finding.Warning, l.off, "an earlier line again, that at ", "", old, "any change drops one of them")
		return
	}
	if !rp.log.Disorder {
		rp.log.Disorder, rp.log.DisorderAt = true, l.off
	}
	rp.find(codeDuplicate, finding.Damage, l.off,
		"another value, which counts, for the key of the line at ", "", old, "mailspine db salvage keeps the later")
}

// salvage takes up what can be read of a damaged line: a record whose value alone is in doubt. A key with a hole is
// no key.
func (rp *replay) salvage(l line, off int64, problem string) {
	tab := bytes.IndexByte(l.b, separator)
	if tab < 0 || off < l.off+int64(tab) {
		rp.find(codeUnreadable, finding.Damage, off, "skipped: ", problem, 0, "")
		return
	}
	rp.find(codeNUL, finding.Damage, off, "kept, though its value is in doubt: ", problem, 0, "")
	rp.add(l)
}

// unterminated deals with a last line that no LF ends. Cyrus passes over it, and drops it with the next change. But no
// writer leaves one, whenever it is interrupted: something has cut the file, and what is missing was committed. Only NULs
// say nothing; a bug of Cyrus leaves them there.
func (rp *replay) unterminated(l line, problem string) {
	if len(bytes.Trim(l.b, "\x00")) == 0 {
		if rp.log.State == codec.Clean {
			rp.log.State, rp.log.Offset, rp.log.Problem = codec.Torn, l.off, "NUL bytes after the last line"
		}
		return
	}
	if rp.log.State != codec.Damaged {
		rp.log.State, rp.log.Offset, rp.log.Problem = codec.Damaged, l.off, "the last line has no LF: something has cut the file off"
	}
	switch {
	case !rp.opt.Salvage && !planted.On(planted.TornLineShown):
	case problem != "":
		rp.find(codeUnreadable, finding.Damage, l.off, "skipped: the last line has no LF, and ", problem, 0, "")
	default:
		rp.find(codeUnterminated, finding.Damage, l.off, "kept, though its value may be cut off: the last line has no LF", "", 0, "")
		rp.add(l)
	}
}

// find notes a finding: text, then more, and the place of a line, if there is one. Nothing is put together for one that
// is not listed, of which a hostile file may have one a byte.
func (rp *replay) find(code string, sev finding.Severity, off int64, text, more string, at tree.Ref, fix string) {
	if rp.count[code]++; rp.count[code] > maxFindings {
		return
	}
	if at != 0 {
		more += fmt.Sprintf("%#x", at.Offset())
	}
	rp.log.Findings = append(rp.log.Findings,
		finding.Finding{Code: code, Severity: sev, Path: rp.v.Path, Offset: off, Detail: text + more, Fix: fix})
}
