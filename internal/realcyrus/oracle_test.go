package realcyrus

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/internal/killsup"
)

func TestMain(m *testing.M) {
	killsup.Main()
	os.Exit(m.Run())
}

var engines = []string{"skiplist", "twoskip", "flat"}

// eachEngine runs a test on a fresh database of each engine.
func eachEngine(t *testing.T, options OracleOptions, run func(t *testing.T, engine, path string, o *Oracle, db *OracleDB)) {
	NeedOracle(t)
	for _, engine := range engines {
		t.Run(engine, func(t *testing.T) {
			dir := TempDir(t)
			require.NoError(t, WriteSkipstamp(filepath.Join(dir, "imapd.conf"), time.Unix(1_000_000_000, 0)))
			options := options
			options.ConfDir = filepath.Join(dir, "conf")
			o := StartOracle(t, options)
			path := filepath.Join(dir, "test.db")
			db, err := o.Open(engine, path, CreateFlag)
			require.NoError(t, err)
			run(t, engine, path, o, db)
		})
	}
}

// pairs lists a database as "key=value".
func pairs(t *testing.T, db *OracleDB, prefix string) string {
	t.Helper()
	list, err := db.Foreach([]byte(prefix), 0)
	require.NoError(t, err)
	var words []string
	for _, r := range list {
		words = append(words, fmt.Sprintf("%s=%s", r.Key, r.Value))
	}
	return strings.Join(words, " ")
}

// TestOracle makes every call on each engine.
func TestOracle(t *testing.T) {
	eachEngine(t, OracleOptions{}, func(t *testing.T, engine, path string, o *Oracle, db *OracleDB) {
		require.NoError(t, db.Store([]byte("a"), []byte("1")))
		require.NoError(t, db.Store([]byte("z\x00\xff"), nil))
		require.NoError(t, db.Create([]byte("bb"), []byte("2")))
		require.ErrorIs(t, db.Create([]byte("bb"), []byte("3")), Exists)
		value, err := db.Get([]byte("z\x00\xff"))
		require.NoError(t, err)
		require.Equal(t, []byte{}, value)
		_, err = db.Get([]byte("c"))
		require.ErrorIs(t, err, NotFound)
		_, err = db.GetLocked([]byte("c"))
		require.ErrorIs(t, err, NotFound)
		require.Equal(t, "a=1 bb=2 z\x00\xff=", pairs(t, db, ""))
		require.Equal(t, "bb=2", pairs(t, db, "bb"))
		first, err := db.Foreach(nil, 1)
		require.NoError(t, err)
		require.Equal(t, []Record{{[]byte("a"), []byte("1")}}, first)
		if next, err := db.Next([]byte("a")); engine != "twoskip" {
			require.ErrorIs(t, err, NotImplemented)
		} else {
			require.NoError(t, err)
			require.Equal(t, Record{[]byte("bb"), []byte("2")}, next)
		}

		require.NoError(t, db.Txn(Op{Key: []byte("t"), Value: []byte("3")}, Op{Key: []byte("a"), Delete: true}))
		require.NoError(t, db.Delete([]byte("z\x00\xff"), true))
		if err := db.Delete([]byte("missing"), false); engine == "twoskip" {
			require.ErrorIs(t, err, NotFound)
		} else {
			require.NoError(t, err)
		}
		require.NoError(t, db.Begin())
		require.NoError(t, db.Store([]byte("x"), []byte("4")))
		require.NoError(t, db.Abort())
		require.NoError(t, db.Begin())
		require.NoError(t, db.Store([]byte("y"), []byte("5")))
		require.NoError(t, db.Commit())
		require.Equal(t, "bb=2 t=3 y=5", pairs(t, db, ""))

		sign, err := db.Compare([]byte("a"), []byte("b"))
		require.NoError(t, err)
		require.Equal(t, -1, sign)
		name, err := o.Detect(path)
		require.NoError(t, err)
		require.NoError(t, o.Delayed())
		if engine == "flat" {
			require.Empty(t, name)
		} else {
			require.Equal(t, engine, name)
			require.NoError(t, db.Consistent())
			require.NoError(t, db.Checkpoint())
			require.NoError(t, o.Convert(path, path+".2", engine, "flat"))
			text, err := os.ReadFile(path + ".2")
			require.NoError(t, err)
			require.Equal(t, "bb\t2\nt\t3\ny\t5\n", string(text))
			dump, err := db.Dump(1)
			require.NoError(t, err)
			require.Contains(t, dump, "kl=2 ")
		}

		// Another process sees the same.
		require.NoError(t, db.Close())
		again, err := StartOracle(t, OracleOptions{ConfDir: o.Cmd.Args[1]}).Open(engine, path, 0)
		require.NoError(t, err)
		require.Equal(t, "bb=2 t=3 y=5", pairs(t, again, ""))
		_, err = o.Open(engine, path+".missing", 0)
		require.ErrorIs(t, err, NotFound)
		require.NoError(t, o.Wait())
		_, err = o.Open(engine, path, 0)
		require.ErrorIs(t, err, ErrOracleGone)
	})
}

// TestOracleKill kills the process while another goroutine waits for a transaction, and opens the file in a new one.
func TestOracleKill(t *testing.T) {
	eachEngine(t, OracleOptions{}, func(t *testing.T, engine, path string, o *Oracle, db *OracleDB) {
		timer := time.AfterFunc(20*time.Millisecond, o.Kill)
		defer timer.Stop()
		acked := 0
		var err error
		for err == nil {
			if err = db.Txn(Op{Key: fmt.Appendf(nil, "k%09d", acked), Value: []byte("v")}); err == nil {
				acked++
			}
		}
		require.ErrorIs(t, err, ErrOracleGone)
		require.NoError(t, o.Wait())
		again, err := StartOracle(t, OracleOptions{}).Open(engine, path, 0)
		require.NoError(t, err)
		list, err := again.Foreach(nil, 0)
		require.NoError(t, err)
		require.Contains(t, []int{acked, acked + 1}, len(list))
	})
}

// TestOracleFatal shows that the end of the library by itself is told from a kill.
func TestOracleFatal(t *testing.T) {
	NeedOracle(t)
	o := StartOracle(t, OracleOptions{})
	db := &OracleDB{o, 5}
	_, err := db.Get([]byte("a"))
	var fatal *FatalError
	require.ErrorAs(t, err, &fatal)
	require.Equal(t, "handle is not open", fatal.Text)
	require.ErrorAs(t, db.Begin(), &fatal)
	var exit *exec.ExitError
	require.ErrorAs(t, o.Wait(), &exit)
}

// TestOracleAsCyrus writes as the user cyrus.
func TestOracleAsCyrus(t *testing.T) {
	NeedPrograms(t)
	eachEngine(t, OracleOptions{AsCyrus: true}, func(t *testing.T, engine, path string, o *Oracle, db *OracleDB) {
		require.NoError(t, db.Store([]byte("a"), []byte("1")))
		id, err := credential()
		require.NoError(t, err)
		if id != nil {
			out, err := exec.Command("stat", "-c", "%u", path).Output()
			require.NoError(t, err)
			require.Equal(t, fmt.Sprintln(id.uid), string(out))
		}
	})
}

// TestOracleSupervised lets a supervisor kill the process at its first sync, and counts the syncs of a transaction.
func TestOracleSupervised(t *testing.T) {
	NeedOracle(t)
	if err := killsup.Supported(); errors.Is(err, killsup.ErrUnsupported) {
		t.Skip(err)
	}
	for engine, syncs := range map[string]int{"skiplist": 2, "twoskip": 3, "flat": 1} {
		t.Run(engine, func(t *testing.T) {
			dir := TempDir(t)
			path := filepath.Join(dir, "test.db")
			o := StartOracle(t, OracleOptions{})
			db, err := o.Open(engine, path, CreateFlag)
			require.NoError(t, err)
			require.NoError(t, db.Store([]byte("a"), []byte("1")))
			require.NoError(t, o.Wait())

			for _, action := range []killsup.Action{killsup.Observe, killsup.Kill} {
				var res killsup.Result
				isSync := func(c *killsup.Call) bool { return strings.Contains(c.Name, "sync") }
				o := StartOracle(t, OracleOptions{ConfDir: dir, Run: func(cmd *exec.Cmd) error {
					var err error
					plan := killsup.Plan{Dir: dir, Match: isSync, Action: action, At: 1}
					res, err = killsup.Run(context.Background(), cmd, plan)
					return err
				}})
				require.NoError(t, WriteSkipstamp(filepath.Join(dir, "imapd.conf"), time.Unix(1_000_000_000, 0)))
				db, err := o.Open(engine, path, 0)
				if err == nil {
					err = db.Store([]byte("a"), fmt.Append(nil, action))
				}
				if action == killsup.Observe {
					require.NoError(t, err)
					require.NoError(t, o.Wait())
					require.GreaterOrEqual(t, len(res.Calls), syncs)
				} else {
					require.ErrorIs(t, err, ErrOracleGone)
					require.NoError(t, o.Wait())
					require.True(t, res.Fired)
				}
			}
		})
	}
}

// TestOracleBench runs each benchmark command once.
func TestOracleBench(t *testing.T) {
	eachEngine(t, OracleOptions{}, func(t *testing.T, engine, path string, o *Oracle, db *OracleDB) {
		b, err := db.Bench("bench-load", 100, 100, 10, 0)
		require.NoError(t, err)
		require.EqualValues(t, 100, b.Count)
		b, err = db.Bench("bench-put", 3, 100, 10, 7)
		require.NoError(t, err)
		require.EqualValues(t, 3, b.Count)
		b, err = db.Bench("bench-get", 50, 1)
		require.NoError(t, err)
		require.EqualValues(t, 50, b.Count)
		b, err = db.Bench("bench-prefix", 2, 1, 1)
		require.NoError(t, err)
		require.EqualValues(t, 20, b.Count)
		b, err = db.Bench("bench-prefix", 2, 1, 0, []byte("k0000009"))
		require.NoError(t, err)
		require.EqualValues(t, 2, b.Count)
		b, err = db.Bench("bench-full", 2, 0)
		require.NoError(t, err)
		require.EqualValues(t, 200, b.Count)
		b, err = db.Bench("bench-delete", 100, 100, 0, 0)
		require.NoError(t, err)
		require.EqualValues(t, 100, b.Count)
		require.Empty(t, pairs(t, db, ""))
		require.Positive(t, b.Time)
		_, err = db.Bench("bench-none", 1)
		require.ErrorIs(t, err, badCommand)
	})
}
