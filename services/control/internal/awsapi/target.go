package awsapi

import (
	"cmp"

	"github.com/verdict-io/verdict/services/control/internal/app"
	"github.com/verdict-io/verdict/services/policy"
)

// targetMembers are the members of a target that requests and answers have alike.
type targetMembers struct {
	Name            string               `json:"name,omitzero"`
	Description     string               `json:"description,omitzero"               verdict:"stored"`
	Configuration   *targetConfiguration `json:"targetConfiguration,omitzero"`
	Credentials     []credentials        `json:"credentialProviderConfigurations"`
	Metadata        Refused              `json:"metadataConfiguration,omitzero"`
	PrivateEndpoint Refused              `json:"privateEndpoint,omitzero"`
	Certificates    Refused              `json:"certificateConfigurations,omitzero"`
}

type createGatewayTargetInput struct {
	token
	targetMembers
}

type updateGatewayTargetInput struct{ targetMembers }

// targetConfiguration is a union, as is what it holds.
type targetConfiguration struct {
	MCP       *mcpTarget `json:"mcp,omitzero"`
	HTTP      Refused    `json:"http,omitzero"`
	Inference Refused    `json:"inference,omitzero"`
}

type mcpTarget struct {
	Lambda        *lambdaTarget `json:"lambda,omitzero"`
	OpenAPISchema Refused       `json:"openApiSchema,omitzero"`
	SmithyModel   Refused       `json:"smithyModel,omitzero"`
	MCPServer     Refused       `json:"mcpServer,omitzero"`
	APIGateway    Refused       `json:"apiGateway,omitzero"`
	Connector     Refused       `json:"connector,omitzero"`
}

type lambdaTarget struct {
	ARN        string      `json:"lambdaArn"           verdict:"gateway"`
	ToolSchema *toolSchema `json:"toolSchema,omitzero"`
}

// toolSchema is a union.
type toolSchema struct {
	InlinePayload []toolDefinition `json:"inlinePayload,omitzero"`
	S3            Refused          `json:"s3,omitzero"`
}

type toolDefinition struct {
	Name         string            `json:"name"`
	Description  string            `json:"description"           verdict:"gateway"`
	InputSchema  *schemaDefinition `json:"inputSchema,omitzero"`
	OutputSchema *schemaDefinition `json:"outputSchema,omitzero" verdict:"gateway"`
}

type schemaDefinition struct {
	Type        policy.SchemaType            `json:"type"`
	Properties  map[string]*schemaDefinition `json:"properties,omitzero"`
	Required    []string                     `json:"required,omitzero"`
	Items       *schemaDefinition            `json:"items,omitzero"`
	Description string                       `json:"description,omitzero" verdict:"stored"`
}

type credentials struct {
	Type     policy.CredentialsType `json:"credentialProviderType"      verdict:"stored"`
	Provider Refused                `json:"credentialProvider,omitzero"`
}

// definition is what the members are to policy.
func (m *targetMembers) definition() (policy.TargetDefinition, error) {
	d := policy.TargetDefinition{Description: m.Description}
	if c := m.Configuration; c != nil && c.MCP != nil && c.MCP.Lambda != nil {
		d.Configuration.Lambda = &policy.LambdaTarget{ARN: c.MCP.Lambda.ARN, Tools: c.MCP.Lambda.ToolSchema.definition()}
	}
	for i := range m.Credentials {
		if t := m.Credentials[i].Type; t != policy.CredentialsGatewayRole && t != "" {
			return d, refuse("credentialProviderConfigurations", "Verdict does not act on credentialProviderType %.40s: use %s", t, policy.CredentialsGatewayRole)
		}
		d.Credentials = append(d.Credentials, policy.Credentials{Type: m.Credentials[i].Type})
	}
	return d, nil
}

// definition accepts nil.
func (s *toolSchema) definition() policy.ToolSchema {
	var out policy.ToolSchema
	if s == nil {
		return out
	}
	for _, t := range s.InlinePayload {
		out.Inline = append(out.Inline, policy.Tool{
			Name: t.Name, Description: t.Description, InputSchema: t.InputSchema.definition(), OutputSchema: t.OutputSchema.definition(),
		})
	}
	return out
}

// definition accepts nil. It is as deep as what was decoded, which the decoder bounds.
func (s *schemaDefinition) definition() *policy.Schema {
	if s == nil {
		return nil
	}
	out := &policy.Schema{Type: s.Type, Required: s.Required, Items: s.Items.definition(), Description: s.Description}
	if s.Properties != nil {
		out.Properties = make(map[string]*policy.Schema, len(s.Properties))
	}
	for name, p := range s.Properties {
		out.Properties[name] = p.definition()
	}
	return out
}

// targetMembersOf is the inverse of definition, for the targets that this API makes. Of one of another kind, which Verdict's own
// API takes, it shows no more than the kind.
func targetMembersOf(t *policy.Target) targetMembers {
	d := t.Definition()
	m := targetMembers{Name: t.Name, Description: d.Description, Configuration: &targetConfiguration{MCP: &mcpTarget{}}, Credentials: []credentials{}}
	if l := d.Configuration.Lambda; l != nil {
		m.Configuration.MCP.Lambda = &lambdaTarget{ARN: l.ARN}
		if l.Tools.S3 == nil {
			m.Configuration.MCP.Lambda.ToolSchema = toolSchemaOf(l.Tools.Inline)
		}
	}
	for _, c := range d.Credentials {
		m.Credentials = append(m.Credentials, credentials{Type: c.Type})
	}
	return m
}

func toolSchemaOf(tools []policy.Tool) *toolSchema {
	out := &toolSchema{InlinePayload: []toolDefinition{}}
	for _, t := range tools {
		out.InlinePayload = append(out.InlinePayload, toolDefinition{
			Name: t.Name, Description: t.Description, InputSchema: schemaOf(t.InputSchema), OutputSchema: schemaOf(t.OutputSchema),
		})
	}
	return out
}

// schemaOf accepts nil.
func schemaOf(s *policy.Schema) *schemaDefinition {
	if s == nil {
		return nil
	}
	out := &schemaDefinition{Type: s.Type, Required: s.Required, Items: schemaOf(s.Items), Description: s.Description}
	if s.Properties != nil {
		out.Properties = make(map[string]*schemaDefinition, len(s.Properties))
	}
	for name, p := range s.Properties {
		out.Properties[name] = schemaOf(p)
	}
	return out
}

type targetDetail struct {
	targetMembers

	GatewayARN    string   `json:"gatewayArn"`
	ID            string   `json:"targetId"`
	Status        string   `json:"status"`
	StatusReasons []string `json:"statusReasons"`
	CreatedAt     string   `json:"createdAt"`
	UpdatedAt     string   `json:"updatedAt"`
	ProtocolType  string   `json:"protocolType"`
}

func (a *API) targetDetail(account *policy.Account, t *policy.Target) targetDetail {
	return targetDetail{
		targetMembers: targetMembersOf(t),
		GatewayARN:    a.cfg.App.ARN(account, policy.GatewayRef(t.GatewayID)), ID: t.ID, Status: gatewayStatus(t.Status), StatusReasons: reasons(t.Reasons),
		CreatedAt: timestamp(t.CreatedAt), UpdatedAt: timestamp(t.UpdatedAt), ProtocolType: "MCP",
	}
}

type targetSummary struct {
	ID          string `json:"targetId"`
	Name        string `json:"name"`
	Status      string `json:"status"`
	Description string `json:"description,omitzero"`
	CreatedAt   string `json:"createdAt"`
	UpdatedAt   string `json:"updatedAt"`
	TargetType  string `json:"targetType"`
}

type deletedTarget struct {
	GatewayARN    string   `json:"gatewayArn"`
	ID            string   `json:"targetId"`
	Status        string   `json:"status"`
	StatusReasons []string `json:"statusReasons"`
}

func (a *API) createGatewayTarget(r *request) (answer, error) {
	in, err := decode[createGatewayTargetInput](a, r)
	if err != nil {
		return answer{}, err
	}
	d, err := in.definition()
	if err != nil {
		return answer{}, err
	}
	if err := d.Validate(); err != nil { // before it is copied again to be hashed
		return answer{}, err
	}
	out, err := a.create(r, in, func(suffix string) policy.Command {
		return policy.CreateTarget{
			GatewayID: r.PathValue("gatewayIdentifier"), ID: policy.NewID(policy.KindTarget, in.Name, suffix), Name: in.Name, Definition: d,
		}
	})
	if err != nil {
		return answer{}, err
	}
	return answer{a.targetDetail(out.Account, out.Account.Gateway(out.Ref.Parent).Target(out.Ref.ID)), out.Revision}, nil
}

// findTarget is the target that the path names.
func (a *API) findTarget(r *request) (*policy.Account, *policy.Target, uint64, error) {
	account, revision, err := a.cfg.App.Account(r.Context())
	if err != nil {
		return nil, nil, 0, err
	}
	t, err := account.FindTarget(r.PathValue("gatewayIdentifier"), r.PathValue("targetId"))
	return account, t, revision, err
}

func (a *API) listGatewayTargets(r *request) (answer, error) {
	account, g, revision, err := a.findGateway(r)
	if err != nil {
		return answer{}, err
	}
	found, next, err := page(r, gatewayPage, app.Listing{Account: account.ID, Kind: "targets", Parent: g.ID}, g.TargetsAfter,
		func(t *policy.Target) string { return t.ID })
	if err != nil {
		return answer{}, err
	}
	out := items[targetSummary]{Items: []targetSummary{}, NextToken: next}
	for _, t := range found {
		d := t.Definition()
		out.Items = append(out.Items, targetSummary{
			ID: t.ID, Name: t.Name, Status: gatewayStatus(t.Status), Description: d.Description,
			CreatedAt: timestamp(t.CreatedAt), UpdatedAt: timestamp(t.UpdatedAt), TargetType: d.Kind(),
		})
	}
	return answer{out, revision}, nil
}

func (a *API) updateGatewayTarget(r *request) (answer, error) {
	in, err := decode[updateGatewayTargetInput](a, r)
	if err != nil {
		return answer{}, err
	}
	_, t, _, err := a.findTarget(r)
	if err != nil {
		return answer{}, err
	}
	if in.Name == "" { // which the model lets be
		in.Name = t.Name
	}
	if err := cmp.Or(sameName(in.Name, t.Name), keepsHidden("target", hiddenOfTarget(t.Definition()))); err != nil {
		return answer{}, err
	}
	d, err := in.definition()
	if err != nil {
		return answer{}, err
	}
	out, err := a.change(r, policy.UpdateTarget{GatewayID: t.GatewayID, ID: t.ID, Definition: d})
	if err != nil {
		return answer{}, err
	}
	return answer{a.targetDetail(out.Account, out.Account.Gateway(t.GatewayID).Target(t.ID)), out.Revision}, nil
}

func (a *API) deleteGatewayTarget(r *request) (answer, error) {
	command := policy.DeleteTarget{GatewayID: r.PathValue("gatewayIdentifier"), ID: r.PathValue("targetId")}
	out, err := a.remove(r, command)
	if err != nil {
		return answer{}, err
	}
	t := out.Account.Gateway(command.GatewayID).Target(command.ID)
	return answer{deletedTarget{
		GatewayARN: a.cfg.App.ARN(out.Account, policy.GatewayRef(t.GatewayID)), ID: t.ID, Status: gatewayStatus(t.Status), StatusReasons: reasons(t.Reasons),
	}, out.Revision}, nil
}

// hiddenOfTarget is a member that the target has and this API does not show; "" when there is none.
func hiddenOfTarget(d *policy.TargetDefinition) string {
	switch {
	case d.Configuration.Lambda == nil:
		return "a targetConfiguration of kind " + d.Kind()
	case d.Configuration.Lambda.Tools.S3 != nil:
		return "toolSchema.s3"
	case d.Metadata != nil:
		return "metadataConfiguration"
	case d.PrivateEndpoint != nil:
		return "privateEndpoint"
	case len(d.Certificates) > 0:
		return "certificateConfigurations"
	}
	for _, c := range d.Credentials {
		if c.OAuth != nil || c.APIKey != nil || c.IAM != nil {
			return "credentialProvider"
		}
	}
	return ""
}

type synchronizeInput struct {
	TargetIDs []string `json:"targetIdList,omitzero"`
}

type synchronized struct {
	Targets []targetDetail `json:"targets"`
}

// synchronizeGatewayTargets has nothing to fetch: the tools of every target that is offered are those of its definition. So the
// target is what it was, in step with its tools.
func (a *API) synchronizeGatewayTargets(r *request) (answer, error) {
	in, err := decode[synchronizeInput](a, r)
	if err != nil {
		return answer{}, err
	}
	if len(in.TargetIDs) != 1 {
		return answer{}, policy.Invalid("count", "targetIdList", "targetIdList must have 1 entry; it has %d", len(in.TargetIDs))
	}
	account, revision, err := a.cfg.App.Account(r.Context())
	if err != nil {
		return answer{}, err
	}
	t, err := account.FindTarget(r.PathValue("gatewayIdentifier"), in.TargetIDs[0])
	if err != nil {
		return answer{}, err
	}
	return answer{synchronized{[]targetDetail{a.targetDetail(account, t)}}, revision}, nil
}
