// Package snapshot turns a policy.State into a Snapshot, which is immutable and holds every policy compiled and indexed,
// and a Snapshot and a Request into a Decision.
//
// It guarantees that a decision is Cedar's: default deny, forbid wins, and the index gives what walking every policy of
// the engine would give, reasons and errors included. What it adds can only deny: a forbid that fails denies (unless the
// engine's settings say otherwise), arguments that do not fit the tool's schema are denied and never coerced, and an engine
// of which a policy cannot be compiled denies everything.
//
// It is pure. Times come in as arguments; there is no context, no I/O, no clock, no randomness and no goroutine, so the same
// State and Request give the same Decision everywhere and for ever, down to the texts. A Snapshot may be used by many at once.
package snapshot

import (
	"github.com/benbjohnson/immutable"

	"github.com/verdict-io/verdict/services/policy"
)

// EvaluatorVersion is part of every record of a decision: the same version gives the same answer to the same request at the
// same revision. It changes whenever an answer can.
const EvaluatorVersion = "verdict-3/cedar-go-1.9.0"

// byID is a persistent map by id; nil is not a valid one.
type byID[V any] = immutable.Map[string, V]

func newByID[V any]() *byID[V] { return immutable.NewMap[string, V](nil) }

// Snapshot answers requests at one revision. It never changes once it is made.
type Snapshot struct {
	state    *policy.State
	accounts *byID[*account]
	unkeyed  Unkeyed // of all accounts
}

// account is what is in force in one account.
type account struct {
	source   *policy.Account
	settings policy.Settings // with the product's defaults
	gateARN  string          // what every ARN of its gateways begins with

	engines  table[*engine]
	gateways table[*gateway]
	unkeyed  Unkeyed
}

// Build compiles everything that is in force in a state, which takes tens of microseconds a policy.
func Build(state *policy.State) *Snapshot {
	s := &Snapshot{state: state, accounts: newByID[*account]()}
	return s.with(state, nil)
}

// Next is the snapshot of a later state, of which s must be a snapshot of an earlier one. accounts are those that had events
// in between, nil for all. What is the same pointer in both states is taken over as it is compiled.
func (s *Snapshot) Next(state *policy.State, accounts []string) *Snapshot {
	if state.Region != s.state.Region {
		return Build(state)
	}
	return s.with(state, accounts)
}

func (s *Snapshot) with(state *policy.State, accounts []string) *Snapshot {
	next := &Snapshot{state: state, accounts: s.accounts, unkeyed: s.unkeyed}
	if accounts == nil {
		for a := range state.Accounts() {
			next.update(a)
		}
	}
	for _, id := range accounts {
		next.update(state.Account(id))
	}
	return next
}

// update takes one account over from the state.
func (s *Snapshot) update(source *policy.Account) {
	known, ok := s.accounts.Get(source.ID)
	if !ok {
		known = nothing
	}
	if known.source != source {
		next := known.next(source, s.state.Region)
		s.accounts = s.accounts.Set(source.ID, next)
		s.unkeyed.add(&known.unkeyed, -1)
		s.unkeyed.add(&next.unkeyed, 1)
	}
}

// nothing is an account in which nothing is.
var nothing = &account{engines: newTable[*engine](), gateways: newTable[*gateway]()}

func (a *account) next(source *policy.Account, region string) *account {
	next := &account{
		source: source, settings: source.Settings.Or(policy.Defaults()),
		gateARN: policy.ARN(region, source.ID, policy.GatewayRef("")),
	}
	engines := a.engines.update()
	for e := range source.EnginesAfter("") {
		if e.InForce != nil {
			engines.put(e.ID, func(known *engine) bool { return known.source == e }, func(known *engine) *engine { return known.next(e) })
		}
	}
	next.engines = engines.done()
	for _, e := range next.engines.sorted {
		next.unkeyed.engine(e.value)
	}
	gateways := a.gateways.update()
	for g := range source.GatewaysAfter("") {
		if g.InForce != nil {
			gateways.put(g.ID, func(known *gateway) bool { return known.source == g },
				func(known *gateway) *gateway { return known.next(g, next.gateARN+g.ID) })
		}
	}
	next.gateways = gateways.done()
	return next
}

// Revision is the position of the state.
func (s *Snapshot) Revision() uint64 { return s.state.Position }

// Hash is the log's hash at Revision.
func (s *Snapshot) Hash() policy.Hash { return s.state.Hash }

// LogID names the log of the state.
func (s *Snapshot) LogID() string { return s.state.LogID }
