package stream

import (
	eventv1 "github.com/verdict-io/verdict/proto/gen/verdict/event/v1"
	"github.com/verdict-io/verdict/services/policy"
)

// GatewayDefinitionToProto is d as a message; nil for nil.
func GatewayDefinitionToProto(d *policy.GatewayDefinition) *eventv1.GatewayDefinition {
	if d == nil {
		return nil
	}
	return &eventv1.GatewayDefinition{
		Description:                  d.Description,
		RoleArn:                      d.RoleARN,
		ProtocolType:                 enumTo[eventv1.GatewayProtocolType](d.ProtocolType),
		ProtocolConfiguration:        convertIf(d.MCP, mcpToProto),
		AuthorizerType:               enumTo[eventv1.AuthorizerType](d.AuthorizerType),
		AuthorizerConfiguration:      convertIf(d.JWT, jwtToProto),
		KmsKeyArn:                    d.KMSKeyARN,
		CustomTransformConfiguration: convertIf(d.CustomTransform, transformToProto),
		InterceptorConfigurations:    convertAll(d.Interceptors, interceptorToProto),
		PolicyEngineConfiguration:    convertIf(d.PolicyEngine, attachmentToProto),
		ExceptionLevel:               enumTo[eventv1.ExceptionLevel](d.ExceptionLevel),
		WafConfiguration:             convertIf(d.WAF, wafToProto),
	}
}

// GatewayDefinitionFromProto is the definition in m. A nil message is an empty one. What it refuses is an *Error of
// package policy; what the definition means is for its Validate to check.
func GatewayDefinitionFromProto(m *eventv1.GatewayDefinition) (*policy.GatewayDefinition, error) {
	if err := checkDefinition(m.ProtoReflect(), "", 1); err != nil {
		return nil, err
	}
	return &policy.GatewayDefinition{
		Description:     m.GetDescription(),
		RoleARN:         m.GetRoleArn(),
		ProtocolType:    enumFrom[policy.ProtocolType](m.GetProtocolType()),
		MCP:             convertIf(m.GetProtocolConfiguration().GetMcp(), mcpFromProto),
		AuthorizerType:  enumFrom[policy.AuthorizerType](m.GetAuthorizerType()),
		JWT:             convertIf(m.GetAuthorizerConfiguration().GetCustomJwtAuthorizer(), jwtFromProto),
		KMSKeyARN:       m.GetKmsKeyArn(),
		CustomTransform: convertIf(m.GetCustomTransformConfiguration(), transformFromProto),
		Interceptors:    convertAll(m.GetInterceptorConfigurations(), interceptorFromProto),
		PolicyEngine:    convertIf(m.GetPolicyEngineConfiguration(), attachmentFromProto),
		ExceptionLevel:  enumFrom[policy.ExceptionLevel](m.GetExceptionLevel()),
		WAF:             convertIf(m.GetWafConfiguration(), wafFromProto),
	}, nil
}

func mcpToProto(c *policy.MCPConfiguration) *eventv1.GatewayProtocolConfiguration {
	mcp := &eventv1.McpGatewayConfiguration{
		SupportedVersions:             c.SupportedVersions,
		Instructions:                  c.Instructions,
		SearchType:                    enumTo[eventv1.SearchType](c.SearchType),
		DisableMcpListToolsPagination: c.DisableListToolsPagination,
	}
	if c.Session != nil {
		mcp.SessionConfiguration = &eventv1.SessionConfiguration{SessionTimeoutInSeconds: c.Session.TimeoutSeconds}
	}
	if c.Streaming != nil {
		mcp.StreamingConfiguration = &eventv1.StreamingConfiguration{EnableResponseStreaming: c.Streaming.EnableResponseStreaming}
	}
	return &eventv1.GatewayProtocolConfiguration{Configuration: &eventv1.GatewayProtocolConfiguration_Mcp{Mcp: mcp}}
}

func mcpFromProto(m *eventv1.McpGatewayConfiguration) *policy.MCPConfiguration {
	c := &policy.MCPConfiguration{
		SupportedVersions:          m.GetSupportedVersions(),
		Instructions:               m.GetInstructions(),
		SearchType:                 enumFrom[policy.SearchType](m.GetSearchType()),
		DisableListToolsPagination: m.DisableMcpListToolsPagination,
	}
	if s := m.GetSessionConfiguration(); s != nil {
		c.Session = &policy.SessionConfiguration{TimeoutSeconds: s.SessionTimeoutInSeconds}
	}
	if s := m.GetStreamingConfiguration(); s != nil {
		c.Streaming = &policy.StreamingConfiguration{EnableResponseStreaming: s.EnableResponseStreaming}
	}
	return c
}

func jwtToProto(a *policy.JWTAuthorizer) *eventv1.AuthorizerConfiguration {
	jwt := &eventv1.CustomJwtAuthorizer{
		DiscoveryUrl:             a.DiscoveryURL,
		AllowedAudience:          a.AllowedAudience,
		AllowedClients:           a.AllowedClients,
		AllowedScopes:            a.AllowedScopes,
		AdvertisedScopeMapping:   a.AdvertisedScopeMapping,
		CustomClaims:             convertAll(a.CustomClaims, claimToProto),
		PrivateEndpoint:          convertIf(a.PrivateEndpoint, privateEndpointToProto),
		PrivateEndpointOverrides: convertAll(a.PrivateEndpointOverrides, overrideToProto),
	}
	if w := a.AllowedWorkloads; w != nil {
		jwt.AllowedWorkloadConfiguration = &eventv1.AllowedWorkloadConfiguration{
			HostingEnvironments: convertAll(w.HostingEnvironments, func(arn string) *eventv1.HostingEnvironment {
				return &eventv1.HostingEnvironment{Arn: arn}
			}),
			WorkloadIdentities: w.WorkloadIdentities,
		}
	}
	return &eventv1.AuthorizerConfiguration{
		Configuration: &eventv1.AuthorizerConfiguration_CustomJwtAuthorizer{CustomJwtAuthorizer: jwt},
	}
}

func jwtFromProto(m *eventv1.CustomJwtAuthorizer) *policy.JWTAuthorizer {
	a := &policy.JWTAuthorizer{
		DiscoveryURL:             m.GetDiscoveryUrl(),
		AllowedAudience:          m.GetAllowedAudience(),
		AllowedClients:           m.GetAllowedClients(),
		AllowedScopes:            m.GetAllowedScopes(),
		AdvertisedScopeMapping:   m.GetAdvertisedScopeMapping(),
		CustomClaims:             convertAll(m.GetCustomClaims(), claimFromProto),
		PrivateEndpoint:          convertIf(m.GetPrivateEndpoint(), privateEndpointFromProto),
		PrivateEndpointOverrides: convertAll(m.GetPrivateEndpointOverrides(), overrideFromProto),
	}
	if w := m.GetAllowedWorkloadConfiguration(); w != nil {
		a.AllowedWorkloads = &policy.AllowedWorkloads{
			HostingEnvironments: convertAll(w.GetHostingEnvironments(), (*eventv1.HostingEnvironment).GetArn),
			WorkloadIdentities:  w.GetWorkloadIdentities(),
		}
	}
	return a
}

func claimToProto(c policy.CustomClaim) *eventv1.CustomClaim {
	return &eventv1.CustomClaim{
		InboundTokenClaimName:      c.Name,
		InboundTokenClaimValueType: enumTo[eventv1.InboundTokenClaimValueType](c.ValueType),
		AuthorizingClaimMatchValue: &eventv1.AuthorizingClaimMatchValue{
			ClaimMatchOperator: enumTo[eventv1.ClaimMatchOperator](c.Operator),
			ClaimMatchValue: &eventv1.ClaimMatchValue{
				MatchValueString:     c.MatchValue,
				MatchValueStringList: c.MatchValues,
			},
		},
	}
}

func claimFromProto(m *eventv1.CustomClaim) policy.CustomClaim {
	match := m.GetAuthorizingClaimMatchValue()
	return policy.CustomClaim{
		Name:        m.GetInboundTokenClaimName(),
		ValueType:   enumFrom[policy.ClaimValueType](m.GetInboundTokenClaimValueType()),
		Operator:    enumFrom[policy.ClaimOperator](match.GetClaimMatchOperator()),
		MatchValue:  match.GetClaimMatchValue().GetMatchValueString(),
		MatchValues: match.GetClaimMatchValue().GetMatchValueStringList(),
	}
}

func privateEndpointToProto(e *policy.PrivateEndpoint) *eventv1.PrivateEndpoint {
	if v := e.ManagedVPC; v != nil {
		return &eventv1.PrivateEndpoint{Endpoint: &eventv1.PrivateEndpoint_ManagedVpcResource{
			ManagedVpcResource: &eventv1.ManagedVpcResource{
				VpcIdentifier:         v.VPCID,
				SubnetIds:             v.SubnetIDs,
				EndpointIpAddressType: enumTo[eventv1.EndpointIpAddressType](v.IPAddressType),
				SecurityGroupIds:      v.SecurityGroupIDs,
				Tags:                  v.Tags,
				RoutingDomain:         v.RoutingDomain,
			},
		}}
	}
	return &eventv1.PrivateEndpoint{Endpoint: &eventv1.PrivateEndpoint_SelfManagedLatticeResource{
		SelfManagedLatticeResource: &eventv1.SelfManagedLatticeResource{
			Resource: &eventv1.SelfManagedLatticeResource_ResourceConfigurationIdentifier{
				ResourceConfigurationIdentifier: e.LatticeResource,
			},
		},
	}}
}

func privateEndpointFromProto(m *eventv1.PrivateEndpoint) *policy.PrivateEndpoint {
	e := &policy.PrivateEndpoint{
		LatticeResource: m.GetSelfManagedLatticeResource().GetResourceConfigurationIdentifier(),
	}
	if v := m.GetManagedVpcResource(); v != nil {
		e.ManagedVPC = &policy.ManagedVPC{
			VPCID:            v.GetVpcIdentifier(),
			SubnetIDs:        v.GetSubnetIds(),
			IPAddressType:    enumFrom[policy.IPAddressType](v.GetEndpointIpAddressType()),
			SecurityGroupIDs: v.GetSecurityGroupIds(),
			Tags:             v.GetTags(),
			RoutingDomain:    v.GetRoutingDomain(),
		}
	}
	return e
}

func overrideToProto(o policy.PrivateEndpointOverride) *eventv1.PrivateEndpointOverride {
	return &eventv1.PrivateEndpointOverride{
		Domain:          o.Domain,
		PrivateEndpoint: convertIf(o.Endpoint, privateEndpointToProto),
	}
}

func overrideFromProto(m *eventv1.PrivateEndpointOverride) policy.PrivateEndpointOverride {
	return policy.PrivateEndpointOverride{
		Domain:   m.GetDomain(),
		Endpoint: convertIf(m.GetPrivateEndpoint(), privateEndpointFromProto),
	}
}

// transformToProto leaves the function out when it has no ARN.
func transformToProto(t *policy.CustomTransform) *eventv1.CustomTransformConfiguration {
	m := &eventv1.CustomTransformConfiguration{}
	if t.LambdaARN != "" {
		m.Lambda = &eventv1.LambdaTransformConfiguration{Arn: t.LambdaARN}
	}
	return m
}

func transformFromProto(m *eventv1.CustomTransformConfiguration) *policy.CustomTransform {
	return &policy.CustomTransform{LambdaARN: m.GetLambda().GetArn()}
}

func interceptorToProto(i policy.Interceptor) *eventv1.GatewayInterceptorConfiguration {
	m := &eventv1.GatewayInterceptorConfiguration{
		Interceptor: &eventv1.InterceptorConfiguration{Interceptor: &eventv1.InterceptorConfiguration_Lambda{
			Lambda: &eventv1.LambdaInterceptorConfiguration{Arn: i.LambdaARN},
		}},
		InterceptionPoints: enumsTo[eventv1.GatewayInterceptionPoint](i.Points),
	}
	if i.Input == nil {
		return m
	}
	m.InputConfiguration = &eventv1.InterceptorInputConfiguration{PassRequestHeaders: i.Input.PassRequestHeaders}
	if f := i.Input.PayloadFilter; f != nil {
		m.InputConfiguration.PayloadFilter = &eventv1.InterceptorPayloadFilter{Exclude: convertAll(f.Exclude, exclusionToProto)}
	}
	return m
}

func interceptorFromProto(m *eventv1.GatewayInterceptorConfiguration) policy.Interceptor {
	i := policy.Interceptor{
		LambdaARN: m.GetInterceptor().GetLambda().GetArn(),
		Points:    enumsFrom[policy.InterceptionPoint](m.GetInterceptionPoints()),
	}
	input := m.GetInputConfiguration()
	if input == nil {
		return i
	}
	i.Input = &policy.InterceptorInput{PassRequestHeaders: input.PassRequestHeaders}
	if f := input.GetPayloadFilter(); f != nil {
		i.Input.PayloadFilter = &policy.PayloadFilter{Exclude: convertAll(f.GetExclude(), exclusionFromProto)}
	}
	return i
}

func exclusionToProto(e policy.PayloadExclusion) *eventv1.InterceptorPayloadExclusionSelector {
	return &eventv1.InterceptorPayloadExclusionSelector{Selector: &eventv1.InterceptorPayloadExclusionSelector_Field{
		Field: enumTo[eventv1.InterceptorPayloadExclusion](e),
	}}
}

func exclusionFromProto(m *eventv1.InterceptorPayloadExclusionSelector) policy.PayloadExclusion {
	return enumFrom[policy.PayloadExclusion](m.GetField())
}

func attachmentToProto(a *policy.EngineAttachment) *eventv1.GatewayPolicyEngineConfiguration {
	return &eventv1.GatewayPolicyEngineConfiguration{
		PolicyEngineId: a.EngineID,
		Mode:           enumTo[eventv1.EngineMode](a.Mode),
	}
}

func attachmentFromProto(m *eventv1.GatewayPolicyEngineConfiguration) *policy.EngineAttachment {
	return &policy.EngineAttachment{
		EngineID: m.GetPolicyEngineId(),
		Mode:     enumFrom[policy.EngineMode](m.GetMode()),
	}
}

func wafToProto(w *policy.WAFConfiguration) *eventv1.WafConfiguration {
	return &eventv1.WafConfiguration{FailureMode: enumTo[eventv1.WafFailureMode](w.FailureMode)}
}

func wafFromProto(m *eventv1.WafConfiguration) *policy.WAFConfiguration {
	return &policy.WAFConfiguration{FailureMode: enumFrom[policy.WAFFailureMode](m.GetFailureMode())}
}
