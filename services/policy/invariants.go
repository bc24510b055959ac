package policy

import (
	"fmt"
	"regexp"
)

// Verify checks every invariant of a State, and that its indexes say what its things say. It is for tests, for fsck and
// for a State that comes from outside; Decide and Apply keep what it checks.
func (s *State) Verify() error {
	if !s.Whole {
		return fmt.Errorf("position %d is in the middle of a command", s.Position)
	}
	began := uint64(0)
	if s.Position > 0 {
		began = 1
	}
	if (s.LogID != "") != (began == 1) || s.logPosition != began || s.logVersion != began {
		return fmt.Errorf("log %q at position %d has %d events of its own, the last with version %d", s.LogID, s.Position, s.logPosition, s.logVersion)
	}
	if began == 1 {
		if err := CheckRegion(s.Region); err != nil {
			return err
		}
	}
	events := s.logPosition
	for a := range s.Accounts() {
		if err := a.verify(s); err != nil {
			return fmt.Errorf("account %s: %w", a.ID, err)
		}
		events += a.Position
	}
	if events != s.Position {
		return fmt.Errorf("the accounts have %d events together, the log has %d", events, s.Position)
	}
	return nil
}

func (a *Account) verify(s *State) error {
	if err := first(CheckAccount(a.ID), a.Settings.check()); err != nil {
		return err
	}
	events, policies, pending := a.Version, 0, 0
	for e := range a.EnginesAfter("") {
		if err := a.verifyEngine(s, e); err != nil {
			return fmt.Errorf("engine %s: %w", e.ID, err)
		}
		events += e.Version
		policies += e.PolicyCount()
		for p := range e.PoliciesAfter("") {
			events += p.Version
			if p.waits() {
				pending++
			}
		}
	}
	for g := range a.GatewaysAfter("") {
		if err := a.verifyGateway(s, g); err != nil {
			return fmt.Errorf("gateway %s: %w", g.ID, err)
		}
		events += g.Version
		for t := range g.TargetsAfter("") {
			events += t.Version
		}
	}
	for c := range a.ChangesAfter("") {
		if err := c.verify(s); err != nil {
			return fmt.Errorf("change %s: %w", c.ID, err)
		}
		events += c.Version
	}
	if events > a.Position {
		return fmt.Errorf("its things have %d events, it has %d", events, a.Position)
	}
	return first(
		checkIndex("engine names", a.engineNames.Len(), a.engines.Len()),
		checkIndex("gateway names", a.gatewayNames.Len(), a.gateways.Len()),
		checkIndex("policy names", a.policyNames.Len(), policies),
		checkIndex("pending policies", a.pending.Len(), pending))
}

func checkIndex(what string, n, want int) error {
	if n == want {
		return nil
	}
	return fmt.Errorf("the index of %s has %d entries, want %d", what, n, want)
}

func (a *Account) verifyEngine(s *State, e *Engine) error {
	if id, _ := a.engineNames.Get(e.Name); id != e.ID {
		return fmt.Errorf("its name %s is indexed as %q", e.Name, id)
	}
	if err := e.verify(s, KindEngine, policyName, policyIDPattern, (*EngineDefinition).check); err != nil {
		return err
	}
	for p := range e.PoliciesAfter("") {
		if err := a.verifyPolicy(s, e, p); err != nil {
			return fmt.Errorf("policy %s: %w", p.ID, err)
		}
	}
	return e.Settings.check()
}

func (a *Account) verifyPolicy(s *State, e *Engine, p *Policy) error {
	if ref, _ := a.policyNames.Get(p.Name); ref != PolicyRef(e.ID, p.ID) || p.EngineID != e.ID {
		return fmt.Errorf("its name %s is indexed as %v", p.Name, ref)
	}
	if _, indexed := a.pending.Get(p.Name); indexed != p.waits() {
		return fmt.Errorf("is %s, and in the index of pending policies: %v", p.Status, indexed)
	}
	return p.verify(s, KindPolicy, policyName, policyIDPattern, (*Body).check)
}

// check is what Check and Decide see to, for a body that is there.
func (b *Body) check() error {
	st, err := ParseStatement(b.Statement)
	if err != nil {
		return err
	}
	if st.Resource() != b.Resource {
		return fmt.Errorf("its statement is scoped to %q, not to %q", st.Resource(), b.Resource)
	}
	return first(
		checkStatement(b.Language, st),
		description.optional("description", b.Description),
		checkEnum("enforcementMode", b.Enforcement, EnforcementActive, EnforcementLogOnly),
		checkEnum("validationMode", b.Validation, FailOnAnyFindings, IgnoreAllFindings))
}

func (a *Account) verifyGateway(s *State, g *Gateway) error {
	if id, _ := a.gatewayNames.Get(g.Name); id != g.ID {
		return fmt.Errorf("its name %s is indexed as %q", g.Name, id)
	}
	for _, d := range []*GatewayDefinition{g.InForce, g.Candidate} {
		if d != nil && d.PolicyEngine != nil && a.Engine(d.PolicyEngine.EngineID) == nil {
			return fmt.Errorf("is attached to engine %s, which is not there", d.PolicyEngine.EngineID)
		}
	}
	names := map[string]bool{}
	for t := range g.TargetsAfter("") {
		if t.GatewayID != g.ID || names[t.Name] {
			return fmt.Errorf("target %s: belongs to %s, or its name %s stands twice", t.ID, t.GatewayID, t.Name)
		}
		names[t.Name] = true
		if err := t.verify(s, KindTarget, targetName, targetIDPattern, (*TargetDefinition).Validate); err != nil {
			return fmt.Errorf("target %s: %w", t.ID, err)
		}
	}
	return g.verify(s, KindGateway, gatewayName, gatewayIDPattern, (*GatewayDefinition).Validate)
}

// verify checks one life cycle and the definitions in it.
func (r *Resource[D]) verify(s *State, kind Kind, name text, id *regexp.Regexp, definition func(*D) error) error {
	for _, d := range []*D{r.InForce, r.Candidate} {
		if d == nil {
			continue
		}
		if err := definition(d); err != nil {
			return err
		}
	}
	if err := first(r.check(), name.required("name", r.Name), checkID(kind, r.Name, r.ID, id), checkTags(r.Tags)); err != nil {
		return err
	}
	switch {
	case r.Revision > s.Position || r.Version > r.Revision || r.ActiveRevision > r.Revision:
		return fmt.Errorf("has version %d, revision %d, in force since %d, at position %d", r.Version, r.Revision, r.ActiveRevision, s.Position)
	case r.CreatedAt > r.UpdatedAt || r.UpdatedAt > s.RecordedAt:
		return fmt.Errorf("its times are out of order")
	}
	return nil
}

// check refuses a life cycle that no events lead to: what is in force and what waits agree with the status.
func (r *Resource[D]) check() error {
	inForce, candidate := r.InForce != nil, r.Candidate != nil
	possible, failed := false, false
	switch r.Status {
	case Creating:
		possible = !inForce && candidate
	case CreateFailed:
		possible, failed = !inForce && candidate, true
	case Active:
		possible = inForce && !candidate
	case Updating:
		possible = candidate
	case Deleting:
		possible = inForce != candidate
	case UpdateFailed, DeleteFailed:
		possible, failed = inForce != candidate, true
	}
	switch {
	case !possible:
		return fmt.Errorf("is %q with something in force: %v, with a candidate: %v", r.Status, inForce, candidate)
	case inForce == (r.ActiveRevision == 0):
		return fmt.Errorf("in force: %v, since %d", inForce, r.ActiveRevision)
	case r.Version == 0:
		return fmt.Errorf("has version 0")
	case !failed && len(r.Reasons) > 0:
		return fmt.Errorf("is %s with the reason %s", r.Status, quoted(r.Reasons[0]))
	}
	return nil
}
