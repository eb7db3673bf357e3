package fuzz

import (
	"testing"
)

// foundHistories are those in which [TestQuotaHistories] has found a bug, with what they need alone.
var foundHistories = map[string]*accountHistory{
	"a mailbox that names a foreign root is deleted while that is counted": {kind: 1,
		wrong: []accountOp{{what: "header", box: "user.base", other: "shared.dept", roots: []string{"user.base"}}},
		procs: []accountProcess{{kind: "tree", ops: []accountOp{{what: "delete", box: "user.base"}}}, {kind: "recalculate", ops: []accountOp{{what: "all"}}}}},
	"who makes a root is killed while another settles": {
		procs: []accountProcess{{kind: "tree", ops: []accountOp{{what: "rename", box: "user.baseplus.new", other: "user.base.a.b"}}},
			{kind: "quota", ops: []accountOp{{what: "set", roots: []string{"shared"}, n: 1375}}, kill: 295}}},
	"who makes a root is killed while another delivers": {
		procs: []accountProcess{{kind: "mail", ops: []accountOp{{what: "deliver", box: "user.base.a", n: 3}}},
			{kind: "quota", ops: []accountOp{{what: "set", roots: []string{"user.base.a"}, n: 1375}}, kill: 260}}},
	"who empties a root is killed": {kind: 1,
		procs: []accountProcess{{kind: "tree", ops: []accountOp{{what: "delete", box: "user.base.a.b"}}, kill: 400}}},
}

// TestQuotaHistoriesFound has them happen in several orders, and the killed processes die at several calls, as neither is the same
// after a change of the code.
func TestQuotaHistoriesFound(t *testing.T) {
	lessCollecting(t)
	for name, h := range foundHistories {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(campaign(40, 400)) {
				again := *h
				again.seed = seed
				again.procs = append([]accountProcess(nil), h.procs...)
				for i := range again.procs {
					if again.procs[i].kill > 0 {
						again.procs[i].kill += 5*int(seed%40) - 100
					}
				}
				if err := again.verdict(t, &historySums{}); err != nil {
					t.Fatalf("%v\n%v", err, &again)
				}
			}
		})
	}
}
