package simfs_test

import (
	"testing"

	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/internal/vfs/simfs"
	"github.com/stretchr/testify/require"
)

// workload is a small database: a file with a synced header, and transactions that append and then patch the header.
func workload(t testing.TB, fs *simfs.FS, transactions int) {
	require.NoError(t, fs.Mkdir("/db", 0o755))
	require.NoError(t, fs.SyncDir("/"))
	f, err := fs.Open("/db/file", vfs.ReadWrite|vfs.Create, 0o600)
	require.NoError(t, err)
	_, err = f.WriteAt(make([]byte, 1000), 0)
	require.NoError(t, err)
	require.NoError(t, f.Datasync())
	require.NoError(t, fs.SyncDir("/db"))
	for k := range transactions {
		data := make([]byte, 700)
		for j := range data {
			data[j] = byte(k + 1)
		}
		_, err = f.WriteAt(data, int64(1000+700*k))
		require.NoError(t, err)
		require.NoError(t, f.Datasync())
		_, err = f.WriteAt([]byte{byte(k)}, 0)
		require.NoError(t, err)
		require.NoError(t, f.Datasync())
		fs.Mark("ack")
	}
	require.NoError(t, f.Close())
}

func BenchmarkImages(b *testing.B) {
	fs := simfs.New(simfs.Options{})
	workload(b, fs, 20)
	trace := fs.Trace()
	images := 0
	for b.Loop() {
		for img := range trace.Images(simfs.Search{Samples: 100}) {
			if _, err := img.Stat("/db/file"); err != nil && img.Op > 8 {
				b.Fatal(img.Seed, err)
			}
			images++
		}
	}
	b.ReportMetric(float64(images)/b.Elapsed().Seconds(), "images/s")
}

// BenchmarkImagesRead also reads each image through.
func BenchmarkImagesRead(b *testing.B) {
	fs := simfs.New(simfs.Options{})
	workload(b, fs, 20)
	trace := fs.Trace()
	images := 0
	for b.Loop() {
		for img := range trace.Images(simfs.Search{Samples: 100}) {
			if _, err := vfs.ReadFile(img, "/db/file"); err != nil && img.Op > 8 {
				b.Fatal(img.Seed, err)
			}
			images++
		}
	}
	b.ReportMetric(float64(images)/b.Elapsed().Seconds(), "images/s")
}
