package policy

import (
	"errors"
	"fmt"
)

var (
	errMissing = errors.New("there is no such thing")
	errThere   = errors.New("is there already, or its name is taken")
	errInUse   = errors.New("is in use")
)

// apply changes a, which is the caller's own copy; what a points to is shared and stays as it is.
func (a *Account) apply(r Recorded) error {
	switch e := r.Event.(type) {
	case AccountSettingsChanged:
		if e.Account != a.ID {
			return fmt.Errorf("is about account %s", e.Account)
		}
		a.Settings, a.SecondPerson, a.Version = e.Settings, e.SecondPerson, r.StreamVersion
		return nil
	case EngineCreated, PolicyCreated, GatewayCreated, TargetCreated:
		return a.create(r)
	case Deleted:
		return a.remove(e.Of)
	case ChangeProposed, ChangeApproved, ChangeRejected:
		return a.applyChange(r)
	default:
		return a.change(r)
	}
}

func (a *Account) create(r Recorded) error {
	if a.resource(r.Event.Ref()) != nil {
		return errThere
	}
	switch e := r.Event.(type) {
	case EngineCreated:
		if a.EngineNamed(e.Name) != nil {
			return errThere
		}
		a.engines = a.engines.Set(e.ID, &Engine{Resource: created(r, e.ID, e.Name, e.Definition, e.Tags), policies: newIndex[*Policy]()})
		a.engineNames = a.engineNames.Set(e.Name, e.ID)
	case GatewayCreated:
		if _, taken := a.gatewayNames.Get(e.Name); taken {
			return errThere
		}
		a.gateways = a.gateways.Set(e.ID, &Gateway{Resource: created(r, e.ID, e.Name, e.Definition, e.Tags), targets: newIndex[*Target]()})
		a.gatewayNames = a.gatewayNames.Set(e.Name, e.ID)
	case PolicyCreated:
		if _, taken := a.policyNames.Get(e.Name); taken {
			return errThere
		}
		if a.Engine(e.EngineID) == nil {
			return errMissing
		}
		a.policyNames = a.policyNames.Set(e.Name, e.Ref())
		a.putPolicy(&Policy{Resource: created(r, e.ID, e.Name, e.Body, e.Tags), EngineID: e.EngineID})
	case TargetCreated:
		g := a.Gateway(e.GatewayID)
		if g == nil {
			return errMissing
		}
		if g.TargetNamed(e.Name) != nil {
			return errThere
		}
		a.putTarget(&Target{Resource: created(r, e.ID, e.Name, e.Definition, nil), GatewayID: e.GatewayID})
	}
	return nil
}

// change applies an event to a copy of the thing that it is about, and puts the copy in its place.
func (a *Account) change(r Recorded) error {
	ref := r.Event.Ref()
	if a.resource(ref) == nil {
		return errMissing
	}
	switch ref.Kind {
	case KindEngine:
		e := *a.Engine(ref.ID)
		if err := e.apply(r); err != nil {
			return err
		}
		a.engines = a.engines.Set(e.ID, &e)
	case KindPolicy:
		p := *a.Engine(ref.Parent).Policy(ref.ID)
		if err := p.apply(r); err != nil {
			return err
		}
		a.putPolicy(&p)
	case KindGateway:
		g := *a.Gateway(ref.ID)
		if err := g.apply(r); err != nil {
			return err
		}
		a.gateways = a.gateways.Set(g.ID, &g)
	case KindTarget:
		t := *a.Gateway(ref.Parent).Target(ref.ID)
		if err := t.apply(r); err != nil {
			return err
		}
		a.putTarget(&t)
	case KindLog, KindAccount, KindChange:
		return errMissing
	}
	return nil
}

func (e *Engine) apply(r Recorded) error {
	switch ev := r.Event.(type) {
	case EngineUpdateRequested:
		return e.request(r, ev.Definition)
	case EngineSettingsChanged:
		e.touch(r)
		e.Settings = ev.Settings
		return nil
	default:
		return e.step(r)
	}
}

func (p *Policy) apply(r Recorded) error {
	if ev, ok := r.Event.(PolicyUpdateRequested); ok {
		return p.request(r, ev.Body)
	}
	return p.step(r)
}

func (g *Gateway) apply(r Recorded) error {
	if ev, ok := r.Event.(GatewayUpdateRequested); ok {
		return g.request(r, ev.Definition)
	}
	return g.step(r)
}

func (t *Target) apply(r Recorded) error {
	if ev, ok := r.Event.(TargetUpdateRequested); ok {
		return t.request(r, ev.Definition)
	}
	return t.step(r)
}

// waits reports whether p has to be examined.
func (p *Policy) waits() bool { return p.Status == Creating || p.Status == Updating }

func (a *Account) putPolicy(p *Policy) {
	e := *a.Engine(p.EngineID)
	e.policies = e.policies.Set(p.ID, p)
	a.engines = a.engines.Set(e.ID, &e)
	if p.waits() {
		a.pending = a.pending.Set(p.Name, PolicyRef(p.EngineID, p.ID))
	} else {
		a.pending = a.pending.Delete(p.Name)
	}
}

func (a *Account) putTarget(t *Target) {
	g := *a.Gateway(t.GatewayID)
	g.targets = g.targets.Set(t.ID, t)
	a.gateways = a.gateways.Set(g.ID, &g)
}

// remove takes a thing out that is DELETING and that nothing hangs on.
func (a *Account) remove(ref Ref) error {
	thing := a.resource(ref)
	if thing == nil {
		return errMissing
	}
	if thing.status() != Deleting {
		return fmt.Errorf("is %s", thing.status())
	}
	switch ref.Kind {
	case KindEngine:
		e := a.Engine(ref.ID)
		if e.PolicyCount() > 0 || a.attachedTo(ref.ID) != nil {
			return errInUse
		}
		a.engines, a.engineNames = a.engines.Delete(e.ID), a.engineNames.Delete(e.Name)
	case KindPolicy:
		e := *a.Engine(ref.Parent)
		a.policyNames = a.policyNames.Delete(e.Policy(ref.ID).Name)
		e.policies = e.policies.Delete(ref.ID)
		a.engines = a.engines.Set(e.ID, &e)
	case KindGateway:
		g := a.Gateway(ref.ID)
		if g.TargetCount() > 0 {
			return errInUse
		}
		a.gateways, a.gatewayNames = a.gateways.Delete(g.ID), a.gatewayNames.Delete(g.Name)
	case KindTarget:
		g := *a.Gateway(ref.Parent)
		g.targets = g.targets.Delete(ref.ID)
		a.gateways = a.gateways.Set(g.ID, &g)
	case KindLog, KindAccount, KindChange:
	}
	return nil
}

// attachedTo is the first gateway that an engine is attached to; nil when there is none.
func (a *Account) attachedTo(engineID string) *Gateway {
	for g := range a.AttachedGateways(engineID) {
		return g
	}
	return nil
}

// TargetNamed finds a target by name; nil when there is none.
func (g *Gateway) TargetNamed(name string) *Target {
	for t := range g.TargetsAfter("") {
		if t.Name == name {
			return t
		}
	}
	return nil
}
