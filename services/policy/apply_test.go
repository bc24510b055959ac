package policy_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/verdict-io/verdict/services/policy"
)

// What does not stand right behind a state is refused, and leaves the state as it is.
func TestApplyRefusesWhatDoesNotFollow(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	before := encode(t, w.s)
	update := policy.EngineUpdateRequested{ID: engineID("Spare"), Definition: policy.EngineDefinition{Description: "d"}}
	for name, c := range map[string]struct {
		change func(*policy.Recorded)
		want   string // "" when it is applied
	}{
		"nothing wrong":            {func(*policy.Recorded) {}, ""},
		"later":                    {func(r *policy.Recorded) { r.RecordedAt += 1e12 }, ""},
		"other log":                {func(r *policy.Recorded) { r.LogID = "log-2" }, `belongs to log "log-2", want "log-1"`},
		"no log":                   {func(r *policy.Recorded) { r.LogID = "" }, "belongs to log"},
		"position before":          {func(r *policy.Recorded) { r.Position-- }, "stands where"},
		"position left out":        {func(r *policy.Recorded) { r.Position++ }, "stands where"},
		"other previous hash":      {func(r *policy.Recorded) { r.PrevHash[31]++ }, "previous hash"},
		"no previous hash":         {func(r *policy.Recorded) { r.PrevHash = policy.Hash{} }, "previous hash"},
		"account position before":  {func(r *policy.Recorded) { r.AccountPosition-- }, "of account " + alice},
		"account position after":   {func(r *policy.Recorded) { r.AccountPosition++ }, "of account " + alice},
		"stream version before":    {func(r *policy.Recorded) { r.StreamVersion-- }, "version 2 of engine/Spare-0123456789, want 3"},
		"stream version after":     {func(r *policy.Recorded) { r.StreamVersion++ }, "version 4 of engine/Spare-0123456789, want 3"},
		"older":                    {func(r *policy.Recorded) { r.RecordedAt = w.s.RecordedAt - 1 }, "older"},
		"as if of another account": {func(r *policy.Recorded) { r.Account = bob }, "of account " + bob},
		"a log in a log": {func(r *policy.Recorded) {
			*r = w.s.Next(policy.LogAccount, policy.LogCreated{LogID: "log-1"}, 1)
		}, "does not belong here"},
		"a log in an account": {func(r *policy.Recorded) {
			*r = w.s.Next(alice, policy.LogCreated{LogID: "log-1"}, 1)
		}, "does not belong here"},
		"an engine of the log": {func(r *policy.Recorded) {
			*r = w.s.Next(policy.LogAccount, policy.EngineCreated{ID: engineID("X"), Name: "X"}, 1)
		}, "does not belong here"},
		"an account of another form": {func(r *policy.Recorded) {
			*r = w.s.Next("11111", policy.EngineCreated{ID: engineID("X"), Name: "X"}, 1)
		}, "account must match"},
		"an account without name": {func(r *policy.Recorded) {
			*r = w.s.Next("", policy.EngineCreated{ID: engineID("X"), Name: "X"}, 1)
		}, "account must match"},
	} {
		r := w.s.Next(alice, update, w.s.RecordedAt)
		c.change(&r)
		next, err := w.s.Apply(r)
		if c.want == "" {
			if err != nil || next.Position != r.Position || next.RecordedAt != r.RecordedAt {
				t.Errorf("%s: %v", name, err)
			}
		} else if err == nil || next != nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "position ") {
			t.Errorf("%s: %v, want …%s…", name, err, c.want)
		}
	}
	if after := encode(t, w.s); after != before {
		t.Error("the state has changed")
	}
}

func TestALogBeginsWithItself(t *testing.T) {
	t.Parallel()
	for name, r := range map[string]policy.Recorded{
		"an engine": policy.Empty().Next(alice, policy.EngineCreated{ID: engineID("X"), Name: "X"}, 1),
		"no id":     policy.Empty().Next(policy.LogAccount, policy.LogCreated{}, 1),
		"another's": policy.Empty().Next(alice, policy.LogCreated{LogID: "x"}, 1),
	} {
		if _, err := policy.Empty().Apply(r); err == nil || !strings.Contains(err.Error(), "does not belong here") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := policy.Empty().Verify(); err != nil {
		t.Error(err)
	}
}

// An event that cannot have happened: it follows, but not in this state.
func TestApplyRefusesWhatCannotHaveHappened(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	refunds, refund, spare := engineID("Refunds"), gatewayID("Refund"), engineID("Spare")
	for name, c := range map[string]struct {
		event policy.Event
		want  string
	}{
		"engine twice":              {policy.EngineCreated{ID: spare, Name: "X"}, "is there already"},
		"engine named as another":   {policy.EngineCreated{ID: engineID("X"), Name: "Spare"}, "is there already"},
		"gateway twice":             {policy.GatewayCreated{ID: refund, Name: "X"}, "is there already"},
		"gateway named as another":  {policy.GatewayCreated{ID: "x", Name: "Refund"}, "is there already"},
		"policy twice":              {policy.PolicyCreated{EngineID: refunds, ID: policyID("active"), Name: "X"}, "is there already"},
		"policy named as another's": {policy.PolicyCreated{EngineID: spare, ID: "x", Name: "active"}, "is there already"},
		"policy of no engine":       {policy.PolicyCreated{EngineID: "none", ID: "x", Name: "x"}, "no such thing"},
		"target twice":              {policy.TargetCreated{GatewayID: refund, ID: "target0001", Name: "X"}, "is there already"},
		"target named as another":   {policy.TargetCreated{GatewayID: refund, ID: "x", Name: "RefundTarget"}, "is there already"},
		"target of no gateway":      {policy.TargetCreated{GatewayID: "none", ID: "x", Name: "x"}, "no such thing"},
		"update of nothing":         {policy.EngineUpdateRequested{ID: "none"}, "no such thing"},
		"update of another's":       {policy.EngineUpdateRequested{ID: engineID("Other")}, "no such thing"},
		"policy of another engine":  {policy.PolicyUpdateRequested{EngineID: spare, ID: policyID("active")}, "no such thing"},
		"end of nothing":            {policy.Activated{Of: policy.TargetRef(refund, "none")}, "no such thing"},
		"deletion of nothing":       {policy.Deleted{Of: policy.GatewayRef("none")}, "no such thing"},
		"deletion of an account":    {policy.Deleted{Of: policy.Ref{Kind: policy.KindAccount, ID: alice}}, "no such thing"},
		"activation of the log":     {policy.Activated{Of: policy.Ref{Kind: policy.KindLog, ID: "log-1"}}, "no such thing"},
		"activation of no kind":     {policy.Activated{Of: policy.Ref{ID: spare}}, "no such thing"},
		"settings of another":       {policy.AccountSettingsChanged{Account: bob}, "is about account " + bob},
		"an engine's event":         {policy.Activated{Of: policy.Ref{Kind: policy.KindGateway, ID: spare}}, "no such thing"},
	} {
		_, _, err := apply(w.s, alice, c.event, true)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want …%s…", name, err, c.want)
		}
	}
}

// What something hangs on cannot go away.
func TestApplyRefusesToDeleteWhatIsInUse(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.do(alice, policy.AttachEngine{GatewayID: gatewayID("Bare"), EngineID: engineID("Spare"), Mode: policy.ModeEnforce})
	for _, ref := range []policy.Ref{policy.EngineRef(engineID("Refunds")), policy.EngineRef(engineID("Spare")), policy.GatewayRef(gatewayID("Refund"))} {
		w.record(alice, policy.DeleteRequested{Of: ref})
		if _, _, err := apply(w.s, alice, policy.Deleted{Of: ref}, true); err == nil || !strings.Contains(err.Error(), "is in use") {
			t.Errorf("%v: %v", ref, err)
		}
	}
}

// Whatever happens next, a state stays what it was: readers hold on to it.
func TestApplyChangesNothing(t *testing.T) {
	t.Parallel()
	w := emptyWorld(t)
	history := newWorld(t).log
	states := []*policy.State{w.s}
	encoded := []string{encode(t, w.s)}
	for _, r := range history[1:] {
		next, err := states[len(states)-1].Apply(r)
		if err != nil {
			t.Fatal(err)
		}
		states = append(states, next)
		if next.Whole {
			encoded = append(encoded, encode(t, next))
		}
	}
	var again []string
	for _, s := range states {
		if s.Whole {
			again = append(again, encode(t, s))
		}
	}
	if !slices.Equal(encoded, again) {
		t.Error("a state has changed after it was made")
	}
}

// What is not the same pointer as before is what has changed, and nothing else.
func TestApplySharesWhatDidNotChange(t *testing.T) {
	t.Parallel()
	refunds, spare, refund, bare := engineID("Refunds"), engineID("Spare"), gatewayID("Refund"), gatewayID("Bare")
	pointers := func(s *policy.State) map[string]any {
		a := s.Account(alice)
		return map[string]any{
			"bob": s.Account(bob), "alice": a, "refunds": a.Engine(refunds), "spare": a.Engine(spare), "refund": a.Gateway(refund), "bare": a.Gateway(bare),
			"active": a.Engine(refunds).Policy(policyID("active")), "creating": a.Engine(refunds).Policy(policyID("creating")),
			"target": a.Gateway(refund).Target("target0001"),
		}
	}
	for name, c := range map[string]struct {
		command policy.Command
		changed []string
	}{
		"account settings": {policy.SetAccountSettings{Settings: policy.Settings{StrictForbids: new(false)}}, []string{"alice"}},
		"engine":           {policy.UpdateEngine{ID: spare, Description: new("d")}, []string{"alice", "spare"}},
		"engine settings":  {policy.SetEngineSettings{ID: spare, Settings: policy.Settings{OnStale: policy.OnStaleDeny}}, []string{"alice", "spare"}},
		"policy":           {policy.UpdatePolicy{EngineID: refunds, ID: policyID("active"), Description: new("d")}, []string{"active", "alice", "refunds"}},
		"new policy":       {createPolicy(t, "Spare", "p", permitAll), []string{"alice", "spare"}},
		"gateway":          {policy.AttachEngine{GatewayID: bare, EngineID: spare, Mode: policy.ModeEnforce}, []string{"alice", "bare"}},
		"target":           {policy.UpdateTarget{GatewayID: refund, ID: "target0001", Definition: lambda("a")}, []string{"alice", "refund", "target"}},
		"new engine":       {createEngine("New"), []string{"alice"}},
		"tags":             {policy.AddTags{Of: policy.PolicyRef(refunds, policyID("creating")), Tags: map[string]string{"a": "b"}}, []string{"alice", "creating", "refunds"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			before := pointers(w.s)
			w.do(alice, c.command)
			var changed []string
			for what, p := range pointers(w.s) {
				if p != before[what] {
					changed = append(changed, what)
				}
			}
			slices.Sort(changed)
			if diff := cmp.Diff(c.changed, changed); diff != "" {
				t.Errorf("changed (-want +got):\n%s", diff)
			}
		})
	}
}

// A clock that goes back does not take the log with it.
func TestNextHoldsTheTime(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if r := w.s.Next(alice, policy.EngineCreated{}, w.s.RecordedAt-1000); r.RecordedAt != w.s.RecordedAt {
		t.Errorf("recorded at %d, after %d", r.RecordedAt, w.s.RecordedAt)
	}
}

// A state in the middle of a command says so.
func TestWhole(t *testing.T) {
	t.Parallel()
	w := emptyWorld(t)
	middle, _, err := apply(w.s, alice, policy.EngineCreated{ID: engineID("E"), Name: "E"}, false)
	if err != nil || middle.Whole || middle.Verify() == nil {
		t.Errorf("whole: %v, %v, %v", middle.Whole, middle.Verify(), err)
	}
	r := middle.Next(alice, policy.Activated{Of: policy.EngineRef(engineID("E"))}, 0)
	r.Cause.RequestID = "another"
	if _, err := middle.Apply(r); err == nil || !strings.Contains(err.Error(), "in the middle of a command") {
		t.Errorf("an event of another request: %v", err)
	}
	if _, err := middle.Apply(middle.Next(bob, policy.EngineCreated{ID: engineID("E"), Name: "E"}, 0)); err == nil || !strings.Contains(err.Error(), "in the middle of a command") {
		t.Errorf("an event of another account: %v", err)
	}
	end, _, err := apply(middle, alice, policy.Activated{Of: policy.EngineRef(engineID("E"))}, true)
	if err != nil || !end.Whole || end.Verify() != nil {
		t.Errorf("whole: %v, %v, %v", end.Whole, end.Verify(), err)
	}
}

func TestLookups(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.s.Account(alice)
	var accounts, engines, policies, gateways, attached []string
	for a := range w.s.Accounts() {
		accounts = append(accounts, a.ID)
	}
	for e := range a.EnginesAfter("") {
		engines = append(engines, e.Name)
	}
	for p := range a.Engine(engineID("Refunds")).PoliciesAfter(policyID("active")) {
		policies = append(policies, p.Name)
	}
	for g := range a.GatewaysAfter("bare") { // no id, but before one
		gateways = append(gateways, g.Name)
	}
	for g := range a.AttachedGateways(engineID("Refunds")) {
		attached = append(attached, g.Name)
	}
	want := [][]string{{alice, bob}, {"Refunds", "Spare"}, {"creating", "failed", "updating"}, {"Bare", "Refund"}, {"Refund"}}
	if diff := cmp.Diff(want, [][]string{accounts, engines, policies, gateways, attached}); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for range a.EnginesAfter("") {
		break // an iterator can be left
	}
	if a.EngineCount() != 2 || a.EngineNamed("Spare").ID != engineID("Spare") || a.EngineNamed("None") != nil || a.Gateway("none") != nil ||
		a.Engine(engineID("Refunds")).PolicyCount() != 4 || a.Gateway(gatewayID("Refund")).TargetCount() != 1 {
		t.Error("a lookup is wrong")
	}
	if !a.Has(policy.EngineRef(engineID("Spare"))) || a.Has(policy.EngineRef(engineID("Other"))) || a.Tags(policy.EngineRef("none")) != nil {
		t.Error("Has or Tags is wrong")
	}
	if none := w.s.Account("333333333333"); none.EngineCount() != 0 || none.Position != 0 {
		t.Error("an account in which nothing has happened is not empty")
	}
}

// Born and With show what a command made long ago as it was then.
func TestBorn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, c := range []policy.Command{
		createEngine("New"), createGateway("New", "Spare"), createTarget("Bare", "target0009", "New", "a"), createPolicy(t, "Spare", "New", permitAll),
		policy.SetAccountSettings{Settings: policy.Settings{StalenessBound: new(time.Second)}},
	} {
		from := len(w.log)
		events := w.do(alice, c)
		a, err := policy.Born(w.log[from:])
		if err != nil {
			t.Fatalf("%T: %v", c, err)
		}
		ref := events[0].Ref()
		if ref.Kind != policy.KindAccount && !a.Has(ref) {
			t.Errorf("%T: %v is not there", c, ref)
		}
	}
	if _, err := policy.Born([]policy.Recorded{{Account: alice, Event: policy.Activated{Of: policy.EngineRef("none")}}}); err == nil {
		t.Error("what was never made was born")
	}
	before := w.s.Account(alice)
	after, err := before.With(w.s.Next(alice, policy.DeleteRequested{Of: policy.EngineRef(engineID("Spare"))}, 1))
	if err != nil || after.Engine(engineID("Spare")).Status != policy.Deleting || before.Engine(engineID("Spare")).Status != policy.Active {
		t.Errorf("With: %v", err)
	}
}
