package policy_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/verdict-io/verdict/services/internal/stream"
	"github.com/verdict-io/verdict/services/policy"
)

const changeID = "c123456789"

var (
	ann  = policy.Actor{Account: alice, ID: "ann", Method: "sigv4", SourceAddress: "10.0.0.1"}
	ben  = policy.Actor{Account: alice, ID: "ben", Method: "sigv4", SourceAddress: "10.0.0.1"}
	anny = policy.Actor{Account: alice, ID: "ann", Method: "sigv4", SourceAddress: "10.9.9.9"}
)

// by decides for somebody who may weaken enforcement, and records what was decided.
func (w *world) by(who policy.Actor, c policy.Command) ([]policy.Event, error) {
	w.t.Helper()
	return w.at(who, w.s.RecordedAt+1, c)
}

func (w *world) at(who policy.Actor, now int64, c policy.Command) ([]policy.Event, error) {
	w.t.Helper()
	if err := c.Check(); err != nil {
		return nil, err
	}
	events, err := policy.DecideFor(policy.By{Actor: who, MayWeaken: true, Now: now}, w.s, who.Account, c, config())
	if err != nil {
		return nil, err
	}
	for i, ev := range events {
		r := w.s.Next(who.Account, ev, now)
		r.Commits, r.Cause.Actor, r.Hash = i == len(events)-1, who, policy.Hash{byte(w.s.Position), 1}
		next, err := w.s.Apply(r)
		if err != nil {
			w.t.Fatalf("%T: %v", ev, err)
		}
		w.s, w.log = next, append(w.log, r)
	}
	return events, nil
}

func (w *world) mustBy(who policy.Actor, c policy.Command) []policy.Event {
	w.t.Helper()
	events, err := w.by(who, c)
	if err != nil {
		w.t.Fatalf("%s: %T: %v", who.ID, c, err)
	}
	return events
}

func propose(c policy.Command) policy.ProposeChange {
	return policy.ProposeChange{ID: changeID, Description: "it is in the way", Command: c}
}

// twoNeeded is guarded with a second person.
func twoNeeded(t testing.TB) *world {
	t.Helper()
	w := guarded(t)
	w.do(alice, policy.SetAccountSettings{SecondPerson: new(true)})
	return w
}

// Each kind of request is proposed by one, approved by another, and then has done what it does by itself.
func TestChangeApproved(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]policy.Command{
		"update policy":       update("no", demoted),
		"rewrite policy":      update("no", rewritten(t, permitAll)),
		"delete policy":       delPolicy("no"),
		"update gateway":      redefined("Front", func(d *policy.GatewayDefinition) { d.PolicyEngine = nil }),
		"attach engine":       attach("Front", "Spare", policy.ModeEnforce),
		"detach engine":       detach("Front"),
		"settings of engine":  engineSettings("Guard", policy.Settings{StrictForbids: new(false)}),
		"settings of account": policy.SetAccountSettings{SecondPerson: new(false)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := twoNeeded(t)
			_, err := w.by(ann, c)
			refusal{policy.ErrConflict, "approval_required", "", "ApproveChange"}.check(t, err)
			direct, err := w.decide(alice, c, config())
			if err != nil {
				t.Fatal(err)
			}
			before := w.s.Parts().Accounts[0]
			proposal := w.mustBy(ann, propose(c))
			ch := w.s.Account(alice).Change(changeID)
			if len(proposal) != 1 || ch == nil || ch.Proposer != ann || ch.ProposedAt != w.s.RecordedAt || ch.Weakens == "" || w.s.Account(alice).Outdated(ch) {
				t.Fatalf("proposed: %+v", ch)
			}
			wantEvents(t, ch.Events, direct...)
			nothingElse(t, before, w.s.Parts().Accounts[0])
			w.reload()
			got := w.mustBy(ben, policy.ApproveChange{ID: changeID})
			wantEvents(t, got, append([]policy.Event{policy.ChangeApproved{ID: changeID}}, direct...)...)
			if w.s.Account(alice).Change(changeID) != nil {
				t.Error("it waits still")
			}
			if err := w.s.Verify(); err != nil {
				t.Error(err)
			}
			_, err = w.by(ben, policy.ApproveChange{ID: changeID})
			refusal{policy.ErrNotFound, "change_not_found", "changeId", "approved or rejected"}.check(t, err)
		})
	}
}

// nothingElse wants an account that differs in its changes and its position alone.
func nothingElse(t *testing.T, before, after policy.AccountParts) {
	t.Helper()
	before.Position, before.Changes = after.Position, after.Changes
	if diff := cmp.Diff(before, after); diff != "" {
		t.Errorf("a proposal has changed (-before +after):\n%s", diff)
	}
}

// reload goes on with the state as it is stored.
func (w *world) reload() {
	w.t.Helper()
	again, err := stream.DecodeState([]byte(encode(w.t, w.s)))
	if err != nil {
		w.t.Fatal(err)
	}
	if diff := cmp.Diff(w.s.Parts(), again.Parts()); diff != "" {
		w.t.Fatalf("stored, it is another state (-was +is):\n%s", diff)
	}
	w.s = again
}

// Who proposed it cannot approve it, from wherever and by whatever method.
func TestChangeNeedsAnother(t *testing.T) {
	t.Parallel()
	w := twoNeeded(t)
	w.mustBy(ann, propose(detach("Front")))
	token := ann
	token.Method = "oidc"
	for _, who := range []policy.Actor{ann, anny, token} {
		_, err := w.by(who, policy.ApproveChange{ID: changeID})
		refusal{policy.ErrDenied, "same_person", "", "callers on loopback without credentials count as one"}.check(t, err)
	}
	other := ann
	other.ID = "anna"
	w.mustBy(other, policy.ApproveChange{ID: changeID})
}

// Whoever may not weaken enforcement has no say.
func TestChangeNeedsTheRole(t *testing.T) {
	t.Parallel()
	w := twoNeeded(t)
	w.mustBy(ann, propose(detach("Front")))
	for _, c := range []policy.Command{propose(detach("Trial")), policy.ApproveChange{ID: changeID}, policy.RejectChange{ID: changeID}, policy.ApproveChange{ID: "x"}} {
		_, err := policy.DecideFor(policy.By{Actor: ben, Now: w.s.RecordedAt}, w.s, alice, c, config())
		refusal{policy.ErrDenied, "weakens_enforcement", "", "the role enforcer"}.check(t, err)
	}
}

func TestChangeRejected(t *testing.T) {
	t.Parallel()
	for _, who := range []policy.Actor{ann, ben} {
		w := twoNeeded(t)
		w.mustBy(ann, propose(detach("Front")))
		wantEvents(t, w.mustBy(who, policy.RejectChange{ID: changeID, Reason: "no"}), policy.ChangeRejected{ID: changeID, Reason: "no"})
		_, err := w.by(ben, policy.ApproveChange{ID: changeID})
		refusal{policy.ErrNotFound, "change_not_found", "changeId", ""}.check(t, err)
		_, err = w.by(ben, policy.RejectChange{ID: changeID})
		refusal{policy.ErrNotFound, "change_not_found", "changeId", ""}.check(t, err)
	}
}

// What another account has proposed is not there.
func TestChangeOfAnotherAccount(t *testing.T) {
	t.Parallel()
	w := twoNeeded(t)
	w.mustBy(ann, propose(detach("Front")))
	stranger := policy.Actor{Account: bob, ID: "bea", Method: "sigv4"}
	for _, c := range []policy.Command{policy.ApproveChange{ID: changeID}, policy.RejectChange{ID: changeID}} {
		_, err := w.by(stranger, c)
		refusal{policy.ErrNotFound, "change_not_found", "changeId", ""}.check(t, err)
	}
	// The other account can have a change of the same id.
	w.do(bob, createEngine("Other"))
	w.mustBy(stranger, propose(engineSettings("Other", policy.Settings{StrictForbids: new(false)})))
}

// A change that was decided on what has changed since is refused, and nothing else makes it stale.
func TestChangeStale(t *testing.T) {
	t.Parallel()
	stale := refusal{policy.ErrStale, "stale_change", "", "propose it again"}
	for name, c := range map[string]struct {
		proposed, meanwhile policy.Command
		want                *refusal // nil when it is approved
	}{
		"another definition of the gateway": {detach("Front"), redefined("Front", func(d *policy.GatewayDefinition) { d.Description = "d" }), &stale},
		"tags of the gateway":               {detach("Front"), policy.AddTags{Of: policy.GatewayRef(gatewayID("Front")), Tags: map[string]string{"a": "b"}}, &stale},
		"the policy is described":           {delPolicy("no"), update("no", described), &stale},
		"other settings of the engine":      {engineSettings("Guard", policy.Settings{StrictForbids: new(false)}), engineSettings("Guard", policy.Settings{OnStale: policy.OnStaleDeny}), &stale},
		"other settings of the account":     {policy.SetAccountSettings{SecondPerson: new(false)}, accountSettings(policy.Settings{OnStale: policy.OnStaleDeny}), &stale},
		"what the account's settings do has changed": {
			engineSettings("Guard", policy.Settings{StrictForbids: new(false)}), policy.SetAccountSettings{Settings: policy.Settings{OnStale: policy.OnStaleDeny}}, nil,
		},
		"it would weaken more than was said": {
			engineSettings("Firm", policy.Settings{StrictForbids: new(false), OnStale: policy.OnStaleDeny}), policy.SetAccountSettings{Settings: policy.Settings{StalenessBound: new(time.Hour)}}, &stale,
		},
		"another gateway":            {detach("Front"), attach("Bare", "Spare", policy.ModeEnforce), nil},
		"another policy":             {delPolicy("no"), update("watch", described), nil},
		"a target of the gateway":    {detach("Front"), createTarget("Front", "target0002", "More"), nil},
		"the engine to come is gone": {attach("Front", "Spare", policy.ModeEnforce), policy.DeleteEngine{ID: engineID("Spare")}, &refusal{policy.ErrNotFound, "engine_not_found", "policyEngineId", "Spare"}},
		"another change":             {detach("Front"), policy.ProposeChange{ID: "c000000000", Command: detach("Trial")}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := twoNeeded(t)
			w.mustBy(ann, propose(c.proposed))
			w.do(alice, c.meanwhile) // Decide: by somebody who may do everything
			ch := w.s.Account(alice).Change(changeID)
			if got, want := w.s.Account(alice).Outdated(ch), c.want == &stale; got != want {
				t.Errorf("outdated: %v", got)
			}
			_, err := w.by(ben, policy.ApproveChange{ID: changeID})
			switch {
			case c.want != nil:
				c.want.check(t, err)
			case err != nil:
				t.Errorf("refused: %v", err)
			}
		})
	}
}

// A change that is refused when it is approved because of a limit can be approved once there is room.
func TestChangeStillFits(t *testing.T) {
	t.Parallel()
	w := twoNeeded(t)
	gate := policy.ARN(region, alice, policy.GatewayRef(gatewayID("Front")))
	w.mustBy(ann, propose(update("no", rewritten(t, scopedTo(gate, 9000)))))
	for i := range 22 {
		c := createPolicy(t, "Guard", numbered(i), scopedTo(gate, 9000))
		c.Validation = policy.IgnoreAllFindings
		w.do(alice, c)
	}
	w.work(alice)
	_, err := w.by(ben, policy.ApproveChange{ID: changeID})
	refusal{policy.ErrQuota, "policy_bytes", "definition", "would have"}.check(t, err)
	w.do(alice, delPolicy(numbered(1)))
	w.mustBy(ben, policy.ApproveChange{ID: changeID})
}

// A change can be approved until it is a week old, by the times of the log.
func TestChangeExpires(t *testing.T) {
	t.Parallel()
	for _, late := range []int64{0, 1} {
		w := twoNeeded(t)
		w.mustBy(ann, propose(detach("Front")))
		end := w.s.Account(alice).Change(changeID).ProposedAt + (7 * 24 * time.Hour).Microseconds()
		_, err := w.at(ben, end+late, policy.ApproveChange{ID: changeID})
		if late == 0 {
			if err != nil {
				t.Errorf("refused in time: %v", err)
			}
			continue
		}
		refusal{policy.ErrConflict, "expired", "", "more than 7 days ago"}.check(t, err)
		if _, err := w.at(ben, end+late, policy.RejectChange{ID: changeID}); err != nil {
			t.Errorf("and it cannot be rejected: %v", err)
		}
	}
}

// What cannot be proposed.
func TestProposeChangeRefuses(t *testing.T) {
	t.Parallel()
	w := twoNeeded(t)
	w.mustBy(ann, propose(detach("Front")))
	again := func(c policy.Command) policy.ProposeChange {
		return policy.ProposeChange{ID: "c000000000", Command: c}
	}
	long := again(detach("Trial"))
	long.Description = string(make([]byte, 4097))
	for name, c := range map[string]struct {
		command policy.Command
		want    refusal
	}{
		"what weakens nothing":   {again(attach("Trial", "Guard", policy.ModeEnforce)), refusal{policy.ErrConflict, "weakens_nothing", "request", "send it directly"}},
		"what changes nothing":   {again(detach("Bare")), refusal{policy.ErrConflict, "weakens_nothing", "request", ""}},
		"what cannot be done":    {again(detach("Nope")), refusal{policy.ErrNotFound, "gateway_not_found", "gatewayId", ""}},
		"what is wrong":          {again(attach("Front", "Guard", "x")), refusal{policy.ErrInvalid, "enum", "mode", ""}},
		"nothing":                {again(nil), refusal{policy.ErrInvalid, "union", "request", "exactly one request"}},
		"an approval":            {again(policy.ApproveChange{ID: changeID}), refusal{policy.ErrInvalid, "union", "request", ""}},
		"a proposal":             {again(propose(detach("Trial"))), refusal{policy.ErrInvalid, "union", "request", ""}},
		"what the service ends":  {again(policy.FinishPolicy{}), refusal{policy.ErrInvalid, "union", "request", ""}},
		"a version of long ago":  {again(policy.DetachEngine{GatewayID: gatewayID("Front"), ExpectedVersion: 1}), refusal{policy.ErrStale, "version_mismatch", "expectedVersion", ""}},
		"under a taken id":       {propose(detach("Trial")), refusal{policy.ErrStale, "id_taken", "", ""}},
		"under no id":            {policy.ProposeChange{Command: detach("Trial")}, refusal{policy.ErrInvalid, "pattern", "id", ""}},
		"with a long text":       {long, refusal{policy.ErrInvalid, "length", "description", ""}},
		"rejected with too much": {policy.RejectChange{ID: changeID, Reason: long.Description}, refusal{policy.ErrInvalid, "length", "reason", ""}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := (&world{t: t, s: w.s}).by(ben, c.command)
			c.want.check(t, err)
		})
	}
}

func TestChangeQuota(t *testing.T) {
	t.Parallel()
	w := guarded(t)
	id := func(i int) string { return fmt.Sprintf("%010d", i) }
	for i := range 100 {
		w.mustBy(ann, policy.ProposeChange{ID: id(i), Command: detach("Front")})
	}
	one := policy.ProposeChange{ID: id(100), Command: detach("Front")}
	_, err := w.by(ann, one)
	refusal{policy.ErrQuota, "quota", "", "the limit of 100 changes"}.check(t, err)
	w.mustBy(ann, policy.RejectChange{ID: id(7)})
	w.mustBy(ann, one)
	if err := w.s.Verify(); err != nil {
		t.Error(err)
	}
}

// Events of changes that cannot have happened are not applied.
func TestApplyRefusesChanges(t *testing.T) {
	t.Parallel()
	w := guarded(t)
	w.mustBy(ann, propose(detach("Front")))
	for name, ev := range map[string]policy.Event{
		"proposed twice":    policy.ChangeProposed{ID: changeID},
		"approved, unheard": policy.ChangeApproved{ID: "c000000000"},
		"rejected, unheard": policy.ChangeRejected{ID: "c000000000"},
		"a change in one":   policy.ChangeProposed{ID: "c000000000", Events: []policy.Event{policy.ChangeApproved{ID: changeID}}},
		"the log in one":    policy.ChangeProposed{ID: "c000000000", Events: []policy.Event{policy.LogCreated{LogID: "x"}}},
		"a deleted change":  policy.Deleted{Of: policy.ChangeRef(changeID)},
		"an activated one":  policy.Activated{Of: policy.ChangeRef(changeID)},
		"tags of a change":  policy.TagsChanged{Of: policy.ChangeRef(changeID)},
	} {
		if _, _, err := apply(w.s, alice, ev, true); err == nil {
			t.Errorf("%s was applied", name)
		}
	}
}

// A state in which a change cannot be is not sound.
func TestVerifyChanges(t *testing.T) {
	t.Parallel()
	w := guarded(t)
	w.mustBy(ann, propose(redefined("Front", func(d *policy.GatewayDefinition) { d.PolicyEngine = nil })))
	for name, spoil := range map[string]func(*policy.Change){
		"no events":                    func(c *policy.Change) { c.Events = nil },
		"nothing weakened":             func(c *policy.Change) { c.Weakens = "" },
		"no basis":                     func(c *policy.Change) { c.Basis = nil },
		"no id":                        func(c *policy.Change) { c.ID = "" },
		"a long description":           func(c *policy.Change) { c.Description = string(make([]byte, 4097)) },
		"no version":                   func(c *policy.Change) { c.Version = 0 },
		"of the future":                func(c *policy.Change) { c.Revision = w.s.Position + 1 },
		"proposed later":               func(c *policy.Change) { c.ProposedAt = w.s.RecordedAt + 1 },
		"more events than the account": func(c *policy.Change) { c.Version, c.Revision = w.s.Position, w.s.Position },
		"a bad gateway": func(c *policy.Change) {
			c.Events = []policy.Event{policy.GatewayUpdateRequested{ID: gatewayID("Front")}}
		},
		"a bad policy": func(c *policy.Change) { c.Events = []policy.Event{policy.PolicyUpdateRequested{}} },
		"a bad bound": func(c *policy.Change) {
			c.Events = []policy.Event{policy.EngineSettingsChanged{Settings: policy.Settings{OnStale: "x"}}}
		},
		"a bad bound of the account": func(c *policy.Change) {
			c.Events = []policy.Event{policy.AccountSettingsChanged{Settings: policy.Settings{OnStale: "x"}}}
		},
	} {
		p := w.s.Parts()
		p.Accounts[0].Changes = append([]policy.Change{}, p.Accounts[0].Changes...)
		spoil(&p.Accounts[0].Changes[0])
		s, err := policy.Restore(p)
		if err == nil {
			err = s.Verify()
		}
		if err == nil {
			t.Errorf("%s: it is sound", name)
		}
	}
	p := w.s.Parts()
	p.Accounts[0].Changes = append(p.Accounts[0].Changes, p.Accounts[0].Changes[0])
	if _, err := policy.Restore(p); err == nil {
		t.Error("a change stands twice")
	}
}
