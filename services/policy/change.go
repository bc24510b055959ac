package policy

import (
	"fmt"
	"iter"
	"time"
)

// ChangeLifetime is how long after its proposal a change can be approved.
const ChangeLifetime = 7 * 24 * time.Hour

// Change is a request that weakens enforcement and waits for a second person. Nothing of it is in force. Once it is approved
// or rejected it is in the log alone.
type Change struct {
	ID          string
	Description string
	Weakens     string      // what of the enforcement in force, when it was proposed
	Events      []Event     // what follows its approval
	Basis       []Versioned // what Events were decided on
	Proposer    Actor
	ProposedAt  int64  // microseconds since 1970 UTC
	Version     uint64 // events of its stream
	Revision    uint64 // position of its last event
}

// Versioned is a thing as of one version of it.
type Versioned struct {
	Of      Ref
	Version uint64
}

// ExpiresAt is when it can no longer be approved, in microseconds since 1970 UTC.
func (c *Change) ExpiresAt() int64 { return c.ProposedAt + ChangeLifetime.Microseconds() }

// Change finds a change that waits; nil when there is none.
func (a *Account) Change(id string) *Change { c, _ := a.changes.Get(id); return c }

// ChangesAfter yields the changes that wait whose id is greater than id, sorted.
func (a *Account) ChangesAfter(id string) iter.Seq[*Change] { return after(a.changes, id) }

// FindChange is Change with a refusal when there is none.
func (a *Account) FindChange(id string) (*Change, error) {
	if c := a.Change(id); c != nil {
		return c, nil
	}
	return nil, refuse(ErrNotFound, "change_not_found", "changeId",
		"no change %s waits in this account: it was approved or rejected, or never was", quoted(id))
}

// Outdated reports whether what c is about has changed since c was proposed, or what it would weaken has.
func (a *Account) Outdated(c *Change) bool {
	for _, b := range c.Basis {
		if a.version(b.Of) != b.Version {
			return true
		}
	}
	weakens, err := Weakens(a, c.Events)
	return err != nil || weakens != c.Weakens
}

// basisOf are the things that events are about, as they are.
func (a *Account) basisOf(events []Event) []Versioned {
	var basis []Versioned
	seen := map[Ref]bool{}
	for _, ev := range events {
		if ref := ev.Ref(); !seen[ref] {
			seen[ref] = true
			basis = append(basis, Versioned{Of: ref, Version: a.version(ref)})
		}
	}
	return basis
}

// proposable reports whether ev can be part of a change: it is of a kind that changes are about, and so of no change.
func proposable(ev Event) bool {
	switch ev.Ref().Kind {
	case KindAccount, KindEngine, KindPolicy, KindGateway:
		return true
	case KindLog, KindTarget, KindChange:
	}
	return false
}

// applyChange applies the events of changes.
func (a *Account) applyChange(r Recorded) error {
	if e, ok := r.Event.(ChangeProposed); ok {
		c := &Change{
			ID: e.ID, Description: e.Description, Weakens: e.Weakens, Events: e.Events, Basis: e.Basis,
			Proposer: r.Cause.Actor, ProposedAt: r.RecordedAt, Version: r.StreamVersion, Revision: r.Position,
		}
		return a.putChange(c)
	}
	id := r.Event.Ref().ID
	if a.Change(id) == nil {
		return errMissing
	}
	a.changes = a.changes.Delete(id)
	return nil
}

func (a *Account) putChange(c *Change) error {
	if a.Change(c.ID) != nil {
		return errThere
	}
	for _, ev := range c.Events {
		if !proposable(ev) {
			return fmt.Errorf("proposes %s, which is not for a change", ev.Type())
		}
	}
	a.changes = a.changes.Set(c.ID, c)
	return nil
}

// verify checks what Check and Decide see to.
func (c *Change) verify(s *State) error {
	for _, ev := range c.Events {
		var err error
		switch e := ev.(type) {
		case AccountSettingsChanged:
			err = e.Settings.check()
		case EngineSettingsChanged:
			err = e.Settings.check()
		case PolicyUpdateRequested:
			err = e.Body.check()
		case GatewayUpdateRequested:
			err = e.Definition.Validate()
		}
		if err != nil {
			return fmt.Errorf("%s: %w", ev.Type(), err)
		}
	}
	if err := first(checkPattern("id", c.ID, changeIDPattern), description.optional("description", c.Description)); err != nil {
		return err
	}
	switch {
	case len(c.Events) == 0 || c.Weakens == "":
		return fmt.Errorf("has %d events, which weaken %q", len(c.Events), c.Weakens)
	case len(c.Basis) == 0:
		return fmt.Errorf("was decided on nothing")
	case c.Version == 0 || c.Version > c.Revision || c.Revision > s.Position:
		return fmt.Errorf("has version %d, revision %d, at position %d", c.Version, c.Revision, s.Position)
	case c.ProposedAt > s.RecordedAt:
		return fmt.Errorf("was proposed after the last event")
	}
	return nil
}
