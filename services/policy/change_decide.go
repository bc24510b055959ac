package policy

// By is on whose behalf a command is decided.
type By struct {
	Actor Actor
	// MayWeaken is set for who holds the role that may weaken enforcement. What was decided about it comes from outside.
	MayWeaken bool
	Now       int64 // microseconds since 1970 UTC
}

// MethodInternal is the method of the service itself, which ends what requests have begun. Nobody comes in by it.
const MethodInternal = "internal"

// DecideFor is Decide for a caller, who may not do everything: what weakens the enforcement in force needs MayWeaken, and
// where the account asks for a second person it is refused and can be proposed. The service itself is not judged: what it
// activates was judged when it was requested.
func DecideFor(by By, s *State, account string, c Command, config Config) ([]Event, error) {
	events, err := decide(by, s, account, c, config)
	if err != nil || account == LogAccount || by.Actor.Method == MethodInternal {
		return events, err
	}
	if _, approves := c.(ApproveChange); approves {
		return events, nil // by two
	}
	a := s.Account(account)
	what, err := Weakens(a, events)
	switch {
	case err != nil:
		return nil, err
	case what == "":
		return events, nil
	case !by.MayWeaken:
		return nil, refuse(ErrDenied, "weakens_enforcement", "", "this would %s: what weakens enforcement needs the role enforcer", what)
	case a.SecondPerson:
		return nil, refuse(ErrConflict, "approval_required", "", "this would %s: in this account what weakens enforcement needs a second person. "+
			"Send the same request in ProposeChange, and have another caller with the role enforcer approve it (ApproveChange)", what)
	}
	return events, nil
}

func (in input) mayDecideOnChanges() error {
	if in.by.MayWeaken {
		return nil
	}
	return refuse(ErrDenied, "weakens_enforcement", "", "proposing, approving and rejecting what weakens enforcement needs the role enforcer")
}

// change finds a change for a caller who may decide on it.
func (in input) change(id string) (*Change, error) {
	if err := in.mayDecideOnChanges(); err != nil {
		return nil, err
	}
	return in.account.FindChange(id)
}

func (c ProposeChange) decide(in input) ([]Event, error) {
	if err := in.mayDecideOnChanges(); err != nil {
		return nil, err
	}
	a := in.account
	if a.Change(c.ID) != nil {
		return nil, idTaken(c.ID)
	}
	events, err := c.Command.decide(in)
	if err != nil {
		return nil, err
	}
	weakens, err := Weakens(a, events)
	if err != nil {
		return nil, err
	}
	if weakens == "" {
		return nil, refuse(ErrConflict, "weakens_nothing", "request", "the request weakens no enforcement that is in force, so there is nothing to approve: send it directly")
	}
	if limit := in.config.Limits.Changes; a.changes.Len() >= limit {
		return nil, refuse(ErrQuota, "quota", "", "the limit of %d changes that wait in this account is reached: approve or reject some", limit)
	}
	return []Event{ChangeProposed{ID: c.ID, Description: c.Description, Weakens: weakens, Events: events, Basis: a.basisOf(events)}}, nil
}

func (c ApproveChange) decide(in input) ([]Event, error) {
	ch, err := in.change(c.ID)
	if err != nil {
		return nil, err
	}
	if by := in.by.Actor; ch.Proposer.same(by) {
		return nil, refuse(ErrDenied, "same_person", "", "%s (%s) proposed this change, and who proposed a change cannot approve it: have somebody else do it. "+
			"All callers on loopback without credentials count as one: configure callers, of whom one proposes and another approves", quoted(by.ID), by.Method)
	}
	if in.by.Now > ch.ExpiresAt() {
		return nil, refuse(ErrConflict, "expired", "", "the change was proposed more than %d days ago, and nobody approved it in time: reject it, and propose it again", int(ChangeLifetime.Hours()/24))
	}
	if in.account.Outdated(ch) {
		return nil, refuse(ErrStale, "stale_change", "", "what the change is about has changed since it was proposed: reject it, and propose it again")
	}
	if err := in.stillFit(ch.Events); err != nil {
		return nil, err
	}
	return append([]Event{ChangeApproved{ID: c.ID}}, ch.Events...), nil
}

// same reports whether two requests came from one and the same caller, as far as can be told: from wherever, by whatever method.
func (a Actor) same(b Actor) bool {
	return a.Account == b.Account && a.ID == b.ID
}

// stillFit repeats what the decision on a change has looked at beside the things that the change is about: the engine that is
// to be attached, and the limits, which other policies and tools have used meanwhile.
func (in input) stillFit(events []Event) error {
	for _, ev := range events {
		var err error
		switch e := ev.(type) {
		case PolicyUpdateRequested:
			engine := in.account.Engine(e.EngineID)
			if engine.Policy(e.ID).Definition().Statement != e.Body.Statement {
				err = in.fits(engine, e.ID, e.Body)
			}
		case GatewayUpdateRequested:
			err = in.attachable(in.account.Gateway(e.ID), e.Definition.PolicyEngine)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (c RejectChange) decide(in input) ([]Event, error) {
	if _, err := in.change(c.ID); err != nil {
		return nil, err
	}
	return []Event{ChangeRejected(c)}, nil
}
