// Package progress shows on a terminal how far a long work has come: one line, which is rewritten and then removed.
package progress

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// A work that is done within patience shows nothing; then the line is rewritten every interval.
const (
	patience = 400 * time.Millisecond
	interval = 100 * time.Millisecond
)

// Line is the progress line. The zero Line, and nil, show nothing.
type Line struct {
	mu    sync.Mutex
	w     io.Writer
	now   func() time.Time
	start time.Time
	last  time.Time
	shown bool
	// unit is what done and total count, if the line tells how fast it goes.
	unit string
}

// New makes a line on w, which must be a terminal. now is the clock, nil for the system's.
func New(w io.Writer, now func() time.Time) *Line {
	if now == nil {
		now = time.Now
	}
	return &Line{w: w, now: now, start: now()}
}

// Rate has the line also tell how many of unit are done a second, and how long the rest will take.
func (l *Line) Rate(unit string) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.unit = unit
}

// Report notes that so much of the work is done. It may be called often.
func (l *Line) Report(doing string, done, total int64) {
	if l == nil || l.w == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	if now.Sub(l.start) < patience || now.Sub(l.last) < interval {
		return
	}
	l.last, l.shown = now, true
	percent := int64(100)
	if total > 0 && done < total {
		percent = max(done, 0) * 100 / total
	}
	const width = 24
	bar := make([]byte, width)
	for i := range bar {
		bar[i] = '.'
		if int64(i)*100 < percent*width {
			bar[i] = '='
		}
	}
	fmt.Fprintf(l.w, "\r\x1b[K%s [%s] %3d %%%s", doing, bar, percent, l.pace(now.Sub(l.start), done, total))
}

// pace tells how fast it goes and how long it will take, once that can be told.
func (l *Line) pace(took time.Duration, done, total int64) string {
	if l.unit == "" || done <= 0 || took <= 0 {
		return ""
	}
	text := fmt.Sprintf(", %d %s/s", int64(float64(done)/took.Seconds()), l.unit)
	if done < total {
		left := time.Duration(float64(took) / float64(done) * float64(total-done))
		text += fmt.Sprintf(", %v left", max(left.Round(time.Second), time.Second))
	}
	return text
}

// Clear removes the line, so that other text can be printed.
func (l *Line) Clear() {
	if l == nil || l.w == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.shown {
		fmt.Fprint(l.w, "\r\x1b[K")
		l.shown = false
	}
}
