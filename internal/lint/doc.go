// Package lint holds the rules of this project that the compiler does not know, as tests: which package may import
// which, that files are touched through package vfs alone, and what the code has to look like.
package lint
