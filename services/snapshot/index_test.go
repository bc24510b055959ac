package snapshot_test

import (
	"fmt"
	"sync"
	"testing"

	"github.com/verdict-io/verdict/services/policy"
	"github.com/verdict-io/verdict/services/snapshot"
)

// What a decision costs depends on the policies that may apply to it, not on how many there are.
func TestIndexLeavesOutWhatCannotApply(t *testing.T) {
	const n = 200
	for name, statement := range map[string]func(i int) string{
		"other tools": func(i int) string { return policyOn(i, "agent") },
		"other roles": func(i int) string { return policyOn(0, fmt.Sprint("role", i)) },
		"other gateways": func(i int) string {
			return fmt.Sprintf("permit(principal, action, resource == AgentCore::Gateway::%q);", arnOf(fmt.Sprintf("g%d-%s", i, suffix)))
		},
		"other principals": func(i int) string {
			return fmt.Sprintf(`permit(principal == AgentCore::OAuthUser::"u%d", action, resource is AgentCore::Gateway);`, i)
		},
		"other types of principals": func(int) string {
			return `permit(principal is AgentCore::IamEntity, action, resource is AgentCore::Gateway);`
		},
		"nobody in particular": func(int) string {
			return `permit(principal is AgentCore::UnauthenticatedUser, action, resource is AgentCore::Gateway);`
		},
	} {
		t.Run(name, func(t *testing.T) {
			statements := []string{permitAll}
			for i := range n {
				statements = append(statements, statement(i+1))
			}
			snap := snapshot.Build(engines(t, 1, statements))
			r := with(func(r *snapshot.Request) { r.Action.ID = "RefundTarget___t0" })
			d, err := snap.Authorize(r)
			if err != nil {
				t.Fatal(err)
			}
			wantCode(t, d, snapshot.CodeAllowed)
			if got := snapshot.Candidates(snap, r); got != 1 {
				t.Errorf("%d of %d policies were evaluated, want 1", got, n+1)
			}
		})
	}
}

// What no request can be told apart by from the others of its gateway is counted, in all engines.
func TestUnkeyedPolicies(t *testing.T) {
	const tag = `principal.hasTag("role") && principal.getTag("role") == "agent"`
	for statement, unkeyed := range map[string]int{
		permitAll: 1,
		`permit(principal is AgentCore::IamEntity, action, resource is AgentCore::Gateway);`:           1,
		`permit(principal is AgentCore::UnauthenticatedUser, action, resource is AgentCore::Gateway);`: 1,
		`permit(principal, action, resource == AgentCore::Gateway::"` + arn + `");`:                    1,
		when("forbid", `context.input has amount && `+tag):                                             1,
		when("forbid", tag+` && context.input has amount`):                                             0,
		`permit(principal == AgentCore::OAuthUser::"bob", action, resource is AgentCore::Gateway);`:    0,
		`permit(principal is AgentCore::Robot, action, resource is AgentCore::Gateway) when { true };`: 0,
		on("permit", refundID):           0,
		on("permit", "Other"):            0,
		"a statement of a later version": 0,
	} {
		w := newWorld(t, statement)
		want := snapshot.Unkeyed{Policies: unkeyed, Engines: [5]int{1 - unkeyed, unkeyed}}
		if got := w.snap.Unkeyed(); got != want {
			t.Errorf("%s\ngot %+v, want %+v", statement, got, want)
		}
	}
	w := newWorld(t)
	for i := range 10 {
		w.policy(fmt.Sprint("p", i), permitAll, policy.EnforcementLogOnly)
	}
	w.engine("Spare")
	want := snapshot.Unkeyed{Policies: 10, Engines: [5]int{1, 0, 1}}
	if got := w.snap.Unkeyed(); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// The race detector has its say here.
func TestSnapshotIsUsedByManyAtOnce(t *testing.T) {
	w := newWorld(t, permitAll, policyOn(0, "agent"), forbidAll)
	ref := policy.PolicyRef(engineID, policyID("p2"))
	var group sync.WaitGroup
	defer group.Wait()
	for range 20 {
		before := w.snap
		for range 2 {
			group.Go(func() {
				if d, err := before.Authorize(refund()); err != nil || d.ReasonCode != snapshot.CodeForbid {
					t.Errorf("got %+v, %v", d, err)
				}
			})
		}
		w.do(alice, policy.PolicyUpdateRequested{EngineID: engineID, ID: ref.ID, Body: body(forbidAll+"//"+fmt.Sprint(w.s.Position), policy.EnforcementActive)},
			policy.Activated{Of: ref})
	}
}
