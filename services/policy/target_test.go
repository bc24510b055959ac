package policy

import (
	"encoding/json"
	"strings"
	"testing"
)

func lambdaTarget(tools ...Tool) *TargetDefinition {
	return &TargetDefinition{Configuration: TargetConfiguration{
		Lambda: &LambdaTarget{ARN: testLambda, Tools: ToolSchema{Inline: tools}},
	}}
}

// validTargets has one target of each kind, by the path of the kind.
func validTargets() map[string]*TargetDefinition {
	inline, s3 := &APISchema{InlinePayload: "{}"}, &APISchema{S3: &S3Object{URI: "s3://bucket/key", BucketOwnerAccountID: "111122223333"}}
	configurations := map[string]TargetConfiguration{
		"mcp.openApiSchema": {OpenAPISchema: inline},
		"mcp.smithyModel":   {SmithyModel: s3},
		"mcp.lambda":        lambdaTarget(validTool()).Configuration,
		"mcp.mcpServer": {MCPServer: &MCPServerTarget{
			Endpoint: "https://mcp.example/mcp", ToolSchema: inline, ListingMode: ListingDynamic, ResourcePriority: new(int32(0)),
		}},
		"mcp.apiGateway": {APIGateway: &APIGatewayTarget{
			RestAPIID: "a1b2c3", Stage: "prod",
			ToolFilters:   []APIGatewayToolFilter{{Path: "/pets/*", Methods: []RestMethod{RestGet, RestPost}}},
			ToolOverrides: []APIGatewayToolOverride{{Name: "list_pets", Description: "Lists.", Path: "/pets", Method: RestGet}},
		}},
		"mcp.connector": {Connector: &ConnectorTarget{
			ConnectorID: "bedrock-knowledge-bases", Version: "1.1.0", Enabled: []string{"retrieve"},
			Configurations: []ConnectorTool{{
				Name: "retrieve", Description: "Finds.",
				Parameters:      []ConnectorParameter{{Path: "/a~1b/c", Description: "d", Visible: new(false)}},
				ParameterValues: json.RawMessage(` {"n": -1.5e3, "max": 9007199254740992, "list": [null, {"x": true}]}`),
			}},
		}},
		"http.agentcoreRuntime": {Runtime: &RuntimeTarget{
			ARN:       "arn:aws:bedrock-agentcore:us-east-1:111122223333:runtime/agent-0123456789",
			Qualifier: "DEFAULT", Schema: s3,
		}},
		"http.passthrough": {Passthrough: &PassthroughTarget{
			Endpoint: "http://127.0.0.1:8080/x", ProtocolType: PassthroughA2A, Schema: inline,
			Stickiness:            &Stickiness{Identifier: "$context.header.x-session-id", TimeoutSeconds: new(int32(86400)), CompositeIdentifier: []string{"x-a"}},
			StaticQueryParameters: map[string]string{"v": ""}, QueryConflict: StaticOverride,
		}},
		"http.connector":      {HTTPConnector: &HTTPConnectorTarget{ConnectorID: "memory", Parameters: map[string]string{"memoryId": "m"}}},
		"inference.connector": {InferenceConnector: &InferenceConnectorTarget{ConnectorID: "openai"}},
		"inference.provider": {InferenceProvider: &InferenceProviderTarget{
			Endpoint: "https://models.example", ModelMapping: &ModelMapping{ProviderPrefix: &ProviderPrefix{Separator: "·", Strip: true}},
			Operations: []InferenceOperation{{Path: "/v1/messages", ProviderPath: "/m", Models: []string{"x-*"}}},
		}},
	}
	targets := map[string]*TargetDefinition{}
	for path, c := range configurations {
		targets[path] = &TargetDefinition{
			Description: "d", Configuration: c,
			Metadata: &MetadataConfiguration{
				AllowedRequestHeaders: []string{"X-Id"}, AllowedQueryParameters: []string{"q"}, AllowedResponseHeaders: []string{"X-Id"},
			},
			PrivateEndpoint: &PrivateEndpoint{LatticeResource: "rcfg-0123456789abcdefg"},
			Certificates:    []Certificate{{S3: &S3Object{URI: "s3://bucket/ca.pem"}}},
		}
	}
	return targets
}

func TestValidTargets(t *testing.T) {
	kinds := map[string]string{
		"mcp.openApiSchema": "OPEN_API_SCHEMA", "mcp.smithyModel": "SMITHY_MODEL", "mcp.lambda": "LAMBDA", "mcp.mcpServer": "MCP_SERVER",
		"mcp.apiGateway": "API_GATEWAY", "mcp.connector": "CONNECTOR", "http.agentcoreRuntime": "AGENTCORE_RUNTIME",
		"http.passthrough": "PASSTHROUGH", "http.connector": "HTTP_CONNECTOR", "inference.connector": "CONNECTOR",
		"inference.provider": "PROVIDER",
	}
	targets := validTargets()
	for path, d := range targets {
		if err := d.Validate(); err != nil {
			t.Errorf("%s: %v", path, err)
		}
		if got := d.Kind(); got != kinds[path] {
			t.Errorf("%s is a %q, want %q", path, got, kinds[path])
		}
		if path != "mcp.lambda" && (d.Tools() != nil || d.SchemaSize() != 0) {
			t.Errorf("%s has tools", path)
		}
	}
	if all := (&TargetConfiguration{}).kinds(); len(all) != len(targets) {
		t.Errorf("%d kinds, %d of them tested", len(all), len(targets))
	}
	if kind := (&TargetDefinition{}).Kind(); kind != "" {
		t.Errorf("a target that is nothing is a %s", kind)
	}
}

func TestTargetsOfRequiredMembersOnly(t *testing.T) {
	for name, c := range map[string]TargetConfiguration{
		"MCP server":  {MCPServer: &MCPServerTarget{Endpoint: "https://mcp.example"}},
		"runtime":     {Runtime: &RuntimeTarget{ARN: "arn:aws:bedrock-agentcore:us-east-1:111122223333:runtime/agent-0123456789"}},
		"passthrough": {Passthrough: &PassthroughTarget{Endpoint: "https://a.example", ProtocolType: PassthroughMCP}},
		"connector":   {Connector: &ConnectorTarget{ConnectorID: "kb", Configurations: []ConnectorTool{{Name: "retrieve"}}}},
		"provider":    {InferenceProvider: &InferenceProviderTarget{Endpoint: "https://m.example", ModelMapping: &ModelMapping{}}},
	} {
		if err := (&TargetDefinition{Configuration: c}).Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestInvalidTargets(t *testing.T) {
	const conf = "targetConfiguration."
	long := strings.Repeat("x", 3000)
	for _, c := range []struct {
		of, reason, field string
		spoil             func(d *TargetDefinition)
	}{
		{"mcp.lambda", "length", "description", func(d *TargetDefinition) { d.Description = long }},
		{"mcp.lambda", "union", "targetConfiguration", func(d *TargetDefinition) { d.Configuration = TargetConfiguration{} }},
		{"mcp.lambda", "union", "targetConfiguration", func(d *TargetDefinition) { d.Configuration.SmithyModel = &APISchema{InlinePayload: "x"} }},
		{"mcp.openApiSchema", "union", conf + "mcp.openApiSchema", func(d *TargetDefinition) { d.Configuration.OpenAPISchema.InlinePayload = "" }},
		{"mcp.openApiSchema", "union", conf + "mcp.openApiSchema", func(d *TargetDefinition) { d.Configuration.OpenAPISchema.S3 = &S3Object{} }},
		{"mcp.openApiSchema", "size", conf + "mcp.openApiSchema.inlinePayload", func(d *TargetDefinition) {
			d.Configuration.OpenAPISchema.InlinePayload = strings.Repeat("ä", maxInlineBytes/2+1)
		}},
		{"mcp.openApiSchema", "encoding", conf + "mcp.openApiSchema.inlinePayload", func(d *TargetDefinition) { d.Configuration.OpenAPISchema.InlinePayload = "\xff" }},
		{"mcp.smithyModel", "pattern", conf + "mcp.smithyModel.s3.uri", func(d *TargetDefinition) { d.Configuration.SmithyModel.S3.URI = "https://bucket" }},
		{"mcp.smithyModel", "required", conf + "mcp.smithyModel.s3.uri", func(d *TargetDefinition) { d.Configuration.SmithyModel.S3.URI = "" }},
		{"mcp.smithyModel", "pattern", conf + "mcp.smithyModel.s3.bucketOwnerAccountId", func(d *TargetDefinition) { d.Configuration.SmithyModel.S3.BucketOwnerAccountID = "1" }},
		{"mcp.lambda", "required", conf + "mcp.lambda.lambdaArn", func(d *TargetDefinition) { d.Configuration.Lambda.ARN = "" }},
		{"mcp.lambda", "length", conf + "mcp.lambda.lambdaArn", func(d *TargetDefinition) { d.Configuration.Lambda.ARN += long }},
		{"mcp.lambda", "pattern", conf + "mcp.lambda.lambdaArn", func(d *TargetDefinition) { d.Configuration.Lambda.ARN = "arn:aws:s3:::x" }},
		{"mcp.mcpServer", "required", conf + "mcp.mcpServer.endpoint", func(d *TargetDefinition) { d.Configuration.MCPServer.Endpoint = "" }},
		{"mcp.mcpServer", "pattern", conf + "mcp.mcpServer.endpoint", func(d *TargetDefinition) { d.Configuration.MCPServer.Endpoint = "http://mcp.example" }},
		{"mcp.mcpServer", "pattern", conf + "mcp.mcpServer.endpoint", func(d *TargetDefinition) { d.Configuration.MCPServer.Endpoint = "http://localhost.example" }},
		{"mcp.mcpServer", "pattern", conf + "mcp.mcpServer.endpoint", func(d *TargetDefinition) { d.Configuration.MCPServer.Endpoint = "https://user:pass@mcp.example" }},
		{"mcp.mcpServer", "pattern", conf + "mcp.mcpServer.endpoint", func(d *TargetDefinition) { d.Configuration.MCPServer.Endpoint = "https:///mcp" }},
		{"mcp.mcpServer", "pattern", conf + "mcp.mcpServer.endpoint", func(d *TargetDefinition) { d.Configuration.MCPServer.Endpoint = "https://a\x00b" }},
		{"mcp.mcpServer", "union", conf + "mcp.mcpServer.mcpToolSchema", func(d *TargetDefinition) { d.Configuration.MCPServer.ToolSchema = &APISchema{} }},
		{"mcp.mcpServer", "enum", conf + "mcp.mcpServer.listingMode", func(d *TargetDefinition) { d.Configuration.MCPServer.ListingMode = "x" }},
		{"mcp.mcpServer", "range", conf + "mcp.mcpServer.resourcePriority", func(d *TargetDefinition) { d.Configuration.MCPServer.ResourcePriority = new(int32(1001)) }},
		{"mcp.apiGateway", "required", conf + "mcp.apiGateway.restApiId", func(d *TargetDefinition) { d.Configuration.APIGateway.RestAPIID = "" }},
		{"mcp.apiGateway", "required", conf + "mcp.apiGateway.stage", func(d *TargetDefinition) { d.Configuration.APIGateway.Stage = "" }},
		{"mcp.apiGateway", "required", conf + "mcp.apiGateway.apiGatewayToolConfiguration.toolFilters", func(d *TargetDefinition) { d.Configuration.APIGateway.ToolFilters = nil }},
		{"mcp.apiGateway", "pattern", conf + "mcp.apiGateway.apiGatewayToolConfiguration.toolFilters[0].filterPath", func(d *TargetDefinition) {
			d.Configuration.APIGateway.ToolFilters[0].Path = "pets"
		}},
		{"mcp.apiGateway", "required", conf + "mcp.apiGateway.apiGatewayToolConfiguration.toolFilters[0].methods", func(d *TargetDefinition) {
			d.Configuration.APIGateway.ToolFilters[0].Methods = nil
		}},
		{"mcp.apiGateway", "duplicate", conf + "mcp.apiGateway.apiGatewayToolConfiguration.toolFilters[0].methods[1]", func(d *TargetDefinition) {
			d.Configuration.APIGateway.ToolFilters[0].Methods[1] = RestGet
		}},
		{"mcp.apiGateway", "enum", conf + "mcp.apiGateway.apiGatewayToolConfiguration.toolOverrides[0].method", func(d *TargetDefinition) {
			d.Configuration.APIGateway.ToolOverrides[0].Method = "TRACE"
		}},
		{"mcp.apiGateway", "duplicate", conf + "mcp.apiGateway.apiGatewayToolConfiguration.toolOverrides[1].name", func(d *TargetDefinition) {
			d.Configuration.APIGateway.ToolOverrides = append(d.Configuration.APIGateway.ToolOverrides, d.Configuration.APIGateway.ToolOverrides[0])
		}},
		{"mcp.connector", "required", conf + "mcp.connector.source.connectorId", func(d *TargetDefinition) { d.Configuration.Connector.ConnectorID = "" }},
		{"mcp.connector", "duplicate", conf + "mcp.connector.enabled[1]", func(d *TargetDefinition) { d.Configuration.Connector.Enabled = []string{"a", "a"} }},
		{"mcp.connector", "pattern", conf + "mcp.connector.configurations[0].name", func(d *TargetDefinition) { d.Configuration.Connector.Configurations[0].Name = "a b" }},
		{"mcp.connector", "pattern", conf + "mcp.connector.configurations[0].parameterOverrides[0].path", func(d *TargetDefinition) {
			d.Configuration.Connector.Configurations[0].Parameters[0].Path = "/a~2"
		}},
		{"http.agentcoreRuntime", "pattern", conf + "http.agentcoreRuntime.arn", func(d *TargetDefinition) { d.Configuration.Runtime.ARN = "x" }},
		{"http.agentcoreRuntime", "pattern", conf + "http.agentcoreRuntime.qualifier", func(d *TargetDefinition) { d.Configuration.Runtime.Qualifier = "0" }},
		{"http.agentcoreRuntime", "union", conf + "http.agentcoreRuntime.schema.source", func(d *TargetDefinition) { d.Configuration.Runtime.Schema = &APISchema{} }},
		{"http.passthrough", "required", conf + "http.passthrough.protocolType", func(d *TargetDefinition) { d.Configuration.Passthrough.ProtocolType = "" }},
		{"http.passthrough", "union", conf + "http.passthrough.schema.source", func(d *TargetDefinition) { d.Configuration.Passthrough.Schema = &APISchema{} }},
		{"http.passthrough", "required", conf + "http.passthrough.stickinessConfiguration.identifier", func(d *TargetDefinition) { d.Configuration.Passthrough.Stickiness.Identifier = "" }},
		{"http.passthrough", "range", conf + "http.passthrough.stickinessConfiguration.timeout", func(d *TargetDefinition) { *d.Configuration.Passthrough.Stickiness.TimeoutSeconds = 0 }},
		{"http.passthrough", "length", conf + "http.passthrough.staticQueryParameters.v", func(d *TargetDefinition) { d.Configuration.Passthrough.StaticQueryParameters["v"] = long }},
		{"http.passthrough", "enum", conf + "http.passthrough.staticQueryParameterConflictResolution", func(d *TargetDefinition) { d.Configuration.Passthrough.QueryConflict = "x" }},
		{"http.connector", "required", conf + "http.connector.source.connectorId", func(d *TargetDefinition) { d.Configuration.HTTPConnector.ConnectorID = "" }},
		{"inference.connector", "required", conf + "inference.connector.source.connectorId", func(d *TargetDefinition) { d.Configuration.InferenceConnector.ConnectorID = "" }},
		{"inference.provider", "pattern", conf + "inference.provider.endpoint", func(d *TargetDefinition) { d.Configuration.InferenceProvider.Endpoint = "x" }},
		{"inference.provider", "length", conf + "inference.provider.modelMapping.providerPrefix.separator", func(d *TargetDefinition) {
			d.Configuration.InferenceProvider.ModelMapping.ProviderPrefix.Separator = "::"
		}},
		{"inference.provider", "pattern", conf + "inference.provider.operations[0].path", func(d *TargetDefinition) { d.Configuration.InferenceProvider.Operations[0].Path = "v1" }},
		{"inference.provider", "required", conf + "inference.provider.operations[0].models[0].model", func(d *TargetDefinition) { d.Configuration.InferenceProvider.Operations[0].Models[0] = "" }},
		{"mcp.lambda", "pattern", "metadataConfiguration.allowedRequestHeaders[0]", func(d *TargetDefinition) { d.Metadata.AllowedRequestHeaders[0] = "X Id" }},
		{"mcp.lambda", "length", "metadataConfiguration.allowedQueryParameters[0]", func(d *TargetDefinition) { d.Metadata.AllowedQueryParameters[0] = long }},
		{"mcp.lambda", "count", "metadataConfiguration.allowedResponseHeaders", func(d *TargetDefinition) { d.Metadata.AllowedResponseHeaders = make([]string, 11) }},
		{"mcp.lambda", "union", "privateEndpoint", func(d *TargetDefinition) { d.PrivateEndpoint.ManagedVPC = &ManagedVPC{} }},
		{"mcp.lambda", "count", "certificateConfigurations", func(d *TargetDefinition) { d.Certificates = make([]Certificate, 2) }},
		{"mcp.lambda", "union", "certificateConfigurations[0]", func(d *TargetDefinition) { d.Certificates[0].S3 = nil }},
		{"mcp.lambda", "required", "certificateConfigurations[0].s3.uri", func(d *TargetDefinition) { d.Certificates[0].S3.URI = "" }},
		{"mcp.lambda", "pattern", "certificateConfigurations[0].secretsManager.secretArn", func(d *TargetDefinition) { d.Certificates[0] = Certificate{SecretARN: "x"} }},
	} {
		t.Run(c.reason+" "+c.field, func(t *testing.T) {
			d := validTargets()[c.of]
			c.spoil(d)
			wantInvalid(t, d.Validate(), c.reason, c.field)
		})
	}
}

func TestEndpoints(t *testing.T) {
	for _, endpoint := range []string{
		"https://mcp.example/mcp?x=1", "https://10.0.0.1:8443", "http://localhost:1/x", "http://127.0.0.1", "http://127.9.9.9:80", "http://[::1]:8080/",
	} {
		if err := checkEndpoint(endpoint); err != nil {
			t.Errorf("%s: %v", endpoint, err)
		}
	}
}

func TestParameterValues(t *testing.T) {
	for text, reason := range map[string]string{
		`{}`:                         "",
		`{"a": 1e300, "b": 0.1}`:     "",
		`[]`:                         "json",
		`null`:                       "json",
		`{"a": }`:                    "json",
		" ":                          "json",
		"{\"a\": \"\xff\"}":          "json",
		`{"a": 9007199254740993}`:    "range",
		`{"a": [-9007199254740993]}`: "range",
		`{"a": 1e400}`:               "range",
		`{"a": ` + strings.Repeat("[", 32) + strings.Repeat("]", 32) + `}`: "depth",
		`{"a": "` + strings.Repeat("x", maxInlineBytes) + `"}`:             "size",
		`{"a": ` + strings.Repeat("[", 31) + strings.Repeat("]", 31) + `}`: "",
	} {
		err := checkJSONObject("f", json.RawMessage(text))
		if reason == "" && err != nil {
			t.Errorf("%.80s: %v", text, err)
		} else if reason != "" {
			wantInvalid(t, err, reason, "f")
		}
	}
}

func FuzzParameterValues(f *testing.F) {
	f.Add([]byte(`{"a": [1, "x", {"b": null}]}`))
	f.Add([]byte(`{"a": 1e400}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if checkJSONObject("f", raw) != nil || len(raw) == 0 {
			return
		}
		var object map[string]any
		if err := json.Unmarshal(raw, &object); err != nil || object == nil {
			t.Errorf("accepted %q, which is no object: %v", raw, err)
		}
	})
}
