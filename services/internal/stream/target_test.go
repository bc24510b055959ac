package stream

import (
	"encoding/json"
	"math"
	"reflect"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	eventv1 "github.com/verdict-io/verdict/proto/gen/verdict/event/v1"
	"github.com/verdict-io/verdict/services/policy"
)

func sameJSON(t *testing.T, a, b string) bool {
	t.Helper()
	var x, y any
	if err := json.Unmarshal([]byte(a), &x); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(b), &y); err != nil {
		t.Fatal(err)
	}
	return reflect.DeepEqual(x, y)
}

func TestTargetDefinitionAsJSON(t *testing.T) {
	for name, text := range map[string]string{
		"lambda": `{"description": "Refunds", "targetConfiguration": {"mcp": {"lambda": {
			"lambdaArn": "arn:aws:lambda:us-east-1:111122223333:function:refund",
			"toolSchema": {"inlinePayload": [{"name": "process_refund", "description": "Pays back.",
				"inputSchema": {"type": "SCHEMA_TYPE_OBJECT", "required": ["amount"], "properties": {
					"amount": {"type": "SCHEMA_TYPE_NUMBER", "description": "In dollars."},
					"tags": {"type": "SCHEMA_TYPE_ARRAY", "items": {"type": "SCHEMA_TYPE_STRING"}}}},
				"outputSchema": {"type": "SCHEMA_TYPE_BOOLEAN"}}]}}}},
			"credentialProviderConfigurations": [{"credentialProviderType": "CREDENTIAL_PROVIDER_TYPE_GATEWAY_IAM_ROLE"}],
			"metadataConfiguration": {"allowedRequestHeaders": ["X-Id"], "allowedQueryParameters": ["q"], "allowedResponseHeaders": ["X-Id"]},
			"privateEndpoint": {"selfManagedLatticeResource": {"resourceConfigurationIdentifier": "rcfg-0123456789abcdefg"}},
			"certificateConfigurations": [{"s3": {"uri": "s3://bucket/ca.pem", "bucketOwnerAccountId": "111122223333"}}]}`,
		"lambda with tools in S3": `{"targetConfiguration": {"mcp": {"lambda": {
			"lambdaArn": "arn:aws:lambda:us-east-1:111122223333:function:refund", "toolSchema": {"s3": {"uri": "s3://bucket/tools"}}}}}}`,
		"OpenAPI": `{"targetConfiguration": {"mcp": {"openApiSchema": {"inlinePayload": "{}"}}},
			"credentialProviderConfigurations": [{"credentialProviderType": "CREDENTIAL_PROVIDER_TYPE_API_KEY", "credentialProvider":
				{"apiKeyCredentialProvider": {"providerArn": "arn:aws:x:y::z", "credentialParameterName": "X-Key", "credentialPrefix": "Key",
				"credentialLocation": "API_KEY_CREDENTIAL_LOCATION_HEADER"}}}]}`,
		"Smithy": `{"targetConfiguration": {"mcp": {"smithyModel": {"s3": {"uri": "s3://bucket/model"}}}},
			"certificateConfigurations": [{"secretsManager": {"secretArn": "arn:aws:secretsmanager:us-east-1:111122223333:secret:ca"}}]}`,
		"MCP server": `{"targetConfiguration": {"mcp": {"mcpServer": {"endpoint": "https://mcp.example/mcp", "mcpToolSchema":
			{"inlinePayload": "{}"}, "listingMode": "LISTING_MODE_DYNAMIC", "resourcePriority": 0}}},
			"credentialProviderConfigurations": [{"credentialProviderType": "CREDENTIAL_PROVIDER_TYPE_OAUTH", "credentialProvider":
				{"oauthCredentialProvider": {"providerArn": "arn:aws:x:y::z", "scopes": ["s"], "customParameters": {"k": "v"},
				"grantType": "OAUTH_GRANT_TYPE_CLIENT_CREDENTIALS", "defaultReturnUrl": "https://app.example/"}}}]}`,
		"API gateway": `{"targetConfiguration": {"mcp": {"apiGateway": {"restApiId": "a", "stage": "prod", "apiGatewayToolConfiguration":
			{"toolFilters": [{"filterPath": "/pets/*", "methods": ["REST_API_METHOD_GET"]}],
			"toolOverrides": [{"name": "list", "description": "Lists.", "path": "/pets", "method": "REST_API_METHOD_GET"}]}}}},
			"credentialProviderConfigurations": [{"credentialProviderType": "CREDENTIAL_PROVIDER_TYPE_GATEWAY_IAM_ROLE", "credentialProvider":
				{"iamCredentialProvider": {"service": "execute-api", "region": "us-east-1"}}}]}`,
		"connector": `{"targetConfiguration": {"mcp": {"connector": {"source": {"connectorId": "kb", "version": "1.1.0"}, "enabled": ["retrieve"],
			"configurations": [{"name": "retrieve", "description": "d", "parameterOverrides": [{"path": "/filter", "description": "d",
			"visible": false}], "parameterValues": {"n": 1.5, "list": [null, true, "x", {}]}}]}}}}`,
		"runtime": `{"targetConfiguration": {"http": {"agentcoreRuntime": {
			"arn": "arn:aws:bedrock-agentcore:us-east-1:111122223333:runtime/agent-0123456789", "qualifier": "DEFAULT",
			"schema": {"source": {"inlinePayload": "{}"}}}}}}`,
		"passthrough": `{"targetConfiguration": {"http": {"passthrough": {"endpoint": "https://a.example", "protocolType":
			"PASSTHROUGH_PROTOCOL_TYPE_A2A", "schema": {"source": {"s3": {"uri": "s3://bucket/x"}}}, "stickinessConfiguration":
			{"identifier": "$context.header.x-session-id", "timeout": 60, "compositeIdentifier": ["x-b"]}, "staticQueryParameters": {"v": "2"},
			"staticQueryParameterConflictResolution": "STATIC_QUERY_PARAMETER_CONFLICT_RESOLUTION_STATIC_OVERRIDE"}}}}`,
		"HTTP connector": `{"targetConfiguration": {"http": {"connector": {"source": {"connectorId": "memory"}, "parameters": {"memoryId": "m"}}}}}`,
		"inference":      `{"targetConfiguration": {"inference": {"connector": {"source": {"connectorId": "openai"}}}}}`,
		"provider": `{"targetConfiguration": {"inference": {"provider": {"endpoint": "https://m.example", "modelMapping": {"providerPrefix":
			{"separator": "/", "strip": true}}, "operations": [{"path": "/v1/messages", "providerPath": "/m", "models": [{"model": "x-*"}]}]}}}}`,
	} {
		t.Run(name, func(t *testing.T) {
			var m eventv1.TargetDefinition
			if err := protojson.Unmarshal([]byte(text), &m); err != nil {
				t.Fatal(err)
			}
			d, err := TargetDefinitionFromProto(&m)
			if err != nil {
				t.Fatal(err)
			}
			if err := d.Validate(); err != nil {
				t.Errorf("valid definition refused: %v", err)
			}
			out, err := protojson.Marshal(TargetDefinitionToProto(d))
			if err != nil || !sameJSON(t, string(out), text) {
				t.Errorf("came back as %s, %v", out, err)
			}
		})
	}
}

func TestTargetDefinitionFromProtoRefuses(t *testing.T) {
	connector := func(values *structpb.Struct) *eventv1.TargetDefinition {
		return &eventv1.TargetDefinition{TargetConfiguration: &eventv1.TargetConfiguration{
			Configuration: &eventv1.TargetConfiguration_Mcp{Mcp: &eventv1.McpTargetConfiguration{
				Configuration: &eventv1.McpTargetConfiguration_Connector{Connector: &eventv1.ConnectorTargetConfiguration{
					Configurations: []*eventv1.ConnectorConfiguration{{ParameterValues: values}},
				}},
			}},
		}}
	}
	const values = "targetConfiguration.mcp.connector.configurations[0].parameterValues.fields."
	for name, c := range map[string]struct {
		m             *eventv1.TargetDefinition
		reason, field string
	}{
		"no kind": {
			&eventv1.TargetDefinition{TargetConfiguration: &eventv1.TargetConfiguration{}},
			"union", "targetConfiguration",
		},
		"no kind of MCP": {
			&eventv1.TargetDefinition{TargetConfiguration: &eventv1.TargetConfiguration{
				Configuration: &eventv1.TargetConfiguration_Mcp{Mcp: &eventv1.McpTargetConfiguration{}},
			}},
			"union", "targetConfiguration.mcp",
		},
		"value of no kind": {
			connector(&structpb.Struct{Fields: map[string]*structpb.Value{"b": {}, "a": {}}}),
			"union", values + "a",
		},
		"infinite number": {
			connector(&structpb.Struct{Fields: map[string]*structpb.Value{"n": structpb.NewNumberValue(math.Inf(1))}}),
			"json", values + "n.numberValue",
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := TargetDefinitionFromProto(c.m)
			wantRefusal(t, err, c.reason, c.field)
		})
	}
}

// What Validate refuses may lose its meaning on the way, but must not panic.
func TestTargetDefinitionToProtoOfInvalid(t *testing.T) {
	d := &policy.TargetDefinition{Configuration: policy.TargetConfiguration{Connector: &policy.ConnectorTarget{
		Configurations: []policy.ConnectorTool{{ParameterValues: json.RawMessage(`[1`)}, {ParameterValues: json.RawMessage(`"x"`)}},
	}}}
	for _, c := range TargetDefinitionToProto(d).GetTargetConfiguration().GetMcp().GetConnector().GetConfigurations() {
		if c.GetParameterValues() != nil {
			t.Errorf("values of what is no object: %v", c.GetParameterValues())
		}
	}
}

// Any bytes either are refused or make a definition that, once valid, comes back the same.
func FuzzTargetDefinitionFromProto(f *testing.F) {
	seed, err := proto.Marshal(&eventv1.TargetDefinition{TargetConfiguration: &eventv1.TargetConfiguration{
		Configuration: &eventv1.TargetConfiguration_Mcp{Mcp: &eventv1.McpTargetConfiguration{
			Configuration: &eventv1.McpTargetConfiguration_Lambda{Lambda: &eventv1.LambdaTargetConfiguration{
				LambdaArn: "arn:aws:lambda:us-east-1:111122223333:function:refund",
				ToolSchema: &eventv1.ToolSchema{InlinePayload: []*eventv1.Tool{{
					Name: "a", Description: "b", InputSchema: &eventv1.Schema{Type: eventv1.SchemaType_SCHEMA_TYPE_OBJECT},
				}}},
			}},
		}},
	}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		var m eventv1.TargetDefinition
		if proto.Unmarshal(data, &m) != nil {
			return
		}
		d, err := TargetDefinitionFromProto(&m)
		if err != nil || d.Validate() != nil {
			return
		}
		again, err := TargetDefinitionFromProto(TargetDefinitionToProto(d))
		if err != nil || !reflect.DeepEqual(d, again) {
			t.Errorf("%+v came back as %+v, %v", d, again, err)
		}
	})
}

// As for targets.
func FuzzGatewayDefinitionFromProto(f *testing.F) {
	seed, err := proto.Marshal(&eventv1.GatewayDefinition{AuthorizerType: eventv1.AuthorizerType_AUTHORIZER_TYPE_NONE})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Fuzz(func(t *testing.T, data []byte) {
		var m eventv1.GatewayDefinition
		if proto.Unmarshal(data, &m) != nil {
			return
		}
		d, err := GatewayDefinitionFromProto(&m)
		if err != nil || d.Validate() != nil {
			return
		}
		again, err := GatewayDefinitionFromProto(GatewayDefinitionToProto(d))
		if err != nil || !reflect.DeepEqual(d, again) {
			t.Errorf("%+v came back as %+v, %v", d, again, err)
		}
	})
}
