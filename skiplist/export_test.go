package skiplist

// SetSmallFile sets the size up to which a file is replayed under its lock at once, and returns how to set it back.
func SetSmallFile(n int64) (restore func()) {
	old := smallFile
	smallFile = n
	return func() { smallFile = old }
}
