package fleet

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	decisionv1 "github.com/verdict-io/verdict/proto/gen/verdict/decision/v1"
	"github.com/verdict-io/verdict/services/policy"
)

// Standing is how a node's state relates to the log.
type Standing int

// The standings.
const (
	Forgotten      Standing = iota // older than the revisions that are remembered: it is behind
	Current                        // the newest revision
	Behind                         // an earlier one
	Ahead                          // a revision that the log does not have, as far as is known
	AnotherLog                     // of another log
	AnotherHistory                 // a revision of this log that holds something else in it
	NoState                        // none
)

// Node is a node as its latest report shows it.
type Node struct {
	Report   *decisionv1.NodeReport // not to be changed
	Standing Standing
	Age      time.Duration // since the report came
	Silent   bool          // reports are missing
}

// Nodes are all that are known, sorted by name, and for how long they have been heard without a break; 0 while they are not.
func (f *Fleet) Nodes() (nodes []Node, listening time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	for _, n := range f.nodes {
		age := now.Sub(n.heard)
		nodes = append(nodes, Node{Report: n.report, Standing: f.relation(n), Age: age, Silent: age > silence})
	}
	slices.SortFunc(nodes, func(a, b Node) int { return strings.Compare(a.Report.GetNode(), b.Report.GetNode()) })
	return nodes, f.listening(now)
}

// listening is for how long nodes have been heard without a break. Called with mu.
func (f *Fleet) listening(now time.Time) time.Duration {
	if f.since.IsZero() {
		return 0
	}
	return now.Sub(f.since)
}

// relation is how a node stands to the log as it is known. Called with mu.
func (f *Fleet) relation(n *node) Standing {
	last := f.history.last().state
	position := n.report.GetPosition()
	i, known := f.history.at(position)
	switch {
	case n.report.GetLogId() == "":
		return NoState
	case n.report.GetLogId() != last.LogID:
		return AnotherLog
	case position > last.Position:
		return Ahead
	case position < f.history[0].state.Position:
		return Forgotten
	case !known || n.hash() != f.history[i].state.Hash:
		return AnotherHistory
	case position == last.Position:
		return Current
	}
	return Behind
}

// hash is the log's hash as the node reports it, zero for what is none.
func (n *node) hash() (h policy.Hash) {
	if len(n.report.GetHash()) == len(h) {
		copy(h[:], n.report.GetHash())
	}
	return h
}

// ErrBusy: too many callers wait for a revision.
var ErrBusy = errors.New("too many callers wait for nodes to reach a revision")

const (
	// maxWaiters bounds how many wait at once.
	maxWaiters = 256
	// look is how often somebody who waits looks at all nodes.
	look = 50 * time.Millisecond
)

// Wanted is what is waited for.
type Wanted struct {
	Account  string // whose callers are meant
	Position uint64 // in the log
	Quorum   bool   // more than half of the nodes; else all
}

// Progress is how far a revision has got.
type Progress struct {
	Reached  bool
	Nodes    int
	Done     int
	Laggards []string // those that do not count yet, sorted
	Unknown  []string // silent ones that may go on with what they had, sorted
}

// Wait returns when as many nodes count as are wanted, or when ctx ends: how far it has got by then is no error.
func (f *Fleet) Wait(ctx context.Context, w Wanted) (Progress, error) {
	if !f.enter() {
		return Progress{}, ErrBusy
	}
	defer f.leave()
	tick := time.NewTicker(look)
	defer tick.Stop()
	for {
		if p := f.progress(w, time.Now()); p.Reached || ctx.Err() != nil {
			return p, nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

func (f *Fleet) enter() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.waiters >= maxWaiters {
		return false
	}
	f.waiters++
	return true
}

func (f *Fleet) leave() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.waiters--
}

// progress is how far a revision has got.
func (f *Fleet) progress(w Wanted, now time.Time) Progress {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := Progress{Nodes: len(f.nodes)}
	var guards []guard // of the history; made for the first silent node
	for name, n := range f.nodes {
		standing := f.relation(n)
		if (standing == Current || standing == Behind) && n.report.GetPosition() >= w.Position {
			p.Done++
			continue
		}
		if now.Sub(n.heard) <= silence {
			p.Laggards = append(p.Laggards, name)
			continue
		}
		if guards == nil {
			guards = f.history.bounds(w.Account)
		}
		switch denies, from := f.deniesFrom(n, standing, w, guards); {
		case !denies:
			p.Unknown = append(p.Unknown, name)
		case now.Before(from):
			p.Laggards = append(p.Laggards, name)
		default:
			p.Done++
		}
	}
	slices.Sort(p.Laggards)
	slices.Sort(p.Unknown)
	enough := p.Done == p.Nodes
	if w.Quorum {
		enough = 2*p.Done > p.Nodes
	}
	p.Reached = enough && p.Nodes > 0 && f.listening(now) >= silence
	return p
}

// deniesFrom is from when on a silent node denies what an account asks of it, unless it has the revision. A node proves its state
// fresh by a question for the head that it has reached; one that was sent after the commit it cannot have reached without the
// revision. So its proof is older than the commit, and the bound after that it is stale, though it may have gone on to ask control
// after its last report. What it does then is said by the settings of the state that it has, which may be any since that report.
func (f *Fleet) deniesFrom(n *node, standing Standing, w Wanted, guards []guard) (denies bool, from time.Time) {
	at := f.history.from(w.Position)
	if standing != Behind || at == len(f.history) {
		return false, time.Time{}
	}
	i, _ := f.history.at(n.report.GetPosition())
	from = f.history[at].learned
	if n.heard.After(from) {
		from = n.heard
	}
	return guards[i].ok, from.Add(guards[i].bound)
}
