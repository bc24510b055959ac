package policy

import (
	"maps"
	"slices"
)

func (c CreateLog) decide(in input) ([]Event, error) {
	if in.state.Position != 0 {
		return nil, refuse(ErrExists, "log_exists", "", "the log %s has begun already", in.state.LogID)
	}
	return []Event{LogCreated{LogID: c.ID, Region: c.Region}}, nil
}

func (c SetAccountSettings) decide(in input) ([]Event, error) {
	if v := in.account.Version; c.ExpectedVersion != 0 && c.ExpectedVersion != v {
		return nil, staleVersion("settings of the account have", v, c.ExpectedVersion)
	}
	changed := AccountSettingsChanged{Account: in.account.ID, Settings: c.Settings, SecondPerson: in.account.SecondPerson}
	if c.SecondPerson != nil {
		changed.SecondPerson = *c.SecondPerson
	}
	return []Event{changed}, nil
}

func (c CreateEngine) decide(in input) ([]Event, error) {
	a := in.account
	if taken := a.EngineNamed(c.Name); taken != nil {
		return nil, nameTaken("policy engine", c.Name, taken.ID)
	}
	if a.Engine(c.ID) != nil {
		return nil, idTaken(c.ID)
	}
	if a.EngineCount() >= in.config.Limits.Engines {
		return nil, quota("policy engines in this account", in.config.Limits.Engines)
	}
	return []Event{EngineCreated{ID: c.ID, Name: c.Name, Definition: c.Definition, Tags: c.Tags}, Activated{Of: EngineRef(c.ID)}}, nil
}

func (c UpdateEngine) decide(in input) ([]Event, error) {
	e, err := in.engine(c.ID, c.ExpectedVersion)
	if err != nil {
		return nil, err
	}
	if err := idle("Policy engine", "updated", e.Status); err != nil {
		return nil, err
	}
	d := *e.Definition()
	if c.Description != nil {
		d.Description = *c.Description
	}
	return []Event{EngineUpdateRequested{ID: c.ID, Definition: d}, Activated{Of: EngineRef(c.ID)}}, nil
}

func (c SetEngineSettings) decide(in input) ([]Event, error) {
	if _, err := in.engine(c.ID, c.ExpectedVersion); err != nil {
		return nil, err
	}
	return []Event{EngineSettingsChanged{ID: c.ID, Settings: c.Settings}}, nil
}

func (c DeleteEngine) decide(in input) ([]Event, error) {
	e, err := in.engine(c.ID, c.ExpectedVersion)
	if err != nil {
		return nil, err
	}
	if n := e.PolicyCount(); n > 0 {
		return nil, refuse(ErrConflict, "engine_not_empty", "", "Policy engine still contains %d policies and cannot be deleted", n)
	}
	if g := in.account.attachedTo(c.ID); g != nil {
		return nil, refuse(ErrConflict, "engine_attached", "", "Policy engine is attached to gateway %s and cannot be deleted: detach it first", g.ID)
	}
	return deletion("Policy engine", EngineRef(c.ID), e.Status)
}

func (c CreatePolicy) decide(in input) ([]Event, error) {
	e, err := in.engine(c.EngineID, 0)
	if err != nil {
		return nil, err
	}
	if taken, ok := in.account.policyNames.Get(c.Name); ok {
		return nil, nameTaken("policy", c.Name, taken.ID)
	}
	if e.Policy(c.ID) != nil {
		return nil, idTaken(c.ID)
	}
	if e.PolicyCount() >= in.config.Limits.PoliciesPerEngine {
		return nil, quota("policies in this engine", in.config.Limits.PoliciesPerEngine)
	}
	body := Body{
		Language: c.Language, Statement: c.Statement.Text(), Resource: c.Statement.Resource(), Description: c.Description,
		Enforcement: or(c.Enforcement, EnforcementActive), Validation: or(c.Validation, FailOnAnyFindings),
	}
	if err := in.fits(e, "", body); err != nil {
		return nil, err
	}
	return []Event{PolicyCreated{EngineID: c.EngineID, ID: c.ID, Name: c.Name, Body: body, Tags: c.Tags}}, nil
}

func (c UpdatePolicy) decide(in input) ([]Event, error) {
	e, p, err := in.policy(c.EngineID, c.ID, c.ExpectedVersion)
	if err != nil {
		return nil, err
	}
	if err := idle("Policy", "updated", p.Status); err != nil {
		return nil, err
	}
	body := *p.Definition()
	if c.Statement != nil {
		body.Language, body.Statement, body.Resource = c.Language, c.Statement.Text(), c.Statement.Resource()
	}
	if c.Description != nil {
		body.Description = *c.Description
	}
	body.Enforcement, body.Validation = or(c.Enforcement, body.Enforcement), or(c.Validation, body.Validation)
	if c.Statement != nil { // whatever the limit is by now, the mode of a policy can be changed
		if err := in.fits(e, c.ID, body); err != nil {
			return nil, err
		}
	}
	requested := PolicyUpdateRequested{EngineID: c.EngineID, ID: c.ID, Body: body}
	if harmless(p.InForce, body) {
		return []Event{requested, Activated{Of: PolicyRef(c.EngineID, c.ID)}}, nil
	}
	return []Event{requested}, nil
}

// harmless reports whether a change needs no examination: the statement stays, and it does not begin to decide. A policy
// can be demoted and described even when the tools that it was written for are gone.
func harmless(inForce *Body, to Body) bool {
	return inForce != nil && inForce.Statement == to.Statement && inForce.Language == to.Language &&
		(inForce.Enforcement == to.Enforcement || to.Enforcement == EnforcementLogOnly)
}

func (c FinishPolicy) decide(in input) ([]Event, error) {
	_, p, err := in.policy(c.EngineID, c.ID, 0)
	if err != nil {
		return nil, err
	}
	if p.Version != c.Examination.Version || !p.waits() {
		return nil, refuse(ErrStale, "version_mismatch", "", "policy %s has changed since it was examined", c.ID)
	}
	if c.Examination.Basis != in.account.basis(c.EngineID, p.Candidate, in.config.Region) {
		return nil, refuse(ErrStale, "tools_changed", "", "the tools that policy %s is about have changed since it was examined", c.ID)
	}
	if len(c.Examination.Reasons) > 0 {
		return []Event{Failed{Of: PolicyRef(c.EngineID, c.ID), Reasons: c.Examination.Reasons}}, nil
	}
	return []Event{Activated{Of: PolicyRef(c.EngineID, c.ID)}}, nil
}

func (c DeletePolicy) decide(in input) ([]Event, error) {
	_, p, err := in.policy(c.EngineID, c.ID, c.ExpectedVersion)
	if err != nil {
		return nil, err
	}
	return deletion("Policy", PolicyRef(c.EngineID, c.ID), p.Status)
}

func (c CreateGateway) decide(in input) ([]Event, error) {
	a := in.account
	if id, taken := a.gatewayNames.Get(c.Name); taken {
		return nil, nameTaken("gateway", c.Name, id)
	}
	if a.Gateway(c.ID) != nil {
		return nil, idTaken(c.ID)
	}
	if a.gateways.Len() >= in.config.Limits.Gateways {
		return nil, quota("gateways in this account", in.config.Limits.Gateways)
	}
	if err := in.attachable(nil, c.Definition.PolicyEngine); err != nil {
		return nil, err
	}
	return []Event{GatewayCreated{ID: c.ID, Name: c.Name, Definition: c.Definition, Tags: c.Tags}, Activated{Of: GatewayRef(c.ID)}}, nil
}

func (c UpdateGateway) decide(in input) ([]Event, error) {
	g, err := in.gateway(c.ID, c.ExpectedVersion)
	if err != nil {
		return nil, err
	}
	return in.redefineGateway(g, c.Definition)
}

func (c AttachEngine) decide(in input) ([]Event, error) {
	g, err := in.gateway(c.GatewayID, c.ExpectedVersion)
	if err != nil {
		return nil, err
	}
	d, attachment := *g.Definition(), EngineAttachment{EngineID: c.EngineID, Mode: c.Mode}
	if d.PolicyEngine != nil && *d.PolicyEngine == attachment {
		return nil, nil
	}
	d.PolicyEngine = &attachment
	return in.redefineGateway(g, d)
}

func (c DetachEngine) decide(in input) ([]Event, error) {
	g, err := in.gateway(c.GatewayID, c.ExpectedVersion)
	if err != nil {
		return nil, err
	}
	d := *g.Definition()
	if d.PolicyEngine == nil {
		return nil, nil
	}
	d.PolicyEngine = nil
	return in.redefineGateway(g, d)
}

func (in input) redefineGateway(g *Gateway, d GatewayDefinition) ([]Event, error) {
	if err := idle("Gateway", "updated", g.Status); err != nil {
		return nil, err
	}
	if err := in.attachable(g, d.PolicyEngine); err != nil {
		return nil, err
	}
	return []Event{GatewayUpdateRequested{ID: g.ID, Definition: d}, Activated{Of: GatewayRef(g.ID)}}, nil
}

func (c DeleteGateway) decide(in input) ([]Event, error) {
	g, err := in.gateway(c.ID, c.ExpectedVersion)
	if err != nil {
		return nil, err
	}
	if n := g.TargetCount(); n > 0 {
		return nil, refuse(ErrConflict, "gateway_not_empty", "", "Gateway still has %d targets and cannot be deleted: delete them first", n)
	}
	return deletion("Gateway", GatewayRef(c.ID), g.Status)
}

func (c CreateTarget) decide(in input) ([]Event, error) {
	g, err := in.gateway(c.GatewayID, 0)
	if err != nil {
		return nil, err
	}
	if taken := g.TargetNamed(c.Name); taken != nil {
		return nil, nameTaken("target", c.Name, taken.ID)
	}
	if in.account.hasTarget(c.ID) {
		return nil, idTaken(c.ID)
	}
	if g.TargetCount() >= in.config.Limits.TargetsPerGateway {
		return nil, quota("targets of this gateway", in.config.Limits.TargetsPerGateway)
	}
	if err := in.schemaFits(g, "", &c.Definition); err != nil {
		return nil, err
	}
	ref := TargetRef(c.GatewayID, c.ID)
	return []Event{TargetCreated{GatewayID: c.GatewayID, ID: c.ID, Name: c.Name, Definition: c.Definition}, Activated{Of: ref}}, nil
}

func (c UpdateTarget) decide(in input) ([]Event, error) {
	g, t, err := in.target(c.GatewayID, c.ID, c.ExpectedVersion)
	if err != nil {
		return nil, err
	}
	if err := idle("Target", "updated", t.Status); err != nil {
		return nil, err
	}
	if err := in.schemaFits(g, c.ID, &c.Definition); err != nil {
		return nil, err
	}
	ref := TargetRef(c.GatewayID, c.ID)
	return []Event{TargetUpdateRequested{GatewayID: c.GatewayID, ID: c.ID, Definition: c.Definition}, Activated{Of: ref}}, nil
}

func (c DeleteTarget) decide(in input) ([]Event, error) {
	_, t, err := in.target(c.GatewayID, c.ID, c.ExpectedVersion)
	if err != nil {
		return nil, err
	}
	return deletion("Target", TargetRef(c.GatewayID, c.ID), t.Status)
}

func (c AddTags) decide(in input) ([]Event, error) {
	thing, err := in.tagged(c.Of)
	if err != nil {
		return nil, err
	}
	tags := maps.Clone(thing.tags())
	if tags == nil {
		tags = map[string]string{}
	}
	maps.Copy(tags, c.Tags)
	if len(tags) > maxTags {
		return nil, refuse(ErrQuota, "tag_count", "tags", "%s would have %d tags; at most %d are allowed", c.Of.ID, len(tags), maxTags)
	}
	return retag(c.Of, thing, tags), nil
}

func (c RemoveTags) decide(in input) ([]Event, error) {
	thing, err := in.tagged(c.Of)
	if err != nil {
		return nil, err
	}
	tags := maps.Clone(thing.tags())
	maps.DeleteFunc(tags, func(key, _ string) bool { return slices.Contains(c.Keys, key) })
	return retag(c.Of, thing, tags), nil
}

func retag(of Ref, thing lifecycle, tags map[string]string) []Event {
	if maps.Equal(thing.tags(), tags) {
		return nil
	}
	return []Event{TagsChanged{Of: of, Tags: tags}}
}

// deletion is both halves at once: what is deleted is out of force at the answer's revision.
func deletion(what string, of Ref, s Status) ([]Event, error) {
	if err := idle(what, "deleted", s); err != nil {
		return nil, err
	}
	return []Event{DeleteRequested{Of: of}, Deleted{Of: of}}, nil
}

func or[T ~string](v, otherwise T) T {
	if v == "" {
		return otherwise
	}
	return v
}
