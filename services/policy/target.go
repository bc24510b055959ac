package policy

import "encoding/json"

// TargetDefinition is what an update of a gateway target replaces as a whole: every member of AgentCore's
// UpdateGatewayTarget but the name. The zero value of a member is an absent one; pointers stand where zero means
// something else. A definition is shared by everything that holds it and never changed.
type TargetDefinition struct {
	Description     string
	Configuration   TargetConfiguration
	Credentials     []Credentials // at most one
	Metadata        *MetadataConfiguration
	PrivateEndpoint *PrivateEndpoint
	Certificates    []Certificate // at most one
}

// TargetConfiguration says what a target is. Exactly one member is set.
type TargetConfiguration struct {
	OpenAPISchema *APISchema       // mcp.openApiSchema
	SmithyModel   *APISchema       // mcp.smithyModel
	Lambda        *LambdaTarget    // mcp.lambda
	MCPServer     *MCPServerTarget // mcp.mcpServer
	APIGateway    *APIGatewayTarget
	Connector     *ConnectorTarget // mcp.connector

	Runtime       *RuntimeTarget       // http.agentcoreRuntime
	Passthrough   *PassthroughTarget   // http.passthrough
	HTTPConnector *HTTPConnectorTarget // http.connector

	InferenceConnector *InferenceConnectorTarget // inference.connector
	InferenceProvider  *InferenceProviderTarget  // inference.provider
}

// APISchema is the description of an API, or an MCP tool list, given here or kept in S3. Exactly one member is set.
type APISchema struct {
	S3            *S3Object
	InlinePayload string
}

// S3Object names an S3 object.
type S3Object struct {
	URI                  string
	BucketOwnerAccountID string // when it is another account
}

// LambdaTarget is a Lambda function that implements tools.
type LambdaTarget struct {
	ARN   string
	Tools ToolSchema
}

// ToolSchema is the list of a target's tools, given here or kept in S3. Exactly one member is set.
type ToolSchema struct {
	S3     *S3Object
	Inline []Tool // inlinePayload
}

// MCPServerTarget is an MCP server.
type MCPServerTarget struct {
	Endpoint string
	// ToolSchema is mcpToolSchema; when it is set the server is not asked for its tools.
	ToolSchema  *APISchema
	ListingMode ListingMode
	// ResourcePriority decides which of several servers answers for a resource URI: the lowest. nil means 1000.
	ResourcePriority *int32
}

// ListingMode is when an MCP server is asked for its tools.
type ListingMode string

// The listing modes.
const (
	ListingDefault ListingMode = "DEFAULT" // when the target is made, updated or synchronized
	ListingDynamic ListingMode = "DYNAMIC" // at every tools/list
)

// APIGatewayTarget is a stage of an API Gateway REST API.
type APIGatewayTarget struct {
	RestAPIID     string
	Stage         string
	ToolFilters   []APIGatewayToolFilter
	ToolOverrides []APIGatewayToolOverride
}

// APIGatewayToolFilter picks operations by path and method.
type APIGatewayToolFilter struct {
	Path    string // of the API, or a prefix that ends in "/*"
	Methods []RestMethod
}

// APIGatewayToolOverride gives the tool of one operation its own name and description.
type APIGatewayToolOverride struct {
	Name        string
	Description string
	Path        string
	Method      RestMethod
}

// RestMethod is an HTTP method of a REST API.
type RestMethod string

// The REST methods.
const (
	RestGet     RestMethod = "GET"
	RestDelete  RestMethod = "DELETE"
	RestHead    RestMethod = "HEAD"
	RestOptions RestMethod = "OPTIONS"
	RestPatch   RestMethod = "PATCH"
	RestPut     RestMethod = "PUT"
	RestPost    RestMethod = "POST"
)

// ConnectorTarget is a ready-made integration whose operations become tools.
type ConnectorTarget struct {
	ConnectorID    string
	Version        string   // absent means the newest
	Enabled        []string // the tools to offer; none means all
	Configurations []ConnectorTool
}

// ConnectorTool adjusts one tool of an integration.
type ConnectorTool struct {
	Name        string
	Description string // replaces the integration's own
	Parameters  []ConnectorParameter
	// ParameterValues is a JSON object of fixed or default values; nil when there are none.
	ParameterValues json.RawMessage
}

// ConnectorParameter adjusts one parameter of a tool.
type ConnectorParameter struct {
	Path        string // a JSON Pointer
	Description string
	Visible     *bool // whether the caller may see and set it
}

// RuntimeTarget is an AgentCore runtime.
type RuntimeTarget struct {
	ARN       string
	Qualifier string     // an endpoint of the runtime; absent means its default
	Schema    *APISchema // schema.source
}

// PassthroughTarget is an HTTP server that requests are handed to.
type PassthroughTarget struct {
	Endpoint     string
	ProtocolType PassthroughProtocol
	Schema       *APISchema // schema.source
	Stickiness   *Stickiness
	// StaticQueryParameters are added to every request; QueryConflict says whose value stands when a request has one.
	StaticQueryParameters map[string]string
	QueryConflict         QueryConflict
}

// PassthroughProtocol is what is spoken with a passthrough target.
type PassthroughProtocol string

// The passthrough protocols.
const (
	PassthroughMCP       PassthroughProtocol = "MCP"
	PassthroughA2A       PassthroughProtocol = "A2A"
	PassthroughInference PassthroughProtocol = "INFERENCE"
	PassthroughCustom    PassthroughProtocol = "CUSTOM"
)

// Stickiness keeps the requests of one session at one target.
type Stickiness struct {
	Identifier          string   // where the session's id stands, such as "$context.header.x-session-id"
	TimeoutSeconds      *int32   // 1 to 86400
	CompositeIdentifier []string // headers whose values are part of the session's identity
}

// QueryConflict is whose value of a static query parameter stands.
type QueryConflict string

// The two ways out of a conflict. Absent means ClientOverride.
const (
	ClientOverride QueryConflict = "CLIENT_OVERRIDE" // the request's value stands
	StaticOverride QueryConflict = "STATIC_OVERRIDE" // the target's value stands
)

// HTTPConnectorTarget is a ready-made integration that speaks HTTP.
type HTTPConnectorTarget struct {
	ConnectorID string
	Parameters  map[string]string
}

// InferenceConnectorTarget is a ready-made integration with a provider of language models.
type InferenceConnectorTarget struct {
	ConnectorID string
}

// InferenceProviderTarget is a provider of language models.
type InferenceProviderTarget struct {
	Endpoint     string
	ModelMapping *ModelMapping
	Operations   []InferenceOperation
}

// ModelMapping translates the callers' model ids into the provider's.
type ModelMapping struct {
	ProviderPrefix *ProviderPrefix
}

// ProviderPrefix is the part of a model id that names the provider.
type ProviderPrefix struct {
	Separator string // one character between prefix and model; absent means "."
	Strip     bool   // whether callers may leave the prefix out
}

// InferenceOperation is one operation of a provider.
type InferenceOperation struct {
	Path         string   // the callers'
	ProviderPath string   // the provider's, when it is another
	Models       []string // ids or patterns in which "*" stands for any text
}

// MetadataConfiguration names the headers and query parameters that pass through the gateway.
type MetadataConfiguration struct {
	AllowedRequestHeaders  []string
	AllowedQueryParameters []string
	AllowedResponseHeaders []string
}

// Certificate is a PEM certificate to trust when a target is called. Exactly one member is set.
type Certificate struct {
	S3        *S3Object
	SecretARN string // secretsManager.secretArn
}

// Kind is AgentCore's TargetType, such as "LAMBDA"; "" when no configuration is set.
func (d *TargetDefinition) Kind() string {
	for _, k := range d.Configuration.kinds() {
		if k.set {
			return k.kind
		}
	}
	return ""
}

// targetKind is one member of a TargetConfiguration.
type targetKind struct {
	path  string // on the wire, below targetConfiguration
	kind  string // AgentCore's TargetType
	set   bool
	check func() error // only to be called when set
}

// kinds lists all members.
func (c *TargetConfiguration) kinds() []targetKind {
	return []targetKind{
		{"mcp.openApiSchema", "OPEN_API_SCHEMA", c.OpenAPISchema != nil, c.OpenAPISchema.validate},
		{"mcp.smithyModel", "SMITHY_MODEL", c.SmithyModel != nil, c.SmithyModel.validate},
		{"mcp.lambda", "LAMBDA", c.Lambda != nil, c.Lambda.validate},
		{"mcp.mcpServer", "MCP_SERVER", c.MCPServer != nil, c.MCPServer.validate},
		{"mcp.apiGateway", "API_GATEWAY", c.APIGateway != nil, c.APIGateway.validate},
		{"mcp.connector", "CONNECTOR", c.Connector != nil, c.Connector.validate},
		{"http.agentcoreRuntime", "AGENTCORE_RUNTIME", c.Runtime != nil, c.Runtime.validate},
		{"http.passthrough", "PASSTHROUGH", c.Passthrough != nil, c.Passthrough.validate},
		{"http.connector", "HTTP_CONNECTOR", c.HTTPConnector != nil, c.HTTPConnector.validate},
		{"inference.connector", "CONNECTOR", c.InferenceConnector != nil, c.InferenceConnector.validate},
		{"inference.provider", "PROVIDER", c.InferenceProvider != nil, c.InferenceProvider.validate},
	}
}
