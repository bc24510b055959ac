package snapshot_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	cedar "github.com/cedar-policy/cedar-go"

	"github.com/verdict-io/verdict/services/policy"
	"github.com/verdict-io/verdict/services/snapshot"
)

// tools are n tools t0, t1, … of the target RefundTarget, each with the arguments of refundTool.
func tools(n int) []policy.Tool {
	list := make([]policy.Tool, n)
	for i := range list {
		list[i] = refundTool()
		list[i].Name = fmt.Sprintf("t%d", i)
	}
	return list
}

// AgentCore-style policies: 292 bytes, a head and two conditions.
func policyOn(tool int, role string) string {
	return fmt.Sprintf(`permit(principal is AgentCore::OAuthUser, action == AgentCore::Action::"RefundTarget___t%d", resource == AgentCore::Gateway::%q)
when { principal.hasTag("role") && principal.getTag("role") == %q && context.input.amount < 500 };`, tool, arn, role)
}

// engines is a state with engines of alice's, each with the given policies, the first attached to the gateway Refund with as
// many tools.
func engines(b testing.TB, count int, statements []string) *policy.State {
	w := emptyWorld(b)
	w.engine("Refunds")
	w.gateway("Refund", "Refunds", policy.ModeEnforce)
	w.target("Refund", "target0001", "RefundTarget", append(tools(min(len(statements), 1000)), refundTool())...)
	w.policy("p", permitAll, policy.EnforcementLogOnly)
	parts := w.s.Parts()
	account := &parts.Accounts[0]
	model := account.Engines[0]
	account.Engines = nil
	for i := range count {
		e := model
		if i > 0 {
			e.Name = fmt.Sprintf("E%05d", i)
			e.ID = id(policy.KindEngine, e.Name)
		}
		e.Policies = nil
		for j, s := range statements {
			p := model.Policies[0]
			p.Name = fmt.Sprintf("p%d_%d", i, j)
			p.ID, p.InForce = policyID(p.Name), new(body(strings.Clone(s), policy.EnforcementActive))
			e.Policies = append(e.Policies, p)
		}
		account.Engines = append(account.Engines, e)
	}
	s, err := policy.Restore(parts)
	if err != nil {
		b.Fatal(err)
	}
	return s
}

// BenchmarkAuthorize decides one request that one policy permits, beside cedar.Authorize over the whole set with the
// entities and the context made before. "evaluate" is the whole Authorize less the typing, of a tool without arguments.
func BenchmarkAuthorize(b *testing.B) {
	for _, n := range []int{1, 10, 100, 1000, 10_000} {
		for _, shape := range []string{"own tool", "one tool"} {
			statements := make([]string, n)
			for i := range statements {
				if statements[i] = policyOn(i, "agent"); shape == "one tool" {
					statements[i] = policyOn(0, fmt.Sprintf("role%d", i))
				}
			}
			if shape == "one tool" {
				statements[n/2] = policyOn(0, "agent")
			}
			s := engines(b, 1, statements)
			snap := snapshot.Build(s)
			r := with(func(r *snapshot.Request) { r.Action.ID = "RefundTarget___t0" })
			d, err := snap.Authorize(r)
			if err != nil || !d.Allow {
				b.Fatalf("%+v, %v", d, err)
			}
			b.Run(fmt.Sprintf("%s/%d/snapshot", shape, n), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if d, err := snap.Authorize(r); err != nil || !d.Allow {
						b.Fatal(err)
					}
				}
			})
			b.Run(fmt.Sprintf("%s/%d/evaluation", shape, n), func(b *testing.B) {
				run := snapshot.Evaluation(snap, r)
				b.ReportAllocs()
				for b.Loop() {
					if !run() {
						b.Fatal("denied")
					}
				}
			})
			b.Run(fmt.Sprintf("%s/%d/cedar", shape, n), func(b *testing.B) {
				w := newWalk(b, s, r, d.ContextJSON(), false)
				b.ReportAllocs()
				for b.Loop() {
					if decision, _ := cedar.Authorize(w.active, w.entities, w.request); !bool(decision) {
						b.Fatal("denied")
					}
				}
			})
		}
	}
}

// BenchmarkHeap is what 100 engines of 1,000 policies each take: their state, and the snapshot of it.
func BenchmarkHeap(b *testing.B) {
	statements := make([]string, 1000)
	for i := range statements {
		statements[i] = policyOn(i, "agent")
	}
	for b.Loop() {
		empty := live()
		s := engines(b, 100, statements)
		state := live()
		snap := snapshot.Build(s)
		all := live()
		b.ReportMetric(float64(state-empty)/(1<<20), "MiB-state")
		b.ReportMetric(float64(all-state)/(1<<20), "MiB-snapshot")
		runtime.KeepAlive(s)
		runtime.KeepAlive(snap)
	}
}

// live is the heap in use.
func live() uint64 {
	runtime.GC()
	runtime.GC() // what the first one only made ready to be freed
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// BenchmarkNext changes one policy of an engine of 1,000, among 1,000 engines of the account.
func BenchmarkNext(b *testing.B) {
	statements := make([]string, 1000)
	for i := range statements {
		statements[i] = policyOn(i, "agent")
	}
	parts := engines(b, 1000, statements[:1]).Parts()
	all := parts.Accounts[0].Engines
	all[len(all)-1] = engines(b, 1, statements).Parts().Accounts[0].Engines[0] // Refunds comes last
	s, err := policy.Restore(parts)
	if err != nil {
		b.Fatal(err)
	}
	w := &world{t: b, s: s}
	before := snapshot.Build(s)
	w.snap = before
	ref := policy.PolicyRef(engineID, policyID("p0_500"))
	w.do(alice, policy.PolicyUpdateRequested{EngineID: engineID, ID: ref.ID, Body: body(policyOn(5, "boss"), policy.EnforcementActive)})
	w.do(alice, policy.Activated{Of: ref})
	b.Run("Next", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			before.Next(w.s, []string{alice})
		}
	})
	b.Run("Build", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			snapshot.Build(w.s)
		}
	})
}

// BenchmarkType types arguments: small ones, and the worst that the bounds let through, where each set has colliding hashes.
func BenchmarkType(b *testing.B) {
	w := newWorld(b, permitAll)
	collide := func(from, n int) []snapshot.Value {
		rows := make([]snapshot.Value, n)
		for i := range rows {
			rows[i] = snapshot.Array([]snapshot.Value{snapshot.Float(float64(from + i)), snapshot.Float(float64(-from - i))})
		}
		return rows
	}
	var sets []snapshot.Value
	for range 8 {
		sets = append(sets, snapshot.Array(collide(1, snapshot.MaxNestedElements)))
	}
	for name, v := range map[string]snapshot.Value{
		"small": context(`{"input": {"orderId": "o-1", "amount": 450}}`),
		"worst": member("any", snapshot.Array(sets)),
	} {
		r := with(func(r *snapshot.Request) { r.Context = v })
		wantCode(b, w.ask(r), snapshot.CodeAllowed)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				w.ask(r)
			}
		})
	}
}

// BenchmarkPermittedActions lists 1,000 tools by 1,000 policies: each about its own tool, or each about all of them for a caller
// that none of them fits, which no index helps with.
func BenchmarkPermittedActions(b *testing.B) {
	for shape, statement := range map[string]func(i int) string{
		"own tool": func(i int) string { return policyOn(i, "agent") },
		"all tools": func(i int) string {
			return fmt.Sprintf(`permit(principal, action, resource is AgentCore::Gateway)
when { context.input.amount < 500 && principal.hasTag("role") && principal.getTag("role") == "role%d" };`, i)
		},
	} {
		statements := make([]string, 1000)
		for i := range statements {
			statements[i] = statement(i)
		}
		snap := snapshot.Build(engines(b, 1, statements))
		for _, explain := range []bool{false, true} {
			b.Run(fmt.Sprintf("%s/explain %v", shape, explain), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					p, err := snap.PermittedActions(refund())
					if err != nil {
						b.Fatal(err)
					}
					for range p.All(explain) {
					}
				}
			})
		}
	}
}
