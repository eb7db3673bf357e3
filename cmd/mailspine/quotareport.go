package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"math/bits"

	"github.com/mailspine/mailspine/quota"
)

// quotaHeader is the first line of Cyrus's report, which is printed also if no line follows it.
const quotaHeader = "   Quota   % Used     Used             Resource Root\n"

// appendQuota appends the lines of a root in the report as Cyrus writes them: for each resource the limit, how much of it is
// used in percent, the usage in the unit of the limit, and what is counted.
func appendQuota(b []byte, root string, rec *quota.Record) []byte {
	for i, limit := range rec.Limits {
		r := quota.Resource(i)
		used := rec.Used[r] / r.Unit()
		switch {
		case limit > 0:
			b = fmt.Appendf(b, " %7d %8d", limit, percent(used, limit))
		case limit == 0:
			b = append(b, "       0         "...)
		default:
			b = append(b, "                 "...)
		}
		b = fmt.Appendf(b, " %8d %20s %s\n", used, r, root)
	}
	return b
}

// percent is how much of the limit, which is not 0, is used. It is cut, not rounded, as in Cyrus; where Cyrus overflows it is
// the largest number.
func percent(used, limit int64) int64 {
	hi, lo := bits.Mul64(uint64(max(used, 0)), 100)
	if hi >= uint64(limit) {
		return math.MaxInt64
	}
	q, _ := bits.Div64(hi, lo, uint64(limit))
	return int64(min(q, math.MaxInt64))
}

// inUnits is a limit in what usage is counted in.
func inUnits(limit, unit int64) int64 {
	if limit > math.MaxInt64/unit {
		return math.MaxInt64
	}
	return limit * unit
}

// cyrusJSON prints roots as Cyrus's quota -J does: one object, in the order of the roots.
type cyrusJSON struct {
	w    *bufio.Writer
	n    int
	seen map[string]bool
}

func newCyrusJSON(w io.Writer) *cyrusJSON {
	return &cyrusJSON{w: bufio.NewWriterSize(w, 64<<10), seen: map[string]bool{}}
}

func (c *cyrusJSON) add(root string, rec *quota.Record) error {
	if c.seen[root] { // a key of an object is there once
		return nil
	}
	c.seen[root] = true
	name, err := jsonText(root)
	if err != nil {
		return err
	}
	before := ",\n"
	if c.n == 0 {
		before = "{\n"
	}
	c.n++
	fmt.Fprintf(c.w, "%s  %s: {", before, name)
	for i, limit := range rec.Limits {
		r := quota.Resource(i)
		if i > 0 {
			c.w.WriteByte(',')
		}
		fmt.Fprintf(c.w, "\n    \"%s\": {\n      \"used\": %d", r, rec.Used[r])
		if limit > 0 {
			fmt.Fprintf(c.w, ",\n      \"limit\": %d", inUnits(limit, r.Unit()))
		}
		c.w.WriteString("\n    }")
	}
	_, err = c.w.WriteString("\n  }")
	return err
}

// end completes the document.
func (c *cyrusJSON) end() error {
	if c.n == 0 {
		c.w.WriteString("{}\n")
	} else {
		c.w.WriteString("\n}\n")
	}
	return c.w.Flush()
}

// jsonText is a string in JSON, without the escapes that only HTML needs.
func jsonText(s string) (string, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(s)
	return string(bytes.TrimSuffix(b.Bytes(), []byte("\n"))), err
}

// rootJSON is a quota root in JSON.
type rootJSON struct {
	Root       *string        `json:"root,omitempty"`
	RootBase64 []byte         `json:"root_base64,omitempty"`
	Resources  []resourceJSON `json:"resources,omitempty"`
	// Dirty says that a change was interrupted, and may not be in the usage.
	Dirty bool `json:"dirty,omitempty"`
	// Problem says why nothing is known of the root, Path where that is.
	Problem string `json:"problem,omitempty"`
	Path    string `json:"path,omitempty"`
}

// resourceJSON is the usage and the limit of one resource. Used counts bytes, messages or mailboxes; a limit is so many
// times unit of them, and is not there if there is none.
type resourceJSON struct {
	Resource string `json:"resource"`
	Used     int64  `json:"used"`
	// Was is what was used before it was counted.
	Was     *int64 `json:"was,omitempty"`
	Limit   *int64 `json:"limit,omitempty"`
	Unit    int64  `json:"unit"`
	Percent *int64 `json:"percent,omitempty"`
}

func resourcesJSON(used quota.Amounts, limits quota.Limits) (list []resourceJSON) {
	for i, limit := range limits {
		r := quota.Resource(i)
		j := resourceJSON{Resource: r.String(), Used: used[r], Unit: r.Unit()}
		if limit >= 0 {
			j.Limit = &limit
			if limit > 0 {
				p := percent(used[r]/r.Unit(), limit)
				j.Percent = &p
			}
		}
		list = append(list, j)
	}
	return list
}
