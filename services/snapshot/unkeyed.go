package snapshot

import "github.com/verdict-io/verdict/services/policy"

// Unkeyed counts policies that the index cannot key: they name neither a tool or target nor a principal, and do not begin with a test
// of a tag, so that every request of their gateways, or every one of a type of principal, has to be decided by them. They are what
// makes decisions slow.
type Unkeyed struct {
	Policies int                    // of all engines
	Engines  [len(UnkeyedLeast)]int // by how many such policies they have: at least UnkeyedLeast
}

// UnkeyedLeast is where the classes of Unkeyed.Engines begin.
var UnkeyedLeast = [...]int{0, 1, 10, 100, 1000}

// add counts u's policies and engines as well, sign times.
func (u *Unkeyed) add(other *Unkeyed, sign int) {
	u.Policies += sign * other.Policies
	for i, n := range other.Engines {
		u.Engines[i] += sign * n
	}
}

// engine counts one engine.
func (u *Unkeyed) engine(e *engine) {
	u.Policies += e.unkeyed
	class := 0
	for i, least := range UnkeyedLeast {
		if e.unkeyed >= least {
			class = i
		}
	}
	u.Engines[class]++
}

// Unkeyed counts the policies that the index cannot key, of all accounts.
func (s *Snapshot) Unkeyed() Unkeyed { return s.unkeyed }

// UnkeyedOf is what Unkeyed counts, of one engine, for whoever has no Snapshot. It never changes; its zero value is of an engine without
// policies.
type UnkeyedOf struct {
	engine   *policy.Engine
	policies int
	inForce  map[*policy.Body]bool // whether the index cannot key it
}

// Policies is how many of them the index cannot key.
func (u *UnkeyedOf) Policies() int { return u.policies }

// Next counts those of e, which should be the engine in another state: what is in force in both is not parsed again.
func (u *UnkeyedOf) Next(e *policy.Engine) *UnkeyedOf {
	if u.engine == e {
		return u
	}
	next := &UnkeyedOf{engine: e, inForce: make(map[*policy.Body]bool, e.PolicyCount())}
	for p := range e.PoliciesAfter("") {
		if p.InForce == nil {
			continue
		}
		unkeyed, known := u.inForce[p.InForce]
		if !known {
			unkeyed = (*compiled)(nil).next(p).unkeyed()
		}
		if next.inForce[p.InForce] = unkeyed; unkeyed {
			next.policies++
		}
	}
	return next
}
