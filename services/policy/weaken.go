package policy

import (
	"fmt"
	"slices"
	"strings"
)

// Weakens says in words what of the enforcement that is in force in an account the events would weaken: what they would do,
// as in "detach engine E from gateway G"; "" when nothing. It is an error when the events cannot happen.
//
// The account before is compared with the account after, so that a command that does not exist yet is judged too. What is to
// come into force counts as if it were: the activation comes later, from the service itself, and is not judged. A forbid
// whose statement changes may be weaker than before; since nobody can tell, it counts. What a permit says is authorship, and
// so is what a gateway or engine stops doing by being deleted: for an unknown gateway there is an error, and no call.
func Weakens(before *Account, events []Event) (string, error) {
	after := *before
	var touched []Ref
	for _, ev := range events {
		if err := after.apply(Recorded{Account: before.ID, Event: ev}); err != nil {
			return "", fmt.Errorf("%s %s: %w", ev.Type(), ev.Ref().ID, err)
		}
		if !slices.Contains(touched, ev.Ref()) {
			touched = append(touched, ev.Ref())
		}
	}
	var what []string
	for _, ref := range touched {
		what = append(what, before.weakened(&after, ref)...)
	}
	return strings.Join(what, "; "), nil
}

// weakened is what becomes weaker with the thing that ref names.
func (a *Account) weakened(after *Account, ref Ref) []string {
	switch ref.Kind {
	case KindAccount:
		return a.weakenedSettings(after)
	case KindEngine:
		if was, is := a.Engine(ref.ID), after.Engine(ref.ID); was != nil && is != nil {
			return ofWhom(looser(a.effective(was), after.effective(is)), "engine "+ref.ID)
		}
	case KindPolicy:
		if e := a.Engine(ref.Parent); e != nil && e.Policy(ref.ID) != nil {
			return e.Policy(ref.ID).weakened(after.Engine(ref.Parent).Policy(ref.ID))
		}
	case KindGateway:
		if was, is := a.Gateway(ref.ID), after.Gateway(ref.ID); was != nil && is != nil {
			return was.weakened(is)
		}
	case KindLog, KindTarget, KindChange:
	}
	return nil
}

// weakened is what becomes weaker when p becomes after, nil when it is gone.
func (p *Policy) weakened(after *Policy) []string {
	if p.InForce == nil || p.InForce.Enforcement != EnforcementActive || !forbids(p.InForce) {
		return nil
	}
	if after == nil || after.Status == Deleting {
		return []string{"delete the forbid policy " + p.ID}
	}
	var what []string
	for _, b := range after.all() {
		if b.Enforcement != EnforcementActive {
			what = append(what, fmt.Sprintf("demote the forbid policy %s to %s", p.ID, b.Enforcement))
		}
		if b.Statement != p.InForce.Statement || b.Language != p.InForce.Language {
			what = append(what, "change the statement of the forbid policy "+p.ID)
		}
	}
	return what
}

// forbids is true for everything but a permit: what cannot be read an earlier version accepted, and nobody knows what it does.
func forbids(b *Body) bool { return effectWord(b.Statement) != EffectPermit }

// effectWord is the effect of a statement that was parsed once, by its first word behind annotations; something else for what
// is no statement. Parsing takes a hundred times as long, and this is asked while everybody waits.
func effectWord(source string) Effect {
	l := lexer{rest: source}
	next := func() string {
		l.skipBlanks()
		if l.rest == "" {
			return ""
		}
		_, n := l.measure()
		word := l.rest[:n]
		l.advance(n)
		return word
	}
	word := next()
	for word == "@" {
		next() // its name
		if word = next(); word == "(" {
			next() // its value
			next() // )
			word = next()
		}
	}
	return Effect(word)
}

// weakened is what becomes weaker when g becomes after.
func (g *Gateway) weakened(after *Gateway) []string {
	if g.InForce == nil || g.InForce.PolicyEngine == nil {
		return nil
	}
	was := *g.InForce.PolicyEngine
	var what []string
	for _, d := range after.all() {
		switch is := d.PolicyEngine; {
		case is == nil:
			what = append(what, fmt.Sprintf("detach engine %s from gateway %s", was.EngineID, g.ID))
		case is.EngineID != was.EngineID:
			what = append(what, fmt.Sprintf("attach engine %s to gateway %s in place of engine %s", is.EngineID, g.ID, was.EngineID))
		case was.Mode == ModeEnforce && is.Mode != ModeEnforce:
			what = append(what, fmt.Sprintf("lower the mode of engine %s at gateway %s from %s to %s", was.EngineID, g.ID, was.Mode, is.Mode))
		}
	}
	return what
}

// all are the definitions that are in force, or are to be.
func (r *Resource[D]) all() []*D {
	return slices.DeleteFunc([]*D{r.InForce, r.Candidate}, func(d *D) bool { return d == nil })
}

// effective are the settings that an engine's decisions go by.
func (a *Account) effective(e *Engine) Settings { return e.Settings.Or(a.Settings.Or(Defaults())) }

// looser is what was allows less than is: words that "of" and somebody's name belong behind. Both are complete.
func looser(was, is Settings) []string {
	var what []string
	if *was.StrictForbids && !*is.StrictForbids {
		what = append(what, "switch off the strict forbids")
	}
	switch {
	case was.OnStale != OnStaleDeny:
	case is.OnStale != OnStaleDeny:
		what = append(what, "have stale nodes serve, and no longer deny, requests")
	case *is.StalenessBound > *was.StalenessBound:
		what = append(what, fmt.Sprintf("raise the staleness bound from %v to %v", *was.StalenessBound, *is.StalenessBound))
	}
	return what
}

func ofWhom(what []string, whom string) []string {
	for i, w := range what {
		what[i] = w + " of " + whom
	}
	return what
}

// maxNamed is how many engines a text about all of an account names.
const maxNamed = 3

// weakenedSettings is what becomes weaker with the settings of the account: its own, which engines made later have too, and
// those of engines for which that comes to something else.
func (a *Account) weakenedSettings(after *Account) []string {
	account := looser(a.Settings.Or(Defaults()), after.Settings.Or(Defaults()))
	var more []string
	engines := map[string][]string{}
	for e := range a.EnginesAfter("") {
		for _, w := range looser(a.effective(e), after.effective(e)) {
			if slices.Contains(account, w) {
				continue
			}
			if engines[w] == nil {
				more = append(more, w)
			}
			engines[w] = append(engines[w], e.ID)
		}
	}
	what := ofWhom(account, "this account")
	for _, w := range more {
		ids := engines[w]
		names := strings.Join(ids[:min(len(ids), maxNamed)], ", ")
		if n := len(ids) - maxNamed; n > 0 {
			names += fmt.Sprintf(" and %d more", n)
		}
		what = append(what, w+" of engine "+names)
	}
	if a.SecondPerson && !after.SecondPerson {
		what = append(what, "do without a second person in this account")
	}
	return what
}
