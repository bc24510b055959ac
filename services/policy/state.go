package policy

import (
	"iter"

	"github.com/benbjohnson/immutable"
)

// index is a persistent sorted map by id or name; nil is not a valid one.
type index[V any] = immutable.SortedMap[string, V]

func newIndex[V any]() *index[V] { return immutable.NewSortedMap[string, V](nil) }

// after yields the entries of m whose key is greater than key, in order; all of them for "".
func after[V any](m *index[V], key string) iter.Seq[V] {
	return func(yield func(V) bool) {
		it := m.Iterator()
		if key != "" {
			it.Seek(key)
		}
		for !it.Done() {
			k, v, _ := it.Next()
			if (key == "" || k > key) && !yield(v) {
				return
			}
		}
	}
}

// State is everything that is true at one position of the log. It never changes once it is made.
type State struct {
	LogID      string
	Region     string // in every ARN
	Position   uint64
	Hash       Hash // of the event at Position
	RecordedAt int64
	// Whole is false in the middle of a command: such a state is nobody's to see.
	Whole bool

	open        opened // the command that Position is in the middle of, while not Whole
	logVersion  uint64 // of the log's own stream
	logPosition uint64 // of LogAccount
	accounts    *index[*Account]
}

// opened is what all events of a command share.
type opened struct{ account, requestID string }

// Account is everything that is true of one account.
type Account struct {
	ID       string
	Position uint64
	Settings Settings
	// SecondPerson is whether weakening enforcement needs one.
	SecondPerson bool
	Version      uint64 // of the account's own stream

	engines      *index[*Engine]
	gateways     *index[*Gateway]
	engineNames  *index[string] // name → engine id
	gatewayNames *index[string] // name → gateway id
	policyNames  *index[Ref]    // name → policy; names are unique over all engines of the account
	pending      *index[Ref]    // policies that wait to be examined, by name
	changes      *index[*Change]
}

// Resource is what engines, policies, gateways and targets have in common: one life cycle.
type Resource[D any] struct {
	ID             string
	Name           string
	Status         Status
	Reasons        []string // why, for the failed statuses
	CreatedAt      int64    // microseconds since 1970 UTC
	UpdatedAt      int64
	Version        uint64 // events of its stream
	Revision       uint64 // position of its last event
	ActiveRevision uint64 // position at which InForce came into force; 0 when nothing is
	Tags           map[string]string
	InForce        *D // nil when nothing is
	Candidate      *D // what waits, or what could not be created
}

// Definition is what is in force, or else what is to be.
func (r *Resource[D]) Definition() *D {
	if r.InForce != nil {
		return r.InForce
	}
	return r.Candidate
}

// Engine is a policy engine with its policies.
type Engine struct {
	Resource[EngineDefinition]
	Settings Settings
	policies *index[*Policy]
}

// Policy is one statement of an engine.
type Policy struct {
	Resource[Body]
	EngineID string
}

// Gateway is a front door with its targets.
type Gateway struct {
	Resource[GatewayDefinition]
	targets *index[*Target]
}

// Target is a set of tools behind a gateway.
type Target struct {
	Resource[TargetDefinition]
	GatewayID string
}

// Empty is the state before the first event.
func Empty() *State { return &State{Whole: true, accounts: newIndex[*Account]()} }

func newAccount(id string) *Account {
	return &Account{
		ID: id, engines: newIndex[*Engine](), gateways: newIndex[*Gateway](),
		engineNames: newIndex[string](), gatewayNames: newIndex[string](),
		policyNames: newIndex[Ref](), pending: newIndex[Ref](), changes: newIndex[*Change](),
	}
}

// Account is the account, an empty one when nothing has happened in it yet.
func (s *State) Account(id string) *Account {
	if a, ok := s.accounts.Get(id); ok {
		return a
	}
	return newAccount(id)
}

// Accounts yields all accounts in which something has happened, sorted.
func (s *State) Accounts() iter.Seq[*Account] { return after(s.accounts, "") }

// Engine finds an engine; nil when there is none.
func (a *Account) Engine(id string) *Engine { e, _ := a.engines.Get(id); return e }

// EngineNamed finds an engine by name; nil when there is none.
func (a *Account) EngineNamed(name string) *Engine {
	id, _ := a.engineNames.Get(name)
	return a.Engine(id)
}

// EnginesAfter yields the engines whose id is greater than id, sorted.
func (a *Account) EnginesAfter(id string) iter.Seq[*Engine] { return after(a.engines, id) }

// EngineCount is how many engines there are.
func (a *Account) EngineCount() int { return a.engines.Len() }

// Gateway finds a gateway; nil when there is none.
func (a *Account) Gateway(id string) *Gateway { g, _ := a.gateways.Get(id); return g }

// GatewaysAfter yields the gateways whose id is greater than id, sorted.
func (a *Account) GatewaysAfter(id string) iter.Seq[*Gateway] { return after(a.gateways, id) }

// Pending yields the policies that wait to be examined: CREATING or UPDATING.
func (a *Account) Pending() iter.Seq[Ref] { return after(a.pending, "") }

// AttachedGateways yields the gateways that an engine is attached to, or is about to be, sorted.
func (a *Account) AttachedGateways(engineID string) iter.Seq[*Gateway] {
	return func(yield func(*Gateway) bool) {
		for g := range a.GatewaysAfter("") {
			if (attaches(g.InForce, engineID) || attaches(g.Candidate, engineID)) && !yield(g) {
				return
			}
		}
	}
}

func attaches(d *GatewayDefinition, engineID string) bool {
	return d != nil && d.PolicyEngine != nil && d.PolicyEngine.EngineID == engineID
}

// Policy finds a policy; nil when there is none.
func (e *Engine) Policy(id string) *Policy { p, _ := e.policies.Get(id); return p }

// PoliciesAfter yields the policies whose id is greater than id, sorted.
func (e *Engine) PoliciesAfter(id string) iter.Seq[*Policy] { return after(e.policies, id) }

// PoliciesScopedAfter is PoliciesAfter for the policies that are scoped to a gateway's ARN; "" is for all.
func (e *Engine) PoliciesScopedAfter(id, gatewayARN string) iter.Seq[*Policy] {
	return func(yield func(*Policy) bool) {
		for p := range e.PoliciesAfter(id) {
			if (gatewayARN == "" || p.Definition().Resource == gatewayARN) && !yield(p) {
				return
			}
		}
	}
}

// PolicyCount is how many policies there are.
func (e *Engine) PolicyCount() int { return e.policies.Len() }

// Target finds a target; nil when there is none.
func (g *Gateway) Target(id string) *Target { t, _ := g.targets.Get(id); return t }

// TargetsAfter yields the targets whose id is greater than id, sorted.
func (g *Gateway) TargetsAfter(id string) iter.Seq[*Target] { return after(g.targets, id) }

// TargetCount is how many targets there are.
func (g *Gateway) TargetCount() int { return g.targets.Len() }

// Has reports whether ref names something in the account.
func (a *Account) Has(ref Ref) bool { return a.resource(ref) != nil }

// Tags are the tags of what ref names; nil when it has none.
func (a *Account) Tags(ref Ref) map[string]string {
	if r := a.resource(ref); r != nil {
		return r.tags()
	}
	return nil
}
