package fleet

import (
	"context"
	"iter"
	"slices"
	"sort"
	"time"

	"github.com/verdict-io/verdict/services/control/internal/eventlog"
	"github.com/verdict-io/verdict/services/policy"
)

// Log is the log, as eventlog.Log is.
type Log interface {
	// Known is the newest state that this process has seen.
	Known() *policy.State
	// Wait returns a state beyond a position once there is one.
	Wait(ctx context.Context, position uint64) (*policy.State, error)
	// Read yields the events after a position in order.
	Read(ctx context.Context, after uint64) iter.Seq2[eventlog.Row, error]
}

// maxHistory is how many revisions are remembered. States share what they have in common, so that one costs what it changed.
const maxHistory = 4096

// revision is a state of the log, and when this process learned of it, which is after its commit.
type revision struct {
	state   *policy.State
	learned time.Time
}

// history is the newest revisions, oldest first and none left out. It is never empty once it is used.
type history []revision

func (h history) last() revision { return h[len(h)-1] }

// with is h with the next revision; it takes the place of h.
func (h history) with(s *policy.State, learned time.Time) history {
	if len(h) >= 2*maxHistory { // half at a time, so that it costs little
		h = slices.Clone(h[len(h)-maxHistory:])
	}
	return append(h, revision{state: s, learned: learned})
}

// from is the index of the first revision at or beyond a position; len(h) when there is none.
func (h history) from(position uint64) int {
	return sort.Search(len(h), func(i int) bool { return h[i].state.Position >= position })
}

// at is the index of the revision of exactly this position.
func (h history) at(position uint64) (int, bool) {
	i := h.from(position)
	return i, i < len(h) && h[i].state.Position == position
}

// between is the revisions after one position up to another one.
func (h history) between(after, upTo uint64) []revision {
	return h[h.from(after+1):max(h.from(after+1), h.from(upTo+1))]
}

// bounds says for each revision after which staleness an account's callers are denied by a node that has it or a later one; ok is
// false where they may be answered with what the node has, whatever the time.
func (h history) bounds(account string) []guard {
	out := make([]guard, len(h))
	var before *policy.Account
	var own guard
	for i := len(h) - 1; i >= 0; i-- {
		if a := h[i].state.Account(account); a != before || i == len(h)-1 {
			own, before = guardOf(a), a
		}
		out[i] = own
		if i < len(h)-1 {
			out[i] = guard{ok: own.ok && out[i+1].ok, bound: max(own.bound, out[i+1].bound)}
		}
	}
	return out
}

// guard is what a node owes an account when it cannot prove its state fresh.
type guard struct {
	ok    bool // it denies
	bound time.Duration
}

// guardOf is what all engines of an account, and what has no engine, have in common.
func guardOf(a *policy.Account) guard {
	settings := a.Settings.Or(policy.Defaults())
	g := guard{ok: settings.OnStale == policy.OnStaleDeny, bound: *settings.StalenessBound}
	for e := range a.EnginesAfter("") {
		of := e.Settings.Or(settings)
		g.ok = g.ok && of.OnStale == policy.OnStaleDeny
		g.bound = max(g.bound, *of.StalenessBound)
	}
	return g
}
