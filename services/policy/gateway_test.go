package policy

import (
	"reflect"
	"strings"
	"testing"
)

const (
	testLambda    = "arn:aws:lambda:us-east-1:111122223333:function:refund"
	testDiscovery = "https://issuer.example/.well-known/openid-configuration"
)

func validGateway() *GatewayDefinition {
	return &GatewayDefinition{
		Description:  "Refunds",
		RoleARN:      "arn:aws:iam::111122223333:role/gateway",
		ProtocolType: ProtocolMCP,
		MCP: &MCPConfiguration{
			SupportedVersions: []string{"2025-06-18"},
			Instructions:      "Ask first.",
			SearchType:        SearchSemantic,
			Session:           &SessionConfiguration{TimeoutSeconds: new(int32(900))},
			Streaming:         &StreamingConfiguration{EnableResponseStreaming: new(true)},
		},
		AuthorizerType: AuthorizerJWT,
		JWT: &JWTAuthorizer{
			DiscoveryURL:           testDiscovery,
			AllowedAudience:        []string{"gateway"},
			AllowedClients:         []string{"agent"},
			AllowedScopes:          []string{"refund", "read"},
			AdvertisedScopeMapping: map[string]string{"refund": "api/refund"},
			CustomClaims: []CustomClaim{
				{Name: "team", ValueType: ClaimString, Operator: ClaimEquals, MatchValue: "refunds"},
				{Name: "roles", ValueType: ClaimStringArray, Operator: ClaimContains, MatchValue: "agent"},
				{Name: "roles", ValueType: ClaimStringArray, Operator: ClaimContainsAny, MatchValues: []string{"a", "b"}},
			},
			PrivateEndpoint: &PrivateEndpoint{LatticeResource: "rcfg-0123456789abcdefg"},
			PrivateEndpointOverrides: []PrivateEndpointOverride{{Domain: "issuer.example", Endpoint: &PrivateEndpoint{
				ManagedVPC: &ManagedVPC{
					VPCID: "vpc-12345678", SubnetIDs: []string{"subnet-12345678"}, IPAddressType: IPv6,
					SecurityGroupIDs: []string{"sg-12345678"}, Tags: map[string]string{"k": ""}, RoutingDomain: "lb.example",
				},
			}}},
			AllowedWorkloads: &AllowedWorkloads{
				HostingEnvironments: []string{"arn:aws:bedrock-agentcore:us-east-1:111122223333:gateway/a-0123456789"},
				WorkloadIdentities:  []string{"agent"},
			},
		},
		KMSKeyARN:       "arn:aws:kms:us-east-1:111122223333:key/01234567-89ab-cdef-0123-456789abcdef",
		CustomTransform: &CustomTransform{LambdaARN: testLambda},
		Interceptors: []Interceptor{
			{LambdaARN: testLambda, Points: []InterceptionPoint{InterceptResponse}, Input: &InterceptorInput{
				PassRequestHeaders: new(false),
				PayloadFilter:      &PayloadFilter{Exclude: []PayloadExclusion{ExcludeResponseBody}},
			}},
			{LambdaARN: testLambda + ":$LATEST", Points: []InterceptionPoint{InterceptRequest}},
		},
		PolicyEngine:   &EngineAttachment{EngineID: "RefundEngine-a1b2c3d4e5", Mode: ModeEnforce},
		ExceptionLevel: ExceptionDebug,
		WAF:            &WAFConfiguration{FailureMode: WAFFailOpen},
	}
}

func TestValidGateways(t *testing.T) {
	for name, d := range map[string]*GatewayDefinition{
		"everything": validGateway(),
		"least":      {AuthorizerType: AuthorizerNone},
		"empty parts": {
			AuthorizerType: AuthorizerIAM, MCP: &MCPConfiguration{Session: &SessionConfiguration{}, Streaming: &StreamingConfiguration{}},
			CustomTransform: &CustomTransform{}, WAF: &WAFConfiguration{},
		},
		"longest session": {
			AuthorizerType: AuthorizerAuthenticateOnly,
			MCP:            &MCPConfiguration{Session: &SessionConfiguration{TimeoutSeconds: new(int32(28800))}},
		},
		"authorization server metadata": {
			AuthorizerType: AuthorizerJWT,
			JWT:            &JWTAuthorizer{DiscoveryURL: "https://issuer.example/.well-known/oauth-authorization-server/tenant"},
		},
		"interceptor without filter": {
			AuthorizerType: AuthorizerNone,
			Interceptors: []Interceptor{{
				LambdaARN: testLambda, Points: []InterceptionPoint{InterceptRequest}, Input: &InterceptorInput{PassRequestHeaders: new(true)},
			}},
		},
		"both points in one interceptor": {
			AuthorizerType: AuthorizerNone,
			Interceptors:   []Interceptor{{LambdaARN: testLambda, Points: []InterceptionPoint{InterceptRequest, InterceptResponse}}},
		},
	} {
		if err := d.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The test of valid gateways means something only if it leaves nothing out.
func TestValidGatewayHasEverything(t *testing.T) {
	v := reflect.ValueOf(*validGateway())
	for i := range v.NumField() {
		if v.Field(i).IsZero() {
			t.Errorf("%s is not set", v.Type().Field(i).Name)
		}
	}
}

func TestInvalidGateways(t *testing.T) {
	const jwt = "authorizerConfiguration.customJWTAuthorizer"
	long := strings.Repeat("x", 3000)
	for _, c := range []struct {
		reason, field string
		spoil         func(d *GatewayDefinition)
	}{
		{"length", "description", func(d *GatewayDefinition) { d.Description = long }},
		{"encoding", "description", func(d *GatewayDefinition) { d.Description = "\xff" }},
		{"pattern", "roleArn", func(d *GatewayDefinition) { d.RoleARN = "arn:aws:iam::1:role/x" }},
		{"enum", "protocolType", func(d *GatewayDefinition) { d.ProtocolType = "HTTP" }},
		{"count", "protocolConfiguration.mcp.supportedVersions", func(d *GatewayDefinition) { d.MCP.SupportedVersions = make([]string, 1001) }},
		{"required", "protocolConfiguration.mcp.supportedVersions[0]", func(d *GatewayDefinition) { d.MCP.SupportedVersions = []string{""} }},
		{"length", "protocolConfiguration.mcp.instructions", func(d *GatewayDefinition) { d.MCP.Instructions = long }},
		{"enum", "protocolConfiguration.mcp.searchType", func(d *GatewayDefinition) { d.MCP.SearchType = "x" }},
		{"range", "protocolConfiguration.mcp.sessionConfiguration.sessionTimeoutInSeconds", func(d *GatewayDefinition) { *d.MCP.Session.TimeoutSeconds = 899 }},
		{"range", "protocolConfiguration.mcp.sessionConfiguration.sessionTimeoutInSeconds", func(d *GatewayDefinition) { *d.MCP.Session.TimeoutSeconds = 28801 }},
		{"required", "authorizerType", func(d *GatewayDefinition) { d.AuthorizerType = "" }},
		{"enum", "authorizerType", func(d *GatewayDefinition) { d.AuthorizerType = "custom_jwt" }},
		{"required", jwt, func(d *GatewayDefinition) { d.JWT = nil }},
		{"unexpected", "authorizerConfiguration", func(d *GatewayDefinition) { d.AuthorizerType = AuthorizerIAM }},
		{"unexpected", "authorizerConfiguration", func(d *GatewayDefinition) { d.AuthorizerType = AuthorizerAuthenticateOnly }},
		{"required", jwt + ".discoveryUrl", func(d *GatewayDefinition) { d.JWT.DiscoveryURL = "" }},
		{"pattern", jwt + ".discoveryUrl", func(d *GatewayDefinition) { d.JWT.DiscoveryURL = "https://issuer.example/" }},
		{"pattern", jwt + ".discoveryUrl", func(d *GatewayDefinition) { d.JWT.DiscoveryURL = testDiscovery + "/x" }},
		{"pattern", jwt + ".discoveryUrl", func(d *GatewayDefinition) { d.JWT.DiscoveryURL = testDiscovery + "\n" }},
		{"length", jwt + ".allowedAudience[0]", func(d *GatewayDefinition) { d.JWT.AllowedAudience = []string{long} }},
		{"required", jwt + ".allowedClients[1]", func(d *GatewayDefinition) { d.JWT.AllowedClients = []string{"a", ""} }},
		{"pattern", jwt + ".allowedScopes[0]", func(d *GatewayDefinition) { d.JWT.AllowedScopes = []string{"a b"} }},
		{"pattern", jwt + ".advertisedScopeMapping.refund", func(d *GatewayDefinition) { d.JWT.AdvertisedScopeMapping["refund"] = "a b" }},
		{"reference", jwt + ".advertisedScopeMapping", func(d *GatewayDefinition) { d.JWT.AdvertisedScopeMapping["other"] = "x" }},
		{"pattern", jwt + ".customClaims[0].inboundTokenClaimName", func(d *GatewayDefinition) { d.JWT.CustomClaims[0].Name = "a b" }},
		{"enum", jwt + ".customClaims[1].inboundTokenClaimValueType", func(d *GatewayDefinition) { d.JWT.CustomClaims[1].ValueType = "NUMBER" }},
		{"required", jwt + ".customClaims[1].authorizingClaimMatchValue.claimMatchOperator", func(d *GatewayDefinition) { d.JWT.CustomClaims[1].Operator = "" }},
		{"union", jwt + ".customClaims[0].authorizingClaimMatchValue.claimMatchValue", func(d *GatewayDefinition) { d.JWT.CustomClaims[0].MatchValue = "" }},
		{"union", jwt + ".customClaims[0].authorizingClaimMatchValue.claimMatchValue", func(d *GatewayDefinition) { d.JWT.CustomClaims[0].MatchValues = []string{"x"} }},
		{"pattern", jwt + ".customClaims[0].authorizingClaimMatchValue.claimMatchValue.matchValueString", func(d *GatewayDefinition) { d.JWT.CustomClaims[0].MatchValue = "a b" }},
		{"pattern", jwt + ".customClaims[2].authorizingClaimMatchValue.claimMatchValue.matchValueStringList[1]", func(d *GatewayDefinition) { d.JWT.CustomClaims[2].MatchValues[1] = "a b" }},
		{"mismatch", jwt + ".customClaims[0].authorizingClaimMatchValue.claimMatchOperator", func(d *GatewayDefinition) { d.JWT.CustomClaims[0].Operator = ClaimContains }},
		{"mismatch", jwt + ".customClaims[1].authorizingClaimMatchValue.claimMatchOperator", func(d *GatewayDefinition) { d.JWT.CustomClaims[1].Operator = ClaimEquals }},
		{"mismatch", jwt + ".customClaims[1].authorizingClaimMatchValue.claimMatchOperator", func(d *GatewayDefinition) { d.JWT.CustomClaims[1].Operator = ClaimContainsAny }},
		{"mismatch", jwt + ".customClaims[2].authorizingClaimMatchValue.claimMatchOperator", func(d *GatewayDefinition) { d.JWT.CustomClaims[2].Operator = ClaimContains }},
		{"mismatch", jwt + ".customClaims[0].authorizingClaimMatchValue.claimMatchOperator", func(d *GatewayDefinition) {
			d.JWT.CustomClaims[0].MatchValue, d.JWT.CustomClaims[0].MatchValues = "", []string{"a"}
		}},
		{"union", jwt + ".privateEndpoint", func(d *GatewayDefinition) { d.JWT.PrivateEndpoint = &PrivateEndpoint{} }},
		{"pattern", jwt + ".privateEndpoint.selfManagedLatticeResource.resourceConfigurationIdentifier", func(d *GatewayDefinition) {
			d.JWT.PrivateEndpoint.LatticeResource = "rcfg-0123456789abcdefG"
		}},
		{"count", jwt + ".privateEndpointOverrides", func(d *GatewayDefinition) { d.JWT.PrivateEndpointOverrides = make([]PrivateEndpointOverride, 6) }},
		{"required", jwt + ".privateEndpointOverrides[0].domain", func(d *GatewayDefinition) { d.JWT.PrivateEndpointOverrides[0].Domain = "" }},
		{"required", jwt + ".privateEndpointOverrides[0].privateEndpoint", func(d *GatewayDefinition) { d.JWT.PrivateEndpointOverrides[0].Endpoint = nil }},
		{"pattern", jwt + ".privateEndpointOverrides[0].privateEndpoint.managedVpcResource.vpcIdentifier", func(d *GatewayDefinition) { vpc(d).VPCID = "vpc-1" }},
		{"required", jwt + ".privateEndpointOverrides[0].privateEndpoint.managedVpcResource.subnetIds", func(d *GatewayDefinition) { vpc(d).SubnetIDs = nil }},
		{"pattern", jwt + ".privateEndpointOverrides[0].privateEndpoint.managedVpcResource.subnetIds[0]", func(d *GatewayDefinition) { vpc(d).SubnetIDs[0] = "x" }},
		{"required", jwt + ".privateEndpointOverrides[0].privateEndpoint.managedVpcResource.endpointIpAddressType", func(d *GatewayDefinition) { vpc(d).IPAddressType = "" }},
		{"count", jwt + ".privateEndpointOverrides[0].privateEndpoint.managedVpcResource.securityGroupIds", func(d *GatewayDefinition) { vpc(d).SecurityGroupIDs = make([]string, 6) }},
		{"pattern", jwt + ".privateEndpointOverrides[0].privateEndpoint.managedVpcResource.tags.k", func(d *GatewayDefinition) { vpc(d).Tags["k"] = "#" }},
		{"length", jwt + ".privateEndpointOverrides[0].privateEndpoint.managedVpcResource.routingDomain", func(d *GatewayDefinition) { vpc(d).RoutingDomain = "x" }},
		{"pattern", jwt + ".allowedWorkloadConfiguration.hostingEnvironments[0].arn", func(d *GatewayDefinition) { d.JWT.AllowedWorkloads.HostingEnvironments[0] = "x" }},
		{"required", jwt + ".allowedWorkloadConfiguration.workloadIdentities[0]", func(d *GatewayDefinition) { d.JWT.AllowedWorkloads.WorkloadIdentities[0] = "" }},
		{"pattern", "kmsKeyArn", func(d *GatewayDefinition) { d.KMSKeyARN = "x" }},
		{"pattern", "customTransformConfiguration.lambda.arn", func(d *GatewayDefinition) { d.CustomTransform.LambdaARN = "x" }},
		{"count", "interceptorConfigurations", func(d *GatewayDefinition) { d.Interceptors = make([]Interceptor, 3) }},
		{"required", "interceptorConfigurations[0].interceptor.lambda.arn", func(d *GatewayDefinition) { d.Interceptors[0].LambdaARN = "" }},
		{"required", "interceptorConfigurations[1].interceptionPoints", func(d *GatewayDefinition) { d.Interceptors[1].Points = nil }},
		{"enum", "interceptorConfigurations[1].interceptionPoints[0]", func(d *GatewayDefinition) { d.Interceptors[1].Points[0] = "x" }},
		{"duplicate", "interceptorConfigurations[0].interceptionPoints[1]", func(d *GatewayDefinition) {
			d.Interceptors[0].Points = []InterceptionPoint{InterceptRequest, InterceptRequest}
		}},
		{"duplicate", "interceptorConfigurations[1].interceptionPoints", func(d *GatewayDefinition) { d.Interceptors[1].Points[0] = InterceptResponse }},
		{"required", "interceptorConfigurations[0].inputConfiguration.passRequestHeaders", func(d *GatewayDefinition) { d.Interceptors[0].Input.PassRequestHeaders = nil }},
		{"required", "interceptorConfigurations[0].inputConfiguration.payloadFilter.exclude", func(d *GatewayDefinition) { d.Interceptors[0].Input.PayloadFilter.Exclude = nil }},
		{"enum", "interceptorConfigurations[0].inputConfiguration.payloadFilter.exclude[0].field", func(d *GatewayDefinition) {
			d.Interceptors[0].Input.PayloadFilter.Exclude[0] = "REQUEST_BODY"
		}},
		{"pattern", "policyEngineConfiguration.policyEngineId", func(d *GatewayDefinition) { d.PolicyEngine.EngineID = "refund-engine-a1b2c3d4e5" }},
		{"required", "policyEngineConfiguration.mode", func(d *GatewayDefinition) { d.PolicyEngine.Mode = "" }},
		{"enum", "policyEngineConfiguration.mode", func(d *GatewayDefinition) { d.PolicyEngine.Mode = "ACTIVE" }},
		{"enum", "exceptionLevel", func(d *GatewayDefinition) { d.ExceptionLevel = "INFO" }},
		{"enum", "wafConfiguration.failureMode", func(d *GatewayDefinition) { d.WAF.FailureMode = "FAIL_CLOSED" }},
	} {
		t.Run(c.reason+" "+c.field, func(t *testing.T) {
			d := validGateway()
			c.spoil(d)
			wantInvalid(t, d.Validate(), c.reason, c.field)
		})
	}
}

func vpc(d *GatewayDefinition) *ManagedVPC {
	return d.JWT.PrivateEndpointOverrides[0].Endpoint.ManagedVPC
}
