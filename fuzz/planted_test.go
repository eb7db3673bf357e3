//go:build planted

package fuzz

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/internal/planted"
)

// mutants are all planted bugs, each with the test that is to catch it: its package and its name, as for -run. The table
// in docs/track-record.md says the same.
var mutants = []struct {
	bug     planted.Switch
	harness harness
}{
	{planted.ReplaceUnsynced, harness{"fuzz", "TestCrashImages/flat"}},
	{planted.DirUnsynced, harness{"fuzz", "TestCrashImages/flat"}},
	{planted.SpareUnsynced, harness{"internal/vfs", "TestSparesSurviveCrashes"}},
	{planted.OwnerLost, harness{"internal/vfs", "TestReplaceSurvivesCrashes"}},
	{planted.OutputTempShared, harness{"skiplist", "TestTwoBackupsToOneName"}},
	{planted.PlacedByRename, harness{"internal/vfs", "TestNewKeepsWhatComesBetween"}},
	{planted.SpareInUse, harness{"internal/vfs/vfstest", "TestSimulated/spares"}},
	{planted.SpareUnsettled, harness{"internal/vfs", "TestPoolOfTwoDirectories"}},
	{planted.SpareUnlocked, harness{"internal/vfs", "TestSparesOfManyProcesses"}},
	{planted.SpareUncut, harness{"internal/vfs/vfstest", "TestSimulated/spares"}},
	{planted.IncompleteRenamed, harness{"fuzz", "TestErrnoEverywhere/skiplist"}},
	{planted.DirErrorIgnored, harness{"fuzz", "TestOneFailedSync/twoskip"}},
	{planted.OldTruncated, harness{"fuzz", "TestInterleaved"}},
	{planted.CreateUnsynced, harness{"fuzz", "TestCrashImages/twoskip"}},
	{planted.CreateDirUnsynced, harness{"fuzz", "TestCrashImages/twoskip"}},
	{planted.ReserveForgotten, harness{"fuzz", "TestFullDisk"}},
	{planted.RecordsUnsynced, harness{"fuzz", "TestCrashImages/skiplist"}},
	{planted.CommitUnsynced, harness{"fuzz", "TestCrashImages/skiplist"}},
	{planted.SyncErrorIgnored, harness{"fuzz", "TestOneFailedSync/skiplist"}},
	{planted.SyncRetried, harness{"fuzz", "TestOneFailedSync/twoskip"}},
	{planted.LinkUnchecked, harness{"fuzz", "TestErrnoEverywhere/skiplist"}},
	{planted.CommitUnchecked, harness{"fuzz", "TestErrnoEverywhere/skiplist"}},
	{planted.CutBeforeRestore, harness{"fuzz", "TestErrnoEverywhere/skiplist"}},
	{planted.LinksNotRestored, harness{"fuzz", "TestErrnoEverywhere/skiplist"}},
	{planted.UndoUnsynced, harness{"fuzz", "TestOneFailedSync/skiplist"}},
	{planted.CommitLeft, harness{"fuzz", "TestErrnoEverywhere/skiplist"}},
	{planted.FailureForgotten, harness{"fuzz", "TestErrnoEverywhere/skiplist"}},
	{planted.ReleasedTwice, harness{"fuzz", "TestRebuildErrno/skiplist"}},
	{planted.LockKept, harness{"fuzz", "TestRebuildErrno/twoskip"}},
	{planted.RefusedCallKept, harness{"fuzz", "TestCrashImages/twoskip"}},
	{planted.GroupNotRetried, harness{"fuzz", "TestFullDisk"}},
	{planted.DirtyAnswer, harness{"skiplist", "TestGroupAnswersForWhatIsThere"}},
	{planted.GroupErrorLost, harness{"fuzz", "TestErrnoEverywhere/twoskip"}},
	{planted.TailKept, harness{"fuzz", "TestCrashImages/skiplist"}},
	{planted.LinksNotCompared, harness{"fuzz", "TestCrashImages/skiplist"}},
	{planted.RecoveryUnsynced, harness{"fuzz", "TestCrashImages/twoskip"}},
	{planted.DamageAccepted, harness{"skiplist", "TestDamageInTheMiddle"}},
	{planted.OrderUnasked, harness{"skiplist", "TestOrderOfTheLinks"}},
	{planted.WriterInode, harness{"fuzz", "TestInterleaved"}},
	{planted.WriterLockShared, harness{"fuzz", "TestInterleaved"}},
	{planted.ReaderInode, harness{"fuzz", "TestInterleaved"}},
	{planted.CheckInode, harness{"fuzz", "TestLookersInterleaved"}},
	{planted.CheckLockShared, harness{"skiplist", "TestChecksBesideWriter"}},
	{planted.StaleSnapshot, harness{"fuzz", "TestInterleaved"}},
	{planted.MarkIgnored, harness{"fuzz", "TestRestoredInPlace/skiplist"}},
	{planted.TwoInodes, harness{"fuzz", "TestInterleaved"}},
	{planted.CommitWithRecords, harness{"fuzz", "TestCrashImages/skiplist"}},
	{planted.UncommittedVisible, harness{"fuzz", "TestCrashImages/skiplist"}},
	{planted.CommittedTailCut, harness{"skiplist", "TestDamageInTheMiddle"}},
	{planted.CurLevelStale, harness{"fuzz", "TestErrnoEverywhere/skiplist"}},
	{planted.CutBeforeLinks, harness{"fuzz", "TestKills/skiplist"}},
	{planted.DirtyUnmarked, harness{"skiplist/internal/twoskip", "TestCrash"}},
	{planted.SizeIgnored, harness{"fuzz", "TestKills/twoskip"}},
	{planted.OldSlotOverwritten, harness{"skiplist/internal/twoskip", "TestCrash"}},
	{planted.BlanksOmitted, harness{"fuzz", "TestCrashImages/twoskip"}},
	{planted.HeadUnchecked, harness{"skiplist/internal/twoskip", "TestEveryBit"}},
	{planted.GenerationRestarts, harness{"skiplist/internal/twoskip", "TestCheckpoint"}},
	{planted.DeleteNamesItself, harness{"skiplist/internal/twoskip", "TestRecovery2Defects"}},
	{planted.SalvageStops, harness{"skiplist/internal/twoskip", "TestRecovery2Defects"}},
	{planted.TornLineShown, harness{"skiplist/internal/flat", "TestTruncatedAtEveryByte"}},
	{planted.BoxCreateUnsynced, harness{"index", "TestCreateCrash"}},
	{planted.BoxCreateDirUnsynced, harness{"index", "TestCreateCrash"}},
	{planted.TxMessageUnsynced, harness{"fuzz", "TestMailboxCrashImages/17"}},
	{planted.TxDirUnsynced, harness{"fuzz", "TestMailboxCrashImages/17"}},
	{planted.TxCacheUnsynced, harness{"fuzz", "TestMailboxCrashImages/17"}},
	{planted.TxRecordsUnsynced, harness{"fuzz", "TestMailboxCrashImages/17"}},
	{planted.TxHeaderFirst, harness{"fuzz", "TestMailboxCrashImages/17"}},
	{planted.TxOverwriteFirst, harness{"fuzz", "TestMailboxCrashImages/17"}},
	{planted.TxCommitUnsynced, harness{"fuzz", "TestMailboxCrashImages/17"}},
	{planted.TxClearedFirst, harness{"fuzz", "TestMailboxCrashImages/17"}},
	{planted.TxUnlinkFirst, harness{"fuzz", "TestMailboxCrashImages/17"}},
	{planted.TxLeftoverKept, harness{"fuzz", "TestMailboxCrashImages/17"}},
	{planted.TxHeaderRepeats, harness{"index", "TestEntryComesBack"}},
	{planted.TxSyncErrorIgnored, harness{"fuzz", "TestMailboxOneFailedSync/17"}},
	{planted.TxSyncRetried, harness{"fuzz", "TestMailboxOneFailedSync/17"}},
	{planted.TxNotTakenBack, harness{"fuzz", "TestMailboxOneFailedSync/17"}},
	{planted.TxTailLeft, harness{"fuzz", "TestMailboxOneFailedSync/17"}},
	{planted.RecoverRedoes, harness{"fuzz", "TestMailboxCrashImages/17"}},
	{planted.RecoverUndoes, harness{"fuzz", "TestMailboxCrashImages/17"}},
	{planted.JournalUnsynced, harness{"fuzz", "TestMailboxCrashImages/17"}},
	{planted.JournalDirUnsynced, harness{"fuzz", "TestMailboxCrashImages/17"}},
	{planted.JournalSlotReused, harness{"internal/journal", "TestEntries"}},
	{planted.JournalTornBelieved, harness{"internal/journal", "TestTornAnywhere"}},
	{planted.RepackUnsynced, harness{"index", "TestRepackCrash/far/17_to_0"}},
	{planted.RepackNamesUnsynced, harness{"index", "TestRepackCrash/far/17_to_0"}},
	{planted.RepackCommitUnsynced, harness{"index", "TestRepackCrash/far/17_to_0"}},
	{planted.RepackCachesFirst, harness{"index", "TestRepackCrash/far/17_to_0"}},
	{planted.RepackOldEarly, harness{"index", "TestRepackCrash/far/17_to_0"}},
	{planted.RepackLeftBehind, harness{"index", "TestRepackFaults"}},
	{planted.StepUnnoted, harness{"store", "TestStoreCrashImages/uuid/create"}},
	{planted.StepLinksUnsynced, harness{"store", "TestStoreCrashImages/legacy/rename"}},
	{planted.StepListUnasked, harness{"store", "TestStoreCrashImages/uuid/create"}},
	{planted.StepClearedEarly, harness{"store", "TestStoreCrashImages/legacy/rename"}},
	{planted.StepUndoSkipped, harness{"store", "TestStoreErrno/legacy/rename"}},
	{planted.PutUnchecked, harness{"mboxdb", "TestApply"}},
	{planted.LogLineSwallowed, harness{"store", "TestSyncLog"}},
	{planted.QuotaDoubled, harness{"fuzz", "TestQuotaHistoriesFound"}},
	{planted.QuotaNestedTwice, harness{"fuzz", "TestQuotaHistoriesFound"}},
	{planted.QuotaNeighbours, harness{"fuzz", "TestQuotaHistoriesFound"}},
	{planted.QuotaUnfrozen, harness{"fuzz", "TestQuotaHistories"}},
	{planted.QuotaUsersUnfrozen, harness{"fuzz", "TestQuotaHistories"}},
	{planted.QuotaWaitsHolding, harness{"quota", "TestFreezeGivesWay"}},
	{planted.QuotaSuspectsForgotten, harness{"fuzz", "TestQuotaHistoriesFound"}},
	{planted.QuotaHeaderBelieved, harness{"fuzz", "TestQuotaHistoriesFound"}},
	{planted.QuotaScanKept, harness{"fuzz", "TestQuotaCrashImages/recalculate"}},
	{planted.QuotaLimitsOld, harness{"fuzz", "TestQuotaHistories"}},
	{planted.QuotaDamageLowers, harness{"quota", "TestDamagedListNeverLowers"}},
	{planted.QuotaPartWritten, harness{"quota", "TestScenarios"}},
	{planted.QuotaUndoLate, harness{"fuzz", "TestQuotaCrashImages/recalculate"}},
	{planted.QuotaUndoUnsynced, harness{"fuzz", "TestQuotaCrashImages/recalculate"}},
	{planted.QuotaUnnoted, harness{"fuzz", "TestQuotaHistoriesFound"}},
	{planted.QuotaMarkForgotten, harness{"fuzz", "TestQuotaHistoriesFound"}},
	{planted.QuotaMarkClearedFirst, harness{"fuzz", "TestQuotaCrashImages/deliver"}},
	{planted.QuotaSettlesBeside, harness{"fuzz", "TestQuotaHistoriesFound"}},
	{planted.QuotaDoubtForgotten, harness{"fuzz", "TestQuotaErrno/remove"}},
	{planted.QuotaTokensIgnored, harness{"fuzz", "TestQuotaLimits"}},
}

// harness is a test that runs by itself in a process of its own: a bug may make it hang, panic, or leave locks behind.
type harness struct {
	pkg, test string
}

// withoutRapid are the packages whose tests do not know rapid's flags, or in which nothing that is run here uses it.
var withoutRapid = []string{"fuzz", "internal/vfs", "internal/journal", "store", "quota"}

// harnessLimit is more than any harness takes on a busy machine.
const harnessLimit = 2 * time.Minute

// TestPlanted plants every bug in turn and has the test that is named for it fail. Before, each of these tests passes
// without a bug.
func TestPlanted(t *testing.T) {
	var all []harness
	for _, m := range mutants {
		if !slices.Contains(all, m.harness) {
			all = append(all, m.harness)
		}
	}
	binaries := testBinaries(t, all)
	t.Run("control", func(t *testing.T) {
		for _, h := range all {
			t.Run(h.pkg+"/"+h.test, func(t *testing.T) {
				t.Parallel()
				out, failed := h.run(t, binaries, "")
				require.False(t, failed, "it fails without any bug:\n%s", out)
				require.Contains(t, out, "--- PASS: "+h.test, "there is no such test")
			})
		}
	})
	if t.Failed() {
		return
	}
	t.Run("bug", func(t *testing.T) {
		for _, m := range mutants {
			t.Run(string(m.bug), func(t *testing.T) {
				t.Parallel()
				began := time.Now()
				out, failed := m.harness.run(t, binaries, m.bug)
				if failed {
					t.Logf("%s: %s caught it in %v: %s", m.bug, m.harness.test, time.Since(began).Round(time.Millisecond), complaint(out))
					return
				}
				for _, h := range all {
					if _, failed := h.run(t, binaries, m.bug); failed {
						t.Fatalf("%s does not catch it, but %s of %s does", m.harness.test, h.test, h.pkg)
					}
				}
				t.Fatal("nothing catches it")
			})
		}
	})
}

// testBinaries builds the tests of the packages.
func testBinaries(t *testing.T, all []harness) map[string]string {
	own, err := os.Executable()
	require.NoError(t, err)
	binaries := map[string]string{"fuzz": own}
	dir := t.TempDir()
	var wg sync.WaitGroup
	for _, h := range all {
		if binaries[h.pkg] != "" {
			continue
		}
		name := filepath.Join(dir, strings.ReplaceAll(h.pkg, "/", "_")+".test")
		binaries[h.pkg] = name
		wg.Go(func() {
			cmd := exec.Command("go", "test", "-tags", "planted", "-c", "-o", name, "./"+h.pkg)
			cmd.Dir = ".."
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("go test -c ./%s: %v\n%s", h.pkg, err, out)
			}
		})
	}
	wg.Wait()
	require.False(t, t.Failed())
	return binaries
}

// run runs the test with a bug and tells whether it failed.
func (h harness) run(t *testing.T, binaries map[string]string, bug planted.Switch) (out string, failed bool) {
	ctx, cancel := context.WithTimeout(context.Background(), harnessLimit)
	defer cancel()
	levels := strings.Split(h.test, "/")
	for i, l := range levels {
		levels[i] = "^" + l + "$"
	}
	args := []string{"-test.run", strings.Join(levels, "/")}
	if bug == "" {
		args = append(args, "-test.v") // to see that there is such a test
	}
	if !slices.Contains(withoutRapid, h.pkg) {
		args = append(args, "-rapid.nofailfile", "-rapid.shrinktime=1s")
	}
	cmd := exec.CommandContext(ctx, binaries[h.pkg], args...)
	cmd.Dir = filepath.Join("..", h.pkg)
	cmd.Env = append(os.Environ(), "MAILSPINE_PLANTED="+string(bug), "MAILSPINE_CAMPAIGN=", "TMPDIR="+t.TempDir())
	b, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		require.NoError(t, err)
	}
	require.NoError(t, ctx.Err(), "%s hangs with %q\n%s", h.test, bug, b)
	require.NotContains(t, string(b), "flag provided but not defined", "a test that does not begin catches nothing")
	return string(bytes.ToValidUTF8(b, []byte("?"))), err != nil
}

var (
	place   = regexp.MustCompile(`(?m)^ +\w+_test\.go:\d+: *(\S.*)$`)
	message = regexp.MustCompile(`(?m)^\s+(?:Error|Messages):\s+(\S.*)$|^panic: .*$`)
)

// complaint is the part of a test's output that says what is wrong, shortened.
func complaint(out string) string {
	text := ""
	if m := place.FindStringSubmatch(out); m != nil && !strings.HasPrefix(m[1], "[rapid]") {
		text = m[1]
	} else if m := message.FindString(out); m != "" {
		text = strings.Join(strings.Fields(m), " ")
	}
	const most = 300
	if len(text) > most {
		text = text[:most] + "..."
	}
	return text
}
