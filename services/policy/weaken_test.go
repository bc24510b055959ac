package policy_test

import (
	"strings"
	"testing"
	"time"

	"github.com/verdict-io/verdict/services/policy"
)

const (
	forbidAll = `forbid(principal, action, resource is AgentCore::Gateway);`
	watchAll  = forbidAll + "// watched"
)

// guarded has, in alice's account, the engine Guard with the policies no (a forbid), watch (a forbid in LOG_ONLY), yes (a
// permit) and failed (a forbid that never came into force); it is attached to the gateway Front, which enforces it, and to
// Trial, in LOG_ONLY. Nothing is attached to the gateway Bare. The engine Lax has no strict forbids; Firm denies
// after a second without proof, and Prompt after as long as the account says.
func guarded(t testing.TB) *world {
	t.Helper()
	w := emptyWorld(t)
	for _, name := range []string{"Guard", "Spare", "Lax", "Firm", "Prompt"} {
		w.do(alice, createEngine(name))
	}
	w.do(alice, policy.SetEngineSettings{ID: engineID("Lax"), Settings: policy.Settings{StrictForbids: new(false)}})
	w.do(alice, policy.SetEngineSettings{ID: engineID("Firm"), Settings: policy.Settings{OnStale: policy.OnStaleDeny, StalenessBound: new(time.Second)}})
	w.do(alice, policy.SetEngineSettings{ID: engineID("Prompt"), Settings: policy.Settings{OnStale: policy.OnStaleDeny}})
	w.do(alice, createGateway("Front", "Guard"))
	w.do(alice, createGateway("Trial", ""))
	w.do(alice, attach("Trial", "Guard", policy.ModeLogOnly))
	w.do(alice, createGateway("Bare", ""))
	w.do(alice, createTarget("Front", "target0001", "Tools", "orderId"))
	for name, source := range map[string]string{"no": forbidAll, "watch": watchAll, "yes": permitAll} {
		c := createPolicy(t, "Guard", name, source)
		c.Validation = policy.IgnoreAllFindings
		if name == "watch" {
			c.Enforcement = policy.EnforcementLogOnly
		}
		w.do(alice, c)
	}
	w.do(alice, createPolicy(t, "Guard", "failed", scoped(refundGateway, `forbid(principal, action == AgentCore::Action::"RefundTarget___nothing", `)))
	w.work(alice)
	for name, want := range map[string]policy.Status{"no": policy.Active, "watch": policy.Active, "yes": policy.Active, "failed": policy.CreateFailed} {
		if p := w.s.Account(alice).Engine(engineID("Guard")).Policy(policyID(name)); p.Status != want {
			t.Fatalf("%s is %s: %q", name, p.Status, p.Reasons)
		}
	}
	return w
}

func attach(gateway, engine string, mode policy.EngineMode) policy.AttachEngine {
	return policy.AttachEngine{GatewayID: gatewayID(gateway), EngineID: engineID(engine), Mode: mode}
}

func detach(gateway string) policy.DetachEngine {
	return policy.DetachEngine{GatewayID: gatewayID(gateway)}
}

// update changes a policy of Guard.
func update(name string, change func(*policy.UpdatePolicy)) policy.UpdatePolicy {
	c := policy.UpdatePolicy{EngineID: engineID("Guard"), ID: policyID(name)}
	change(&c)
	return c
}

func demoted(c *policy.UpdatePolicy)   { c.Enforcement = policy.EnforcementLogOnly }
func promoted(c *policy.UpdatePolicy)  { c.Enforcement = policy.EnforcementActive }
func described(c *policy.UpdatePolicy) { c.Description = new("other words") }

func rewritten(t testing.TB, source string) func(*policy.UpdatePolicy) {
	return func(c *policy.UpdatePolicy) { c.Language, c.Statement = policy.LanguageCedar, new(parse(t, source)) }
}

func delPolicy(name string) policy.DeletePolicy {
	return policy.DeletePolicy{EngineID: engineID("Guard"), ID: policyID(name)}
}

func engineSettings(engine string, s policy.Settings) policy.SetEngineSettings {
	return policy.SetEngineSettings{ID: engineID(engine), Settings: s}
}

func accountSettings(s policy.Settings) policy.SetAccountSettings {
	return policy.SetAccountSettings{Settings: s}
}

func redefined(gateway string, change func(*policy.GatewayDefinition)) policy.UpdateGateway {
	d := gatewayTo("Guard")
	change(&d)
	return policy.UpdateGateway{ID: gatewayID(gateway), Definition: d}
}

// Everything that weakens enforcement, and beside it what looks like it and does not. A row may need something before.
func TestWeakens(t *testing.T) {
	t.Parallel()
	deny := func(bound time.Duration) policy.Settings {
		return policy.Settings{OnStale: policy.OnStaleDeny, StalenessBound: &bound}
	}
	minute, hour := time.Minute, time.Hour
	denying := accountSettings(deny(minute))
	for name, c := range map[string]struct {
		before  policy.Command
		command policy.Command
		want    string // a part of the text; "" when nothing becomes weaker
	}{
		"mode lowered":                     {nil, attach("Front", "Guard", policy.ModeLogOnly), "lower the mode of engine Guard-0123456789 at gateway front-0123456789 from ENFORCE to LOG_ONLY"},
		"mode lowered by an update":        {nil, redefined("Front", func(d *policy.GatewayDefinition) { d.PolicyEngine.Mode = policy.ModeLogOnly }), "lower the mode"},
		"mode raised":                      {nil, attach("Trial", "Guard", policy.ModeEnforce), ""},
		"mode as it was":                   {nil, attach("Front", "Guard", policy.ModeEnforce), ""},
		"detached":                         {nil, detach("Front"), "detach engine Guard-0123456789 from gateway front-0123456789"},
		"detached by an update":            {nil, redefined("Front", func(d *policy.GatewayDefinition) { d.PolicyEngine = nil }), "detach engine"},
		"detached where it is in LOG_ONLY": {nil, detach("Trial"), "detach engine"},
		"detached where nothing is":        {nil, detach("Bare"), ""},
		"gateway described":                {nil, redefined("Front", func(d *policy.GatewayDefinition) { d.Description = "d" }), ""},
		"replaced":                         {nil, attach("Front", "Spare", policy.ModeEnforce), "attach engine Spare-0123456789 to gateway front-0123456789 in place of engine Guard-0123456789"},
		"attached where nothing was":       {nil, attach("Bare", "Spare", policy.ModeLogOnly), ""},
		"gateway deleted":                  {nil, policy.DeleteGateway{ID: gatewayID("Trial")}, ""},
		"target deleted":                   {nil, policy.DeleteTarget{GatewayID: gatewayID("Front"), ID: "target0001"}, ""},
		"engine deleted":                   {nil, policy.DeleteEngine{ID: engineID("Firm")}, ""},

		"forbid deleted":                      {nil, delPolicy("no"), "delete the forbid policy no-0123456789"},
		"forbid in LOG_ONLY deleted":          {nil, delPolicy("watch"), ""},
		"forbid deleted that never was":       {nil, delPolicy("failed"), ""},
		"permit deleted":                      {nil, delPolicy("yes"), ""},
		"forbid demoted":                      {nil, update("no", demoted), "demote the forbid policy no-0123456789 to LOG_ONLY"},
		"forbid promoted":                     {nil, update("watch", promoted), ""},
		"permit demoted":                      {nil, update("yes", demoted), ""},
		"forbid rewritten":                    {nil, update("no", rewritten(t, watchAll)), "change the statement of the forbid policy no-0123456789"},
		"forbid made a permit":                {nil, update("no", rewritten(t, permitAll)), "change the statement"},
		"forbid in the other language":        {nil, update("no", func(c *policy.UpdatePolicy) { rewritten(t, forbidAll)(c); c.Language = policy.LanguagePolicy }), "change the statement"},
		"forbid written as it was":            {nil, update("no", rewritten(t, forbidAll)), ""},
		"forbid in LOG_ONLY rewritten":        {nil, update("watch", rewritten(t, permitAll)), ""},
		"forbid that never was rewritten":     {nil, update("failed", rewritten(t, permitAll)), ""},
		"permit rewritten":                    {nil, update("yes", rewritten(t, permitAll+"// again")), ""},
		"permit made a forbid":                {nil, update("yes", rewritten(t, forbidAll)), ""},
		"forbid described":                    {nil, update("no", described), ""},
		"permit added":                        {nil, createPolicy(t, "Guard", "more", permitAll), ""},
		"forbid added that is to be LOG_ONLY": {nil, policy.CreatePolicy{EngineID: engineID("Guard"), ID: policyID("more"), Name: "more", Language: policy.LanguageCedar, Statement: parse(t, forbidAll), Enforcement: policy.EnforcementLogOnly}, ""},

		"strict forbids off":                   {nil, engineSettings("Guard", policy.Settings{StrictForbids: new(false)}), "switch off the strict forbids of engine Guard-0123456789"},
		"strict forbids off already":           {nil, engineSettings("Lax", policy.Settings{StrictForbids: new(false), OnStale: policy.OnStaleServe}), ""},
		"strict forbids off as the account":    {accountSettings(policy.Settings{StrictForbids: new(false)}), engineSettings("Spare", policy.Settings{StrictForbids: new(false)}), ""},
		"no longer strict against the account": {engineSettings("Guard", policy.Settings{StrictForbids: new(true)}), accountSettings(policy.Settings{StrictForbids: new(false)}), "switch off the strict forbids of this account"},
		"strict forbids left to the account":   {accountSettings(policy.Settings{StrictForbids: new(false)}), engineSettings("Guard", policy.Settings{StrictForbids: new(true)}), ""},
		"strict forbids on":                    {nil, engineSettings("Lax", policy.Settings{}), ""},

		"stale nodes serve":                     {nil, engineSettings("Firm", policy.Settings{OnStale: policy.OnStaleServe}), "have stale nodes serve, and no longer deny, requests of engine Firm-0123456789"},
		"stale nodes serve by default":          {nil, engineSettings("Firm", policy.Settings{}), "have stale nodes serve"},
		"stale nodes deny":                      {nil, engineSettings("Guard", deny(minute)), ""},
		"bound raised":                          {nil, engineSettings("Firm", deny(minute)), "raise the staleness bound from 1s to 1m0s of engine Firm-0123456789"},
		"bound raised where stale nodes serve":  {nil, engineSettings("Guard", policy.Settings{StalenessBound: &minute}), ""},
		"bound lowered":                         {nil, engineSettings("Firm", deny(500*time.Millisecond)), ""},
		"the account's stale nodes serve":       {denying, accountSettings(policy.Settings{}), "have stale nodes serve, and no longer deny, requests of this account"},
		"the account's bound raised":            {denying, accountSettings(deny(hour)), "raise the staleness bound from 1m0s to 1h0m0s of this account"},
		"the account's bound lowered":           {denying, accountSettings(deny(time.Second)), ""},
		"the account's bound raised for some":   {nil, accountSettings(policy.Settings{StalenessBound: &hour}), "raise the staleness bound from 10s to 1h0m0s of engine Prompt-0123456789"},
		"the account denies, and some have own": {nil, accountSettings(deny(time.Second)), ""},
		"redaction":                             {denying, accountSettings(policy.Settings{OnStale: policy.OnStaleDeny, StalenessBound: &minute, RedactedPaths: new([]string{"/context/a"})}), ""},

		"second person off":        {policy.SetAccountSettings{SecondPerson: new(true)}, policy.SetAccountSettings{SecondPerson: new(false)}, "do without a second person in this account"},
		"second person left alone": {policy.SetAccountSettings{SecondPerson: new(true)}, policy.SetAccountSettings{Settings: policy.Settings{StrictForbids: new(true)}}, ""},
		"second person on":         {nil, policy.SetAccountSettings{SecondPerson: new(true)}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := guarded(t)
			if c.before != nil {
				w.do(alice, c.before)
			}
			events, err := w.decide(alice, c.command, config())
			if err != nil {
				t.Fatal(err)
			}
			got, err := policy.Weakens(w.s.Account(alice), events)
			if err != nil || (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
				t.Errorf("it weakens %q, %v; want %q", got, err, c.want)
			}
			w.judged(t, c.command, c.want)
		})
	}
}

// judged wants DecideFor to refuse what weakens to those who may not do it, and nothing to others or else.
func (w *world) judged(t *testing.T, c policy.Command, weakens string) {
	t.Helper()
	for _, may := range []bool{false, true} {
		_, err := policy.DecideFor(policy.By{MayWeaken: may}, w.s, alice, c, config())
		switch {
		case weakens == "" && err != nil:
			t.Errorf("refused: %v", err)
		case weakens == "":
		case !may:
			refusal{policy.ErrDenied, "weakens_enforcement", "", weakens}.check(t, err)
		case w.s.Account(alice).SecondPerson:
			refusal{policy.ErrConflict, "approval_required", "", "ProposeChange"}.check(t, err)
		case err != nil:
			t.Errorf("refused to who may: %v", err)
		}
	}
}

// An engine in a text about the whole account: the first few are named.
func TestWeakensManyEngines(t *testing.T) {
	t.Parallel()
	w := emptyWorld(t)
	for _, name := range []string{"A", "B", "C", "D", "E"} {
		w.do(alice, createEngine(name))
		w.do(alice, engineSettings(name, policy.Settings{OnStale: policy.OnStaleDeny}))
	}
	events, err := w.decide(alice, accountSettings(policy.Settings{StalenessBound: new(time.Minute), StrictForbids: new(false)}), config())
	if err != nil {
		t.Fatal(err)
	}
	got, err := policy.Weakens(w.s.Account(alice), events)
	want := "switch off the strict forbids of this account; raise the staleness bound from 10s to 1m0s of engine A-0123456789, B-0123456789, C-0123456789 and 2 more"
	if err != nil || got != want {
		t.Errorf("%q, %v", got, err)
	}
}

// What an earlier version accepted, and this one cannot read, may be a forbid.
func TestWeakensUnreadable(t *testing.T) {
	t.Parallel()
	w := emptyWorld(t)
	w.do(alice, createEngine("Guard"))
	ref := policy.PolicyRef(engineID("Guard"), policyID("old"))
	body := policy.Body{Language: policy.LanguageCedar, Statement: "deny, as it once was", Enforcement: policy.EnforcementActive, Validation: policy.IgnoreAllFindings}
	w.record(alice, policy.PolicyCreated{EngineID: ref.Parent, ID: ref.ID, Name: "old", Body: body}, policy.Activated{Of: ref})
	w.judged(t, delPolicy("old"), "delete the forbid policy old-0123456789")
}

// What a statement does is found behind its annotations and comments, whatever they say.
func TestWeakensAnnotated(t *testing.T) {
	t.Parallel()
	w := guarded(t)
	for i, head := range []string{
		"", "// permit\n", "@id(\"permit(\") ", "@permit ", "@permit(\"permit\") // permit\n ", "@a @b(\"\\\"permit\") @permit", "\n\t @ permit ( \"é\" )\n",
	} {
		for effect, rest := range map[policy.Effect]string{policy.EffectForbid: forbidAll, policy.EffectPermit: permitAll} {
			c := createPolicy(t, "Guard", string(effect)+numbered(i), head+"\n"+rest)
			if c.Statement.Effect() != effect {
				t.Fatalf("%s%s is parsed as a %s", head, rest, c.Statement.Effect())
			}
			c.Validation = policy.IgnoreAllFindings
			w.do(alice, c)
			w.work(alice)
			events, err := w.decide(alice, delPolicy(c.Name), config())
			if err != nil {
				t.Fatal(err)
			}
			got, err := policy.Weakens(w.s.Account(alice), events)
			if err != nil || (got != "") != (effect == policy.EffectForbid) {
				t.Errorf("%s%s weakens %q, %v", head, rest, got, err)
			}
		}
	}
}

// The service ends what a request began, and is not judged: the request was.
func TestTheServiceIsNotJudged(t *testing.T) {
	t.Parallel()
	w := guarded(t)
	w.do(alice, update("no", rewritten(t, permitAll+"// a permit now")))
	w.do(alice, policy.SetAccountSettings{SecondPerson: new(true)})
	for ref := range w.s.Account(alice).Pending() {
		finish := w.examined(alice, ref)
		_, err := policy.DecideFor(policy.By{Actor: policy.Actor{Method: "sigv4"}, MayWeaken: true}, w.s, alice, finish, config())
		refusal{policy.ErrConflict, "approval_required", "", "change the statement"}.check(t, err)
		events, err := policy.DecideFor(policy.By{Actor: policy.Actor{Method: policy.MethodInternal}}, w.s, alice, finish, config())
		if err != nil {
			t.Fatal(err)
		}
		wantEvents(t, events, policy.Activated{Of: ref})
	}
}

// Events that cannot happen weaken nothing that could be told.
func TestWeakensWhatCannotHappen(t *testing.T) {
	t.Parallel()
	w := guarded(t)
	got, err := policy.Weakens(w.s.Account(alice), []policy.Event{policy.Deleted{Of: policy.EngineRef(engineID("Guard"))}})
	if err == nil || got != "" {
		t.Errorf("%q, %v", got, err)
	}
}
