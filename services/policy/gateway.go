package policy

// GatewayDefinition is what an update of a gateway replaces as a whole: every member of AgentCore's UpdateGateway but
// the name. The zero value of a member is an absent one; pointers stand where zero means something else. A definition
// is shared by everything that holds it and never changed.
type GatewayDefinition struct {
	Description string
	// RoleARN is kept and returned; nothing here assumes the role, so unlike in AgentCore it may be absent.
	RoleARN      string
	ProtocolType ProtocolType
	// MCP is protocolConfiguration.mcp.
	MCP            *MCPConfiguration
	AuthorizerType AuthorizerType
	// JWT is authorizerConfiguration.customJWTAuthorizer. It is there exactly when AuthorizerType is AuthorizerJWT.
	JWT             *JWTAuthorizer
	KMSKeyARN       string
	CustomTransform *CustomTransform
	Interceptors    []Interceptor
	// PolicyEngine is nil where no engine is attached.
	PolicyEngine   *EngineAttachment
	ExceptionLevel ExceptionLevel
	WAF            *WAFConfiguration
}

// ProtocolType is the protocol that a gateway speaks to its callers.
type ProtocolType string

// ProtocolMCP is the only protocol.
const ProtocolMCP ProtocolType = "MCP"

// MCPConfiguration holds the settings of a gateway that speaks MCP.
type MCPConfiguration struct {
	SupportedVersions []string // none: the server's choice
	Instructions      string   // sent to clients in the answer to initialize
	SearchType        SearchType
	Session           *SessionConfiguration
	Streaming         *StreamingConfiguration
	// DisableListToolsPagination makes tools/list answer with all tools at once.
	DisableListToolsPagination *bool
}

// SearchType is how a gateway searches its tools.
type SearchType string

// SearchSemantic searches by meaning.
const SearchSemantic SearchType = "SEMANTIC"

// SessionConfiguration holds the settings of MCP sessions.
type SessionConfiguration struct {
	TimeoutSeconds *int32 // nil means 3600
}

// StreamingConfiguration says whether answers of targets are streamed.
type StreamingConfiguration struct {
	EnableResponseStreaming *bool
}

// AuthorizerType is how a gateway authenticates its callers.
type AuthorizerType string

// The authorizer types.
const (
	AuthorizerJWT              AuthorizerType = "CUSTOM_JWT"
	AuthorizerIAM              AuthorizerType = "AWS_IAM"
	AuthorizerNone             AuthorizerType = "NONE"
	AuthorizerAuthenticateOnly AuthorizerType = "AUTHENTICATE_ONLY"
)

// JWTAuthorizer says which bearer tokens a gateway accepts: those of the issuer that satisfy every list given.
type JWTAuthorizer struct {
	DiscoveryURL    string
	AllowedAudience []string
	AllowedClients  []string
	AllowedScopes   []string
	// AdvertisedScopeMapping leads from a scope of AllowedScopes to the name under which clients are told of it.
	AdvertisedScopeMapping   map[string]string
	CustomClaims             []CustomClaim
	PrivateEndpoint          *PrivateEndpoint
	PrivateEndpointOverrides []PrivateEndpointOverride
	AllowedWorkloads         *AllowedWorkloads
}

// CustomClaim is a condition on one claim of a token: a STRING claim EQUALS MatchValue; a STRING_ARRAY claim CONTAINS
// MatchValue or CONTAINS_ANY of MatchValues.
type CustomClaim struct {
	Name        string
	ValueType   ClaimValueType
	Operator    ClaimOperator
	MatchValue  string   // matchValueString
	MatchValues []string // matchValueStringList; exactly one of the two is given
}

// ClaimValueType is the JSON type that a claim must have.
type ClaimValueType string

// The claim value types.
const (
	ClaimString      ClaimValueType = "STRING"
	ClaimStringArray ClaimValueType = "STRING_ARRAY"
)

// ClaimOperator is how a claim is compared.
type ClaimOperator string

// The claim operators.
const (
	ClaimEquals      ClaimOperator = "EQUALS"
	ClaimContains    ClaimOperator = "CONTAINS"
	ClaimContainsAny ClaimOperator = "CONTAINS_ANY"
)

// AllowedWorkloads restricts the workloads in a caller's identity chain.
type AllowedWorkloads struct {
	HostingEnvironments []string // ARNs
	WorkloadIdentities  []string
}

// PrivateEndpoint is a way to an address that is not on the public network. Exactly one member is set.
type PrivateEndpoint struct {
	// LatticeResource is selfManagedLatticeResource.resourceConfigurationIdentifier, an id or an ARN.
	LatticeResource string
	ManagedVPC      *ManagedVPC
}

// ManagedVPC is a private endpoint that AgentCore would look after.
type ManagedVPC struct {
	VPCID            string
	SubnetIDs        []string
	IPAddressType    IPAddressType
	SecurityGroupIDs []string
	Tags             map[string]string
	RoutingDomain    string // used instead of the target's own domain
}

// IPAddressType is the IP version of an endpoint.
type IPAddressType string

// The IP versions.
const (
	IPv4 IPAddressType = "IPV4"
	IPv6 IPAddressType = "IPV6"
)

// PrivateEndpointOverride gives one domain its own private endpoint.
type PrivateEndpointOverride struct {
	Domain   string
	Endpoint *PrivateEndpoint
}

// CustomTransform names a Lambda function that transforms requests.
type CustomTransform struct {
	LambdaARN string // may be absent even here
}

// Interceptor is a Lambda function called before or after a target.
type Interceptor struct {
	LambdaARN string
	Points    []InterceptionPoint
	Input     *InterceptorInput
}

// InterceptionPoint is when an interceptor is called.
type InterceptionPoint string

// The interception points.
const (
	InterceptRequest  InterceptionPoint = "REQUEST"
	InterceptResponse InterceptionPoint = "RESPONSE"
)

// InterceptorInput is what an interceptor gets to see.
type InterceptorInput struct {
	PassRequestHeaders *bool // must be given
	PayloadFilter      *PayloadFilter
}

// PayloadFilter takes parts of a request or response away from an interceptor.
type PayloadFilter struct {
	Exclude []PayloadExclusion
}

// PayloadExclusion is a part of a payload that can be taken away.
type PayloadExclusion string

// ExcludeResponseBody takes away the body of the response.
const ExcludeResponseBody PayloadExclusion = "RESPONSE_BODY"

// EngineAttachment lets an engine of the same account decide a gateway's tool calls.
type EngineAttachment struct {
	EngineID string
	Mode     EngineMode
}

// EngineMode is what a gateway does with the decisions of its engine.
type EngineMode string

// The engine modes.
const (
	ModeEnforce EngineMode = "ENFORCE"  // denied calls are refused
	ModeLogOnly EngineMode = "LOG_ONLY" // every call proceeds, decisions are only recorded
)

// ExceptionLevel is how much callers learn about errors. Absent: little.
type ExceptionLevel string

// ExceptionDebug tells callers what went wrong.
const ExceptionDebug ExceptionLevel = "DEBUG"

// WAFConfiguration holds the settings of a web application firewall in front of a gateway.
type WAFConfiguration struct {
	FailureMode WAFFailureMode
}

// WAFFailureMode is what happens to requests when the firewall cannot be asked.
type WAFFailureMode string

// The failure modes.
const (
	WAFFailClose WAFFailureMode = "FAIL_CLOSE"
	WAFFailOpen  WAFFailureMode = "FAIL_OPEN"
)
