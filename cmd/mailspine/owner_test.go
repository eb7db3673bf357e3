package main

import (
	"io/fs"
	"os/user"
	"strconv"
	"syscall"
)

// ownerOf is the name of a file's owner, or its number.
func ownerOf(info fs.FileInfo) string {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return "?"
	}
	uid := strconv.Itoa(int(st.Uid))
	if u, err := user.LookupId(uid); err == nil {
		return u.Username
	}
	return uid
}
