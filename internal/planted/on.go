//go:build planted

package planted

import "os"

// chosen is the one bug of this process. It is fixed before the first test begins, so that no run is half with the bug
// and half without.
var chosen = Switch(os.Getenv("MAILSPINE_PLANTED"))

// On tells whether the bug is in the program.
func On(s Switch) bool { return s == chosen }
