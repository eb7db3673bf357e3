package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"
)

// output is where and how a command prints.
type output struct {
	w      io.Writer
	format string // text, json or jsonl
	quiet  bool
	color  bool
}

// newOutput follows the flags --output, --json and --quiet.
func newOutput(cmd *cobra.Command, s streams) (output, error) {
	o := output{w: cmd.OutOrStdout(), color: s.outTerminal}
	o.format, _ = cmd.Flags().GetString("output")
	o.quiet, _ = cmd.Flags().GetBool("quiet")
	if j, _ := cmd.Flags().GetBool("json"); j {
		o.format = "json"
	}
	switch o.format {
	case "text", "json", "jsonl":
		return o, nil
	}
	return o, usageError("--output is text, json or jsonl, not %q", o.format)
}

func (o output) text() bool { return o.format == "text" }

// result prints what was asked for: v as JSON, or what text prints.
func (o output) result(v any, text func(io.Writer)) error {
	if !o.text() {
		return printJSON(o.w, v, o.format == "jsonl")
	}
	w := bufio.NewWriter(o.w)
	text(w)
	return w.Flush()
}

// report is result for what need not be said: --quiet drops the text.
func (o output) report(v any, format string, args ...any) error {
	if o.text() && o.quiet {
		return nil
	}
	return o.result(v, func(w io.Writer) { fmt.Fprintf(w, format+"\n", args...) })
}

// printJSON prints one value, indented unless it is a line of many.
func printJSON(w io.Writer, v any, line bool) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	if !line {
		enc.SetIndent("", "  ")
	}
	return enc.Encode(v)
}

// list prints many values as they come: a line each in jsonl, an array in json.
type list struct {
	w     *bufio.Writer
	array bool
	n     int
}

func newList(o output) *list {
	return &list{w: bufio.NewWriterSize(o.w, 64<<10), array: o.format == "json"}
}

func (l *list) add(v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if l.array {
		before := ",\n"
		if l.n == 0 {
			before = "[\n"
		}
		l.w.WriteString(before)
	}
	l.n++
	l.w.Write(b)
	if l.array {
		return nil
	}
	return l.w.WriteByte('\n')
}

// end completes the document after what was done ended with err, so that what was printed can be parsed. If nothing was
// printed it stays so, for an empty list would be an answer; as it is of a damaged file in which nothing is readable.
func (l *list) end(err error) error {
	if l.array && (err == nil || l.n > 0 || exitCode(context.Background(), err) == exitDamage) {
		if l.n == 0 {
			l.w.WriteString("[")
		}
		l.w.WriteString("\n]\n")
	}
	return errors.Join(err, l.w.Flush())
}

// jsonRecord is a record in JSON. Bytes that are not UTF-8 do not survive in a JSON string; they are given in base64,
// under another name.
type jsonRecord struct {
	Key         *string `json:"key,omitempty"`
	KeyBase64   []byte  `json:"key_base64,omitempty"`
	Value       *string `json:"value,omitempty"`
	ValueBase64 []byte  `json:"value_base64,omitempty"`
	// Missing is set in the answer to get if there is no such key.
	Missing bool `json:"missing,omitempty"`
}

func recordJSON(key, value []byte) (r jsonRecord) {
	r.Key, r.KeyBase64 = jsonBytes(key)
	r.Value, r.ValueBase64 = jsonBytes(value)
	return r
}

func jsonBytes(b []byte) (*string, []byte) {
	if utf8.Valid(b) {
		s := string(b)
		return &s, nil
	}
	return nil, b
}

// count writes a number with separators: 1,234,567.
func count[N int | int64 | uint64](n N) string {
	s := fmt.Sprint(n)
	first := 0
	if n < 0 {
		first = 1
	}
	for i := len(s) - 3; i > first; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// size writes a number of bytes in a fitting unit.
func size(n int64) string {
	const unit = 1024
	if n < unit {
		return fmt.Sprintf("%d bytes", n)
	}
	f, u := float64(n), 0
	for f >= unit && u < 5 {
		f /= unit
		u++
	}
	return fmt.Sprintf("%.1f %ciB", f, " KMGTP"[u])
}

// plural writes a number of things: 1 record, 2 records.
func plural[N int | int64](n N, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	if strings.HasSuffix(thing, "x") {
		thing += "e"
	}
	return count(n) + " " + thing + "s"
}
