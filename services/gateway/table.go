package gateway

import (
	"errors"
	"iter"
	"maps"
	"slices"
	"sync/atomic"

	"github.com/verdict-io/verdict/services/gateway/internal/lambda"
	"github.com/verdict-io/verdict/services/policy"
)

// table is all gateways that are served, as the newest state has them.
type table struct {
	account string // whose gateways; "" for everybody's
	surface func(*policy.Gateway, *surface) *surface
	changed func()

	now atomic.Pointer[gateways]
}

// gateways are those of one state. They do not change.
type gateways struct {
	position uint64
	byID     map[string]*front
}

func newTable(account string, surface func(*policy.Gateway, *surface) *surface, changed func()) *table {
	return &table{account: account, surface: surface, changed: changed}
}

var errNoState = errors.New("no gateways yet: neither a local file nor control had a state")

// ready is nil when there is a state, with or without gateways.
func (t *table) ready() error {
	if t.now.Load() == nil {
		return errNoState
	}
	return nil
}

// find is the gateway with an id, as it is now; nil when there is none.
func (t *table) find(id string) (*front, uint64) {
	now := t.now.Load()
	if now == nil {
		return nil, 0
	}
	return now.byID[id], now.position
}

func (t *table) len() int {
	if now := t.now.Load(); now != nil {
		return len(now.byID)
	}
	return 0
}

// gateways are all that are served.
func (t *table) gateways() iter.Seq[*policy.Gateway] {
	return func(yield func(*policy.Gateway) bool) {
		now := t.now.Load()
		if now == nil {
			return
		}
		for _, f := range now.byID {
			if !yield(f.source) {
				return
			}
		}
	}
}

// has reports whether a target is one of those that are served.
func (t *table) has(key lambda.Key) bool {
	f, _ := t.find(key.Gateway)
	return f != nil && f.account == key.Account && f.source.Target(key.Target) != nil
}

// publish makes a new state the one that is served; accounts are those that may have changed since the last, nil is all. One call at
// a time.
func (t *table) publish(state *policy.State, accounts []string) {
	before := t.now.Load()
	if before == nil {
		before, accounts = &gateways{}, nil
	}
	next := &gateways{position: state.Position, byID: before.byID}
	if t.concerns(accounts) {
		next.byID = t.build(state, before)
	}
	t.now.Store(next)
	if !maps.Equal(before.byID, next.byID) {
		t.end(before, next)
		t.changed()
	}
}

// concerns reports whether one of the accounts is served. Nil is all accounts.
func (t *table) concerns(accounts []string) bool {
	return accounts == nil || t.account == "" || slices.Contains(accounts, t.account)
}

// build makes what changed. What did not is the same value as before.
func (t *table) build(state *policy.State, before *gateways) map[string]*front {
	all := make(map[string]*front, len(before.byID))
	for account := range state.Accounts() {
		if t.account != "" && account.ID != t.account {
			continue
		}
		for g := range account.GatewaysAfter("") {
			if g.InForce == nil {
				continue
			}
			known := before.byID[g.ID]
			switch {
			case known != nil && known.account != account.ID:
				known = nil
			case known != nil && known.source == g:
				all[g.ID] = known
				continue
			}
			all[g.ID] = known.next(account.ID, state.Region, g, t.surface)
		}
	}
	return all
}

// end closes the sessions of gateways that are gone, or that speak MCP in another way now.
func (t *table) end(before, now *gateways) {
	for id, was := range before.byID {
		if is := now.byID[id]; is == nil || is.surface != was.surface {
			was.surface.end()
		}
	}
}
