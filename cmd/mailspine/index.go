package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mailspine/mailspine/index"
	"github.com/mailspine/mailspine/internal/vfs"
)

func newIndex(s streams) *cobra.Command {
	var f boxFlags
	c := newBoxCommand("index", "Look at the cyrus.index of a mailbox", "Look at the cyrus.index of a mailbox.", &f)
	c.AddCommand(
		f.command(s, &cobra.Command{
			Use: "show MAILBOX", Short: "Print the header of the index: status, counters, checksums", Args: cobra.ExactArgs(1),
			Example: "  mailspine index show -C /etc/imapd.conf user.alice",
		}, boxExits(headerDoubt), (*box).showIndex),
		f.command(s, &cobra.Command{
			Use: "records MAILBOX [UID...]", Short: "Print the records, all or those with the UIDs given, expunged ones too",
			Long: "Print the records, all or those with the UIDs given, expunged ones too, as Cyrus's mbexamine does. In text a line each:\n" +
				"UID, internaldate, size, modseq, GUID and flags with tabs between; in JSON everything. Times are seconds since 1970.",
			Args: cobra.MinimumNArgs(1),
		}, boxExits("there is no such record, or "+headerDoubt), (*box).printRecords),
		f.indexCheckCommand(s),
		f.indexRepackCommand(s),
		f.indexUpgradeCommand(s),
		f.command(s, &cobra.Command{
			Use: "dump MAILBOX", Short: "Print an annotated map of every byte of the index, damage included",
			Long: "Print a map of cyrus.index, from the first byte to the last: offset, bytes, meaning. Damage is marked with !!. It needs\n" +
				"no other file, and reads what no other command can.",
			Args: cobra.ExactArgs(1),
		}, map[int]string{
			exitNo:     "",
			exitDamage: "there is damage in the file, marked with !!",
			exitFailed: "the file cannot be read, or its version is not known",
		}, (*box).dumpIndex),
	)
	return c
}

func (f *boxFlags) indexCheckCommand(s streams) *cobra.Command {
	var contents bool
	c := &cobra.Command{
		Use: "check MAILBOX", Short: "Compare index, header file, cache and message files with each other",
		Long: "Compare index, header file, cache and message files with themselves and with each other: checksums, counters, sums,\n" +
			"flags, order of UIDs, cache records, the sizes of the message files. The files are read as they are, without locks: on\n" +
			"a mailbox that is being written to, check again before believing a warning.",
		Args: cobra.ExactArgs(1),
	}
	c.Flags().BoolVar(&contents, "contents", false, "read every message, too, and compare what it derives to with its records")
	return f.command(s, c, map[int]string{
		exitOK:     "nothing is wrong",
		exitNo:     "something is wrong; no message is lost because of it",
		exitDamage: "records, message files or the names of flags are damaged or lost",
		exitFailed: "the check could not be made",
	}, func(b *box, _ []string) error {
		found, err := index.Check(b.ctx, vfs.OS(), b.place, index.CheckOptions{Owner: b.owner, Contents: contents})
		if err != nil {
			return err
		}
		return printFindings(b.out, b.arg, found)
	})
}

// headerJSON is the header of an index, by the names of docs/format/index.md.
type headerJSON struct {
	Mailbox        string        `json:"mailbox"`
	Generation     uint32        `json:"generation"`
	Version        index.Version `json:"minor_version"`
	Records        uint32        `json:"num_records"`
	Exists         uint32        `json:"exists"`
	Unseen         *uint32       `json:"unseen,omitempty"`
	Answered       uint32        `json:"answered"`
	Flagged        uint32        `json:"flagged"`
	Deleted        uint32        `json:"deleted"`
	UIDValidity    uint32        `json:"uidvalidity"`
	LastUID        index.UID     `json:"last_uid"`
	HighestModSeq  index.ModSeq  `json:"highestmodseq"`
	DeletedModSeq  index.ModSeq  `json:"deletedmodseq"`
	CreatedModSeq  index.ModSeq  `json:"createdmodseq"`
	QuotaUsed      uint64        `json:"quota_mailbox_used"`
	QuotaAnnot     uint64        `json:"quota_annot_used"`
	QuotaDeleted   uint64        `json:"quota_deleted_used"`
	QuotaExpunged  uint64        `json:"quota_expunged_used"`
	LastAppend     int64         `json:"last_appenddate"`
	POP3LastLogin  int64         `json:"pop3_last_login"`
	POP3ShowAfter  int64         `json:"pop3_show_after"`
	RecentUID      index.UID     `json:"recentuid"`
	RecentTime     int64         `json:"recenttime"`
	FirstExpunged  int64         `json:"first_expunged"`
	LastRepack     int64         `json:"last_repack_time"`
	ChangesEpoch   int64         `json:"changes_epoch"`
	Options        []string      `json:"options"`
	LeakedCache    uint32        `json:"leaked_cache"`
	HeaderFileCRC  uint32        `json:"header_file_crc"`
	SyncBasic      uint32        `json:"synccrc_basic"`
	SyncAnnot      uint32        `json:"synccrc_annot"`
	UserFlags      []string      `json:"user_flags"`
	IndexPath      string        `json:"index"`
	HasNoChecksums bool          `json:"without_checksums,omitempty"`
	// Damaged is why Cyrus does not open the mailbox. Nothing vouches for the rest then.
	Damaged string `json:"damaged,omitempty"`
}

func (b *box) header(h index.Header, file *index.HeaderFile) headerJSON {
	return headerJSON{
		Mailbox: b.arg, Generation: h.Generation, Version: h.Version, Records: h.NumRecords,
		Exists: h.Exists, Unseen: unseen(&h), Answered: h.Answered, Flagged: h.Flagged, Deleted: h.Deleted,
		UIDValidity: h.UIDValidity, LastUID: h.LastUID,
		HighestModSeq: h.HighestModSeq, DeletedModSeq: h.DeletedModSeq, CreatedModSeq: h.CreatedModSeq,
		QuotaUsed: h.QuotaUsed, QuotaAnnot: h.QuotaAnnot, QuotaDeleted: h.QuotaDeleted, QuotaExpunged: h.QuotaExpunged,
		LastAppend: h.LastAppend.Unix(), POP3LastLogin: h.POP3LastLogin.Unix(), POP3ShowAfter: h.POP3ShowAfter.Unix(),
		RecentUID: h.RecentUID, RecentTime: h.RecentTime.Unix(), FirstExpunged: h.FirstExpunged.Unix(),
		LastRepack: h.LastRepack.Unix(), ChangesEpoch: h.ChangesEpoch.Unix(),
		Options: append([]string{}, h.Options.Names()...), LeakedCache: h.LeakedCache,
		HeaderFileCRC: h.HeaderFileCRC, SyncBasic: h.SyncBasic, SyncAnnot: h.SyncAnnot,
		UserFlags: append([]string{}, file.Flags...), IndexPath: b.place.Paths.Index, HasNoChecksums: !h.Version.HasChecksums(),
	}
}

// unseen is the number of unseen messages, nil before the version that counts them.
func unseen(h *index.Header) *uint32 {
	if !h.Version.CountsUnseen() {
		return nil
	}
	return &h.Unseen
}

func unseenText(n *uint32) string {
	if n == nil {
		return ""
	}
	return fmt.Sprintf("%d unseen, ", *n)
}

func (b *box) showIndex([]string) error {
	return b.open(func(m *index.Mailbox) error {
		h, err := m.Header()
		if err != nil {
			return err
		}
		file, err := m.HeaderFile()
		if err != nil {
			return err
		}
		j := b.header(h.Normalized(), file)
		if b.damage != nil {
			j.Damaged = b.damage.Error()
		}
		return b.named(m, b.out.result(j, j.print))
	})
}

func (j headerJSON) print(w io.Writer) {
	row := rowPrinter(w)
	when := func(name string, t int64) {
		if t != 0 {
			row(name, "%s", unixTime(t))
		}
	}
	fmt.Fprintln(w, j.Mailbox)
	if j.Damaged != "" {
		row("!! damaged", "%s", strings.ReplaceAll(j.Damaged, "\n", "; "))
	}
	row("index", "%s, version %d, generation %d", j.IndexPath, j.Version, j.Generation)
	row("records", "%s, of which %s", count(int64(j.Records)), plural(int64(j.Exists), "message"))
	row("messages", "%s%d answered, %d flagged, %d deleted", unseenText(j.Unseen), j.Answered, j.Flagged, j.Deleted)
	row("UIDVALIDITY", "%d", j.UIDValidity)
	row("UIDNEXT", "%d", uint64(j.LastUID)+1)
	row("modseq", "highest %d, of dropped records %d, at creation %d", j.HighestModSeq, j.DeletedModSeq, j.CreatedModSeq)
	row("quota", "%s bytes of messages, %s of annotations", count(j.QuotaUsed), count(j.QuotaAnnot))
	if j.Version >= 18 { // before, nobody counted them
		row("of these", "%s bytes deleted; %s more expunged", count(j.QuotaDeleted), count(j.QuotaExpunged))
	}
	when("last append", j.LastAppend)
	when("last POP3", j.POP3LastLogin)
	when("seen up to", j.RecentTime)
	when("expunged since", j.FirstExpunged)
	when("last repack", j.LastRepack)
	row("checksums", "sync %08x, annotations %08x, cyrus.header %08x", j.SyncBasic, j.SyncAnnot, j.HeaderFileCRC)
	if len(j.Options) > 0 {
		row("options", "%s", strings.Join(j.Options, " "))
	}
	if len(j.UserFlags) > 0 {
		row("user flags", "%s", strings.Join(j.UserFlags, " "))
	}
}

// rowPrinter prints a name and what it has, in two columns.
func rowPrinter(w io.Writer) func(name, format string, args ...any) {
	return func(name, format string, args ...any) {
		fmt.Fprintf(w, "  %-14s %s\n", name, fmt.Sprintf(format, args...))
	}
}

// indexRecordJSON is a record of an index. Times are seconds since 1970.
type indexRecordJSON struct {
	UID           index.UID    `json:"uid"`
	InternalDate  int64        `json:"internaldate"`
	SentDate      int64        `json:"sentdate"`
	GMTime        int64        `json:"gmtime"`
	Size          uint64       `json:"size"`
	HeaderSize    uint32       `json:"header_size"`
	GUID          string       `json:"guid"`
	ModSeq        index.ModSeq `json:"modseq"`
	CreatedModSeq index.ModSeq `json:"createdmodseq"`
	CID           string       `json:"cid"`
	SaveDate      int64        `json:"savedate"`
	LastUpdated   int64        `json:"last_updated"`
	Flags         []string     `json:"flags"`
	Expunged      bool         `json:"expunged"`
	Unlinked      bool         `json:"unlinked"`
	Archived      bool         `json:"archived"`
	CacheOffset   index.Offset `json:"cache_offset"`
	CacheVersion  uint16       `json:"cache_version"`
	CacheCRC      uint32       `json:"cache_crc"`
}

func indexRecord(h *index.HeaderFile, r *index.Record) indexRecordJSON {
	return indexRecordJSON{
		UID: r.UID, InternalDate: r.InternalDate.Unix(), SentDate: r.SentDate.Unix(), GMTime: r.GMTime.Unix(),
		Size: r.Size, HeaderSize: r.HeaderSize, GUID: r.GUID.String(), ModSeq: r.ModSeq, CreatedModSeq: r.CreatedModSeq,
		CID: fmt.Sprintf("%016x", r.CID), SaveDate: r.SaveDate.Unix(), LastUpdated: r.LastUpdated.Unix(),
		Flags: append([]string{}, h.FlagNames(r.Flags, r.UserFlags)...), Expunged: r.Expunged(), Unlinked: r.Flags&index.FlagUnlinked != 0, Archived: r.Flags&index.FlagArchived != 0,
		CacheOffset: r.CacheOffset, CacheVersion: r.CacheVersion, CacheCRC: r.CacheCRC,
	}
}

func (b *box) printRecords(args []string) error {
	uids, err := uidArgs(args)
	if err != nil {
		return err
	}
	return b.namedList(uids, func(m *index.Mailbox, l *list, _ index.RecordNo, r *index.Record) error {
		h, err := m.HeaderFile()
		if err != nil {
			return err
		}
		return b.printRecord(l, h, r)
	})
}

func (b *box) printRecord(l *list, h *index.HeaderFile, r *index.Record) error {
	j := indexRecord(h, r)
	if !b.out.text() {
		return l.add(j)
	}
	flags := j.Flags
	for _, state := range []struct {
		on   bool
		word string
	}{{j.Expunged, "(expunged)"}, {j.Unlinked, "(unlinked)"}, {j.Archived, "(archived)"}} {
		if state.on {
			flags = append(flags, state.word)
		}
	}
	_, err := fmt.Fprintf(l.w, "%d\t%d\t%d\t%d\t%s\t%s\n", j.UID, j.InternalDate, j.Size, j.ModSeq, j.GUID, strings.Join(flags, " "))
	return err
}

// list prints something for each of the records with the UIDs given, all of them if none is.
func (b *box) list(uids []index.UID, each func(m *index.Mailbox, l *list, no index.RecordNo, r *index.Record) error) error {
	return b.open(func(m *index.Mailbox) error { return b.listIn(m, uids, each) })
}

// namedList is list, for what has names of flags in it.
func (b *box) namedList(uids []index.UID, each func(m *index.Mailbox, l *list, no index.RecordNo, r *index.Record) error) error {
	return b.open(func(m *index.Mailbox) error { return b.named(m, b.listIn(m, uids, each)) })
}

func (b *box) listIn(m *index.Mailbox, uids []index.UID, each func(m *index.Mailbox, l *list, no index.RecordNo, r *index.Record) error) error {
	l := newList(b.out)
	return l.end(b.records(m, uids, func(no index.RecordNo, r *index.Record) error { return each(m, l, no, r) }))
}

// uidArgs reads UIDs from the command line.
func uidArgs(args []string) (uids []index.UID, err error) {
	for _, arg := range args {
		n, err := strconv.ParseUint(arg, 10, 32)
		if err != nil || n == 0 {
			return nil, usageError("not a UID: %q", arg)
		}
		uids = append(uids, index.UID(n))
	}
	return uids, nil
}
