package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mailspine/mailspine/index"
	"github.com/mailspine/mailspine/internal/vfs"
)

func newHeader(s streams) *cobra.Command {
	var f boxFlags
	c := newBoxCommand("header", "Look at the cyrus.header of a mailbox", "Look at the cyrus.header of a mailbox: ids, quota root, access rights, names of flags.", &f)
	c.AddCommand(f.command(s, &cobra.Command{
		Use: "show MAILBOX", Short: "Print what the header file says", Args: cobra.ExactArgs(1),
	}, boxExits(headerDoubt), (*box).showHeader))
	return c
}

// headerFileJSON is a cyrus.header.
type headerFileJSON struct {
	Path      string            `json:"path"`
	Form      string            `json:"form"`
	Type      string            `json:"type,omitempty"`
	Name      string            `json:"name,omitempty"`
	UniqueID  string            `json:"unique_id"`
	JMAPID    string            `json:"jmap_id,omitempty"`
	QuotaRoot string            `json:"quota_root,omitempty"`
	ACL       []headerRightJSON `json:"acl"`
	Flags     []string          `json:"user_flags"`
	CRC       uint32            `json:"crc"`
}

// headerRightJSON is an entry of an access list, as mailbox info names it.
type headerRightJSON struct {
	Identifier string `json:"identifier"`
	Rights     string `json:"rights"`
}

func (b *box) showHeader([]string) error {
	h, err := index.ReadHeaderFile(vfs.OS(), b.place.Paths.Header)
	if err != nil {
		return err
	}
	j := headerFileJSON{
		Path: b.place.Paths.Header, Form: h.Form.String(), Type: h.Type, Name: h.Name, UniqueID: h.UniqueID, JMAPID: h.JMAPID,
		QuotaRoot: h.QuotaRoot, ACL: []headerRightJSON{}, Flags: append([]string{}, h.Flags...), CRC: h.Checksum(),
	}
	for _, e := range h.ACL {
		j.ACL = append(j.ACL, headerRightJSON(e))
	}
	err = b.out.result(j, j.print)
	// Where the index cannot be opened nothing vouches for the header file, and it is printed as it is.
	if m, openErr := index.Open(b.ctx, vfs.OS(), b.place); openErr == nil {
		err = errors.Join(b.named(m, err), m.Close())
	}
	return err
}

func (j headerFileJSON) print(w io.Writer) {
	row := rowPrinter(w)
	fmt.Fprintln(w, j.Path)
	row("form", "%s, checksum %08x", j.Form, j.CRC)
	for _, r := range []struct{ name, value string }{
		{"name", j.Name}, {"type", j.Type}, {"unique id", j.UniqueID}, {"JMAP id", j.JMAPID}, {"quota root", j.QuotaRoot},
		{"user flags", strings.Join(j.Flags, " ")},
	} {
		if r.value != "" {
			row(r.name, "%s", r.value)
		}
	}
	for i, e := range j.ACL {
		row(map[bool]string{true: "ACL"}[i == 0], "%s %s", e.Identifier, e.Rights)
	}
}
