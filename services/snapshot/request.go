package snapshot

import (
	"slices"
	"strings"
	"time"

	"github.com/verdict-io/verdict/services/policy"
)

// Entity names a Cedar entity.
type Entity struct{ Type, ID string }

// Principal is who calls. Tags are the claims of an OAuthUser; an IamEntity and an UnauthenticatedUser have none.
type Principal struct {
	Type, ID string
	Tags     map[string]string
}

// Request is a question. Its account is the caller's, from credentials.
type Request struct {
	Account   string
	Principal Principal
	Action    Entity
	// Resource is the gateway, by its ARN. It may be anything when PolicyEngineID is given.
	Resource Entity
	Context  Value // an object; the zero Value is {}
	// PolicyEngineID is "" for the engine that is attached to the gateway.
	PolicyEngineID string
	Now            int64         // microseconds since 1970 UTC
	Staleness      time.Duration // since the state was last proved fresh
	Proven         bool          // false: it never was
}

// check refuses what is no Cedar request of this model.
func (r *Request) check() error {
	if err := r.checkPrincipal(); err != nil {
		return err
	}
	switch {
	case r.Action.Type == "":
		return required("action.type", policy.TypeAction)
	case r.Action.ID == "":
		return required("action.id", "the tool, as RefundTarget___process_refund")
	case r.Action.Type != policy.TypeAction:
		return policy.Invalid("enum", "action.type", "action.type is %s; use %s", quote(r.Action.Type), policy.TypeAction)
	case r.Context.kind != absent && r.Context.kind != object:
		return policy.Invalid("type", "context", "context has to be an object, such as {\"input\": {…}}, and is %s", r.Context.kind)
	}
	return r.checkResource()
}

func (r *Request) checkPrincipal() error {
	switch {
	case r.Principal.Type == "":
		return required("principal.type", strings.Join(policy.PrincipalTypes(), " or "))
	case r.Principal.ID == "":
		return required("principal.id", "the token's subject, the ARN, or anonymous")
	case !slices.Contains(policy.PrincipalTypes(), r.Principal.Type):
		return policy.Invalid("enum", "principal.type", "principal.type is %s; use %s",
			quote(r.Principal.Type), strings.Join(policy.PrincipalTypes(), " or "))
	case !policy.HasTags(r.Principal.Type) && len(r.Principal.Tags) > 0:
		return policy.Invalid("unexpected", "principal.tags", "an %s has no tags: leave them out", r.Principal.Type)
	}
	return nil
}

func (r *Request) checkResource() error {
	switch {
	case r.PolicyEngineID != "" && r.Resource.Type != policy.TypeGateway:
		return nil
	case r.Resource.Type == "":
		return required("resource.type", policy.TypeGateway+", with the ARN of a gateway as the id, or name an engine in policyEngineId")
	case r.Resource.Type != policy.TypeGateway:
		return policy.Invalid("enum", "resource.type", "resource.type is %s; use %s, or name an engine in policyEngineId",
			quote(r.Resource.Type), policy.TypeGateway)
	case r.Resource.ID == "":
		return required("resource.id", "the ARN of a gateway")
	}
	return nil
}

func required(field, what string) error {
	return policy.Invalid("required", field, "%s is required: %s", field, what)
}

// route is how a request is decided.
type route struct {
	account *account
	gateway *gateway // nil when the resource is none
	engine  *engine  // nil when none is attached and none was named; see also missing
	missing string   // the id of an attached engine that is not there
	mode    policy.EngineMode
	source  Source
}

// route finds the gateway and the engine that a request names, or refuses.
func (s *Snapshot) route(r *Request) (*route, error) {
	a, ok := s.accounts.Get(r.Account)
	if !ok {
		a = nothing
	}
	to := &route{account: a}
	if r.Resource.Type == policy.TypeGateway {
		if to.gateway = a.gatewayOf(r.Resource.ID); to.gateway == nil {
			return nil, policy.NotFound("gateway", "resource.id", r.Resource.ID)
		}
		to.attach()
	}
	if r.PolicyEngineID == "" {
		return to, nil
	}
	named, ok := a.engines.get(r.PolicyEngineID)
	if !ok {
		return nil, policy.NotFound("policy engine", "policyEngineId", r.PolicyEngineID)
	}
	switch {
	case to.source == SourceNone:
		to.engine, to.mode, to.source = named, policy.ModeEnforce, SourceRequest
	case to.engine != named:
		return nil, policy.Invalid("mismatch", "policyEngineId",
			"policyEngineId is %s, and another engine is attached to the gateway: leave one of the two out", quote(r.PolicyEngineID))
	}
	return to, nil
}

// attach takes the engine that is attached to the gateway, if any.
func (to *route) attach() {
	attachment := to.gateway.source.InForce.PolicyEngine
	if attachment == nil {
		return
	}
	to.mode, to.source = attachment.Mode, SourceGateway
	if e, ok := to.account.engines.get(attachment.EngineID); ok {
		to.engine = e
	} else {
		to.missing = attachment.EngineID
	}
}

// gatewayOf finds a gateway by its ARN; nil when there is none in this account and region.
func (a *account) gatewayOf(arn string) *gateway {
	id, ok := strings.CutPrefix(arn, a.gateARN)
	if !ok {
		return nil
	}
	g, _ := a.gateways.get(id)
	return g
}

// settings are those that apply, with nothing left open.
func (to *route) settings() policy.Settings {
	if to.engine == nil {
		return to.account.settings
	}
	return to.engine.source.Settings.Or(to.account.settings)
}

// tool finds the schema of the action's arguments.
func (to *route) tool(r *Request) (t *tool, why string) {
	if to.gateway != nil {
		if t = to.gateway.tool(r.Action.ID); t == nil {
			return nil, "there is no tool " + quote(r.Action.ID) + " behind the gateway"
		}
		return t, ""
	}
	t, differ := to.account.tool(to.engine.source.ID, r.Action.ID)
	switch {
	case differ:
		return nil, "the gateways of the engine have different tools " + quote(r.Action.ID) + ": name the gateway in resource"
	case t == nil:
		return nil, "no gateway of the engine has a tool " + quote(r.Action.ID) + ": name the gateway in resource"
	}
	return t, ""
}
