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

// The clear walk: every policy in force, parsed by cedar-go alone, over entities written down one by one.
type walk struct {
	active   *cedar.PolicySet
	logOnly  map[string]*cedar.Policy
	entities cedar.EntityMap
	request  cedar.Request
}

func newWalk(t testing.TB, s *policy.State, r *snapshot.Request, contextJSON []byte) *walk {
	t.Helper()
	w := &walk{active: cedar.NewPolicySet(), logOnly: map[string]*cedar.Policy{}, entities: cedar.EntityMap{}}
	for p := range s.Account(r.Account).Engine(engineID).PoliciesAfter("") {
		var compiled cedar.Policy
		if err := compiled.UnmarshalCedar([]byte(p.InForce.Statement)); err != nil {
			t.Fatal(err)
		}
		if p.InForce.Enforcement == policy.EnforcementLogOnly {
			w.logOnly[p.ID] = &compiled
		} else {
			w.active.Add(cedar.PolicyID(p.ID), &compiled)
		}
	}
	w.request.Principal = cedar.NewEntityUID(cedar.EntityType(r.Principal.Type), cedar.String(r.Principal.ID))
	w.request.Action = action(r.Action.ID)
	w.request.Resource = cedar.NewEntityUID(cedar.EntityType(r.Resource.Type), cedar.String(r.Resource.ID))
	if err := w.request.Context.UnmarshalJSON(contextJSON); err != nil {
		t.Fatal(err)
	}
	tags := cedar.RecordMap{}
	for k, v := range r.Principal.Tags {
		tags[cedar.String(k)] = cedar.String(v)
	}
	w.entities[w.request.Principal] = cedar.Entity{
		UID: w.request.Principal, Tags: cedar.NewRecord(tags),
		Attributes: cedar.NewRecord(cedar.RecordMap{"id": cedar.String(r.Principal.ID)}),
	}
	w.entities[w.request.Resource] = cedar.Entity{UID: w.request.Resource}
	for child, parent := range map[string]string{
		"RefundTarget___process_refund": "RefundTarget", "RefundTarget___b": "RefundTarget", "Other___ping": "Other",
		"RefundTarget": "CallTool", "Other": "CallTool", "UnknownTool": "CallTool", "CallTool": "Mcp",
	} {
		w.entities[action(child)] = cedar.Entity{UID: action(child), Parents: cedar.NewEntityUIDSet(action(parent))}
	}
	return w
}

func action(id string) cedar.EntityUID {
	return cedar.NewEntityUID(policy.TypeAction, cedar.String(id))
}

// decide is the answer of some policies, with strict forbids or without.
func (w *walk) decide(set *cedar.PolicySet, strict bool) (allow bool, determining []string, errors []snapshot.PolicyError) {
	decision, diagnostic := cedar.Authorize(set, w.entities, w.request)
	for _, r := range diagnostic.Reasons {
		determining = append(determining, string(r.PolicyID))
	}
	var failed []string
	for _, e := range diagnostic.Errors {
		errors = append(errors, snapshot.PolicyError{PolicyID: string(e.PolicyID), Message: e.Message})
		if set.Get(e.PolicyID).Effect() == cedar.Forbid {
			failed = append(failed, string(e.PolicyID))
		}
	}
	allow = bool(decision)
	if forbidden := !allow && len(determining) > 0; strict && len(failed) > 0 && !forbidden {
		allow, determining = false, failed
	}
	slices.Sort(determining)
	slices.SortFunc(errors, func(a, b snapshot.PolicyError) int { return strings.Compare(a.PolicyID, b.PolicyID) })
	return allow, determining, errors
}

// findings tries each LOG_ONLY policy alone on top of the others.
func (w *walk) findings(strict bool) (f snapshot.Findings) {
	before, _, _ := w.decide(w.active, strict)
	for id, p := range w.logOnly {
		alone := cedar.NewPolicySet()
		alone.Add(cedar.PolicyID(id), p)
		_, matched, failed := w.decide(alone, false)
		f.Matched = append(f.Matched, matched...)
		for range failed {
			f.Mismatched = append(f.Mismatched, id)
		}
		together := cedar.NewPolicySet()
		for other, q := range w.active.All() {
			together.Add(other, q)
		}
		together.Add(cedar.PolicyID(id), p)
		if after, _, _ := w.decide(together, strict); after != before {
			f.Flipping = append(f.Flipping, id)
		}
	}
	slices.Sort(f.Matched)
	slices.Sort(f.Mismatched)
	slices.Sort(f.Flipping)
	return f
}

// dice chooses; what it chooses from is small, so that policies and requests meet.
type dice interface{ IntN(n int) int }

func pick[T any](d dice, from ...T) T { return from[d.IntN(len(from))] }

// randomStatement is a policy that ParseStatement accepts, well typed or not.
func randomStatement(d dice) string {
	for {
		principal := pick(d, "principal", "principal is AgentCore::OAuthUser", "principal is AgentCore::IamEntity",
			`principal == AgentCore::OAuthUser::"bob"`, `principal == AgentCore::IamEntity::"bob"`, `principal in AgentCore::OAuthUser::"bob"`,
			`principal is AgentCore::OAuthUser in AgentCore::OAuthUser::"eve"`, `principal is AgentCore::IamEntity in AgentCore::OAuthUser::"bob"`,
			"principal is User")
		act := pick(d, "action", "action", `action == AgentCore::Action::"RefundTarget___process_refund"`, `action == AgentCore::Action::"Other___ping"`,
			`action in AgentCore::Action::"RefundTarget"`, `action in AgentCore::Action::"Other"`, `action in AgentCore::Action::"Mcp"`,
			`action in [AgentCore::Action::"RefundTarget", AgentCore::Action::"RefundTarget___process_refund", AgentCore::Action::"CallTool"]`,
			`action in [AgentCore::Action::"RefundTarget___process_refund", AgentCore::Action::"Other___ping"]`,
			`action in [AgentCore::Action::"Other", AgentCore::Action::"RefundTarget___b", AgentCore::Action::"Other"]`,
			`action == AgentCore::Action::"RefundTarget"`, `action == Other::Action::"RefundTarget___process_refund"`)
		resource := pick(d, "resource is AgentCore::Gateway", fmt.Sprintf("resource == AgentCore::Gateway::%q", arn),
			fmt.Sprintf("resource == AgentCore::Gateway::%q", arn), fmt.Sprintf("resource == AgentCore::Gateway::%q", arnOf("else-0123456789")))
		s := fmt.Sprintf("%s(%s, %s, %s)", pick(d, "permit", "permit", "forbid"), principal, act, resource)
		for range d.IntN(3) {
			s += "\n" + pick(d, "when", "when", "unless") + " { " + randomCondition(d, 2) + " }"
		}
		s += ";"
		if _, err := policy.ParseStatement(s); err == nil {
			return s
		}
	}
}

func randomCondition(d dice, depth int) string {
	if depth > 0 && d.IntN(2) == 0 {
		left, right := randomCondition(d, depth-1), randomCondition(d, depth-1)
		return pick(d, left+" && "+right, "("+left+" || "+right+")", "!("+left+")", "if "+left+" then "+right+" else false")
	}
	key, value := pick(d, "role", "team"), pick(d, "agent", "boss")
	return pick(d,
		fmt.Sprintf(`principal.hasTag(%q) && principal.getTag(%q) == %q`, key, key, value),
		fmt.Sprintf(`principal.hasTag(%q) && principal.getTag(%q) == %q`, key, pick(d, "role", "team"), value),
		fmt.Sprintf(`principal.hasTag(%q) && (principal.getTag(%q) == %q && context.input.amount < 500)`, key, key, value),
		fmt.Sprintf(`principal.hasTag(%q) && %q == principal.getTag(%q)`, key, value, key),
		fmt.Sprintf(`principal.getTag(%q) == %q`, key, value),
		`principal.id == "bob"`,
		`context.input.amount < 500`,
		`context.input has amount && context.input.amount < 100`,
		`context.input.missing == 1`,
		`context.input.amount + 9223372036854775807 > 0`,
		`context.input.orderId like "o-*"`,
		`context.input.price.lessThan(decimal("10.0"))`,
		`context.input.labels.contains("urgent")`,
		`context.input.orderId < 5`,
		`context.system.now < datetime("2026-06-01")`,
		`action in AgentCore::Action::"RefundTarget"`,
		`AgentCore::Action::"Other___ping" in AgentCore::Action::"Mcp"`,
		`AgentCore::OAuthUser::"eve".id == "eve"`,
		`resource.name == "x"`,
		`resource in AgentCore::Gateway::"x"`,
		`context.input.urgent`,
		`context.input has urgent`,
		`context.input has orderId`,
		`context.input has nothing`,
		`context.input.address has city`,
		`context has session || context.input.urgent == true`,
		`context.input has address && context.input.address has zip && context.input.address.zip == 5`,
		`context.input.address.city == principal.id`,
		`principal.id == context.input.orderId`,
		`{a: context.input.orderId} == {a: "o-1"}`,
		`[].contains(context.input.orderId)`,
		`context.input.labels.containsAny(["urgent", principal.getTag("role")])`,
		`(if context.input has amount then context.input.amount else 5) < 100`,
		`(if context.input has nothing then principal.getTag("none") else principal.id) == context.input.orderId`,
		`context.input has amount && principal is AgentCore::OAuthUser in AgentCore::OAuthUser::"bob"`,
		`context.input.any.isEmpty()`,
		`(true && context.input.amount) == 5`,
		`context == {input: {orderId: ""}}`,
		`!(-(context.input.amount - (5 - 3)) < 7 * 3)`,
		`true`,
	)
}

func randomRequest(d dice) *snapshot.Request {
	return with(func(r *snapshot.Request) {
		r.Principal.ID = pick(d, "bob", "bob", "eve", "mallory")
		r.Principal.Tags = map[string]string{}
		if r.Principal.Type = pick(d, policy.TypeOAuthUser, policy.TypeOAuthUser, policy.TypeIamEntity); r.Principal.Type == policy.TypeOAuthUser {
			for range d.IntN(3) {
				r.Principal.Tags[pick(d, "role", "team", "sub")] = pick(d, "agent", "boss", "")
			}
		}
		r.Context = context(pick(d, `{"input": {"orderId": "o-1", "amount": 450, "price": 5, "labels": ["urgent"]}}`,
			`{"input": {"orderId": "x", "amount": 50}}`, `{"input": {"orderId": ""}}`))
		if d.IntN(4) == 0 {
			r.Action.ID, r.Context = "Other___ping", snapshot.Value{}
		}
		if d.IntN(6) == 0 {
			r.PolicyEngineID, r.Resource = engineID, snapshot.Entity{Type: pick(d, "Photo", ""), ID: pick(d, arn, "")}
		}
	})
}

// compare decides by the index and by the clear walk.
func compare(t *testing.T, w *world, r *snapshot.Request) {
	t.Helper()
	d := w.ask(r)
	if d.ContextJSON() == nil {
		t.Fatalf("the request was not evaluated: %s", d.Reason)
	}
	all, strict := newWalk(t, w.s, r, d.ContextJSON()), *d.Settings.StrictForbids
	var want snapshot.Decision
	want.Allow, want.Determining, want.Errors = all.decide(all.active, strict)
	want.LogOnly = all.findings(strict)
	got := snapshot.Decision{Allow: d.Allow, Determining: d.Determining, Errors: d.Errors, LogOnly: d.LogOnly}
	opt := cmp.Comparer(func(a, b snapshot.Decision) bool {
		return a.Allow == b.Allow && cmp.Equal(a.Determining, b.Determining) && cmp.Equal(a.Errors, b.Errors) && cmp.Equal(a.LogOnly, b.LogOnly)
	})
	if !cmp.Equal(got, want, opt) {
		var statements strings.Builder
		for p := range w.s.Account(alice).Engine(engineID).PoliciesAfter("") {
			fmt.Fprintf(&statements, "%s %s %s\n", p.ID, p.InForce.Enforcement, p.InForce.Statement)
		}
		t.Fatalf("index: %+v\nwalk:  %+v\nrequest %+v\n%s", got, want, r, statements.String())
	}
}

func randomWorld(t testing.TB, d dice, policies int) *world {
	w := newWorld(t)
	w.settings(policy.Settings{StrictForbids: new(d.IntN(2) == 0)})
	for i := range policies {
		w.policy(fmt.Sprintf("p%d", i), randomStatement(d), pick(d, policy.EnforcementActive, policy.EnforcementActive, policy.EnforcementLogOnly))
	}
	return w
}

func TestIndexAnswersLikeTheClearWalk(t *testing.T) {
	seen := map[string]int{}
	for seed := range uint64(100) {
		d := rand.New(rand.NewPCG(seed, 0))
		w := randomWorld(t, d, 1+d.IntN(25))
		for range 30 {
			r := randomRequest(d)
			compare(t, w, r)
			seen[w.ask(r).ReasonCode]++
		}
	}
	for _, code := range []string{snapshot.CodeAllowed, snapshot.CodeForbid, snapshot.CodeForbidError, snapshot.CodeDefaultDeny} {
		if seen[code] < 100 {
			t.Errorf("%s came %d times only: the policies and requests do not meet", code, seen[code])
		}
	}
}

// bytesDice chooses by what the fuzzer gives it.
type bytesDice struct{ data []byte }

func (b *bytesDice) IntN(n int) int {
	if len(b.data) == 0 {
		return 0
	}
	c := int(b.data[0])
	b.data = b.data[1:]
	return c % n
}

func FuzzAuthorize(f *testing.F) {
	f.Add([]byte("a policy, and another one, and some requests to decide"))
	f.Add([]byte{1, 4, 3, 2, 9, 8, 7, 6, 5, 4, 3, 2, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12})
	f.Fuzz(func(t *testing.T, data []byte) {
		d := &bytesDice{data}
		w := randomWorld(t, d, 1+d.IntN(6))
		for range 4 {
			compare(t, w, randomRequest(d))
		}
	})
}
