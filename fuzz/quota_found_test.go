package fuzz

import (
	"testing"

	"pgregory.net/rapid"
)

// TestQuotaLimits has several processes deliver, copy and move into a root that has room for few messages more, and some die: the
// limit is not passed but by what a killed process has delivered last, and what is used is right.
func TestQuotaLimits(t *testing.T) {
	lessCollecting(t)
	for seed := range uint64(campaign(40, 300)) {
		h := drawLimited.Example(int(seed))
		h.seed = seed
		if err := h.verdict(t, &historySums{}); err != nil {
			small, why := h.shrink(t, err)
			t.Fatalf("%v\n%v\nthe same, with less:\n%v\n%v", err, h, why, small)
		}
	}
}

// drawLimited makes up a history in a root that is nearly full.
var drawLimited = rapid.Custom(func(t *rapid.T) *accountHistory {
	h := &accountHistory{kind: rapid.IntRange(0, len(accountKinds)-1).Draw(t, "kind"), limited: true}
	h.wrong = []accountOp{{what: "limit", roots: []string{"user"}, n: rapid.Int64Range(0, 4).Draw(t, "room")}}
	within := rapid.SampledFrom([]string{"user.base", "user.base.a", "user.baseplus", "user.baseplus.a", "user.ba"})
	for i := range rapid.IntRange(2, 5).Draw(t, "processes") {
		p := accountProcess{kind: "mail"}
		for range rapid.IntRange(1, 3).Draw(t, "ops") {
			o := accountOp{what: rapid.SampledFrom([]string{"deliver", "deliver", "deliver", "copy", "move", "expunge"}).Draw(t, "what"),
				box: within.Draw(t, "box"), n: rapid.Int64Range(0, 100).Draw(t, "n")}
			if o.what == "copy" || o.what == "move" {
				o.box, o.other = drawBox(t), o.box
			}
			p.ops = append(p.ops, o)
		}
		if i > 0 && rapid.IntRange(0, 3).Draw(t, "killed") == 0 {
			p.kill = rapid.IntRange(1, 200).Draw(t, "at")
		}
		h.procs = append(h.procs, p)
	}
	return h
})

// foundHistories are those in which [TestQuotaHistories] has found a bug, with what they need alone.
var foundHistories = map[string]*accountHistory{
	"a mailbox that names a foreign root is deleted while that is counted": {kind: 1,
		wrong: []accountOp{{what: "header", box: "user.base", other: "shared.dept", roots: []string{"user.base"}}},
		procs: []accountProcess{{kind: "tree", ops: []accountOp{{what: "delete", box: "user.base"}}}, {kind: "recalculate", ops: []accountOp{{what: "all"}}}}},
	"mailboxes are made while they are counted": {
		wrong: []accountOp{{what: "number", roots: []string{"user.base"}, n: 1}},
		procs: []accountProcess{{kind: "tree", ops: []accountOp{{what: "create", other: "user.base.new"}, {what: "create", other: "user.base.a-x.y"}}},
			{kind: "recalculate", ops: []accountOp{{what: "all"}, {what: "some", roots: []string{"user.base"}}, {what: "some", roots: []string{"user.base"}}}}}},
	"mail comes to a mailbox that names a foreign root": {
		wrong: []accountOp{{what: "header", box: "user.base", other: "shared.dept", roots: []string{"user.base"}}},
		procs: []accountProcess{{kind: "mail", ops: []accountOp{{what: "deliver", box: "user.base", n: 3}, {what: "deliver", box: "user.base", n: 5}}},
			{kind: "recalculate", ops: []accountOp{{what: "all"}}}}},
	"two recalculations mend one header": {kind: 1,
		wrong: []accountOp{{what: "header", box: "user.base.a", other: "shared.dept", roots: []string{"user.base"}}},
		procs: []accountProcess{{kind: "recalculate", ops: []accountOp{{what: "all"}}},
			{kind: "cyrus", ops: []accountOp{{what: "append", box: "user.base"}, {what: "append", box: "user.base.a"}}},
			{kind: "recalculate", ops: []accountOp{{what: "some", roots: []string{"user.base", "user.base.a"}}}}}},
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
			for seed := range uint64(campaign(60, 600)) {
				again := *h
				again.seed = seed
				again.procs = append([]accountProcess(nil), h.procs...)
				for i := range again.procs {
					if again.procs[i].kill > 0 {
						again.procs[i].kill += int(seed*7%200) - 100
					}
				}
				if err := again.verdict(t, &historySums{}); err != nil {
					t.Fatalf("%v\n%v", err, &again)
				}
			}
		})
	}
}
