package snapshot_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	cedar "github.com/cedar-policy/cedar-go"

	"github.com/verdict-io/verdict/services/policy"
	"github.com/verdict-io/verdict/services/snapshot"
)

const (
	refundID = "RefundTarget___process_refund"
	pingID   = "Other___ping"
)

// permitted are the ids of the tools that are listed.
func (w *world) permitted(r *snapshot.Request) (p *snapshot.Permitted, ids []string) {
	w.t.Helper()
	p, err := w.snap.PermittedActions(r)
	if err != nil {
		w.t.Fatal(err)
	}
	for a := range p.All(false) {
		if ids = append(ids, a.ID); a.Condition != "" {
			w.t.Errorf("%s has a condition that nobody asked for", a.ID)
		}
	}
	for _, id := range []string{refundID, pingID, "", "RefundTarget", "RefundTarget___", "Z___z"} {
		w.wantOnly(r, id, slices.Contains(ids, id))
	}
	return p, ids
}

// wantOnly asks about one tool alone.
func (w *world) wantOnly(r *snapshot.Request, id string, want bool) {
	w.t.Helper()
	p, err := w.snap.PermittedActions(r)
	if err != nil {
		w.t.Fatal(err)
	}
	p.Only(id)
	var got []string
	for a := range p.All(false) {
		got = append(got, a.ID)
	}
	if len(got) > 1 || slices.Contains(got, id) != want {
		w.t.Errorf("asked about %q alone: %q", id, got)
	}
}

// conditions are those of all tools, which LOG_ONLY lists.
func (w *world) conditions(r *snapshot.Request) map[string]string {
	w.t.Helper()
	p, err := w.snap.PermittedActions(r)
	if err != nil {
		w.t.Fatal(err)
	}
	out := map[string]string{}
	for a := range p.All(true) {
		out[a.ID] = a.Condition
	}
	return out
}

// on is a statement about one tool, or about those of a target.
func on(effect, action string) string {
	test := "=="
	if !strings.Contains(action, "___") {
		test = "in"
	}
	return fmt.Sprintf("%s(principal, action %s AgentCore::Action::%q, resource == AgentCore::Gateway::%q);", effect, test, action, arn)
}

// when is a statement about all tools.
func when(effect, condition string) string {
	return effect + "(principal, action, resource is AgentCore::Gateway) when { " + condition + " };"
}

func TestPermittedActions(t *testing.T) {
	both, refunds, ping := []string{pingID, refundID}, []string{refundID}, []string{pingID}
	const noTag = `principal.getTag("none") == "x"`
	for name, test := range map[string]struct {
		statements []string
		lenient    bool // forbids are not strict
		want       []string
	}{
		"no policy":                    {nil, false, nil},
		"a permit":                     {[]string{permitAll}, false, both},
		"a forbid that is certain":     {[]string{permitAll, forbidAll}, false, nil},
		"a permit of one tool":         {[]string{on("permit", refundID)}, false, refunds},
		"a forbid of one tool":         {[]string{permitAll, on("forbid", refundID)}, false, ping},
		"a permit of a target":         {[]string{on("permit", "Other")}, false, ping},
		"on an argument":               {[]string{when("permit", `context.input has amount && context.input.amount < 5`)}, false, refunds},
		"… in a forbid":                {[]string{permitAll, when("forbid", `context.input has amount && context.input.amount < 5`)}, false, both},
		"another's tag":                {[]string{when("permit", `principal.hasTag("role") && principal.getTag("role") == "boss" && context.input has amount`)}, false, nil},
		"the argument first":           {[]string{when("permit", `context.input has amount && principal.getTag("role") == "boss"`)}, false, nil},
		"a tag that is missing":        {[]string{when("permit", `context.input has amount && `+noTag)}, false, nil},
		"… or an argument":             {[]string{when("permit", `context.input.orderId == "x" || `+noTag)}, false, refunds},
		"a required argument":          {[]string{permitAll, when("forbid", `context.input has orderId`)}, false, ping},
		"an optional one":              {[]string{permitAll, when("forbid", `context.input has urgent`)}, false, both},
		"nothing but input and system": {[]string{when("permit", `context has session`)}, false, nil},
		"the time passes":              {[]string{when("permit", `context.system.now < datetime("2000-01-01")`)}, false, both},
		"a whole context":              {[]string{when("permit", `context == {input: {a: 1}}`)}, false, both},
		"a context in a set":           {[]string{when("permit", `[context].contains({input: {a: 1}})`)}, false, both},
		"an empty set":                 {[]string{when("permit", `[].contains(context.input)`)}, false, nil},
		"a permit that fails":          {[]string{when("permit", noTag)}, false, nil},
		"a forbid that fails":          {[]string{permitAll, when("forbid", noTag)}, false, nil},
		"… and nobody minds":           {[]string{permitAll, when("forbid", noTag)}, true, both},
		"a forbid fails or holds":      {[]string{permitAll, when("forbid", `context.input.urgent || true`)}, false, nil},
		"… or nothing":                 {[]string{permitAll, when("forbid", `context.input.urgent || true`)}, true, both},
		"a forbid of two clauses":      {[]string{permitAll, when("forbid", `context.input has urgent } when { context.input.urgent || true`)}, false, both},
		"a forbid that may fail":       {[]string{permitAll, when("forbid", `context.input.address has city`)}, true, both},
		"another principal":            {[]string{`permit(principal == AgentCore::OAuthUser::"eve", action, resource is AgentCore::Gateway);`}, false, nil},
		"a forbid that cannot hold":    {[]string{permitAll, when("forbid", `principal.id == "eve" && context.input has orderId`)}, false, both},
		"no boolean":                   {[]string{when("permit", `context.input.orderId`)}, false, nil},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, test.statements...)
			w.settings(policy.Settings{StrictForbids: new(!test.lenient)})
			p, got := w.permitted(refund())
			if !slices.Equal(got, test.want) {
				t.Errorf("listed %v, want %v", got, test.want)
			}
			if p.Mode != policy.ModeEnforce || p.EngineID != engineID || p.Stale || p.Reason != "" {
				t.Errorf("got %+v", p)
			}
		})
	}
}

// Where Authorize proceeds whatever the policies say, everything is listed; where it denies so, nothing is.
func TestPermittedActionsInEveryMode(t *testing.T) {
	broken := func(w *world) {
		w.policy("later", "a statement of a later version of the language", policy.EnforcementActive)
	}
	for name, test := range map[string]struct {
		engine string
		mode   policy.EngineMode
		change func(*world)
		stale  bool
		want   int
	}{
		"enforced":      {engine: "Refunds", mode: policy.ModeEnforce},
		"only logged":   {engine: "Refunds", mode: policy.ModeLogOnly, want: 2},
		"none attached": {want: 2},
		"… and stale":   {stale: true},
		"stale, served": {engine: "Refunds", mode: policy.ModeEnforce, change: func(w *world) { w.policy("p", permitAll, policy.EnforcementActive) }, stale: true, want: 2},
		"stale, denied": {engine: "Refunds", mode: policy.ModeEnforce, change: func(w *world) {
			w.policy("p", permitAll, policy.EnforcementActive)
			w.settings(policy.Settings{OnStale: policy.OnStaleDeny})
		}, stale: true},
		"… only logged":     {engine: "Refunds", mode: policy.ModeLogOnly, change: func(w *world) { w.settings(policy.Settings{OnStale: policy.OnStaleDeny}) }, stale: true, want: 2},
		"broken":            {engine: "Refunds", mode: policy.ModeEnforce, change: broken},
		"… only logged too": {engine: "Refunds", mode: policy.ModeLogOnly, change: broken, want: 2},
		"a permit on trial": {engine: "Refunds", mode: policy.ModeEnforce, change: func(w *world) { w.policy("p", permitAll, policy.EnforcementLogOnly) }},
		"a forbid on trial": {engine: "Refunds", mode: policy.ModeEnforce, change: func(w *world) {
			w.policy("p", permitAll, policy.EnforcementActive)
			w.policy("q", forbidAll, policy.EnforcementLogOnly)
		}, want: 2},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.attach(test.engine, test.mode)
			if test.change != nil {
				test.change(w)
			}
			r := with(func(r *snapshot.Request) { r.Proven = !test.stale })
			p, got := w.permitted(r)
			d := w.ask(r)
			if len(got) != test.want || d.Proceed != (test.want > 0) {
				t.Errorf("listed %v, and Authorize: %+v", got, d)
			}
			if p.Mode != d.Mode || p.EngineID != d.EngineID || p.Stale != d.Stale {
				t.Errorf("got %+v, and Authorize: %+v", p, d)
			}
			switch d.ReasonCode {
			case snapshot.CodeAllowed, snapshot.CodeDefaultDeny:
				d.Reason = ""
			}
			if p.Reason != d.Reason {
				t.Errorf("reason %q, and of Authorize %q", p.Reason, d.Reason)
			}
		})
	}
}

func TestPermittedActionsOfAMissingEngine(t *testing.T) {
	w := newWorld(t, permitAll)
	parts := w.s.Parts()
	parts.Accounts[0].Engines = nil
	s, err := policy.Restore(parts)
	if err != nil {
		t.Fatal(err)
	}
	w.snap = snapshot.Build(s)
	if p, got := w.permitted(refund()); len(got) > 0 || p.Reason == "" || p.EngineID != engineID {
		t.Errorf("listed %v, %+v", got, p)
	}
}

// A list is of one account's gateway, or of those that an engine is attached to.
func TestPermittedActionsAreThoseOfTheGateway(t *testing.T) {
	w := newWorld(t, permitAll, `permit(principal, action, resource is AgentCore::Gateway) when { true };`)
	w.gateway("Twin", "Refunds", policy.ModeEnforce)
	w.target("Twin", "target0003", "RefundTarget", refundTool(), policy.Tool{Name: "twin", InputSchema: object(nil)})
	w.gateway("Else", "", "")
	w.target("Else", "target0004", "ElseTarget", policy.Tool{Name: "else", InputSchema: object(nil)})
	byEngine := with(func(r *snapshot.Request) {
		r.PolicyEngineID, r.Resource = engineID, snapshot.Entity{Type: "Photo", ID: "1"}
	})
	at := func(name string) *snapshot.Request {
		return with(func(r *snapshot.Request) { r.Resource.ID = arnOf(id(policy.KindGateway, name)) })
	}
	want := func(r *snapshot.Request, ids ...string) {
		t.Helper()
		if _, got := w.permitted(r); !slices.Equal(got, ids) {
			t.Errorf("listed %v, want %v", got, ids)
		}
	}
	want(at("Refund"), pingID, refundID)
	want(at("Twin"), refundID, "RefundTarget___twin")
	want(at("Else"), "ElseTarget___else")
	want(byEngine) // permitAll is about gateways
	if p, _ := w.permitted(byEngine); p.Reason == "" {
		t.Error("an empty list does not say why")
	}
	w.attach("", "")
	named := with(func(r *snapshot.Request) { r.PolicyEngineID = engineID })
	want(named, pingID, refundID)
	w.policy("not", on("forbid", "RefundTarget"), policy.EnforcementActive)
	want(named, pingID)
	want(refund(), pingID, refundID) // no engine is attached

	for name, test := range map[string]struct {
		change func(*snapshot.Request)
		kind   error
		field  string
	}{
		"another account":          {func(r *snapshot.Request) { r.Account = bob }, policy.ErrNotFound, "resource.id"},
		"another account's engine": {func(r *snapshot.Request) { r.Account, r.PolicyEngineID, r.Resource = bob, engineID, snapshot.Entity{} }, policy.ErrNotFound, "policyEngineId"},
		"unknown gateway":          {func(r *snapshot.Request) { r.Resource.ID += "x" }, policy.ErrNotFound, "resource.id"},
		"no principal":             {func(r *snapshot.Request) { r.Principal = snapshot.Principal{} }, policy.ErrInvalid, "principal.type"},
		"unknown principal":        {func(r *snapshot.Request) { r.Principal.Type = "User" }, policy.ErrInvalid, "principal.type"},
		"no resource":              {func(r *snapshot.Request) { r.Resource = snapshot.Entity{} }, policy.ErrInvalid, "resource.type"},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := w.snap.PermittedActions(with(test.change))
			if p != nil {
				t.Errorf("got %+v", p)
			}
			wantRefusal(t, err, test.kind, test.field)
		})
	}
}

// What the principal settles is gone from a condition, and what the arguments decide is there.
func TestConditions(t *testing.T) {
	const id = `@id("p0-0123456789")` + "\n"
	for statement, want := range map[string]string{
		permitAll: id + "permit ( principal, action, resource );",
		when("permit", `principal.hasTag("role") && principal.getTag("role") == "agent" && context.input.amount < 500`):        id + "permit ( principal, action, resource )\nwhen { context.input.amount < 500 };",
		when("permit", `context.input.orderId == principal.id && context.input has orderId && resource is AgentCore::Gateway`): id + "permit ( principal, action, resource )\nwhen { context.input.orderId == \"bob\" };",
		when("forbid", `principal.getTag("none") == "x"`):                                                                      id + "forbid ( principal, action, resource )\nwhen { principal.getTag(\"none\") == \"x\" };",
		when("permit", `principal.id == "eve"`):                                                                                "// No policy applies to the request (denied by default).",
		on("forbid", "Other"):                                                                                                  "// No policy applies to the request (denied by default).",
	} {
		w := newWorld(t, statement)
		if got := listConditions(w, refund())[refundID]; got != want {
			t.Errorf("%s\nleft %s\nwant %s", statement, got, want)
		}
	}
	w := newWorld(t)
	w.attach("", "")
	if got := w.conditions(refund())[refundID]; got != "permit ( principal, action, resource );" {
		t.Errorf("without an engine: %s", got)
	}
}

// A condition is whole or not there, and the tool is listed all the same.
func TestConditionsAreBounded(t *testing.T) {
	long := when("permit", `context.input has orderId && context.input.orderId != "`+strings.Repeat("x", 9000)+`"`)
	parts := newWorld(t, permitAll, long).s.Parts()
	e := &parts.Accounts[0].Engines[0]
	all := e.Policies
	for i := range snapshot.MaxCondition/9000 + 1 {
		r := all[1]
		r.Name = "q" + number(i)
		r.ID = policyID(r.Name)
		all = append(all, r)
	}
	const many = 300
	parts.Accounts[0].Gateways[0].Targets[0].InForce = new(lambda(tools(many)...))
	for name, test := range map[string]struct{ policies, least, most int }{
		"of one tool": {len(all), 0, 0},
		"of all":      {2, 100, snapshot.MaxConditions / 9000},
		"short":       {1, many, many},
	} {
		t.Run(name, func(t *testing.T) {
			e.Policies = all[:test.policies]
			s, err := policy.Restore(parts)
			if err != nil {
				t.Fatal(err)
			}
			p, err := snapshot.Build(s).PermittedActions(refund())
			if err != nil {
				t.Fatal(err)
			}
			listed, explained, size := 0, 0, 0
			for a := range p.All(true) {
				if !strings.HasPrefix(a.ID, "RefundTarget") {
					continue
				}
				if listed++; a.Condition != "" {
					explained, size = explained+1, size+len(a.Condition)
				}
			}
			if listed != many || explained < test.least || explained > test.most || size > snapshot.MaxConditions {
				t.Errorf("%d listed, %d with a condition, of %d bytes", listed, explained, size)
			}
		})
	}
}

// checkPermitted holds a list against Authorize: what Authorize lets pass is listed, and what is left of the policies of a tool
// decides as they do. It tells whether the tool is listed.
func checkPermitted(t *testing.T, w *world, r *snapshot.Request, conditions map[string]string) (listed bool) {
	t.Helper()
	_, ids := w.permitted(r)
	if !slices.IsSorted(ids) || len(slices.Compact(slices.Clone(ids))) != len(ids) {
		t.Fatalf("listed %v", ids)
	}
	listed = slices.Contains(ids, r.Action.ID)
	d := w.ask(r)
	if d.ContextJSON() == nil {
		if d.Proceed {
			t.Fatalf("proceeds without arguments: %+v", d)
		}
		return listed
	}
	if d.Proceed && !listed {
		t.Fatalf("Authorize: %s, and the list is %v\nrequest %+v\n%s", d.Reason, ids, r, w.statements())
	}
	set, condition := cedar.NewPolicySet(), conditions[r.Action.ID]
	left, err := cedar.NewPolicyListFromBytes("", []byte(condition))
	if err != nil || condition == "" {
		t.Fatalf("%v in\n%s", err, condition)
	}
	for _, p := range left {
		exact, err := policy.Exact(p)
		if err != nil {
			t.Fatal(err)
		}
		set.Add(cedar.PolicyID(p.Annotations()["id"]), exact)
	}
	allow, determining, _ := newWalk(t, w.s, r, d.ContextJSON(), true).decide(set, *d.Settings.StrictForbids)
	if allow != d.Allow || !slices.Equal(determining, d.Determining) {
		t.Fatalf("Authorize: %s %v, and what is left: %v, %v\n%s\nrequest %+v\n%s", d.Reason, d.Errors, allow, determining, condition, r, w.statements())
	}
	return listed
}

// statements are those of the engine.
func (w *world) statements() string {
	var b strings.Builder
	for p := range w.s.Account(alice).Engine(engineID).PoliciesAfter("") {
		fmt.Fprintf(&b, "%s %s %s\n", p.ID, p.InForce.Enforcement, p.InForce.Statement)
	}
	return b.String()
}

// listConditions are the conditions of a request's principal, and the attachment is as before.
func listConditions(w *world, r *snapshot.Request) map[string]string {
	w.attach("Refunds", policy.ModeLogOnly)
	defer w.attach("Refunds", policy.ModeEnforce)
	return w.conditions(r)
}

// randomCall is a call of a tool with any arguments that fit it.
func randomCall(d dice, r *snapshot.Request) *snapshot.Request {
	next := *r
	next.Now = noon + int64(d.IntN(4))*200*24*3600*1_000_000
	if next.Action.ID = pick(d, refundID, refundID, refundID, pingID); next.Action.ID == pingID {
		next.Context = snapshot.Value{}
		return &next
	}
	members := []string{`"orderId": ` + pick(d, `"o-1"`, `"x"`, `""`, `"bob"`)}
	for _, m := range []string{
		`"amount": ` + pick(d, "50", "450", "5", "-9223372036854775807", "9223372036854775807"), `"price": ` + pick(d, "5", "9.9999", "20"),
		`"urgent": ` + pick(d, "true", "false"), `"labels": ` + pick(d, "[]", `["urgent"]`, `["urgent", "agent"]`), `"any": ` + pick(d, "[]", `[1, true, {"a": []}]`),
		`"address": ` + pick(d, `{"city": "bob"}`, `{"city": "x", "zip": 5}`),
	} {
		if d.IntN(2) == 0 {
			members = append(members, m)
		}
	}
	next.Context = context(`{"input": {` + strings.Join(members, ", ") + `}}`)
	return &next
}

// A list is a superset of what Authorize allows, and not all there is.
func TestWhatAuthorizeAllowsIsListed(t *testing.T) {
	allowed, hidden, listed := 0, 0, 0
	for seed := range uint64(100) {
		d := rand.New(rand.NewPCG(seed, 2))
		w := randomWorld(t, d, 1+d.IntN(12))
		for range 5 {
			r := randomRequest(d)
			if r.PolicyEngineID != "" {
				continue
			}
			conditions := listConditions(w, r)
			for range 10 {
				call := randomCall(d, r)
				switch {
				case !checkPermitted(t, w, call, conditions):
					hidden++
				case w.ask(call).Allow:
					allowed++
				default:
					listed++
				}
			}
		}
	}
	t.Logf("%d allowed, %d listed and denied, %d not listed", allowed, listed, hidden)
	if allowed < 300 || hidden < 300 || listed > allowed {
		t.Errorf("%d allowed, %d listed and denied, %d not listed: the policies and calls do not meet, or the list says nothing", allowed, listed, hidden)
	}
}

func FuzzPermittedActions(f *testing.F) {
	f.Add([]byte("a policy, and another one, and some calls of tools that may be listed"))
	f.Add([]byte{1, 4, 3, 2, 9, 8, 7, 6, 5, 4, 3, 2, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41})
	f.Fuzz(func(t *testing.T, data []byte) {
		d := &bytesDice{data}
		w := randomWorld(t, d, 1+d.IntN(6))
		r := randomRequest(d)
		if r.PolicyEngineID != "" {
			return
		}
		conditions := listConditions(w, r)
		for range 6 {
			checkPermitted(t, w, randomCall(d, r), conditions)
		}
	})
}
