package policy_test

import (
	"math"
	"strings"
	"time"

	"github.com/verdict-io/verdict/services/policy"
)

// What is enforced in an account, found out by reading all of it, as Weakens does not.

// enforced is what holds: what is to come into force is taken for being in force, once in all places where it is to be
// (coming), and once in none.
type enforced struct {
	things map[string]bool            // what is there: to be gone is not to be weaker
	rules  map[string]map[string]bool // by thing, what it enforces
	bounds map[string]time.Duration   // by thing, how long it may go on without proof of freshness
	second bool
}

func enforcement(a *policy.Account, coming bool) enforced {
	e := enforced{things: map[string]bool{}, rules: map[string]map[string]bool{}, bounds: map[string]time.Duration{}, second: a.SecondPerson}
	e.settings("account", a.Settings)
	for engine := range a.EnginesAfter("") {
		e.settings("engine "+engine.ID, engine.Settings.Or(a.Settings))
		for p := range engine.PoliciesAfter("") {
			b := chosen(&p.Resource, coming)
			if b != nil && p.Status != policy.Deleting && b.Enforcement == policy.EnforcementActive && strings.HasPrefix(b.Statement, "forbid") {
				e.rule("engine "+engine.ID, p.ID+string(b.Language)+b.Statement)
			}
		}
	}
	for g := range a.GatewaysAfter("") {
		id := "gateway " + g.ID
		e.things[id] = true
		if d := chosen(&g.Resource, coming); d != nil && d.PolicyEngine != nil {
			e.rule(id, d.PolicyEngine.EngineID)
			if d.PolicyEngine.Mode == policy.ModeEnforce {
				e.rule(id, "enforce")
			}
		}
	}
	return e
}

// chosen is what is in force, or with coming what is to be.
func chosen[D any](r *policy.Resource[D], coming bool) *D {
	if coming && (r.Status == policy.Creating || r.Status == policy.Updating) {
		return r.Candidate
	}
	return r.InForce
}

func (e enforced) rule(thing, rule string) {
	if e.rules[thing] == nil {
		e.rules[thing] = map[string]bool{}
	}
	e.rules[thing][rule] = true
	e.things[thing] = true
}

func (e enforced) settings(thing string, s policy.Settings) {
	e.things[thing] = true
	if s.StrictForbids == nil || *s.StrictForbids {
		e.rule(thing, "strict")
	}
	switch {
	case s.OnStale != policy.OnStaleDeny:
		e.bounds[thing] = math.MaxInt64
	case s.StalenessBound == nil:
		e.bounds[thing] = 10 * time.Second
	default:
		e.bounds[thing] = *s.StalenessBound
	}
}

// weakerThan says what was enforced before, and is not now.
func (e enforced) weakerThan(before enforced) string {
	for thing, rules := range before.rules {
		for rule := range rules {
			if e.things[thing] && !e.rules[thing][rule] {
				return thing + ": " + rule
			}
		}
	}
	for thing, bound := range before.bounds {
		if e.things[thing] && e.bounds[thing] > bound {
			return thing + ": its staleness bound"
		}
	}
	if before.second && !e.second {
		return "a second person"
	}
	return ""
}

// judge wants Weakens to find what becomes weaker with events, and nothing else.
func (h *history) judge(before *policy.Account, events []policy.Event) {
	h.t.Helper()
	said, err := policy.Weakens(before, events)
	if err != nil {
		h.t.Fatal(err)
	}
	after, was := before, enforcement(before, false)
	for _, ev := range events {
		if after, err = after.With(policy.Recorded{Account: before.ID, Event: ev}); err != nil {
			h.t.Fatal(err)
		}
	}
	weaker := enforcement(after, false).weakerThan(was)
	// What other requests wait to bring is not of this one.
	if coming := enforcement(after, true).weakerThan(enforcement(before, true)); weaker == "" {
		weaker = coming
	}
	if (said == "") != (weaker == "") {
		h.t.Fatalf("%+v\nweaken %q, and what becomes weaker is %q", events, said, weaker)
	}
	if said != "" {
		h.seen["weakens"] = true
	}
}
