package stream

import (
	"encoding/json"

	"google.golang.org/protobuf/types/known/structpb"

	eventv1 "github.com/verdict-io/verdict/proto/gen/verdict/event/v1"
	"github.com/verdict-io/verdict/services/policy"
)

// TargetDefinitionToProto is d as a message; nil for nil.
func TargetDefinitionToProto(d *policy.TargetDefinition) *eventv1.TargetDefinition {
	if d == nil {
		return nil
	}
	m := &eventv1.TargetDefinition{
		Description:                      d.Description,
		TargetConfiguration:              configurationToProto(&d.Configuration),
		CredentialProviderConfigurations: convertAll(d.Credentials, credentialsToProto),
		PrivateEndpoint:                  convertIf(d.PrivateEndpoint, privateEndpointToProto),
		CertificateConfigurations:        convertAll(d.Certificates, certificateToProto),
	}
	if h := d.Metadata; h != nil {
		m.MetadataConfiguration = &eventv1.MetadataConfiguration{
			AllowedRequestHeaders:  h.AllowedRequestHeaders,
			AllowedQueryParameters: h.AllowedQueryParameters,
			AllowedResponseHeaders: h.AllowedResponseHeaders,
		}
	}
	return m
}

// TargetDefinitionFromProto is the definition in m. A nil message is an empty one. What it refuses is an *Error of
// package policy; what the definition means is for its Validate to check.
func TargetDefinitionFromProto(m *eventv1.TargetDefinition) (*policy.TargetDefinition, error) {
	if err := checkDefinition(m.ProtoReflect(), "", 1); err != nil {
		return nil, err
	}
	d := &policy.TargetDefinition{
		Description:     m.GetDescription(),
		Configuration:   configurationFromProto(m.GetTargetConfiguration()),
		Credentials:     convertAll(m.GetCredentialProviderConfigurations(), credentialsFromProto),
		PrivateEndpoint: convertIf(m.GetPrivateEndpoint(), privateEndpointFromProto),
		Certificates:    convertAll(m.GetCertificateConfigurations(), certificateFromProto),
	}
	if h := m.GetMetadataConfiguration(); h != nil {
		d.Metadata = &policy.MetadataConfiguration{
			AllowedRequestHeaders:  h.GetAllowedRequestHeaders(),
			AllowedQueryParameters: h.GetAllowedQueryParameters(),
			AllowedResponseHeaders: h.GetAllowedResponseHeaders(),
		}
	}
	return d, nil
}

// configurationToProto is nil where nothing is set.
func configurationToProto(c *policy.TargetConfiguration) *eventv1.TargetConfiguration {
	if mcp := mcpTargetToProto(c); mcp.Configuration != nil {
		return &eventv1.TargetConfiguration{Configuration: &eventv1.TargetConfiguration_Mcp{Mcp: mcp}}
	}
	if http := httpTargetToProto(c); http.Configuration != nil {
		return &eventv1.TargetConfiguration{Configuration: &eventv1.TargetConfiguration_Http{Http: http}}
	}
	if inference := inferenceTargetToProto(c); inference.Configuration != nil {
		return &eventv1.TargetConfiguration{Configuration: &eventv1.TargetConfiguration_Inference{Inference: inference}}
	}
	return nil
}

func mcpTargetToProto(c *policy.TargetConfiguration) *eventv1.McpTargetConfiguration {
	m := &eventv1.McpTargetConfiguration{}
	switch {
	case c.OpenAPISchema != nil:
		m.Configuration = &eventv1.McpTargetConfiguration_OpenApiSchema{OpenApiSchema: apiSchemaToProto(c.OpenAPISchema)}
	case c.SmithyModel != nil:
		m.Configuration = &eventv1.McpTargetConfiguration_SmithyModel{SmithyModel: apiSchemaToProto(c.SmithyModel)}
	case c.Lambda != nil:
		m.Configuration = &eventv1.McpTargetConfiguration_Lambda{Lambda: lambdaToProto(c.Lambda)}
	case c.MCPServer != nil:
		m.Configuration = &eventv1.McpTargetConfiguration_McpServer{McpServer: mcpServerToProto(c.MCPServer)}
	case c.APIGateway != nil:
		m.Configuration = &eventv1.McpTargetConfiguration_ApiGateway{ApiGateway: apiGatewayToProto(c.APIGateway)}
	case c.Connector != nil:
		m.Configuration = &eventv1.McpTargetConfiguration_Connector{Connector: connectorToProto(c.Connector)}
	}
	return m
}

func configurationFromProto(m *eventv1.TargetConfiguration) policy.TargetConfiguration {
	mcp, http, inference := m.GetMcp(), m.GetHttp(), m.GetInference()
	return policy.TargetConfiguration{
		OpenAPISchema:      convertIf(mcp.GetOpenApiSchema(), apiSchemaFromProto),
		SmithyModel:        convertIf(mcp.GetSmithyModel(), apiSchemaFromProto),
		Lambda:             convertIf(mcp.GetLambda(), lambdaFromProto),
		MCPServer:          convertIf(mcp.GetMcpServer(), mcpServerFromProto),
		APIGateway:         convertIf(mcp.GetApiGateway(), apiGatewayFromProto),
		Connector:          convertIf(mcp.GetConnector(), connectorFromProto),
		Runtime:            convertIf(http.GetAgentcoreRuntime(), runtimeFromProto),
		Passthrough:        convertIf(http.GetPassthrough(), passthroughFromProto),
		HTTPConnector:      convertIf(http.GetConnector(), httpConnectorFromProto),
		InferenceConnector: convertIf(inference.GetConnector(), inferenceConnectorFromProto),
		InferenceProvider:  convertIf(inference.GetProvider(), providerFromProto),
	}
}

func s3ToProto(o *policy.S3Object) *eventv1.S3Configuration {
	return &eventv1.S3Configuration{Uri: o.URI, BucketOwnerAccountId: o.BucketOwnerAccountID}
}

func s3FromProto(m *eventv1.S3Configuration) *policy.S3Object {
	return &policy.S3Object{URI: m.GetUri(), BucketOwnerAccountID: m.GetBucketOwnerAccountId()}
}

func apiSchemaToProto(s *policy.APISchema) *eventv1.ApiSchemaConfiguration {
	if s.S3 != nil {
		return &eventv1.ApiSchemaConfiguration{Schema: &eventv1.ApiSchemaConfiguration_S3{S3: s3ToProto(s.S3)}}
	}
	return &eventv1.ApiSchemaConfiguration{Schema: &eventv1.ApiSchemaConfiguration_InlinePayload{InlinePayload: s.InlinePayload}}
}

func apiSchemaFromProto(m *eventv1.ApiSchemaConfiguration) *policy.APISchema {
	return &policy.APISchema{S3: convertIf(m.GetS3(), s3FromProto), InlinePayload: m.GetInlinePayload()}
}

func lambdaToProto(t *policy.LambdaTarget) *eventv1.LambdaTargetConfiguration {
	return &eventv1.LambdaTargetConfiguration{
		LambdaArn: t.ARN,
		ToolSchema: &eventv1.ToolSchema{
			S3:            convertIf(t.Tools.S3, s3ToProto),
			InlinePayload: convertAll(t.Tools.Inline, toolToProto),
		},
	}
}

func lambdaFromProto(m *eventv1.LambdaTargetConfiguration) *policy.LambdaTarget {
	return &policy.LambdaTarget{
		ARN: m.GetLambdaArn(),
		Tools: policy.ToolSchema{
			S3:     convertIf(m.GetToolSchema().GetS3(), s3FromProto),
			Inline: convertAll(m.GetToolSchema().GetInlinePayload(), toolFromProto),
		},
	}
}

func mcpServerToProto(t *policy.MCPServerTarget) *eventv1.McpServerTargetConfiguration {
	m := &eventv1.McpServerTargetConfiguration{
		Endpoint:         t.Endpoint,
		ListingMode:      enumTo[eventv1.ListingMode](t.ListingMode),
		ResourcePriority: t.ResourcePriority,
	}
	switch s := t.ToolSchema; {
	case s == nil:
	case s.S3 != nil:
		m.McpToolSchema = &eventv1.McpToolSchemaConfiguration{
			Schema: &eventv1.McpToolSchemaConfiguration_S3{S3: s3ToProto(s.S3)},
		}
	default:
		m.McpToolSchema = &eventv1.McpToolSchemaConfiguration{
			Schema: &eventv1.McpToolSchemaConfiguration_InlinePayload{InlinePayload: s.InlinePayload},
		}
	}
	return m
}

func mcpServerFromProto(m *eventv1.McpServerTargetConfiguration) *policy.MCPServerTarget {
	t := &policy.MCPServerTarget{
		Endpoint:         m.GetEndpoint(),
		ListingMode:      enumFrom[policy.ListingMode](m.GetListingMode()),
		ResourcePriority: m.ResourcePriority,
	}
	if s := m.GetMcpToolSchema(); s != nil {
		t.ToolSchema = &policy.APISchema{S3: convertIf(s.GetS3(), s3FromProto), InlinePayload: s.GetInlinePayload()}
	}
	return t
}

func apiGatewayToProto(t *policy.APIGatewayTarget) *eventv1.ApiGatewayTargetConfiguration {
	filter := func(f policy.APIGatewayToolFilter) *eventv1.ApiGatewayToolFilter {
		return &eventv1.ApiGatewayToolFilter{FilterPath: f.Path, Methods: enumsTo[eventv1.RestApiMethod](f.Methods)}
	}
	override := func(o policy.APIGatewayToolOverride) *eventv1.ApiGatewayToolOverride {
		return &eventv1.ApiGatewayToolOverride{
			Name:        o.Name,
			Description: o.Description,
			Path:        o.Path,
			Method:      enumTo[eventv1.RestApiMethod](o.Method),
		}
	}
	return &eventv1.ApiGatewayTargetConfiguration{
		RestApiId: t.RestAPIID,
		Stage:     t.Stage,
		ApiGatewayToolConfiguration: &eventv1.ApiGatewayToolConfiguration{
			ToolFilters:   convertAll(t.ToolFilters, filter),
			ToolOverrides: convertAll(t.ToolOverrides, override),
		},
	}
}

func apiGatewayFromProto(m *eventv1.ApiGatewayTargetConfiguration) *policy.APIGatewayTarget {
	filter := func(f *eventv1.ApiGatewayToolFilter) policy.APIGatewayToolFilter {
		return policy.APIGatewayToolFilter{Path: f.GetFilterPath(), Methods: enumsFrom[policy.RestMethod](f.GetMethods())}
	}
	override := func(o *eventv1.ApiGatewayToolOverride) policy.APIGatewayToolOverride {
		return policy.APIGatewayToolOverride{
			Name:        o.GetName(),
			Description: o.GetDescription(),
			Path:        o.GetPath(),
			Method:      enumFrom[policy.RestMethod](o.GetMethod()),
		}
	}
	tools := m.GetApiGatewayToolConfiguration()
	return &policy.APIGatewayTarget{
		RestAPIID:     m.GetRestApiId(),
		Stage:         m.GetStage(),
		ToolFilters:   convertAll(tools.GetToolFilters(), filter),
		ToolOverrides: convertAll(tools.GetToolOverrides(), override),
	}
}

func connectorToProto(t *policy.ConnectorTarget) *eventv1.ConnectorTargetConfiguration {
	return &eventv1.ConnectorTargetConfiguration{
		Source:         &eventv1.ConnectorSource{ConnectorId: t.ConnectorID, Version: t.Version},
		Enabled:        t.Enabled,
		Configurations: convertAll(t.Configurations, connectorToolToProto),
	}
}

func connectorFromProto(m *eventv1.ConnectorTargetConfiguration) *policy.ConnectorTarget {
	return &policy.ConnectorTarget{
		ConnectorID:    m.GetSource().GetConnectorId(),
		Version:        m.GetSource().GetVersion(),
		Enabled:        m.GetEnabled(),
		Configurations: convertAll(m.GetConfigurations(), connectorToolFromProto),
	}
}

func connectorToolToProto(c policy.ConnectorTool) *eventv1.ConnectorConfiguration {
	parameter := func(p policy.ConnectorParameter) *eventv1.ConnectorParameterOverride {
		return &eventv1.ConnectorParameterOverride{Path: p.Path, Description: p.Description, Visible: p.Visible}
	}
	return &eventv1.ConnectorConfiguration{
		Name:               c.Name,
		Description:        c.Description,
		ParameterOverrides: convertAll(c.Parameters, parameter),
		ParameterValues:    objectToProto(c.ParameterValues),
	}
}

func connectorToolFromProto(m *eventv1.ConnectorConfiguration) policy.ConnectorTool {
	parameter := func(p *eventv1.ConnectorParameterOverride) policy.ConnectorParameter {
		return policy.ConnectorParameter{Path: p.GetPath(), Description: p.GetDescription(), Visible: p.Visible}
	}
	return policy.ConnectorTool{
		Name:            m.GetName(),
		Description:     m.GetDescription(),
		Parameters:      convertAll(m.GetParameterOverrides(), parameter),
		ParameterValues: objectFromProto(m.GetParameterValues()),
	}
}

// objectToProto is nil for no text, and for one that is no JSON object, which Validate refuses.
func objectToProto(raw json.RawMessage) *structpb.Struct {
	var object map[string]any
	if json.Unmarshal(raw, &object) != nil {
		return nil
	}
	m, err := structpb.NewStruct(object)
	if err != nil {
		return nil
	}
	return m
}

// objectFromProto is the object as JSON without spaces, keys in order, so that one message is always one text.
func objectFromProto(m *structpb.Struct) json.RawMessage {
	if m == nil {
		return nil
	}
	raw, err := json.Marshal(m.AsMap())
	if err != nil { // only numbers that are not JSON, which checkDefinition refuses
		return nil
	}
	return raw
}

func certificateToProto(c policy.Certificate) *eventv1.CertificateConfiguration {
	if c.S3 != nil {
		return &eventv1.CertificateConfiguration{Certificate: &eventv1.CertificateConfiguration_S3{S3: s3ToProto(c.S3)}}
	}
	return &eventv1.CertificateConfiguration{Certificate: &eventv1.CertificateConfiguration_SecretsManager{
		SecretsManager: &eventv1.SecretsManagerCertificateConfiguration{SecretArn: c.SecretARN},
	}}
}

func certificateFromProto(m *eventv1.CertificateConfiguration) policy.Certificate {
	return policy.Certificate{S3: convertIf(m.GetS3(), s3FromProto), SecretARN: m.GetSecretsManager().GetSecretArn()}
}
