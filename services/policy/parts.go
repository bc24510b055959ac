package policy

import "fmt"

// Parts is a State taken apart, as it is stored and sent. Things are sorted by id.
type Parts struct {
	LogID       string
	Region      string
	Position    uint64
	Hash        Hash
	RecordedAt  int64
	LogVersion  uint64
	LogPosition uint64
	Accounts    []AccountParts
}

// AccountParts is an Account taken apart.
type AccountParts struct {
	ID       string
	Position uint64
	Settings Settings
	// SecondPerson is that of Account.
	SecondPerson bool
	Version      uint64
	Engines      []EngineParts
	Gateways     []GatewayParts
	Changes      []Change
}

// EngineParts is an Engine taken apart.
type EngineParts struct {
	Resource[EngineDefinition]
	Settings Settings
	Policies []Resource[Body]
}

// GatewayParts is a Gateway taken apart.
type GatewayParts struct {
	Resource[GatewayDefinition]
	Targets []Resource[TargetDefinition]
}

// Parts takes s apart. What it returns shares s's memory and must not be changed.
func (s *State) Parts() Parts {
	p := Parts{
		LogID: s.LogID, Region: s.Region, Position: s.Position, Hash: s.Hash, RecordedAt: s.RecordedAt,
		LogVersion: s.logVersion, LogPosition: s.logPosition,
	}
	for a := range s.Accounts() {
		p.Accounts = append(p.Accounts, a.parts())
	}
	return p
}

func (a *Account) parts() AccountParts {
	p := AccountParts{ID: a.ID, Position: a.Position, Settings: a.Settings, SecondPerson: a.SecondPerson, Version: a.Version}
	for e := range a.EnginesAfter("") {
		part := EngineParts{Resource: e.Resource, Settings: e.Settings}
		for pol := range e.PoliciesAfter("") {
			part.Policies = append(part.Policies, pol.Resource)
		}
		p.Engines = append(p.Engines, part)
	}
	for g := range a.GatewaysAfter("") {
		part := GatewayParts{Resource: g.Resource}
		for t := range g.TargetsAfter("") {
			part.Targets = append(part.Targets, t.Resource)
		}
		p.Gateways = append(p.Gateways, part)
	}
	for c := range a.ChangesAfter("") {
		p.Changes = append(p.Changes, *c)
	}
	return p
}

// Restore puts a State together. It refuses parts that stand twice, and life cycles that no events lead to; whether the rest
// is true, Verify says, at the price of parsing every statement.
func Restore(p Parts) (*State, error) {
	s := Empty()
	s.LogID, s.Region, s.Position, s.Hash, s.RecordedAt = p.LogID, p.Region, p.Position, p.Hash, p.RecordedAt
	s.logVersion, s.logPosition = p.LogVersion, p.LogPosition
	for _, part := range p.Accounts {
		if _, twice := s.accounts.Get(part.ID); twice {
			return nil, fmt.Errorf("account %s stands twice", part.ID)
		}
		a, err := restoreAccount(part)
		if err != nil {
			return nil, fmt.Errorf("account %s: %w", part.ID, err)
		}
		s.accounts = s.accounts.Set(a.ID, a)
	}
	return s, nil
}

func restoreAccount(p AccountParts) (*Account, error) {
	a := newAccount(p.ID)
	a.Position, a.Settings, a.SecondPerson, a.Version = p.Position, p.Settings, p.SecondPerson, p.Version
	for _, part := range p.Engines {
		if err := a.restoreEngine(part); err != nil {
			return nil, fmt.Errorf("engine %s: %w", part.ID, err)
		}
	}
	for _, part := range p.Gateways {
		if err := a.restoreGateway(part); err != nil {
			return nil, fmt.Errorf("gateway %s: %w", part.ID, err)
		}
	}
	for _, c := range p.Changes {
		if err := a.putChange(&c); err != nil {
			return nil, fmt.Errorf("change %s: %w", c.ID, err)
		}
	}
	return a, nil
}

func (a *Account) restoreEngine(part EngineParts) error {
	if err := part.check(); err != nil {
		return err
	}
	if a.Engine(part.ID) != nil || a.EngineNamed(part.Name) != nil {
		return errThere
	}
	a.engines = a.engines.Set(part.ID, &Engine{Resource: part.Resource, Settings: part.Settings, policies: newIndex[*Policy]()})
	a.engineNames = a.engineNames.Set(part.Name, part.ID)
	for _, r := range part.Policies {
		if err := r.check(); err != nil {
			return fmt.Errorf("policy %s: %w", r.ID, err)
		}
		if _, taken := a.policyNames.Get(r.Name); taken || a.Engine(part.ID).Policy(r.ID) != nil {
			return fmt.Errorf("policy %s: %w", r.ID, errThere)
		}
		a.policyNames = a.policyNames.Set(r.Name, PolicyRef(part.ID, r.ID))
		a.putPolicy(&Policy{Resource: r, EngineID: part.ID})
	}
	return nil
}

func (a *Account) restoreGateway(part GatewayParts) error {
	if err := part.check(); err != nil {
		return err
	}
	if _, taken := a.gatewayNames.Get(part.Name); taken || a.Gateway(part.ID) != nil {
		return errThere
	}
	a.gateways = a.gateways.Set(part.ID, &Gateway{Resource: part.Resource, targets: newIndex[*Target]()})
	a.gatewayNames = a.gatewayNames.Set(part.Name, part.ID)
	for _, r := range part.Targets {
		if err := r.check(); err != nil {
			return fmt.Errorf("target %s: %w", r.ID, err)
		}
		if g := a.Gateway(part.ID); g.Target(r.ID) != nil || g.TargetNamed(r.Name) != nil {
			return fmt.Errorf("target %s: %w", r.ID, errThere)
		}
		a.putTarget(&Target{Resource: r, GatewayID: part.ID})
	}
	return nil
}
