package policy

import "fmt"

// Verify checks every invariant of a State, and that its indexes say what its things say. It is for tests, for fsck and
// for a State that comes from outside; Decide and Apply keep what it checks.
func (s *State) Verify() error {
	if !s.Whole {
		return fmt.Errorf("position %d is in the middle of a command", s.Position)
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
	if err := CheckAccount(a.ID); err != nil {
		return err
	}
	policies, pending := 0, 0
	for e := range a.EnginesAfter("") {
		if err := a.verifyEngine(s, e); err != nil {
			return fmt.Errorf("engine %s: %w", e.ID, err)
		}
		policies += e.PolicyCount()
		for p := range e.PoliciesAfter("") {
			if p.Status == Creating || p.Status == Updating {
				pending++
			}
		}
	}
	for g := range a.GatewaysAfter("") {
		if err := a.verifyGateway(s, g); err != nil {
			return fmt.Errorf("gateway %s: %w", g.ID, err)
		}
	}
	for what, n := range map[string][2]int{
		"engine names": {a.engineNames.Len(), a.engines.Len()}, "gateway names": {a.gatewayNames.Len(), a.gateways.Len()},
		"policy names": {a.policyNames.Len(), policies}, "pending policies": {a.pending.Len(), pending},
	} {
		if n[0] != n[1] {
			return fmt.Errorf("the index of %s has %d entries, want %d", what, n[0], n[1])
		}
	}
	return nil
}

func (a *Account) verifyEngine(s *State, e *Engine) error {
	if id, _ := a.engineNames.Get(e.Name); id != e.ID {
		return fmt.Errorf("its name %s is indexed as %q", e.Name, id)
	}
	if err := e.verify(s, policyName, policyIDPattern); err != nil {
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
	_, waits := a.pending.Get(p.ID)
	if waits != (p.Status == Creating || p.Status == Updating) {
		return fmt.Errorf("is %s, and in the index of pending policies: %v", p.Status, waits)
	}
	for _, b := range []*Body{p.InForce, p.Candidate} {
		if b == nil {
			continue
		}
		st, err := ParseStatement(b.Statement)
		if err != nil {
			return err
		}
		if st.Resource() != b.Resource {
			return fmt.Errorf("its statement is scoped to %q, not to %q", st.Resource(), b.Resource)
		}
	}
	return p.verify(s, policyName, policyIDPattern)
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
		if err := t.verify(s, targetName, targetIDPattern); err != nil {
			return fmt.Errorf("target %s: %w", t.ID, err)
		}
	}
	return g.verify(s, gatewayName, gatewayIDPattern)
}

// verify checks one life cycle: what is in force and what waits agree with the status.
func (r *Resource[D]) verify(s *State, name text, id interface{ MatchString(string) bool }) error {
	inForce, candidate := r.InForce != nil, r.Candidate != nil
	never := r.Status == Creating || r.Status == CreateFailed // was never in force
	switch {
	case !id.MatchString(r.ID):
		return fmt.Errorf("its id is malformed")
	case name.required("name", r.Name) != nil:
		return fmt.Errorf("its name %q is malformed", r.Name)
	case r.Definition() == nil:
		return fmt.Errorf("has no definition")
	case never && inForce, r.Status == Active && (!inForce || candidate), (never || r.Status == Updating) && !candidate:
		return fmt.Errorf("is %s with something in force: %v, with a candidate: %v", r.Status, inForce, candidate)
	case inForce == (r.ActiveRevision == 0):
		return fmt.Errorf("in force since %d: %v", r.ActiveRevision, inForce)
	case r.Version == 0 || r.Revision == 0 || r.Revision > s.Position || r.ActiveRevision > r.Revision:
		return fmt.Errorf("has version %d, revision %d, in force since %d, at position %d", r.Version, r.Revision, r.ActiveRevision, s.Position)
	case r.CreatedAt > r.UpdatedAt || r.UpdatedAt > s.RecordedAt:
		return fmt.Errorf("its times are out of order")
	}
	return checkTags(r.Tags)
}
