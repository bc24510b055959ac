package snapshot_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	cedar "github.com/cedar-policy/cedar-go"
	"github.com/google/go-cmp/cmp"

	"github.com/verdict-io/verdict/services/policy"
	"github.com/verdict-io/verdict/services/snapshot"
)

func (w *world) explain(r *snapshot.Request) []snapshot.PermitExplanation {
	w.t.Helper()
	return w.snap.Explain(r, w.ask(r))
}

func TestExplain(t *testing.T) {
	w := newWorld(t,
		fmt.Sprintf(`permit(principal is AgentCore::OAuthUser, action == AgentCore::Action::%q, resource == AgentCore::Gateway::%q)
			when { principal.hasTag("role") && principal.getTag("role") == "agent" && context.input.amount < 100 }
			unless { context.input has urgent && context.input.urgent || principal.getTag("none") == "x" };`, refundID, arn),
		on("permit", pingID), permitAll, forbidAll)
	w.policy("trial", permitAll, policy.EnforcementLogOnly)
	read := func(expression, value string) []snapshot.ClauseValue {
		return []snapshot.ClauseValue{{Expression: expression, Value: value}}
	}
	want := []snapshot.PermitExplanation{{PolicyID: policyID("p0"), Clauses: []snapshot.Clause{
		{Text: "principal is AgentCore::OAuthUser", Holds: true, Values: read("principal", `AgentCore::OAuthUser::"bob"`)},
		{Text: `resource == AgentCore::Gateway::"` + arn + `"`, Holds: true, Values: read("resource", `AgentCore::Gateway::"`+arn+`"`)},
		{Text: `principal.hasTag("role")`, Holds: true},
		{Text: `principal.getTag("role") == "agent"`, Holds: true, Values: read(`principal.getTag("role")`, `"agent"`)},
		{Text: `context.input.amount < 100`, Values: read("context.input.amount", "450")},
		{Text: `!(context.input has urgent && context.input.urgent)`, Holds: true},
		{Text: `!(principal.getTag("none") == "x")`, Error: "`AgentCore::OAuthUser::\"bob\"` does not have the tag `none`"},
	}}, {PolicyID: policyID("p2"), Clauses: []snapshot.Clause{
		{Text: "resource is AgentCore::Gateway", Holds: true, Values: read("resource", `AgentCore::Gateway::"`+arn+`"`)},
	}}}
	if diff := cmp.Diff(want, w.explain(refund())); diff != "" {
		t.Error(diff)
	}
}

// What cedar-go gets wrong is evaluated as Cedar does, and shown as its author wrote it; so in the list of tools.
func TestExplanationsAreExactAndTheAuthors(t *testing.T) {
	const before1970 = `context.system.now.toDate() == datetime("1969-12-31")`
	w := newWorld(t, when("permit", before1970+` && context.input.amount < 100`))
	r := with(func(r *snapshot.Request) { r.Now = -3_600_000_000 })
	got := w.explain(r)
	if len(got) != 1 || len(got[0].Clauses) != 3 || got[0].Clauses[1].Text != before1970 || !got[0].Clauses[1].Holds {
		t.Errorf("got %+v", got)
	}
	if condition := w.conditions(r)[refundID]; !strings.Contains(condition, "context.input.amount < 100") || strings.Contains(condition, "offset") {
		t.Errorf("got %s", condition)
	}
}

// Nothing was evaluated, or nothing may be known.
func TestExplainWithoutPolicies(t *testing.T) {
	w := newWorld(t, permitAll)
	for name, r := range map[string]*snapshot.Request{
		"an unknown tool": with(func(r *snapshot.Request) { r.Action.ID += "x" }), "arguments that do not fit": withInput(`{}`),
	} {
		if got := w.explain(r); len(got) > 0 {
			t.Errorf("%s: %+v", name, got)
		}
	}
	d := w.ask(refund())
	if got := w.snap.Explain(with(func(r *snapshot.Request) { r.Account = bob }), d); len(got) > 0 {
		t.Errorf("another account: %+v", got)
	}
	w.attach("", "")
	if got := w.explain(refund()); len(got) > 0 {
		t.Errorf("no engine: %+v", got)
	}
}

func held(p snapshot.PermitExplanation) (n int) {
	for _, c := range p.Clauses {
		if c.Holds {
			n++
		}
	}
	return n
}

// A permit is explained as applying if and only if it applies, the nearest come first, and all of it is the same every time.
func TestExplanationsAreTrue(t *testing.T) {
	applied, failed := 0, 0
	for seed := range uint64(60) {
		d := rand.New(rand.NewPCG(seed, 3))
		w := randomWorld(t, d, 1+d.IntN(12))
		for range 20 {
			r := randomRequest(d)
			decided := w.ask(r)
			got := w.snap.Explain(r, decided)
			if again := w.snap.Explain(r, decided); cmp.Diff(got, again) != "" || len(got) > snapshot.MaxExplained {
				t.Fatalf("%d permits, %s", len(got), cmp.Diff(got, again))
			}
			all := newWalk(t, w.s, r, decided.ContextJSON(), true)
			_, matching, _ := all.decide(permitsOf(all.active), false)
			near := 1 << 30
			for _, p := range got {
				n := held(p)
				if all.active.Get(cedar.PolicyID(p.PolicyID)) == nil || n > near {
					t.Fatalf("got %+v\n%s", got, w.statements())
				}
				near = n
				if applies := slices.Contains(matching, p.PolicyID); applies != (n == len(p.Clauses)) {
					t.Fatalf("applies: %v, and got %+v\nrequest %+v\n%s", applies, p, r, w.statements())
				} else if applies {
					applied++
				} else {
					failed++
				}
			}
		}
	}
	if applied < 100 || failed < 100 {
		t.Errorf("%d that apply and %d that do not: they do not meet", applied, failed)
	}
}

func permitsOf(set *cedar.PolicySet) *cedar.PolicySet {
	out := cedar.NewPolicySet()
	for id, p := range set.All() {
		if p.Effect() == cedar.Permit {
			out.Add(id, p)
		}
	}
	return out
}

// The nearest of many are found, and nothing that is long is repeated whole.
func TestExplanationsAreShort(t *testing.T) {
	statements := []string{when("permit", `context.input.orderId != "`+strings.Repeat("x", 9000)+`"`)}
	for i := range 6 {
		statements = append(statements, when("permit", fmt.Sprintf("context.input.amount == 450 && context.input.amount > %d", 300+50*i)))
	}
	w := newWorld(t, statements...)
	got := w.explain(withInput(`{"orderId": "` + strings.Repeat("ä", 100_000) + `", "amount": 450}`))
	var ids []string
	for _, p := range got {
		ids = append(ids, p.PolicyID)
	}
	if want := []string{policyID("p1"), policyID("p2"), policyID("p3")}; !slices.Equal(ids, want) {
		t.Errorf("explained %v, want %v", ids, want)
	}
	w = newWorld(t, statements[0])
	got = w.explain(withInput(`{"orderId": "` + strings.Repeat("ä", 100_000) + `", "amount": 450}`))
	if len(got) != 1 || len(fmt.Sprint(got)) > 4000 {
		t.Errorf("%d bytes", len(fmt.Sprint(got)))
	}
}
