package simfs_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/internal/vfs/simfs"
	"github.com/stretchr/testify/require"
)

// script runs one-line calls on a disk. Letters fill whole sectors:
//
//	w FILE SECTOR TEXT    write one sector for each letter
//	W FILE BYTE TEXT      write the text itself at a byte
//	t FILE BYTES          truncate
//	s FILE | S FILE       datasync, sync
//	c FILE                create
//	d DIR                 sync the directory
//	m DIR                 mkdir
//	r A B, x A B, l A B   rename, exchange, link
//	u FILE                unlink
//	f FILE                a sync that fails
//	crash                 everything before is history: only images of the last state count
type script struct {
	*testing.T
	fs *simfs.FS
}

func (s *script) file(name string, use func(vfs.File) error) {
	f, err := s.fs.Open(name, vfs.ReadWrite|vfs.Create, 0o600)
	require.NoError(s, err)
	require.NoError(s, use(f))
	require.NoError(s, f.Close())
}

func fill(text string) []byte {
	var p []byte
	for _, letter := range []byte(text) {
		p = append(p, bytes.Repeat([]byte{letter}, simfs.SectorSize)...)
	}
	return p
}

func (s *script) run(lines string) {
	for line := range strings.SplitSeq(lines, ";") {
		var verb, a, b, text string
		_, _ = fmt.Sscan(line, &verb, &a, &b, &text)
		var n int64
		_, _ = fmt.Sscan(b, &n)
		write := func(p []byte, off int64) func(vfs.File) error {
			return func(f vfs.File) error { _, err := f.WriteAt(p, off); return err }
		}
		switch verb {
		case "w":
			s.file(a, write(fill(text), n*simfs.SectorSize))
		case "W":
			s.file(a, write([]byte(text), n))
		case "t":
			s.file(a, func(f vfs.File) error { return f.Truncate(n) })
		case "s":
			s.file(a, vfs.File.Datasync)
		case "S":
			s.file(a, vfs.File.Sync)
		case "c":
			s.file(a, func(vfs.File) error { return nil })
		case "f":
			s.fs.FailNextSync(syscall.EIO)
			s.file(a, func(f vfs.File) error { require.ErrorIs(s, f.Datasync(), syscall.EIO); return nil })
		case "d":
			require.NoError(s, s.fs.SyncDir(a))
		case "m":
			require.NoError(s, s.fs.Mkdir(a, 0o755))
		case "r":
			require.NoError(s, s.fs.Rename(a, b))
		case "x":
			require.NoError(s, s.fs.Exchange(a, b))
		case "l":
			require.NoError(s, s.fs.Link(a, b))
		case "u":
			require.NoError(s, s.fs.Unlink(a))
		default:
			require.Fail(s, "unknown verb", line)
		}
	}
}

// describe writes a disk as one line: each file with its content, sector by sector. A sector of one letter is that
// letter, "0" is zeros, "?" is something else; an end within a sector shows as "+bytes".
func describe(t testing.TB, fs *simfs.FS, dir string) string {
	list, err := fs.ReadDir(dir)
	require.NoError(t, err)
	var parts []string
	for _, e := range list {
		name := strings.TrimSuffix(dir, "/") + "/" + e.Name
		if e.Dir {
			parts = append(parts, name+"["+describe(t, fs, name)+"]")
			continue
		}
		p, err := vfs.ReadFile(fs, name)
		require.NoError(t, err)
		parts = append(parts, name+":"+letters(p))
	}
	return strings.Join(parts, " ")
}

func letters(p []byte) string {
	var b strings.Builder
	for ; len(p) > 0; p = p[min(len(p), simfs.SectorSize):] {
		part := p[:min(len(p), simfs.SectorSize)]
		switch {
		case bytes.Equal(part, bytes.Repeat(part[:1], len(part))) && part[0] == 0:
			b.WriteByte('0')
		case bytes.Equal(part, bytes.Repeat(part[:1], len(part))):
			b.WriteByte(part[0])
		default:
			b.WriteByte('?')
		}
		if len(part) < simfs.SectorSize {
			fmt.Fprintf(&b, "+%d", len(part))
		}
	}
	return b.String()
}

// TestWhatPOSIXAllows states each rule of the package comment by a small workload and all that a crash may leave.
func TestWhatPOSIXAllows(t *testing.T) {
	const synced = "c /a;d /;" // an empty file whose name is durable
	for _, c := range []struct {
		rule, script string
		opts         simfs.Options
		torn         bool
		want         []string
	}{{
		rule: "synced content stays", script: synced + "w /a 0 AB;s /a",
		want: []string{"/a:AB"},
	}, {
		rule: "unsynced sectors are old or new, each on its own", script: synced + "w /a 0 AB;s /a;w /a 0 CD",
		want: []string{"/a:AB", "/a:AD", "/a:CB", "/a:CD"},
	}, {
		rule:   "a sector holds the content after any one of its writes",
		script: synced + "w /a 0 A;s /a;w /a 0 B;w /a 0 C",
		want:   []string{"/a:A", "/a:B", "/a:C"},
	}, {
		rule: "a sector that held synced bytes is written whole", torn: true,
		script: synced + "w /a 0 A;s /a;W /a 0 xx",
		want:   []string{"/a:A", "/a:?"},
	}, {
		rule: "writing the same again changes nothing", script: synced + "w /a 0 AB;s /a;w /a 0 AB",
		want: []string{"/a:AB"},
	}, {
		rule:   "the size and the data of an append are lost or kept separately",
		script: synced + "w /a 0 A;s /a;w /a 1 B",
		want:   []string{"/a:A", "/a:A0", "/a:AB"},
	}, {
		rule:   "an append within a sector: size without the data reads as zeros",
		script: synced + "W /a 0 AAAA;s /a;W /a 4 AAAA",
		want:   []string{"/a:A+4", "/a:?+8", "/a:A+8"},
	}, {
		rule:   "sizes between are write ends and page edges",
		script: synced + "w /a 0 A;s /a;w /a 1 BBBBBBBB",
		want:   sizesBetween(),
	}, {
		rule: "the appended area may be torn or garbage", torn: true, script: synced + "w /a 0 A",
		want: []string{"/a:", "/a:0", "/a:A", "/a:?"},
	}, {
		rule: "a gap is a hole", script: synced + "w /a 2 A",
		want: []string{"/a:", "/a:000", "/a:00A"},
	}, {
		rule: "a truncation is lost or kept", script: synced + "w /a 0 AB;s /a;t /a 512",
		want: []string{"/a:AB", "/a:A"},
	}, {
		rule:   "a lost truncation with later writes kept, and the other way round",
		script: synced + "w /a 0 AB;s /a;t /a 512;w /a 0 C",
		want:   []string{"/a:AB", "/a:CB", "/a:A", "/a:C"},
	}, {
		rule:   "what a truncation cut is zeros when the file grows again",
		script: synced + "w /a 0 AB;s /a;t /a 512;t /a 1024",
		want:   []string{"/a:AB", "/a:A", "/a:A0"},
	}, {
		rule: "cut, then written anew", script: synced + "w /a 0 AB;s /a;t /a 512;w /a 1 C",
		want: []string{"/a:AB", "/a:AC", "/a:A", "/a:A0"},
	}, {
		rule: "a truncation within a sector", script: synced + "w /a 0 A;s /a;t /a 100;t /a 512",
		want: []string{"/a:A", "/a:?", "/a:A+100"},
	}, {
		rule:   "the zeros behind a cut may reach the disk before the size does",
		script: synced + "w /a 0 A;s /a;t /a 100",
		want:   []string{"/a:A", "/a:?", "/a:A+100"},
	}, {
		rule:   "cut and grown between two syncs",
		script: synced + "w /a 0 AB;s /a;t /a 512;t /a 1024;s /a",
		want:   []string{"/a:A0"},
	}, {
		rule: "a synced truncation is certain", script: synced + "w /a 0 AB;s /a;t /a 512;s /a;t /a 1024;s /a",
		want: []string{"/a:A0"},
	}, {
		rule:   "two files are independent",
		script: synced + "c /b;d /;w /a 0 A;w /b 0 B;s /a;s /b;w /a 0 C;w /b 0 D",
		want:   []string{"/a:A /b:B", "/a:A /b:D", "/a:C /b:B", "/a:C /b:D"},
	}, {
		rule: "a created file is lost or kept, though its content is synced", script: "w /a 0 A;s /a",
		want: []string{"", "/a:A"},
	}, {
		rule: "names are independent of each other", script: "c /a;c /b",
		want: []string{"", "/a:", "/b:", "/a: /b:"},
	}, {
		rule: "syncing the directory keeps its names", script: "c /a;c /b;d /",
		want: []string{"/a: /b:"},
	}, {
		rule: "an ordered journal keeps a prefix", opts: simfs.Options{OrderedNames: true}, script: "c /a;c /b",
		want: []string{"", "/a:", "/a: /b:"},
	}, {
		rule: "a rename is atomic", script: "w /a 0 A;w /b 0 B;s /a;s /b;d /;r /a /b",
		want: []string{"/a:A /b:B", "/b:A"},
	}, {
		rule: "an exchange is atomic", script: "w /a 0 A;w /b 0 B;s /a;s /b;d /;x /a /b",
		want: []string{"/a:A /b:B", "/a:B /b:A"},
	}, {
		rule: "steps on one name keep their order", script: "w /a 0 A;s /a;r /a /b",
		want: []string{"", "/a:A", "/b:A"},
	}, {
		rule: "unlink is lost or kept", script: synced + "w /a 0 A;s /a;u /a",
		want: []string{"", "/a:A"},
	}, {
		rule: "unlink and create anew", script: synced + "w /a 0 A;s /a;u /a;w /a 0 B;s /a",
		want: []string{"", "/a:A", "/a:B"},
	}, {
		rule: "a link is a name like any other", script: synced + "w /a 0 A;s /a;l /a /b;u /a",
		want: []string{"", "/a:A", "/b:A", "/a:A /b:A"},
	}, {
		rule:   "a rename between directories needs both synced",
		script: "m /d;m /e;c /d/a;d /;d /d;r /d/a /e/a;d /e",
		want:   []string{"/d[/d/a:] /e[]", "/d[] /e[/e/a:]"},
	}, {
		rule:   "or a later step on one of its names made certain",
		script: "m /d;m /e;c /d/a;d /;d /d;r /d/a /e/a;c /d/a;d /d",
		want:   []string{"/d[/d/a:] /e[/e/a:]"},
	}, {
		rule: "and is certain then", script: "m /d;m /e;c /d/a;d /;d /d;r /d/a /e/a;d /e;d /d",
		want: []string{"/d[] /e[/e/a:]"},
	}, {
		rule: "a lost directory takes its files along", script: "m /d;w /d/a 0 A;s /d/a;d /d",
		want: []string{"", "/d[/d/a:A]"},
	}, {
		rule: "replacing a file without syncing it first", script: synced + "w /a 0 A;s /a;w /n 0 B;r /n /a;d /",
		want: []string{"/a:", "/a:0", "/a:B"},
	}} {
		t.Run(c.rule, func(t *testing.T) {
			s := &script{T: t, fs: simfs.New(c.opts)}
			s.run(c.script)
			trace := s.fs.Trace()
			got := map[string]bool{}
			for img := range trace.Images(simfs.Search{From: trace.Len(), Whole: !c.torn}) {
				got[describe(t, img.FS, "/")] = true
				again, err := trace.Image(img.Seed)
				require.NoError(t, err)
				require.Equal(t, describe(t, img.FS, "/"), describe(t, again.FS, "/"), img.Seed)
			}
			allowed := map[string]bool{}
			for _, state := range c.want {
				allowed[state] = true
			}
			require.Equal(t, allowed, got)
			// Samples stay within the same set.
			for img := range trace.Images(simfs.Search{From: trace.Len(), Limit: -1, Samples: 50, Whole: !c.torn}) {
				require.Contains(t, allowed, describe(t, img.FS, "/"), img.Seed)
			}
			require.Equal(t, describe(t, s.fs, "/"), describe(t, s.fs.Kill(), "/"), "a kill loses nothing")
		})
	}
}

// sizesBetween lists the images of an append of sectors 1 to 8 to a file of one: the size is 1, 8 (a page edge) or 9
// sectors, and each appended sector in it is there or zeros.
func sizesBetween() (want []string) {
	for _, size := range []int{1, 8, 9} {
		for set := range 1 << (size - 1) {
			text := []byte("ABBBBBBBB")[:size]
			for k := 1; k < size; k++ {
				if set>>(k-1)&1 == 0 {
					text[k] = '0'
				}
			}
			want = append(want, "/a:"+string(text))
		}
	}
	return want
}

// TestFailedSync: the page cache differs from the disk, and a later sync does not mend it.
func TestFailedSync(t *testing.T) {
	found := map[string]bool{}
	for seed := range uint64(40) {
		s := &script{T: t, fs: simfs.New(simfs.Options{Seed: seed})}
		s.run("c /a;d /;w /a 0 AA;s /a;w /a 0 BB;f /a;s /a")
		require.Equal(t, "/a:BB", describe(t, s.fs, "/"), "reads still show the lost pages")
		images := imagesNow(t, s.fs)
		require.Len(t, images, 1)
		s.fs.DropCaches()
		require.Equal(t, images[0], describe(t, s.fs, "/"), "after eviction reads show the disk")
		found[images[0]] = true
	}
	require.Equal(t, map[string]bool{"/a:AA": true, "/a:AB": true, "/a:BA": true, "/a:BB": true}, found)

	s := &script{T: t, fs: simfs.New(simfs.Options{Seed: 1})}
	s.run("c /a;d /;w /a 0 AA;s /a;w /a 0 BB;f /a;w /a 0 BB;s /a")
	require.Equal(t, []string{"/a:BB"}, imagesNow(t, s.fs), "rewriting the pages mends it")
}

func imagesNow(t *testing.T, fs *simfs.FS) (list []string) {
	trace := fs.Trace()
	for img := range trace.Images(simfs.Search{From: trace.Len(), Whole: true}) {
		list = append(list, describe(t, img.FS, "/"))
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// exact is all that reads can see of a disk.
func exact(t testing.TB, fs *simfs.FS, dir string) string {
	list, err := fs.ReadDir(dir)
	require.NoError(t, err)
	var b strings.Builder
	for _, e := range list {
		name := strings.TrimSuffix(dir, "/") + "/" + e.Name
		if e.Dir {
			b.WriteString(name + exact(t, fs, name))
			continue
		}
		p, err := vfs.ReadFile(fs, name)
		require.NoError(t, err)
		fmt.Fprintf(&b, "%s %x\n", name, p)
	}
	return b.String()
}

// TestImagesStayAsTheyAre: an image does not change when the trace goes on, the disk goes on, or another image changes;
// and a trace yields the same images a second time.
func TestImagesStayAsTheyAre(t *testing.T) {
	first := simfs.New(simfs.Options{})
	workload(t, first, 3)
	for base := range first.Trace().Images(simfs.Search{From: first.Ops()}) {
		f, err := base.Open("/db/file", vfs.ReadWrite, 0)
		require.NoError(t, err)
		for k := range 5 {
			_, err = f.WriteAt([]byte{byte(100 + k)}, 0)
			require.NoError(t, err)
			require.NoError(t, f.Datasync())
			(&script{T: t, fs: base.FS}).run(fmt.Sprintf("w /db/%d 0 A;d /db", k))
		}
		type kept struct {
			img  *simfs.Image
			want string
		}
		var all []kept
		search := simfs.Search{Samples: 10, Limit: 20}
		trace := base.Trace()
		for img := range trace.Images(search) {
			all = append(all, kept{img, exact(t, img.FS, "/")})
		}
		for range 2 {
			n := 0
			for img := range trace.Images(search) {
				require.Equal(t, all[n].want, exact(t, img.FS, "/"), img.Seed)
				require.Equal(t, all[n].img.Seed, img.Seed)
				n++
				scribble(t, img.FS)
			}
			scribble(t, base.FS)
		}
		for _, k := range all {
			require.Equal(t, k.want, exact(t, k.img.FS, "/"), k.img.Seed)
		}
	}
}

// scribble changes everything that a disk has.
func scribble(t *testing.T, fs *simfs.FS) {
	(&script{T: t, fs: fs}).run("t /db/file 700;w /db/file 1 Y;u /db/file;w /x 0 ABC;s /x;w /db/file 0 ZZZZ;s /db/file;t /db/file 1000;r /x /db/new;d /db")
}

// TestCrashInRecovery takes images of images: what a "recovery" of the first crash had synced survives the second.
func TestCrashInRecovery(t *testing.T) {
	s := &script{T: t, fs: simfs.New(simfs.Options{})}
	s.run("c /a;d /;w /a 0 A;s /a;w /a 0 B")
	got := map[string]bool{}
	for img := range s.fs.Trace().Images(simfs.Search{From: s.fs.Ops()}) {
		(&script{T: t, fs: img.FS}).run("w /a 1 C;s /a;w /a 1 D")
		for second := range img.Trace().Images(simfs.Search{From: img.Ops(), Whole: true}) {
			got[describe(t, second.FS, "/")] = true
		}
	}
	require.Equal(t, map[string]bool{"/a:AC": true, "/a:AD": true, "/a:BC": true, "/a:BD": true}, got)
}

func TestMarksAndSeeds(t *testing.T) {
	s := &script{T: t, fs: simfs.New(simfs.Options{})}
	s.run("c /a;d /;w /a 0 A;s /a")
	s.fs.Mark("one")
	s.run("w /a 0 B;s /a")
	s.fs.Mark("two")
	trace := s.fs.Trace()
	require.Equal(t, 8, trace.Len())
	for img := range trace.Images(simfs.Search{}) {
		var want []string
		if img.Op >= 5 {
			want = append(want, "one")
		}
		if img.Op >= 8 {
			want = append(want, "two")
		}
		require.Equal(t, want, img.Marks, img.Seed)
		var b strings.Builder
		require.NoError(t, trace.Dump(&b, img.Seed))
		require.Contains(t, b.String(), "crash: "+img.Seed)
	}
	for _, line := range []string{
		"", "op=1", "op=99 seed=1", "op=-1 seed=1", "op=x seed=1", "op=1 seed=y", "op=1 pick=0.z", "no=1",
	} {
		_, err := trace.Image(line)
		require.Error(t, err, line)
	}
	var b strings.Builder
	require.NoError(t, trace.Dump(&b, "op=6 whole pick=0"))
	require.Equal(t, `   1 create 1/a=2
   2 syncdir inode 1
   3 write inode 2 [0, 512)
   4 sync inode 2
   5 mark "one"
   6 write inode 2 [0, 512)
crash: op=6 whole pick=0
inode 2 has size 512 instead of 512, and differs in sectors [0]
`, b.String())
}

func TestKilledGoesOn(t *testing.T) {
	s := &script{T: t, fs: simfs.New(simfs.Options{})}
	s.run("c /a;d /;w /a 0 A;s /a;w /a 0 B")
	f, err := s.fs.Open("/a", vfs.ReadWrite, 0)
	require.NoError(t, err)
	require.NoError(t, f.TryLock(vfs.Exclusively))
	after := s.fs.Kill()
	require.Equal(t, "/a:B", describe(t, after, "/"))
	g, err := after.Open("/a", vfs.ReadWrite, 0)
	require.NoError(t, err)
	require.NoError(t, g.TryLock(vfs.Exclusively), "the killed hold no lock")
	require.Equal(t, []string{"/a:A", "/a:B"}, imagesNow(t, after), "what was unsynced still is")
	(&script{T: t, fs: after}).run("w /a 0 Z;s /a;w /b 0 Z")
	require.Equal(t, "/a:B", describe(t, s.fs, "/"))
	require.Equal(t, "/a:B", describe(t, s.fs.Kill(), "/"), "the copies are independent")
	var kills []*simfs.Image
	var contents []string
	for img := range s.fs.Trace().Kills() {
		require.Equal(t, len(kills), img.Op)
		kills, contents = append(kills, img), append(contents, exact(t, img.FS, "/"))
	}
	require.Len(t, kills, s.fs.Ops()+1)
	for k, img := range kills {
		require.Equal(t, contents[k], exact(t, img.FS, "/"), "op %d", k)
	}
	require.Equal(t, "/a:A", describe(t, s.fs.Trace().Killed(4), "/"))
}
