package awsapi

import (
	"cmp"
	"fmt"

	"github.com/verdict-io/verdict/services/control/internal/app"
	"github.com/verdict-io/verdict/services/policy"
)

// gatewayMembers are the members of a gateway that requests and answers have alike.
type gatewayMembers struct {
	Name           string                 `json:"name,omitzero"`
	Description    string                 `json:"description,omitzero"               verdict:"stored"`
	RoleARN        string                 `json:"roleArn,omitzero"                   verdict:"stored"`
	ProtocolType   policy.ProtocolType    `json:"protocolType,omitzero"              verdict:"gateway"`
	Protocol       *protocolConfiguration `json:"protocolConfiguration,omitzero"     verdict:"gateway"`
	AuthorizerType policy.AuthorizerType  `json:"authorizerType,omitzero"            verdict:"gateway"`
	Authorizer     *authorizerConfig      `json:"authorizerConfiguration,omitzero"   verdict:"gateway"`
	PolicyEngine   *engineAttachment      `json:"policyEngineConfiguration,omitzero"`
	ExceptionLevel policy.ExceptionLevel  `json:"exceptionLevel,omitzero"            verdict:"gateway"`
	Interceptors   Refused                `json:"interceptorConfigurations,omitzero"`
	KMSKeyARN      Refused                `json:"kmsKeyArn,omitzero"`
}

type createGatewayInput struct {
	token
	gatewayMembers

	Tags tagMap `json:"tags,omitzero" verdict:"stored"`
}

type updateGatewayInput struct {
	gatewayMembers

	CustomTransform Refused `json:"customTransformConfiguration,omitzero"`
	WAF             Refused `json:"wafConfiguration,omitzero"`
}

type engineAttachment struct {
	ARN  string            `json:"arn"`
	Mode policy.EngineMode `json:"mode"`
}

// protocolConfiguration is a union.
type protocolConfiguration struct {
	MCP *mcpConfiguration `json:"mcp,omitzero"`
}

type mcpConfiguration struct {
	SupportedVersions          []string              `json:"supportedVersions,omitzero"`
	Instructions               string                `json:"instructions,omitzero"`
	SearchType                 policy.SearchType     `json:"searchType,omitzero"`
	Session                    *sessionConfiguration `json:"sessionConfiguration,omitzero"`
	Streaming                  *streaming            `json:"streamingConfiguration,omitzero"`
	DisableListToolsPagination *bool                 `json:"disableMcpListToolsPagination,omitzero"`
}

type sessionConfiguration struct {
	TimeoutSeconds *int32 `json:"sessionTimeoutInSeconds,omitzero"`
}

type streaming struct {
	EnableResponseStreaming *bool `json:"enableResponseStreaming,omitzero"`
}

// authorizerConfig is a union.
type authorizerConfig struct {
	JWT *jwtAuthorizer `json:"customJWTAuthorizer,omitzero"` //nolint:tagliatelle // AWS names it so
}

type jwtAuthorizer struct {
	DiscoveryURL             string            `json:"discoveryUrl"`
	AllowedAudience          []string          `json:"allowedAudience,omitzero"`
	AllowedClients           []string          `json:"allowedClients,omitzero"`
	AllowedScopes            []string          `json:"allowedScopes,omitzero"`
	AdvertisedScopeMapping   map[string]string `json:"advertisedScopeMapping,omitzero"`
	CustomClaims             []customClaim     `json:"customClaims,omitzero"`
	PrivateEndpoint          Refused           `json:"privateEndpoint,omitzero"`
	PrivateEndpointOverrides Refused           `json:"privateEndpointOverrides,omitzero"`
	AllowedWorkloads         Refused           `json:"allowedWorkloadConfiguration,omitzero"`
}

type customClaim struct {
	Name      string                `json:"inboundTokenClaimName"`
	ValueType policy.ClaimValueType `json:"inboundTokenClaimValueType"`
	Match     claimMatch            `json:"authorizingClaimMatchValue"`
}

type claimMatch struct {
	Operator policy.ClaimOperator `json:"claimMatchOperator"`
	Value    claimValue           `json:"claimMatchValue"`
}

// claimValue is a union.
type claimValue struct {
	String string   `json:"matchValueString,omitzero"`
	List   []string `json:"matchValueStringList,omitzero"`
}

// definition is what the members are to policy. The engine's ARN becomes its id.
func (m *gatewayMembers) definition(a *API, r *request) (policy.GatewayDefinition, error) {
	if m.AuthorizerType == policy.AuthorizerAuthenticateOnly {
		return policy.GatewayDefinition{}, refuse("authorizerType", "Verdict does not act on authorizerType %s: use %s, %s or %s",
			m.AuthorizerType, policy.AuthorizerJWT, policy.AuthorizerIAM, policy.AuthorizerNone)
	}
	switch { // what is absent from policy's view would be taken without a word
	case m.Protocol != nil && m.Protocol.MCP == nil:
		return policy.GatewayDefinition{}, policy.Invalid("union", "protocolConfiguration", "protocolConfiguration must have the member mcp")
	case m.Authorizer != nil && m.Authorizer.JWT == nil:
		return policy.GatewayDefinition{}, policy.Invalid("union", "authorizerConfiguration", "authorizerConfiguration must have the member customJWTAuthorizer")
	}
	d := policy.GatewayDefinition{
		Description: m.Description, RoleARN: m.RoleARN, ProtocolType: m.ProtocolType, MCP: m.Protocol.definition(),
		AuthorizerType: m.AuthorizerType, JWT: m.Authorizer.definition(), ExceptionLevel: m.ExceptionLevel,
	}
	if m.PolicyEngine != nil {
		const field = "policyEngineConfiguration.arn"
		ref, err := a.cfg.App.ParseARN(r.Context(), field, m.PolicyEngine.ARN)
		if err == nil && ref.Kind != policy.KindEngine {
			err = policy.Invalid("pattern", field, "%s must be the ARN of a policy engine", field)
		}
		if err != nil {
			return policy.GatewayDefinition{}, err
		}
		d.PolicyEngine = &policy.EngineAttachment{EngineID: ref.ID, Mode: m.PolicyEngine.Mode}
	}
	return d, nil
}

// definition accepts nil.
func (p *protocolConfiguration) definition() *policy.MCPConfiguration {
	if p == nil || p.MCP == nil {
		return nil
	}
	m := p.MCP
	out := &policy.MCPConfiguration{
		SupportedVersions: m.SupportedVersions, Instructions: m.Instructions, SearchType: m.SearchType,
		DisableListToolsPagination: m.DisableListToolsPagination,
	}
	if m.Session != nil {
		out.Session = &policy.SessionConfiguration{TimeoutSeconds: m.Session.TimeoutSeconds}
	}
	if m.Streaming != nil {
		out.Streaming = &policy.StreamingConfiguration{EnableResponseStreaming: m.Streaming.EnableResponseStreaming}
	}
	return out
}

// definition accepts nil.
func (c *authorizerConfig) definition() *policy.JWTAuthorizer {
	if c == nil || c.JWT == nil {
		return nil
	}
	out := &policy.JWTAuthorizer{
		DiscoveryURL: c.JWT.DiscoveryURL, AllowedAudience: c.JWT.AllowedAudience, AllowedClients: c.JWT.AllowedClients,
		AllowedScopes: c.JWT.AllowedScopes, AdvertisedScopeMapping: c.JWT.AdvertisedScopeMapping,
	}
	for _, claim := range c.JWT.CustomClaims {
		out.CustomClaims = append(out.CustomClaims, policy.CustomClaim{
			Name: claim.Name, ValueType: claim.ValueType, Operator: claim.Match.Operator,
			MatchValue: claim.Match.Value.String, MatchValues: claim.Match.Value.List,
		})
	}
	return out
}

// gatewayMembersOf is the inverse of definition.
func (a *API) gatewayMembersOf(account *policy.Account, g *policy.Gateway) gatewayMembers {
	d := g.Definition()
	m := gatewayMembers{
		Name: g.Name, Description: d.Description, RoleARN: d.RoleARN, ProtocolType: d.ProtocolType, Protocol: protocolOf(d.MCP),
		AuthorizerType: d.AuthorizerType, Authorizer: authorizerOf(d.JWT), ExceptionLevel: d.ExceptionLevel,
	}
	if d.PolicyEngine != nil {
		m.PolicyEngine = &engineAttachment{ARN: a.cfg.App.ARN(account, policy.EngineRef(d.PolicyEngine.EngineID)), Mode: d.PolicyEngine.Mode}
	}
	return m
}

func protocolOf(m *policy.MCPConfiguration) *protocolConfiguration {
	if m == nil {
		return nil
	}
	out := &mcpConfiguration{
		SupportedVersions: m.SupportedVersions, Instructions: m.Instructions, SearchType: m.SearchType,
		DisableListToolsPagination: m.DisableListToolsPagination,
	}
	if m.Session != nil {
		out.Session = &sessionConfiguration{m.Session.TimeoutSeconds}
	}
	if m.Streaming != nil {
		out.Streaming = &streaming{m.Streaming.EnableResponseStreaming}
	}
	return &protocolConfiguration{MCP: out}
}

func authorizerOf(j *policy.JWTAuthorizer) *authorizerConfig {
	if j == nil {
		return nil
	}
	out := &jwtAuthorizer{
		DiscoveryURL: j.DiscoveryURL, AllowedAudience: j.AllowedAudience, AllowedClients: j.AllowedClients,
		AllowedScopes: j.AllowedScopes, AdvertisedScopeMapping: j.AdvertisedScopeMapping,
	}
	for _, c := range j.CustomClaims {
		out.CustomClaims = append(out.CustomClaims, customClaim{
			Name: c.Name, ValueType: c.ValueType, Match: claimMatch{c.Operator, claimValue{c.MatchValue, c.MatchValues}},
		})
	}
	return &authorizerConfig{JWT: out}
}

// gatewayStatus is a status in the words that AgentCore has for gateways and targets.
func gatewayStatus(s policy.Status) string {
	switch s {
	case policy.Active:
		return "READY"
	case policy.CreateFailed:
		return "FAILED"
	case policy.UpdateFailed, policy.DeleteFailed:
		return "UPDATE_UNSUCCESSFUL"
	default:
		return string(s)
	}
}

type gatewayDetail struct {
	gatewayMembers

	ID            string   `json:"gatewayId"`
	ARN           string   `json:"gatewayArn"`
	URL           string   `json:"gatewayUrl"`
	Status        string   `json:"status"`
	StatusReasons []string `json:"statusReasons"`
	CreatedAt     string   `json:"createdAt"`
	UpdatedAt     string   `json:"updatedAt"`
}

func (a *API) gatewayDetail(account *policy.Account, g *policy.Gateway) gatewayDetail {
	return gatewayDetail{
		gatewayMembers: a.gatewayMembersOf(account, g),
		ID:             g.ID, ARN: a.cfg.App.ARN(account, policy.GatewayRef(g.ID)), URL: a.cfg.GatewayURL + "/gateways/" + g.ID + "/mcp",
		Status: gatewayStatus(g.Status), StatusReasons: reasons(g.Reasons), CreatedAt: timestamp(g.CreatedAt), UpdatedAt: timestamp(g.UpdatedAt),
	}
}

type gatewaySummary struct {
	ID             string                `json:"gatewayId"`
	Name           string                `json:"name"`
	Status         string                `json:"status"`
	Description    string                `json:"description,omitzero"`
	CreatedAt      string                `json:"createdAt"`
	UpdatedAt      string                `json:"updatedAt"`
	AuthorizerType policy.AuthorizerType `json:"authorizerType"`
	ProtocolType   policy.ProtocolType   `json:"protocolType,omitzero" verdict:"gateway"`
}

// items is a page of gateways or targets.
type items[T any] struct {
	Items     []T    `json:"items"`
	NextToken string `json:"nextToken,omitzero"`
}

type deletedGateway struct {
	ID            string   `json:"gatewayId"`
	Status        string   `json:"status"`
	StatusReasons []string `json:"statusReasons"`
}

func (a *API) createGateway(r *request) (answer, error) {
	in, err := decode[createGatewayInput](a, r)
	if err != nil {
		return answer{}, err
	}
	d, err := in.definition(a, r)
	if err != nil {
		return answer{}, err
	}
	if err := d.Validate(); err != nil { // before it is copied again to be hashed
		return answer{}, err
	}
	out, err := a.create(r, in, func(suffix string) policy.Command {
		return policy.CreateGateway{ID: policy.NewID(policy.KindGateway, in.Name, suffix), Name: in.Name, Definition: d, Tags: in.Tags}
	})
	if err != nil {
		return answer{}, err
	}
	return answer{a.gatewayDetail(out.Account, out.Account.Gateway(out.Ref.ID)), out.Revision}, nil
}

// findGateway is the gateway that the path names.
func (a *API) findGateway(r *request) (*policy.Account, *policy.Gateway, uint64, error) {
	account, revision, err := a.cfg.App.Account(r.Context())
	if err != nil {
		return nil, nil, 0, err
	}
	g, err := account.FindGateway(r.PathValue("gatewayIdentifier"))
	return account, g, revision, err
}

func (a *API) listGateways(r *request) (answer, error) {
	account, revision, err := a.cfg.App.Account(r.Context())
	if err != nil {
		return answer{}, err
	}
	found, next, err := page(r, gatewayPage, app.Listing{Account: account.ID, Kind: "gateways"}, account.GatewaysAfter,
		func(g *policy.Gateway) string { return g.ID })
	if err != nil {
		return answer{}, err
	}
	out := items[gatewaySummary]{Items: []gatewaySummary{}, NextToken: next}
	for _, g := range found {
		d := g.Definition()
		out.Items = append(out.Items, gatewaySummary{
			ID: g.ID, Name: g.Name, Status: gatewayStatus(g.Status), Description: d.Description,
			CreatedAt: timestamp(g.CreatedAt), UpdatedAt: timestamp(g.UpdatedAt), AuthorizerType: d.AuthorizerType, ProtocolType: d.ProtocolType,
		})
	}
	return answer{out, revision}, nil
}

func (a *API) updateGateway(r *request) (answer, error) {
	in, err := decode[updateGatewayInput](a, r)
	if err != nil {
		return answer{}, err
	}
	_, g, _, err := a.findGateway(r)
	if err != nil {
		return answer{}, err
	}
	if err := cmp.Or(sameName(in.Name, g.Name), keepsHidden("gateway", hiddenOfGateway(g.Definition()))); err != nil {
		return answer{}, err
	}
	d, err := in.definition(a, r)
	if err != nil {
		return answer{}, err
	}
	out, err := a.change(r, policy.UpdateGateway{ID: g.ID, Definition: d})
	if err != nil {
		return answer{}, err
	}
	return answer{a.gatewayDetail(out.Account, out.Account.Gateway(g.ID)), out.Revision}, nil
}

// hiddenOfGateway is a member that the gateway has and this API does not show; "" when there is none.
func hiddenOfGateway(d *policy.GatewayDefinition) string {
	j := d.JWT
	switch {
	case d.KMSKeyARN != "":
		return "kmsKeyArn"
	case d.CustomTransform != nil:
		return "customTransformConfiguration"
	case len(d.Interceptors) > 0:
		return "interceptorConfigurations"
	case d.WAF != nil:
		return "wafConfiguration"
	case j != nil && (j.PrivateEndpoint != nil || len(j.PrivateEndpointOverrides) > 0):
		return "privateEndpoint"
	case j != nil && j.AllowedWorkloads != nil:
		return "allowedWorkloadConfiguration"
	}
	return ""
}

// keepsHidden refuses to replace what was given through Verdict's own API and is not shown here: whoever reads, changes and writes would
// take it away without knowing.
func keepsHidden(what, member string) error {
	if member == "" {
		return nil
	}
	return &policy.Error{Kind: policy.ErrConflict, Reason: "not_shown", Message: fmt.Sprintf(
		"the %s has %s, which this API does not show and an update here would remove: change it through Verdict's own API", what, member)}
}

// sameName refuses to change a name, which never changes: it is part of ids, and a target's of actions.
func sameName(asked, is string) error {
	switch asked {
	case is:
		return nil
	case "":
		return policy.Invalid("required", "name", "name is required")
	default:
		return policy.Invalid("immutable", "name", "name cannot be changed; it is %s", is)
	}
}

func (a *API) deleteGateway(r *request) (answer, error) {
	id := r.PathValue("gatewayIdentifier")
	out, err := a.remove(r, policy.DeleteGateway{ID: id})
	if err != nil {
		return answer{}, err
	}
	g := out.Account.Gateway(id)
	return answer{deletedGateway{ID: id, Status: gatewayStatus(g.Status), StatusReasons: reasons(g.Reasons)}, out.Revision}, nil
}
