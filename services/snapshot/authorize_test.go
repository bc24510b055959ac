package snapshot_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/verdict-io/verdict/services/policy"
	"github.com/verdict-io/verdict/services/snapshot"
)

func TestOutcomes(t *testing.T) {
	const (
		permitAgents = `permit(principal is AgentCore::OAuthUser, action, resource is AgentCore::Gateway)
			when { principal.hasTag("role") && principal.getTag("role") == "agent" };`
		failing       = `(principal, action, resource is AgentCore::Gateway) when { context.input.missing == 1 };`
		permitFailing = "permit" + failing
		forbidFailing = "forbid" + failing
	)
	failed := func(name string) []snapshot.PolicyError {
		return []snapshot.PolicyError{{PolicyID: policyID(name), Message: "record does not have the attribute `missing`"}}
	}
	for name, test := range map[string]struct {
		statements  []string
		code        string
		determining []string
		errors      []snapshot.PolicyError
		reason      string
	}{
		"no policy":               {nil, snapshot.CodeDefaultDeny, nil, nil, "No policy applies to the request (denied by default)."},
		"a permit":                {[]string{permitAll}, snapshot.CodeAllowed, []string{"p0"}, nil, "Policy evaluation allowed due to p0-0123456789"},
		"two permits":             {[]string{permitAll, permitAgents}, snapshot.CodeAllowed, []string{"p0", "p1"}, nil, "Policy evaluation allowed due to p0-0123456789, p1-0123456789"},
		"forbid wins":             {[]string{permitAll, forbidAll}, snapshot.CodeForbid, []string{"p1"}, nil, "Policy evaluation denied due to p1-0123456789"},
		"a forbid alone":          {[]string{forbidAll}, snapshot.CodeForbid, []string{"p0"}, nil, "Policy evaluation denied due to p0-0123456789"},
		"a permit fails":          {[]string{permitFailing}, snapshot.CodeDefaultDeny, nil, failed("p0"), "No policy applies to the request (denied by default)."},
		"… beside one":            {[]string{permitAll, permitFailing}, snapshot.CodeAllowed, []string{"p0"}, failed("p1"), "Policy evaluation allowed due to p0-0123456789"},
		"a forbid fails":          {[]string{permitAll, forbidFailing}, snapshot.CodeForbidError, []string{"p1"}, failed("p1"), "Policy evaluation denied because forbid policies could not be evaluated: p1-0123456789"},
		"… beside one that holds": {[]string{forbidAll, forbidFailing}, snapshot.CodeForbid, []string{"p0"}, failed("p1"), "Policy evaluation denied due to p0-0123456789"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, test.statements...)
			d := w.ask(refund())
			wantCode(t, d, test.code)
			var determining []string
			for _, name := range test.determining {
				determining = append(determining, policyID(name))
			}
			got := snapshot.Decision{Determining: d.Determining, Errors: d.Errors, Reason: d.Reason, Proceed: d.Proceed}
			want := snapshot.Decision{Determining: determining, Errors: test.errors, Reason: test.reason, Proceed: d.Allow}
			if diff := cmp.Diff(want.Determining, got.Determining) + cmp.Diff(want.Errors, got.Errors) + cmp.Diff(want.Reason, got.Reason); diff != "" {
				t.Error(diff)
			}
			if d.Proceed != d.Allow || d.Mode != policy.ModeEnforce || d.EngineID != engineID || d.GatewayARN != arn || d.Source != snapshot.SourceGateway {
				t.Errorf("got %+v", d)
			}
		})
	}
}

func TestForbidThatFailsWithoutStrictness(t *testing.T) {
	w := newWorld(t, permitAll, `forbid(principal, action, resource is AgentCore::Gateway) when { context.input.missing == 1 };`)
	w.settings(policy.Settings{StrictForbids: new(false)})
	d := w.ask(refund())
	wantCode(t, d, snapshot.CodeAllowed)
	if len(d.Errors) != 1 || *d.Settings.StrictForbids {
		t.Errorf("got %+v", d)
	}
}

func TestNotARequest(t *testing.T) {
	w := newWorld(t, permitAll)
	w.engine("Spare")
	spare := id(policy.KindEngine, "Spare")
	w.do(alice, policy.GatewayCreated{ID: id(policy.KindGateway, "New"), Name: "New", Definition: attached("", "")})
	w.do(alice, policy.EngineCreated{ID: id(policy.KindEngine, "New"), Name: "New"})
	for name, test := range map[string]struct {
		change func(*snapshot.Request)
		kind   error
		field  string
	}{
		"principal without type":   {func(r *snapshot.Request) { r.Principal.Type = "" }, policy.ErrInvalid, "principal.type"},
		"principal without id":     {func(r *snapshot.Request) { r.Principal.ID = "" }, policy.ErrInvalid, "principal.id"},
		"unknown principal":        {func(r *snapshot.Request) { r.Principal.Type = "User" }, policy.ErrInvalid, "principal.type"},
		"IAM with tags":            {func(r *snapshot.Request) { r.Principal.Type = policy.TypeIamEntity }, policy.ErrInvalid, "principal.tags"},
		"anonymous with tags":      {func(r *snapshot.Request) { r.Principal.Type = policy.TypeUnauthenticatedUser }, policy.ErrInvalid, "principal.tags"},
		"action without type":      {func(r *snapshot.Request) { r.Action.Type = "" }, policy.ErrInvalid, "action.type"},
		"action without id":        {func(r *snapshot.Request) { r.Action.ID = "" }, policy.ErrInvalid, "action.id"},
		"no action":                {func(r *snapshot.Request) { r.Action.Type = policy.TypeGateway }, policy.ErrInvalid, "action.type"},
		"no resource":              {func(r *snapshot.Request) { r.Resource = snapshot.Entity{} }, policy.ErrInvalid, "resource.type"},
		"no gateway":               {func(r *snapshot.Request) { r.Resource.Type = "Photo" }, policy.ErrInvalid, "resource.type"},
		"gateway without id":       {func(r *snapshot.Request) { r.Resource.ID = "" }, policy.ErrInvalid, "resource.id"},
		"context no object":        {func(r *snapshot.Request) { r.Context = context(`[]`) }, policy.ErrInvalid, "context"},
		"context null":             {func(r *snapshot.Request) { r.Context = snapshot.Null() }, policy.ErrInvalid, "context"},
		"unknown gateway":          {func(r *snapshot.Request) { r.Resource.ID = arnOf("nothing-0123456789") }, policy.ErrNotFound, "resource.id"},
		"gateway by id":            {func(r *snapshot.Request) { r.Resource.ID = gatewayID }, policy.ErrNotFound, "resource.id"},
		"other region":             {func(r *snapshot.Request) { r.Resource.ID = strings.Replace(arn, region, "eu-west-1", 1) }, policy.ErrNotFound, "resource.id"},
		"other account's":          {func(r *snapshot.Request) { r.Resource.ID = strings.Replace(arn, alice, bob, 1) }, policy.ErrNotFound, "resource.id"},
		"by another account":       {func(r *snapshot.Request) { r.Account = bob }, policy.ErrNotFound, "resource.id"},
		"gateway not in force":     {func(r *snapshot.Request) { r.Resource.ID = arnOf(id(policy.KindGateway, "New")) }, policy.ErrNotFound, "resource.id"},
		"unknown engine":           {func(r *snapshot.Request) { r.PolicyEngineID = "nothing" }, policy.ErrNotFound, "policyEngineId"},
		"engine not in force":      {func(r *snapshot.Request) { r.PolicyEngineID = id(policy.KindEngine, "New") }, policy.ErrNotFound, "policyEngineId"},
		"another account's engine": {func(r *snapshot.Request) { r.Account, r.PolicyEngineID, r.Resource = bob, engineID, snapshot.Entity{} }, policy.ErrNotFound, "policyEngineId"},
		"two engines":              {func(r *snapshot.Request) { r.PolicyEngineID = spare }, policy.ErrInvalid, "policyEngineId"},
	} {
		t.Run(name, func(t *testing.T) {
			d, err := w.snap.Authorize(with(test.change))
			if d != nil {
				t.Errorf("got a decision: %+v", d)
			}
			wantRefusal(t, err, test.kind, test.field)
		})
	}
}

// Whoever calls a gateway that asks nobody who they are is a principal like the others: of a type of its own, and without tags.
func TestUnauthenticatedUser(t *testing.T) {
	for statement, who := range map[string]string{
		permitAll: "OAuthUser IamEntity UnauthenticatedUser",
		`permit(principal is AgentCore::OAuthUser, action, resource is AgentCore::Gateway);`:                        "OAuthUser",
		`permit(principal is AgentCore::IamEntity, action, resource is AgentCore::Gateway);`:                        "IamEntity",
		`permit(principal is AgentCore::UnauthenticatedUser, action, resource is AgentCore::Gateway);`:              "UnauthenticatedUser",
		`permit(principal == AgentCore::UnauthenticatedUser::"anonymous", action, resource is AgentCore::Gateway);`: "UnauthenticatedUser",
		`permit(principal == AgentCore::OAuthUser::"anonymous", action, resource is AgentCore::Gateway);`:           "OAuthUser",
		`permit(principal in AgentCore::UnauthenticatedUser::"anonymous", action, resource is AgentCore::Gateway);`: "UnauthenticatedUser",
		`permit(principal == AgentCore::UnauthenticatedUser::"somebody", action, resource is AgentCore::Gateway);`:  "",
		when("permit", `principal.id == "anonymous"`):                                                               "OAuthUser IamEntity UnauthenticatedUser",
		when("permit", `principal is AgentCore::UnauthenticatedUser`):                                               "UnauthenticatedUser",
		when("permit", `!(principal is AgentCore::OAuthUser)`):                                                      "IamEntity UnauthenticatedUser",
		when("permit", `principal.hasTag("role") && principal.getTag("role") == "agent"`):                           "OAuthUser",
		when("permit", `!(principal.hasTag("role"))`):                                                               "IamEntity UnauthenticatedUser",
	} {
		w := newWorld(t, statement)
		for _, name := range []string{"OAuthUser", "IamEntity", "UnauthenticatedUser"} {
			r := with(func(r *snapshot.Request) {
				r.Principal = snapshot.Principal{Type: "AgentCore::" + name, ID: "anonymous"}
				if name == "OAuthUser" {
					r.Principal.Tags = map[string]string{"role": "agent"}
				}
			})
			if got, want := w.ask(r).Proceed, slices.Contains(strings.Fields(who), name); got != want {
				t.Errorf("%s, as %s: %v", statement, name, got)
			}
		}
	}
}

func TestBeforeTheFirstEvent(t *testing.T) {
	s := snapshot.Build(policy.Empty())
	_, err := s.Authorize(refund())
	wantRefusal(t, err, policy.ErrNotFound, "resource.id")
	if s.Revision() != 0 || s.LogID() != "" || s.Hash() != (policy.Hash{}) {
		t.Errorf("is at %d of %q", s.Revision(), s.LogID())
	}
}

func TestModes(t *testing.T) {
	stale := func(r *snapshot.Request) { r.Proven = false }
	deny := policy.Settings{OnStale: policy.OnStaleDeny}
	for name, test := range map[string]struct {
		engine   string
		mode     policy.EngineMode
		settings policy.Settings
		change   func(*snapshot.Request)
		code     string
		proceed  bool
		wantMode policy.EngineMode
		source   snapshot.Source
	}{
		"enforced":             {"Refunds", policy.ModeEnforce, policy.Settings{}, nil, snapshot.CodeForbid, false, policy.ModeEnforce, snapshot.SourceGateway},
		"only logged":          {"Refunds", policy.ModeLogOnly, policy.Settings{}, nil, snapshot.CodeForbid, true, policy.ModeLogOnly, snapshot.SourceGateway},
		"… wrong arguments":    {"Refunds", policy.ModeLogOnly, policy.Settings{}, func(r *snapshot.Request) { r.Context = snapshot.Value{} }, snapshot.CodeArgumentMissing, true, policy.ModeLogOnly, snapshot.SourceGateway},
		"… unknown tool":       {"Refunds", policy.ModeLogOnly, policy.Settings{}, func(r *snapshot.Request) { r.Action.ID += "x" }, snapshot.CodeUnknownTool, true, policy.ModeLogOnly, snapshot.SourceGateway},
		"… stale":              {"Refunds", policy.ModeLogOnly, deny, stale, snapshot.CodeStale, true, policy.ModeLogOnly, snapshot.SourceGateway},
		"none attached":        {"", "", policy.Settings{}, nil, snapshot.CodeNoEngine, true, "", snapshot.SourceNone},
		"… unknown tool there": {"", "", policy.Settings{}, func(r *snapshot.Request) { r.Action.ID += "x" }, snapshot.CodeNoEngine, true, "", snapshot.SourceNone},
		"… stale node":         {"", "", policy.Settings{}, stale, snapshot.CodeStale, false, "", snapshot.SourceNone},
		"… one named":          {"", "", policy.Settings{}, func(r *snapshot.Request) { r.PolicyEngineID = engineID }, snapshot.CodeForbid, false, policy.ModeEnforce, snapshot.SourceRequest},
		"attached and named":   {"Refunds", policy.ModeLogOnly, policy.Settings{}, func(r *snapshot.Request) { r.PolicyEngineID = engineID }, snapshot.CodeForbid, true, policy.ModeLogOnly, snapshot.SourceGateway},
		"named for no gateway": {"Refunds", policy.ModeLogOnly, policy.Settings{}, func(r *snapshot.Request) { r.PolicyEngineID, r.Resource = engineID, snapshot.Entity{} }, snapshot.CodeDefaultDeny, false, policy.ModeEnforce, snapshot.SourceRequest},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, forbidAll)
			w.attach(test.engine, test.mode)
			w.settings(test.settings)
			if test.change == nil {
				test.change = func(*snapshot.Request) {}
			}
			d := w.ask(with(test.change))
			wantCode(t, d, test.code)
			if d.Proceed != test.proceed || d.Mode != test.wantMode || d.Source != test.source || (d.EngineID == "") != (test.source == "") {
				t.Errorf("got %+v", d)
			}
		})
	}
}

func TestStaleness(t *testing.T) {
	const bound = 10 * time.Second // the product's
	for name, test := range map[string]struct {
		account, engine policy.Settings
		staleness       time.Duration
		unproven        bool
		stale           bool
		code            string
	}{
		"fresh":                       {staleness: bound, code: snapshot.CodeAllowed},
		"past the bound":              {staleness: bound + 1, stale: true, code: snapshot.CodeAllowed},
		"never proved":                {unproven: true, stale: true, code: snapshot.CodeAllowed},
		"the account denies":          {account: policy.Settings{OnStale: policy.OnStaleDeny}, staleness: bound + 1, stale: true, code: snapshot.CodeStale},
		"… never proved":              {account: policy.Settings{OnStale: policy.OnStaleDeny}, unproven: true, stale: true, code: snapshot.CodeStale},
		"… and is fresh":              {account: policy.Settings{OnStale: policy.OnStaleDeny}, code: snapshot.CodeAllowed},
		"the engine serves":           {account: policy.Settings{OnStale: policy.OnStaleDeny}, engine: policy.Settings{OnStale: policy.OnStaleServe}, staleness: bound + 1, stale: true, code: snapshot.CodeAllowed},
		"the engine has its bound":    {engine: policy.Settings{StalenessBound: new(time.Second)}, staleness: time.Second + 1, stale: true, code: snapshot.CodeAllowed},
		"the account has its bound":   {account: policy.Settings{StalenessBound: new(time.Second)}, staleness: time.Second + 1, stale: true, code: snapshot.CodeAllowed},
		"the engine's bound is wider": {account: policy.Settings{StalenessBound: new(time.Second)}, engine: policy.Settings{StalenessBound: new(time.Minute)}, staleness: time.Minute, code: snapshot.CodeAllowed},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, permitAll)
			w.do(alice, policy.AccountSettingsChanged{Account: alice, Settings: test.account})
			w.settings(test.engine)
			d := w.ask(with(func(r *snapshot.Request) { r.Staleness, r.Proven = test.staleness, !test.unproven }))
			wantCode(t, d, test.code)
			if d.Stale != test.stale {
				t.Errorf("stale is %v", d.Stale)
			}
			if want := test.engine.Or(test.account).Or(policy.Defaults()); !cmp.Equal(d.Settings, want) {
				t.Error(cmp.Diff(want, d.Settings))
			}
		})
	}
}

func TestUnknownTool(t *testing.T) {
	w := newWorld(t, permitAll)
	for _, action := range []string{
		"RefundTarget___nothing", "Nothing___process_refund", "process_refund", "RefundTarget", "CallTool", "UnknownTool",
		"RefundTarget___", "___process_refund", "RefundTarget___process_refund ",
	} {
		d := w.ask(with(func(r *snapshot.Request) { r.Action.ID = action }))
		wantCode(t, d, snapshot.CodeUnknownTool)
		if !strings.Contains(d.Reason, action) || d.ContextJSON() != nil {
			t.Errorf("%s: %s", action, d.Reason)
		}
	}
}

// Without a gateway, an engine is asked about tools of the gateways that it is attached to.
func TestToolOfNoGateway(t *testing.T) {
	w := newWorld(t, permitAll)
	ask := func() *snapshot.Decision {
		return w.ask(with(func(r *snapshot.Request) {
			r.PolicyEngineID, r.Resource = engineID, snapshot.Entity{Type: "Photo", ID: "1"}
		}))
	}
	wantCode(t, ask(), snapshot.CodeDefaultDeny) // permitAll is about gateways
	if !strings.Contains(string(ask().ContextJSON()), `"amount":450`) {
		t.Error("the context was not typed by the gateway's tool")
	}

	w.gateway("Twin", "Refunds", policy.ModeEnforce)
	w.target("Twin", "target0003", "RefundTarget", refundTool())
	wantCode(t, ask(), snapshot.CodeDefaultDeny)

	w.gateway("Else", "", "")
	w.target("Else", "target0004", "RefundTarget", policy.Tool{Name: "process_refund", InputSchema: object(nil)})
	wantCode(t, ask(), snapshot.CodeDefaultDeny)

	other := refundTool()
	other.InputSchema.Required = nil
	w.gateway("Differs", "Refunds", policy.ModeEnforce)
	w.target("Differs", "target0005", "RefundTarget", other)
	d := ask()
	wantCode(t, d, snapshot.CodeUnknownTool)
	if !strings.Contains(d.Reason, "name the gateway in resource") {
		t.Error(d.Reason)
	}
}

// A policy that this version cannot compile must not be skipped: it may be a forbid.
func TestBrokenEngineDeniesEverything(t *testing.T) {
	w := newWorld(t, permitAll)
	w.policy("later", "a statement of a later version of the language", policy.EnforcementActive)
	d := w.ask(refund())
	wantCode(t, d, snapshot.CodeEngineBroken)
	if !strings.Contains(d.Reason, policyID("later")) || len(d.Determining) > 0 {
		t.Errorf("got %+v", d)
	}

	w.do(alice, policy.DeleteRequested{Of: policy.PolicyRef(engineID, policyID("later"))}, policy.Deleted{Of: policy.PolicyRef(engineID, policyID("later"))})
	wantCode(t, w.ask(refund()), snapshot.CodeAllowed)

	w.policy("later", "a statement of a later version of the language", policy.EnforcementLogOnly)
	d = w.ask(refund())
	wantCode(t, d, snapshot.CodeAllowed)
	if !d.LogOnly.Incomplete {
		t.Error("the findings claim to be complete")
	}
}

func TestAttachedEngineThatIsNotThere(t *testing.T) {
	w := newWorld(t, permitAll)
	parts := w.s.Parts()
	parts.Accounts[0].Engines = nil
	s, err := policy.Restore(parts)
	if err != nil {
		t.Fatal(err)
	}
	d, err := snapshot.Build(s).Authorize(refund())
	if err != nil {
		t.Fatal(err)
	}
	wantCode(t, d, snapshot.CodeEngineBroken)
	if d.Proceed || d.EngineID != engineID {
		t.Errorf("got %+v", d)
	}
}

func TestWhatIsInForceDecides(t *testing.T) {
	w := newWorld(t)
	ref := policy.PolicyRef(engineID, policyID("p"))
	steps := []struct {
		name  string
		event policy.Event
		code  string
	}{
		{"creating", policy.PolicyCreated{EngineID: engineID, ID: ref.ID, Name: "p", Body: body(permitAll, policy.EnforcementActive)}, snapshot.CodeDefaultDeny},
		{"active", policy.Activated{Of: ref}, snapshot.CodeAllowed},
		{"updating", policy.PolicyUpdateRequested{EngineID: engineID, ID: ref.ID, Body: body(forbidAll, policy.EnforcementActive)}, snapshot.CodeAllowed},
		{"update failed", policy.Failed{Of: ref, Reasons: []string{"x"}}, snapshot.CodeAllowed},
		{"updating again", policy.PolicyUpdateRequested{EngineID: engineID, ID: ref.ID, Body: body(forbidAll, policy.EnforcementActive)}, snapshot.CodeAllowed},
		{"updated", policy.Activated{Of: ref}, snapshot.CodeForbid},
		{"demotion requested", policy.PolicyUpdateRequested{EngineID: engineID, ID: ref.ID, Body: body(forbidAll, policy.EnforcementLogOnly)}, snapshot.CodeForbid},
		{"demoted", policy.Activated{Of: ref}, snapshot.CodeDefaultDeny},
		{"promotion requested", policy.PolicyUpdateRequested{EngineID: engineID, ID: ref.ID, Body: body(forbidAll, policy.EnforcementActive)}, snapshot.CodeDefaultDeny},
		{"promoted", policy.Activated{Of: ref}, snapshot.CodeForbid},
		{"deleting", policy.DeleteRequested{Of: ref}, snapshot.CodeForbid},
		{"deleted", policy.Deleted{Of: ref}, snapshot.CodeDefaultDeny},
	}
	for _, step := range steps {
		t.Run(step.name, func(t *testing.T) {
			w.do(alice, step.event)
			wantCode(t, w.ask(refund()), step.code)
			if d, err := snapshot.Build(w.s).Authorize(refund()); err != nil || d.ReasonCode != step.code {
				t.Errorf("built anew: %+v, %v", d, err)
			}
		})
	}
}

func TestLogOnlyFindings(t *testing.T) {
	const fails = `(principal, action, resource is AgentCore::Gateway) when { context.input.missing == 1 };`
	for name, test := range map[string]struct {
		active, logOnly      []string
		strict               bool
		flipping, mismatched []string
	}{
		"a permit on a default denial":    {nil, []string{permitAll}, true, []string{"l0"}, nil},
		"… each alone":                    {nil, []string{permitAll, forbidAll}, true, []string{"l0"}, nil},
		"a permit on an allow":            {[]string{permitAll}, []string{permitAll}, true, nil, nil},
		"a permit on a forbid":            {[]string{forbidAll}, []string{permitAll}, true, nil, nil},
		"a permit on a forbid that fails": {[]string{"forbid" + fails}, []string{permitAll}, true, nil, nil},
		"a forbid on an allow":            {[]string{permitAll}, []string{forbidAll, forbidAll}, true, []string{"l0", "l1"}, nil},
		"a forbid on a default denial":    {nil, []string{forbidAll}, true, nil, nil},
		"a forbid that fails, strictly":   {[]string{permitAll}, []string{"forbid" + fails}, true, []string{"l0"}, []string{"l0"}},
		"a forbid that fails":             {[]string{permitAll}, []string{"forbid" + fails}, false, nil, []string{"l0"}},
		"a permit that fails":             {nil, []string{"permit" + fails}, true, nil, []string{"l0"}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, test.active...)
			w.settings(policy.Settings{StrictForbids: &test.strict})
			before := w.ask(refund())
			var matched []string
			for i, s := range test.logOnly {
				name := "l" + string(rune('0'+i))
				w.policy(name, s, policy.EnforcementLogOnly)
				if !strings.Contains(s, "missing") {
					matched = append(matched, policyID(name))
				}
			}
			d := w.ask(refund())
			want := snapshot.Findings{Matched: matched, Flipping: ids(test.flipping), Mismatched: ids(test.mismatched)}
			if diff := cmp.Diff(want, d.LogOnly); diff != "" {
				t.Error(diff)
			}
			if d.Allow != before.Allow || d.Reason != before.Reason || !slices.Equal(d.Determining, before.Determining) || !slices.Equal(d.Errors, before.Errors) {
				t.Errorf("the decision differs: %+v", d)
			}
		})
	}
}

func ids(names []string) []string {
	var out []string
	for _, name := range names {
		out = append(out, policyID(name))
	}
	return out
}

func TestLogOnlyFindingsAreIncomplete(t *testing.T) {
	w := newWorld(t, permitAll)
	w.policy("l", forbidAll, policy.EnforcementLogOnly)
	if d := w.ask(refund()); d.LogOnly.Incomplete {
		t.Error("incomplete though everything was evaluated")
	}
	for name, r := range map[string]*snapshot.Request{
		"unknown tool":    with(func(r *snapshot.Request) { r.Action.ID += "x" }),
		"wrong arguments": withInput(`{}`),
	} {
		if d := w.ask(r); !d.LogOnly.Incomplete {
			t.Errorf("%s: complete though nothing was evaluated", name)
		}
	}
	w.settings(policy.Settings{OnStale: policy.OnStaleDeny})
	if d := w.ask(with(func(r *snapshot.Request) { r.Proven = false })); !d.LogOnly.Incomplete {
		t.Error("stale: complete though nothing was evaluated")
	}
}

func TestListsOfFindingsAreCut(t *testing.T) {
	w := newWorld(t, permitAll)
	parts := w.s.Parts()
	e := &parts.Accounts[0].Engines[0]
	for i := range snapshot.MaxFindings + 1 {
		r := e.Policies[0]
		r.Name = "l" + strings.Repeat("x", i%7) + number(i)
		r.ID, r.InForce = policyID(r.Name), new(body(forbidAll, policy.EnforcementLogOnly))
		e.Policies = append(e.Policies, r)
	}
	s, err := policy.Restore(parts)
	if err != nil {
		t.Fatal(err)
	}
	d, err := snapshot.Build(s).Authorize(refund())
	if err != nil {
		t.Fatal(err)
	}
	f := d.LogOnly
	if len(f.Matched) != snapshot.MaxFindings || len(f.Flipping) != snapshot.MaxFindings || !f.Incomplete || !slices.IsSorted(f.Matched) {
		t.Errorf("%d matched, %d flipping, incomplete %v", len(f.Matched), len(f.Flipping), f.Incomplete)
	}
}

func number(i int) string {
	return string([]rune{rune('0' + i/1000), rune('0' + i/100%10), rune('0' + i/10%10), rune('0' + i%10)})
}

// Texts repeat what the caller sent, but not all of it.
func TestTextsAreShort(t *testing.T) {
	long := strings.Repeat("ä", 100_000)
	w := newWorld(t, permitAll, `permit(principal, action, resource is AgentCore::Gateway) when { principal.getTag("nothing") == "x" };`)
	for name, r := range map[string]*snapshot.Request{
		"principal":  with(func(r *snapshot.Request) { r.Principal.ID = long }),
		"tool":       with(func(r *snapshot.Request) { r.Action.ID = long }),
		"undeclared": withInput(`{"` + long + `": 1}`),
		"member":     with(func(r *snapshot.Request) { r.Context = context(`{"` + long + `": 1}`) }),
	} {
		d := w.ask(r)
		texts := d.Reason
		for _, e := range d.Errors {
			texts += e.Message
		}
		if len(texts) > 1000 {
			t.Errorf("%s: %d bytes of text", name, len(texts))
		}
	}
	_, err := w.snap.Authorize(with(func(r *snapshot.Request) { r.Resource.ID = arn + long }))
	if len(err.Error()) > 10_000 {
		t.Errorf("%d bytes of error", len(err.Error()))
	}
}

// Of two members of a record that fail, cedar-go reports either.
func TestErrorTextsAreTheSameEveryTime(t *testing.T) {
	const all = `permit(principal, action, resource is AgentCore::Gateway) `
	w := newWorld(t, all+`when { {a: context.input.missing, b: principal.getTag("nothing")} == {a: 1, b: 2} };`,
		all+`when { principal in [1, true, "x"] };`, all+`when { principal is AgentCore::OAuthUser in (if true then [1, true] else [])};`)
	first := w.ask(refund()).Errors
	if len(first) != 3 {
		t.Fatalf("got %v", first)
	}
	for range 100 {
		if got := w.ask(refund()).Errors; !slices.Equal(got, first) {
			t.Fatalf("got %v, then %v", first, got)
		}
	}
}
