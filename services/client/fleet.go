package client

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// How long a node is left out: after its first failure, and at most.
const (
	minPause = 100 * time.Millisecond
	maxPause = 10 * time.Second
)

// fleet chooses nodes, and remembers which of them are in trouble.
type fleet struct {
	logger *slog.Logger
	pause  func(failures int) time.Duration
	nodes  []*node

	mu   sync.Mutex // guards turn, and what is said at node
	turn int        // where the next choice begins, so that equal nodes take turns
}

// node is a decision node as its caller sees it.
type node struct {
	name    string // its URL
	service service

	// Guarded by the fleet's mu.
	inFlight int
	failures int       // in a row
	until    time.Time // it is left out until then; zero while it is well
	trying   bool      // one call is finding out whether it is back
	epoch    int       // counts failures, so that those which began before one was known are not counted as well
}

// pick is one attempt at a node.
type pick struct {
	node  *node
	last  bool // no other node is left to ask
	epoch int
	probe bool // it is the one that finds out
}

// health is what an attempt says of a node.
type health int

const (
	unknown health = iota
	well
	failing
)

// begin chooses a node that was not asked yet. ok is false when there is none. end must follow.
func (f *fleet) begin(asked []*node, now time.Time) (p pick, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.turn++
	var best *node
	left := 0
	for i := range f.nodes {
		n := f.nodes[(f.turn+i)%len(f.nodes)]
		if slices.Contains(asked, n) {
			continue
		}
		left++
		if best == nil || n.before(best, now, len(asked) == 0) {
			best = n
		}
	}
	if best == nil {
		return pick{}, false
	}
	best.inFlight++
	p = pick{node: best, last: left == 1, epoch: best.epoch, probe: best.failures > 0 && !best.trying}
	if p.probe {
		best.trying = true
	}
	return p, true
}

// before reports whether n is to be asked rather than other. The first attempt of a call tries a node again whose time has come: with
// others well, nobody else would. Where an attempt has failed already, what is known to be well goes first. Nodes in trouble come last,
// those first that have been left out the longest.
func (n *node) before(other *node, now time.Time, first bool) bool {
	a, b := n.rank(now, first), other.rank(now, first)
	switch {
	case a != b:
		return a < b
	case n.failures == 0:
		return n.inFlight < other.inFlight
	default:
		return n.until.Before(other.until)
	}
}

func (n *node) rank(now time.Time, first bool) int {
	due := n.failures > 0 && !n.trying && !now.Before(n.until)
	switch {
	case due && first:
		return 0
	case n.failures == 0:
		return 1
	case due:
		return 2
	default:
		return 3
	}
}

// end takes note of what an attempt has shown.
func (f *fleet) end(p pick, learnt health, err error, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := p.node
	n.inFlight--
	if p.probe {
		n.trying = false
	}
	if p.epoch != n.epoch {
		return
	}
	switch {
	case learnt == failing:
		n.failures++
		n.epoch++
		n.until = now.Add(f.pause(n.failures))
		if n.failures == 1 {
			f.logger.LogAttrs(context.Background(), slog.LevelWarn, "decision node left out", slog.String("node", n.name), slog.Any("error", err))
		}
	case learnt == well && n.failures > 0:
		n.failures, n.until = 0, time.Time{}
		f.logger.LogAttrs(context.Background(), slog.LevelInfo, "decision node is back", slog.String("node", n.name))
	}
}

// pause is how long a node is left out after so many failures in a row. It differs by a fifth, so that gateways do not come back together.
func pause(failures int) time.Duration {
	d := minPause << min(failures-1, 10)
	d = min(d, maxPause)
	return d - d/10 + rand.N(d/5+1) //nolint:gosec // spreads load, guards nothing
}
