package fuzz

import (
	"testing"

	"github.com/mailspine/mailspine/skiplist"
)

type cyrus struct{}

func startCyrus(t *testing.T) *cyrus { return nil }
func (c *cyrus) listCopy(f skiplist.Format, path string) (map[string]string, error) {
	return nil, nil
}
func (c *cyrus) String() string { return "nobody" }
