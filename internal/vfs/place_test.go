package vfs_test

import (
	"errors"
	"os"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/internal/vfs/faultfs"
	"github.com/mailspine/mailspine/internal/vfs/simfs"
)

// linkless is a file system without hard links.
type linkless struct{ vfs.FS }

func (linkless) Link(old, new string) error {
	return &os.LinkError{Op: "link", Old: old, New: new, Err: syscall.EPERM}
}

// placing are the two ways to give a file a free name.
var placing = map[string]func(vfs.FS) vfs.FS{
	"links":    func(fs vfs.FS) vfs.FS { return fs },
	"no links": func(fs vfs.FS) vfs.FS { return linkless{fs} },
}

func writeText(text string) func(vfs.File) error {
	return func(f vfs.File) error {
		_, err := f.WriteAt([]byte(text), 0)
		return err
	}
}

var newOptions = vfs.ReplaceOptions{New: true, Random: func() uint64 { return 1 }}

// TestNewKeepsWhatComesBetween: a file that takes the name while the new one is written keeps it, on file systems with hard
// links and without.
func TestNewKeepsWhatComesBetween(t *testing.T) {
	for name, wrap := range placing {
		t.Run(name, func(t *testing.T) {
			disk := simfs.New(simfs.Options{})
			fs := wrap(disk)
			require.NoError(t, vfs.MkdirAll(fs, "/d", 0o755))
			require.NoError(t, vfs.ReplaceFile(fs, "/d/a", newOptions, writeText("first")))
			require.ErrorIs(t, vfs.ReplaceFile(fs, "/d/a", newOptions, func(vfs.File) error { panic("written for nothing") }), syscall.EEXIST)
			err := vfs.ReplaceFile(fs, "/d/b", newOptions, func(f vfs.File) error {
				require.NoError(t, vfs.ReplaceFile(disk, "/d/b", vfs.ReplaceOptions{}, writeText("theirs")))
				return writeText("ours")(f)
			})
			require.ErrorIs(t, err, syscall.EEXIST)
			for name, want := range map[string]string{"/d/a": "first", "/d/b": "theirs"} {
				got, err := vfs.ReadFile(fs, name)
				require.NoError(t, err)
				require.Equal(t, want, string(got))
			}
			names, err := fs.ReadDir("/d")
			require.NoError(t, err)
			require.Len(t, names, 2, "nothing is left over")
		})
	}
}

// TestNewSurvivesCrashes: a crash leaves no file or a complete one under the name; without hard links perhaps an empty one.
func TestNewSurvivesCrashes(t *testing.T) {
	for name, wrap := range placing {
		t.Run(name, func(t *testing.T) {
			disk := simfs.New(simfs.Options{})
			require.NoError(t, vfs.MkdirAll(disk, "/d", 0o755))
			before := disk.Ops()
			require.NoError(t, vfs.ReplaceFile(wrap(disk), "/d/a", newOptions, writeText("new")))
			disk.Mark("placed")
			found := map[string]bool{}
			for img := range disk.Trace().Images(simfs.Search{From: before}) {
				text, err := vfs.ReadFile(img, "/d/a")
				state := string(text)
				if err != nil {
					require.ErrorIs(t, err, syscall.ENOENT, img.Seed)
					state = "none"
				}
				require.Contains(t, []string{"none", "new", map[bool]string{true: "", false: "new"}[name == "no links"]}, state, img.Seed)
				found[state] = true
				if len(img.Marks) > 0 {
					require.Equal(t, "new", state, img.Seed)
				}
			}
			require.True(t, found["none"] && found["new"])
		})
	}
}

// TestNewSurvivesFaults fails each call in turn: after an error the name is free, unless the error says that it is not.
func TestNewSurvivesFaults(t *testing.T) {
	for name, wrap := range placing {
		for _, after := range []bool{false, true} {
			for n := 0; ; n++ {
				disk := simfs.New(simfs.Options{Seed: uint64(n)})
				require.NoError(t, vfs.MkdirAll(disk, "/d", 0o755))
				plan := &faultfs.Plan{N: n, Err: syscall.EIO, After: after}
				err := vfs.ReplaceFile(faultfs.Wrap(wrap(disk), plan), "/d/a", newOptions, writeText("new"))
				if !plan.Fired() {
					require.NoError(t, err)
					require.Greater(t, n, 5)
					break
				}
				plan.Stop()
				text, e := vfs.ReadFile(disk, "/d/a")
				var placed *vfs.NotDurableError
				switch {
				case errors.As(err, &placed), err == nil:
					require.NoError(t, e, "%s: %v", name, plan)
					require.Equal(t, "new", string(text), "%s: %v", name, plan)
				case e == nil:
					// Only a file of zero bytes whose creation was reported to have failed may have been left.
					require.Equal(t, "no links", name, "%v", plan)
					require.Empty(t, text, "%v", plan)
				default:
					require.ErrorIs(t, e, syscall.ENOENT, "%s: %v", name, plan)
				}
			}
		}
	}
}
