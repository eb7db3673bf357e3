package vfstest

import (
	"testing"

	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/internal/vfs/faultfs"
	"github.com/mailspine/mailspine/internal/vfs/simfs"
	"github.com/stretchr/testify/require"
)

func TestOS(t *testing.T) {
	Run(t, func(t *testing.T) (vfs.FS, string) { return vfs.OS(), t.TempDir() })
}

func TestSimulated(t *testing.T) {
	Run(t, func(t *testing.T) (vfs.FS, string) {
		sim := simfs.New(simfs.Options{})
		require.NoError(t, sim.Mkdir("/t", 0o755))
		return sim, "/t"
	})
}

func TestFaultyWithoutFaults(t *testing.T) {
	Run(t, func(t *testing.T) (vfs.FS, string) { return faultfs.Wrap(vfs.OS(), nil), t.TempDir() })
}
