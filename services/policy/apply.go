package policy

import (
	"fmt"
	"slices"
)

// Next is ev as it will stand in the log after s: everything but EventID, Cause, Commits and Hash. now is microseconds
// since 1970 UTC; a clock that went back is held at the time of the last event.
func (s *State) Next(account string, ev Event, now int64) Recorded {
	r := Recorded{
		LogID: s.LogID, Position: s.Position + 1, Account: account,
		AccountPosition: s.accountPosition(account) + 1,
		StreamVersion:   s.streamVersion(account, ev.Ref()) + 1,
		RecordedAt:      max(now, s.RecordedAt),
		PrevHash:        s.Hash, Event: ev,
	}
	if c, ok := ev.(LogCreated); ok {
		r.LogID = c.LogID
	}
	return r
}

// Apply is the state after r. It refuses, with an error that says what is wrong, an event that does not stand right
// behind s (log, position, hash, account position, stream version, time) or that cannot have happened in s: then
// somebody has changed the log, or it was written by a later version. s itself never changes.
func (s *State) Apply(r Recorded) (*State, error) {
	if err := s.follows(r); err != nil {
		return nil, fmt.Errorf("position %d: %w", r.Position, err)
	}
	next := *s
	next.LogID, next.Position, next.Hash, next.RecordedAt, next.Whole = r.LogID, r.Position, r.Hash, r.RecordedAt, r.Commits
	next.open = opened{r.Account, r.Cause.RequestID}
	created, begins := r.Event.(LogCreated)
	if begins != (s.Position == 0) || begins != (r.Account == LogAccount) || r.LogID == "" {
		return nil, fmt.Errorf("position %d: %s of account %q does not belong here", r.Position, r.Event.Type(), r.Account)
	}
	if begins {
		next.Region = created.Region
		next.logVersion, next.logPosition = r.StreamVersion, r.AccountPosition
		return &next, nil
	}
	account := *s.Account(r.Account)
	if account.Position == 0 {
		if err := CheckAccount(account.ID); err != nil {
			return nil, fmt.Errorf("position %d: %w", r.Position, err)
		}
	}
	account.Position = r.AccountPosition
	if err := account.apply(r); err != nil {
		return nil, fmt.Errorf("position %d: %s %s: %w", r.Position, r.Event.Type(), r.Event.Ref().ID, err)
	}
	next.accounts = s.accounts.Set(r.Account, &account)
	return &next, nil
}

func (s *State) follows(r Recorded) error {
	want := s.Next(r.Account, r.Event, r.RecordedAt)
	switch {
	case r.LogID != want.LogID:
		return fmt.Errorf("belongs to log %q, want %q", r.LogID, want.LogID)
	case r.Position != want.Position:
		return fmt.Errorf("stands where %d should", want.Position)
	case r.PrevHash != want.PrevHash:
		return fmt.Errorf("its previous hash is %x…, want %x…", r.PrevHash[:6], want.PrevHash[:6])
	case r.AccountPosition != want.AccountPosition:
		return fmt.Errorf("is number %d of account %s, want %d", r.AccountPosition, r.Account, want.AccountPosition)
	case r.StreamVersion != want.StreamVersion:
		return fmt.Errorf("is version %d of %s, want %d", r.StreamVersion, r.Event.Ref().Stream(), want.StreamVersion)
	case r.RecordedAt != want.RecordedAt:
		return fmt.Errorf("is older than the event before")
	case !s.Whole && s.open != opened{r.Account, r.Cause.RequestID}:
		return fmt.Errorf("stands in the middle of a command of another request")
	}
	return nil
}

func (s *State) accountPosition(account string) uint64 {
	if account == LogAccount {
		return s.logPosition
	}
	return s.Account(account).Position
}

func (s *State) streamVersion(account string, ref Ref) uint64 {
	if account == LogAccount {
		return s.logVersion
	}
	return s.Account(account).version(ref)
}

// version is how many events there are of what ref names; 0 when there is nothing.
func (a *Account) version(ref Ref) uint64 {
	if r := a.resource(ref); r != nil {
		return r.version()
	}
	switch c := a.Change(ref.ID); {
	case ref.Kind == KindAccount:
		return a.Version
	case ref.Kind == KindChange && c != nil:
		return c.Version
	}
	return 0
}

// lifecycle is *Resource[D] of any D.
type lifecycle interface {
	version() uint64
	status() Status
	tags() map[string]string
	step(Recorded) error
}

func (r *Resource[D]) version() uint64         { return r.Version }
func (r *Resource[D]) status() Status          { return r.Status }
func (r *Resource[D]) tags() map[string]string { return r.Tags }

// resource finds what ref names; nil when there is nothing.
func (a *Account) resource(ref Ref) lifecycle {
	switch ref.Kind {
	case KindEngine:
		if e := a.Engine(ref.ID); e != nil {
			return &e.Resource
		}
	case KindPolicy:
		if e := a.Engine(ref.Parent); e != nil {
			if p := e.Policy(ref.ID); p != nil {
				return &p.Resource
			}
		}
	case KindGateway:
		if g := a.Gateway(ref.ID); g != nil {
			return &g.Resource
		}
	case KindTarget:
		if g := a.Gateway(ref.Parent); g != nil {
			if t := g.Target(ref.ID); t != nil {
				return &t.Resource
			}
		}
	case KindLog, KindAccount, KindChange:
	}
	return nil
}

// created is a resource as its first event leaves it.
func created[D any](r Recorded, id, name string, d D, tags map[string]string) Resource[D] {
	return Resource[D]{
		ID: id, Name: name, Status: Creating, CreatedAt: r.RecordedAt, UpdatedAt: r.RecordedAt,
		Version: r.StreamVersion, Revision: r.Position, Tags: orNil(tags), Candidate: &d,
	}
}

// orNil is nil for no tags, as they come back from a stored state.
func orNil(tags map[string]string) map[string]string {
	if len(tags) == 0 {
		return nil
	}
	return tags
}

// request puts a candidate beside what is in force.
func (r *Resource[D]) request(rec Recorded, d D) error {
	if r.Status.busy() {
		return fmt.Errorf("is %s", r.Status)
	}
	r.touch(rec)
	r.Status, r.Reasons, r.Candidate = Updating, nil, &d
	return nil
}

func (r *Resource[D]) touch(rec Recorded) {
	r.Version, r.Revision, r.UpdatedAt = rec.StreamVersion, rec.Position, rec.RecordedAt
}

// step applies the events that all kinds share, but for Deleted, which leaves nothing to step.
func (r *Resource[D]) step(rec Recorded) error {
	r.touch(rec)
	switch e := rec.Event.(type) {
	case Activated:
		if r.Status != Creating && r.Status != Updating {
			return fmt.Errorf("is %s", r.Status)
		}
		r.Status, r.Reasons, r.ActiveRevision = Active, nil, rec.Position
		r.InForce, r.Candidate = r.Candidate, nil
	case Failed:
		return r.fail(e.Reasons)
	case DeleteRequested:
		if r.Status.busy() {
			return fmt.Errorf("is %s", r.Status)
		}
		r.Status, r.Reasons = Deleting, nil
	case TagsChanged:
		r.Tags = orNil(e.Tags)
	default:
		return fmt.Errorf("is not an event of a %s", rec.Event.Ref().Kind)
	}
	return nil
}

func (r *Resource[D]) fail(reasons []string) error {
	switch r.Status {
	case Creating:
		r.Status = CreateFailed
	case Updating:
		r.Status = UpdateFailed
		// What never was in force stays visible as the candidate; where something is in force, that is the definition.
		if r.InForce != nil {
			r.Candidate = nil
		}
	case Deleting:
		r.Status = DeleteFailed
	case Active, CreateFailed, UpdateFailed, DeleteFailed:
		return fmt.Errorf("is %s", r.Status)
	}
	r.Reasons = slices.Clone(reasons)
	return nil
}
