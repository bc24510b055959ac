package policy

// What requests look up and what they refuse. A thing of another account is simply not there.

// FindEngine is Engine with a refusal when there is none.
func (a *Account) FindEngine(id string) (*Engine, error) {
	if e := a.Engine(id); e != nil {
		return e, nil
	}
	return nil, NotFound("policy engine", "policyEngineId", id)
}

// FindPolicy finds a policy of an engine, or refuses for lack of either.
func (a *Account) FindPolicy(engineID, id string) (*Policy, error) {
	e, err := a.FindEngine(engineID)
	if err != nil {
		return nil, err
	}
	if p := e.Policy(id); p != nil {
		return p, nil
	}
	return nil, NotFound("policy", "policyId", id)
}

// FindGateway is Gateway with a refusal when there is none.
func (a *Account) FindGateway(id string) (*Gateway, error) {
	if g := a.Gateway(id); g != nil {
		return g, nil
	}
	return nil, NotFound("gateway", "gatewayId", id)
}

// FindTarget finds a target of a gateway, or refuses for lack of either.
func (a *Account) FindTarget(gatewayID, id string) (*Target, error) {
	g, err := a.FindGateway(gatewayID)
	if err != nil {
		return nil, err
	}
	if t := g.Target(id); t != nil {
		return t, nil
	}
	return nil, NotFound("target", "targetId", id)
}

func (in input) engine(id string, version uint64) (*Engine, error) {
	e, err := in.account.FindEngine(id)
	if err != nil {
		return nil, err
	}
	return e, expect("policy engine", &e.Resource, version)
}

func (in input) policy(engineID, id string, version uint64) (*Engine, *Policy, error) {
	p, err := in.account.FindPolicy(engineID, id)
	if err != nil {
		return nil, nil, err
	}
	return in.account.Engine(engineID), p, expect("policy", &p.Resource, version)
}

func (in input) gateway(id string, version uint64) (*Gateway, error) {
	g, err := in.account.FindGateway(id)
	if err != nil {
		return nil, err
	}
	return g, expect("gateway", &g.Resource, version)
}

func (in input) target(gatewayID, id string, version uint64) (*Gateway, *Target, error) {
	t, err := in.account.FindTarget(gatewayID, id)
	if err != nil {
		return nil, nil, err
	}
	return in.account.Gateway(gatewayID), t, expect("target", &t.Resource, version)
}

// tagged finds what carries tags: engines, policies and gateways.
func (in input) tagged(ref Ref) (lifecycle, error) {
	thing := in.account.resource(ref)
	if thing == nil || ref.Kind == KindTarget {
		return nil, NotFound(string(ref.Kind), "resourceArn", ref.ID)
	}
	return thing, nil
}

// maxARN is the longest ARN of AgentCore's that a message repeats whole.
const maxARN = 210

// NotFound is the refusal for a thing that is not there, or not in this account.
func NotFound(what, field, id string) error {
	return refuse(ErrNotFound, reasonOf(what)+"_not_found", field, "there is no %s %s in this account", what, quotedUpTo(maxARN, id))
}

func nameTaken(what, name, id string) error {
	return refuse(ErrExists, "name_taken", "name", "there is a %s named %s already: %s", what, quoted(name), id)
}

func idTaken(id string) error {
	return refuse(ErrStale, "id_taken", "", "the id %s is taken: try again", id)
}

func quota(what string, limit int) error {
	return refuse(ErrQuota, "quota", "", "the limit of %d %s is reached", limit, what)
}

func reasonOf(what string) string {
	if what == "policy engine" {
		return "engine"
	}
	return what
}

func expect(what string, thing lifecycle, version uint64) error {
	if version == 0 || version == thing.version() {
		return nil
	}
	return staleVersion(what+" has", thing.version(), version)
}

func staleVersion(whatHas string, is, want uint64) error {
	return refuse(ErrStale, "version_mismatch", "expectedVersion",
		"the %s version %d, not %d: something has changed since; read it again", whatHas, is, want)
}

func idle(what, verb string, s Status) error {
	if !s.busy() {
		return nil
	}
	return refuse(ErrConflict, "busy", "", "%s cannot be %s while its status is %s", what, verb, s)
}

// fits refuses a policy body with which the statements that can apply to one gateway would exceed their limit: those
// scoped to the gateway and those scoped by type.
func (in input) fits(e *Engine, except string, body Body) error {
	sizes := map[string]int{body.Resource: len(body.Statement)} // by gateway; "" for those scoped by type
	for p := range e.PoliciesAfter("") {
		if p.ID != except {
			p.addSizes(sizes)
		}
	}
	byType, largest := sizes[""], sizes[body.Resource]
	delete(sizes, "")
	if body.Resource == "" { // it comes on top at every gateway
		largest = 0
		for _, n := range sizes {
			largest = max(largest, n)
		}
	}
	size := byType + largest
	if limit := in.config.Limits.PolicyBytesPerGate; size > limit {
		return refuse(ErrQuota, "policy_bytes", "definition",
			"the policies of this engine that can apply to one gateway would have %d bytes together; the limit is %d", size, limit)
	}
	return nil
}

// addSizes adds the bytes of p's statements to those of the gateways that they can apply to. While an update waits, either
// body may be the one that stays.
func (p *Policy) addSizes(sizes map[string]int) {
	b := p.Definition()
	size := len(b.Statement)
	if c := p.Candidate; c != nil && c.Resource == b.Resource {
		size = max(size, len(c.Statement))
	} else if c != nil {
		sizes[c.Resource] += len(c.Statement)
	}
	sizes[b.Resource] += size
}

// attachable refuses an attachment to an engine that is not there, or whose schema would become too large. g is the
// gateway as it is, nil when it is being made.
func (in input) attachable(g *Gateway, to *EngineAttachment) error {
	if to == nil {
		return nil
	}
	if _, err := in.engine(to.EngineID, 0); err != nil {
		return err
	}
	if g == nil || attaches(g.InForce, to.EngineID) {
		return nil
	}
	return in.schemaLimit("policyEngineId", in.account.schemaSize(to.EngineID)+g.schemaSize(""))
}

// schemaFits refuses tools with which the schema of the gateway's engine would become too large.
func (in input) schemaFits(g *Gateway, except string, d *TargetDefinition) error {
	at := g.Definition().PolicyEngine
	if at == nil {
		return in.schemaLimit("targetConfiguration", g.schemaSize(except)+d.SchemaSize())
	}
	others := in.account.schemaSize(at.EngineID) - g.schemaSize("") + g.schemaSize(except)
	return in.schemaLimit("targetConfiguration", others+d.SchemaSize())
}

func (in input) schemaLimit(field string, size int) error {
	if limit := in.config.Limits.SchemaBytes; size > limit {
		return refuse(ErrQuota, "schema_bytes", field,
			"the tools of all gateways of one engine would have %d bytes of schema together; the limit is %d", size, limit)
	}
	return nil
}

// schemaSize is the bytes of schema of all gateways that an engine is attached to.
func (a *Account) schemaSize(engineID string) int {
	size := 0
	for g := range a.AttachedGateways(engineID) {
		size += g.schemaSize("")
	}
	return size
}

// schemaSize is the bytes of schema of all targets but one.
func (g *Gateway) schemaSize(except string) int {
	size := 0
	for t := range g.TargetsAfter("") {
		if t.ID != except {
			size += t.Definition().SchemaSize()
		}
	}
	return size
}

func (a *Account) hasTarget(id string) bool {
	for g := range a.GatewaysAfter("") {
		if g.Target(id) != nil {
			return true
		}
	}
	return false
}
