package quota

import (
	"context"
	"fmt"
	"math"

	"github.com/mailspine/mailspine/index"
	"github.com/mailspine/mailspine/internal/finding"
	"github.com/mailspine/mailspine/internal/planted"
	"github.com/mailspine/mailspine/internal/vfs"
)

// Member is a mailbox that counts for a root, and how much.
type Member struct {
	// Mailbox is the internal name.
	Mailbox  string  `json:"mailbox"`
	UniqueID string  `json:"unique_id"`
	Usage    Amounts `json:"usage"`
}

// tally is what the members of a root add up to.
type tally struct {
	sum     Amounts
	members []Member // if they are asked for
	count   int
	// wrong are the headers that name another root.
	wrong []wrong
	// open are mailboxes in which a change of cyrus.header was cut off: what it says may be taken back.
	open []index.Place
	// missing says which members could not be counted, odd what is worth knowing of others.
	missing, odd []finding.Finding
}

// wrong is a mailbox whose cyrus.header does not name the root that it counts for.
type wrong struct {
	fix   HeaderFix
	place index.Place
	id    string
}

// count adds up the members. All of it is of one moment, as they are frozen.
func (w *work) count(ctx context.Context, held *frozen) (*tally, error) {
	t := &tally{}
	seen := map[string]bool{}
	for i := range held.boxes {
		if err := context.Cause(ctx); err != nil {
			return nil, err
		}
		b := &held.boxes[i]
		name := b.rec.Name.String()
		if path := b.place.Paths.Index; b.err == nil && seen[path] {
			t.odd = append(t.odd, memberFinding("mailbox-listed-twice", finding.Warning, path, name+" has the files of another mailbox of the root; they count once"))
			continue
		} else {
			seen[path] = true
		}
		usage, root, gone, err := w.measure(b, t)
		if gone {
			continue
		}
		if outOfFiles(err) {
			return nil, err
		}
		if err != nil {
			t.missing = append(t.missing, memberFinding("mailbox-unreadable", finding.Damage, b.place.Paths.Index, name+": "+err.Error()))
			continue
		}
		if root != w.root && !planted.On(planted.QuotaNestedTwice) {
			t.wrong = append(t.wrong, wrong{HeaderFix{Mailbox: name, From: root, To: w.root}, b.place, b.rec.UniqueID})
		}
		sum, exact := t.sum.Plus(usage)
		if !exact {
			return nil, fmt.Errorf("quota root %q: the usage does not fit into 64 bits", w.root)
		}
		t.sum = sum
		t.count++
		if w.run.req.Explain {
			t.members = append(t.members, Member{Mailbox: name, UniqueID: b.rec.UniqueID, Usage: usage})
		}
	}
	return t, nil
}

func memberFinding(code string, s finding.Severity, path, detail string) finding.Finding {
	f := finding.Finding{Code: code, Severity: s, Path: path, Offset: -1, Detail: detail}
	if s == finding.Damage {
		f.Fix = "repair the mailbox, then run this again"
	}
	return f
}

// measure reads what a member uses and which root its header names; gone is one that is being removed. A member that Cyrus could
// not open is an error: nobody counts changes of it either, and what it last counted for is not known.
func (w *work) measure(b *box, t *tally) (usage Amounts, root string, gone bool, err error) {
	if b.err != nil {
		return usage, "", false, b.err
	}
	info, err := b.file.Stat()
	if err != nil {
		return usage, "", false, err
	}
	f, err := index.NewFile(b.file, info.Size, b.place.Paths.Index)
	if err != nil {
		return usage, "", false, err
	}
	if f.Header.Options&index.OptionDeleted != 0 {
		return usage, "", true, nil
	}
	h, err := index.ReadHeaderFile(w.run.k.fs, b.place.Paths.Header)
	if err != nil {
		return usage, "", false, err
	}
	if sum := f.Header.HeaderFileCRC; sum != 0 && sum != h.Checksum() && !w.settled[b.place.Paths.Index] && !planted.On(planted.QuotaHeaderBelieved) {
		t.open = append(t.open, b.place)
	}
	usage, err = usageOf(&f.Header)
	if err != nil || !w.run.req.Deep {
		return usage, h.QuotaRoot, false, err
	}
	deep, err := usageOfRecords(f, usage)
	if err == nil && deep != usage {
		t.odd = append(t.odd, finding.Finding{Code: "usage-not-of-records", Severity: finding.Error, Path: b.place.Paths.Index, Offset: -1,
			Detail: fmt.Sprintf("%s: the header of the index says %d bytes in %d messages, its records %d in %d", b.rec.Name,
				usage[Storage], usage[Messages], deep[Storage], deep[Messages]), Fix: "reconstruct the mailbox"})
	}
	return deep, h.QuotaRoot, false, err
}

// usageOf is what the header of a cyrus.index says. Before version 12 it does not say how many messages exist: all that have a
// record do.
func usageOf(h *index.Header) (Amounts, error) {
	messages := h.Exists
	if !h.Version.HasChecksums() {
		messages = h.NumRecords
	}
	if h.QuotaUsed > math.MaxInt64 || h.QuotaAnnot > math.MaxInt64 {
		return Amounts{}, fmt.Errorf("%w: a usage of more than 63 bits", index.ErrDamaged)
	}
	return Amounts{Storage: int64(h.QuotaUsed), Messages: int64(messages), Annotations: int64(h.QuotaAnnot), Folders: 1}, nil
}

// usageOfRecords counts what the records say. Annotations stay as the header has them: those of the mailbox as such are in no file
// of the mailbox.
func usageOfRecords(f *index.File, header Amounts) (Amounts, error) {
	usage := Amounts{Annotations: header[Annotations], Folders: 1}
	for e, err := range f.Records(1) {
		if err != nil {
			return Amounts{}, err
		}
		if f.Version().HasChecksums() && e.Expunged() {
			continue
		}
		if e.Size > uint64(math.MaxInt64-usage[Storage]) {
			return Amounts{}, fmt.Errorf("%w: a message of %d bytes", index.ErrDamaged, e.Size)
		}
		usage[Storage] += int64(e.Size)
		usage[Messages]++
	}
	return usage, nil
}

// headerRoot reads which root the header of a mailbox names, without its locks.
func headerRoot(fsys vfs.FS, p index.Place) (string, error) {
	h, err := index.ReadHeaderFile(fsys, p.Paths.Header)
	if err != nil {
		return "", err
	}
	return h.QuotaRoot, nil
}
