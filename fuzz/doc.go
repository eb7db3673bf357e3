// Package fuzz holds the campaigns against the stores: crash images, faults at every call, and kills.
//
// MAILSPINE_CAMPAIGN chooses how long they are: empty for go test ./..., ci, or nightly.
package fuzz
