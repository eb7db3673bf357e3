package index

import (
	"time"

	"github.com/mailspine/mailspine/internal/vfs"
)

// atTime is a file system whose clock stands still.
type atTime struct {
	vfs.FS
	at Time
}

func (f atTime) Now() time.Time { return f.at.Time() }
