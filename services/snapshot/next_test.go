package snapshot_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/verdict-io/verdict/services/policy"
	"github.com/verdict-io/verdict/services/snapshot"
)

// change is one random commit.
func (w *world) change(d dice, i int) {
	name := pick(d, "p0", "p1", "p2", "p3")
	ref := policy.PolicyRef(engineID, policyID(name))
	p := w.s.Account(alice).Engine(engineID).Policy(ref.ID)
	mode := pick(d, policy.EnforcementActive, policy.EnforcementActive, policy.EnforcementLogOnly)
	switch d.IntN(8) {
	case 0:
		w.settings(policy.Settings{StrictForbids: new(d.IntN(2) == 0)})
	case 1:
		w.do(alice, policy.AccountSettingsChanged{Account: alice, Settings: policy.Settings{StrictForbids: new(d.IntN(2) == 0)}})
	case 2:
		w.attach(pick(d, "Refunds", ""), pick(d, policy.ModeEnforce, policy.ModeLogOnly))
	case 3:
		ref := policy.TargetRef(gatewayID, "target0001")
		tool := refundTool()
		tool.InputSchema.Required = pick(d, nil, []string{"orderId"})
		w.do(alice, policy.TargetUpdateRequested{GatewayID: gatewayID, ID: ref.ID, Definition: lambda(tool)}, policy.Activated{Of: ref})
	case 4:
		w.do(bob, policy.EngineCreated{ID: id(policy.KindEngine, fmt.Sprint("E", i)), Name: fmt.Sprint("E", i)})
	default:
		switch {
		case p == nil:
			w.policy(name, randomStatement(d), mode)
		case d.IntN(3) == 0:
			w.do(alice, policy.DeleteRequested{Of: ref}, policy.Deleted{Of: ref})
		default:
			w.do(alice, policy.PolicyUpdateRequested{EngineID: engineID, ID: ref.ID, Body: body(pick(d, p.InForce.Statement, randomStatement(d)), mode)},
				policy.Activated{Of: ref})
		}
	}
}

// sameAnswers wants of two snapshots the same answer to a request.
func sameAnswers(t *testing.T, want, got *snapshot.Snapshot, r *snapshot.Request) {
	t.Helper()
	a, wantErr := want.Authorize(r)
	b, gotErr := got.Authorize(r)
	diff := cmp.Diff(a, b, cmpopts.IgnoreUnexported(snapshot.Decision{})) + cmp.Diff(fmt.Sprint(wantErr), fmt.Sprint(gotErr))
	if diff == "" && a != nil {
		diff = cmp.Diff(string(a.ContextJSON()), string(b.ContextJSON()))
	}
	if diff != "" {
		t.Fatalf("(-want +got)\n%s", diff)
	}
}

// Next, step by step and at once, gives what Build gives, and leaves the snapshot that it was made of as it was.
func TestNextAnswersLikeBuild(t *testing.T) {
	for seed := range uint64(40) {
		d := rand.New(rand.NewPCG(seed, 1))
		w := newWorld(t)
		first, built := w.snap, snapshot.Build(w.s)
		counts := map[string]*snapshot.UnkeyedOf{}
		for i := range 30 {
			before, builtBefore := w.snap, built
			w.change(d, i)
			built = snapshot.Build(w.s)
			all := first.Next(w.s, nil)
			for _, r := range []*snapshot.Request{withInput(`{}`), randomRequest(d), randomRequest(d), randomRequest(d)} {
				sameAnswers(t, built, w.snap, r)
				sameAnswers(t, built, all, r)
				sameAnswers(t, builtBefore, before, r)
			}
			if w.snap.Unkeyed() != built.Unkeyed() || before.Unkeyed() != builtBefore.Unkeyed() {
				t.Fatalf("unkeyed: %+v, and built anew %+v", w.snap.Unkeyed(), built.Unkeyed())
			}
			if n := w.unkeyed(counts); n != built.Unkeyed().Policies {
				t.Fatalf("unkeyed of all engines: %d, and built anew %d", n, built.Unkeyed().Policies)
			}
			if s := w.snap; s.Revision() != w.s.Position || s.Hash() != w.s.Hash || s.LogID() != w.s.LogID {
				t.Fatalf("is at %d of %s", s.Revision(), s.LogID())
			}
		}
	}
}

// unkeyed counts engine by engine, with what was known of each before.
func (w *world) unkeyed(known map[string]*snapshot.UnkeyedOf) (n int) {
	for _, id := range []string{alice, bob} {
		a := w.s.Account(id)
		if a == nil {
			continue
		}
		for e := range a.EnginesAfter("") {
			before := known[id+e.ID]
			if before == nil {
				before = &snapshot.UnkeyedOf{}
			}
			known[id+e.ID] = before.Next(e)
			n += known[id+e.ID].Policies()
		}
	}
	return n
}

func TestOnlyTheAccountsNamedAreLookedAt(t *testing.T) {
	w := newWorld(t, permitAll)
	before := w.snap
	ref := policy.PolicyRef(engineID, policyID("p0"))
	w.do(alice, policy.DeleteRequested{Of: ref}, policy.Deleted{Of: ref})
	for name, test := range map[string]struct {
		accounts []string
		allow    bool
	}{
		"named": {[]string{bob, alice}, false}, "not named": {[]string{bob}, true}, "none": {[]string{}, true}, "all": {nil, false},
	} {
		d, err := before.Next(w.s, test.accounts).Authorize(refund())
		if err != nil || d.Allow != test.allow {
			t.Errorf("%s: %+v, %v", name, d, err)
		}
	}
}

// What has not changed is taken over as it is compiled, and an old snapshot goes on answering as it did.
func TestNextCompilesOnlyWhatChanged(t *testing.T) {
	w := newWorld(t, permitAll, forbidAll)
	before := w.snap
	compiled := func(s *snapshot.Snapshot, name string) any {
		return snapshot.CompiledPolicy(s, alice, engineID, policyID(name))
	}
	index := func(s *snapshot.Snapshot) any { return snapshot.CompiledIndex(s, alice, engineID) }
	tools := func(s *snapshot.Snapshot, target string) any {
		return snapshot.CompiledTarget(s, alice, gatewayID, target)
	}
	update := func(b policy.Body) {
		ref := policy.PolicyRef(engineID, policyID("p0"))
		w.do(alice, policy.PolicyUpdateRequested{EngineID: engineID, ID: ref.ID, Body: b}, policy.Activated{Of: ref})
	}

	w.settings(policy.Settings{StrictForbids: new(false)})
	if index(w.snap) != index(before) {
		t.Error("new settings: the index was made anew")
	}
	update(body(permitAll, policy.EnforcementLogOnly))
	if compiled(w.snap, "p0") != compiled(before, "p0") {
		t.Error("demoted: compiled again")
	}
	update(body(permitAll+" // again", policy.EnforcementActive))
	if compiled(w.snap, "p0") == compiled(before, "p0") || compiled(w.snap, "p1") != compiled(before, "p1") {
		t.Error("changed: not that policy, and no other one, was compiled")
	}
	ref := policy.TargetRef(gatewayID, "target0001")
	w.do(alice, policy.TargetUpdateRequested{GatewayID: gatewayID, ID: ref.ID, Definition: lambda(refundTool())}, policy.Activated{Of: ref})
	if tools(w.snap, "RefundTarget") == tools(before, "RefundTarget") || tools(w.snap, "Other") != tools(before, "Other") {
		t.Error("target changed: not that target, and no other one, was made anew")
	}
	d, err := before.Authorize(refund())
	if err != nil {
		t.Fatal(err)
	}
	wantCode(t, d, snapshot.CodeForbid)
}
