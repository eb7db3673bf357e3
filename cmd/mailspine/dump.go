package main

import (
	"bufio"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/mailspine/mailspine/skiplist"
)

// dump prints the byte map of a file: offset, bytes, meaning. It opens what no other verb can read.
func (f *dbFlags) dump() *cobra.Command {
	return &cobra.Command{
		Use: "dump FILE", Short: "Print an annotated map of every byte, damage included", Args: argCount(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			out, err := outputFormat(cmd)
			if err != nil {
				return err
			}
			o, err := f.options(skiplist.Options{})
			if err != nil {
				return err
			}
			w := bufio.NewWriterSize(cmd.OutOrStdout(), 64<<10)
			err = skiplist.Dump(cmd.Context(), args[0], o, func(s skiplist.Span, bytes []byte) error {
				if out != "text" {
					return printJSON(w, s, true)
				}
				return printSpan(w, s, bytes)
			})
			return errors.Join(err, w.Flush())
		},
	}
}

// shownBytes is how many bytes of a span or field are printed in hexadecimal.
const shownBytes = 16

func printSpan(w *bufio.Writer, s skiplist.Span, bytes []byte) error {
	fmt.Fprintf(w, "%08x  %6d  %-8s", s.Off, s.Len, s.Kind)
	if s.Problem != "" {
		fmt.Fprintf(w, "  !! %s", s.Problem)
	}
	w.WriteByte('\n')
	if len(s.Fields) == 0 && s.Kind == "garbage" {
		fmt.Fprintf(w, "          %s\n", hex(bytes))
	}
	for _, f := range s.Fields {
		at := f.Off - s.Off
		var b []byte
		if at >= 0 && at+f.Len <= int64(len(bytes)) {
			b = bytes[at : at+f.Len]
		}
		if _, err := fmt.Fprintf(w, "  %08x  %-37s  %-16s %s\n", f.Off, hex(b), f.Name, f.Value); err != nil {
			return err
		}
	}
	return nil
}

func hex(b []byte) string {
	if len(b) <= shownBytes {
		return fmt.Sprintf("%x", b)
	}
	return fmt.Sprintf("%x...", b[:shownBytes])
}
