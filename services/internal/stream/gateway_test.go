package stream

import (
	"errors"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"

	eventv1 "github.com/verdict-io/verdict/proto/gen/verdict/event/v1"
	"github.com/verdict-io/verdict/services/policy"
)

// wantRefusal wants an *Error about field.
func wantRefusal(t *testing.T, err error, reason, field string) {
	t.Helper()
	e, ok := errors.AsType[*policy.Error](err)
	if !ok || !errors.Is(err, policy.ErrInvalid) || e.Reason != reason || e.Field != field {
		t.Errorf("got %+v, want an invalid %s (%s)", err, field, reason)
	}
}

func TestGatewayDefinitionFromProtoRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		m             *eventv1.GatewayDefinition
		reason, field string
	}{
		"enum of a later version": {
			&eventv1.GatewayDefinition{AuthorizerType: 99},
			"enum", "authorizerType",
		},
		"negative enum": {
			&eventv1.GatewayDefinition{WafConfiguration: &eventv1.WafConfiguration{FailureMode: -1}},
			"enum", "wafConfiguration.failureMode",
		},
		"enum in a list": {
			&eventv1.GatewayDefinition{InterceptorConfigurations: []*eventv1.GatewayInterceptorConfiguration{
				{}, {InterceptionPoints: []eventv1.GatewayInterceptionPoint{1, 7}},
			}},
			"enum", "interceptorConfigurations[1].interceptionPoints[1]",
		},
		"protocol without a member": {
			&eventv1.GatewayDefinition{ProtocolConfiguration: &eventv1.GatewayProtocolConfiguration{}},
			"union", "protocolConfiguration",
		},
		"authorizer without a member": {
			&eventv1.GatewayDefinition{AuthorizerConfiguration: &eventv1.AuthorizerConfiguration{}},
			"union", "authorizerConfiguration",
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := GatewayDefinitionFromProto(c.m)
			wantRefusal(t, err, c.reason, c.field)
		})
	}
}

// The control API shows definitions as JSON, so the members must have AgentCore's names and places.
func TestGatewayDefinitionAsJSON(t *testing.T) {
	const text = `{
		"description": "Refunds",
		"roleArn": "arn:aws:iam::111122223333:role/gateway",
		"protocolType": "GATEWAY_PROTOCOL_TYPE_MCP",
		"protocolConfiguration": {"mcp": {
			"supportedVersions": ["2025-06-18"], "instructions": "Ask first.", "searchType": "SEARCH_TYPE_SEMANTIC",
			"sessionConfiguration": {"sessionTimeoutInSeconds": 900},
			"streamingConfiguration": {"enableResponseStreaming": false}, "disableMcpListToolsPagination": true}},
		"authorizerType": "AUTHORIZER_TYPE_CUSTOM_JWT",
		"authorizerConfiguration": {"customJWTAuthorizer": {
			"discoveryUrl": "https://issuer.example/.well-known/openid-configuration",
			"allowedAudience": ["a"], "allowedClients": ["c"], "allowedScopes": ["s"], "advertisedScopeMapping": {"s": "t"},
			"customClaims": [{"inboundTokenClaimName": "team", "inboundTokenClaimValueType": "INBOUND_TOKEN_CLAIM_VALUE_TYPE_STRING",
				"authorizingClaimMatchValue": {"claimMatchOperator": "CLAIM_MATCH_OPERATOR_EQUALS",
					"claimMatchValue": {"matchValueString": "refunds"}}}],
			"privateEndpointOverrides": [{"domain": "issuer.example", "privateEndpoint": {"managedVpcResource": {
				"vpcIdentifier": "vpc-12345678", "subnetIds": ["subnet-12345678"],
				"endpointIpAddressType": "ENDPOINT_IP_ADDRESS_TYPE_IPV4", "securityGroupIds": ["sg-12345678"],
				"tags": {"k": "v"}, "routingDomain": "lb.example"}}}],
			"privateEndpoint": {"selfManagedLatticeResource": {"resourceConfigurationIdentifier": "rcfg-0123456789abcdefg"}},
			"allowedWorkloadConfiguration": {"hostingEnvironments": [{"arn": "arn:aws:x:y::z"}], "workloadIdentities": ["w"]}}},
		"kmsKeyArn": "arn:aws:kms:us-east-1:111122223333:key/01234567-89ab-cdef-0123-456789abcdef",
		"customTransformConfiguration": {"lambda": {"arn": "arn:aws:lambda:us-east-1:111122223333:function:t"}},
		"interceptorConfigurations": [{
			"interceptor": {"lambda": {"arn": "arn:aws:lambda:us-east-1:111122223333:function:i"}},
			"interceptionPoints": ["GATEWAY_INTERCEPTION_POINT_REQUEST"],
			"inputConfiguration": {"passRequestHeaders": false, "payloadFilter": {"exclude": [
				{"field": "INTERCEPTOR_PAYLOAD_EXCLUSION_RESPONSE_BODY"}]}}}],
		"policyEngineConfiguration": {"policyEngineId": "RefundEngine-a1b2c3d4e5", "mode": "ENGINE_MODE_LOG_ONLY"},
		"exceptionLevel": "EXCEPTION_LEVEL_DEBUG",
		"wafConfiguration": {"failureMode": "WAF_FAILURE_MODE_FAIL_OPEN"}}`
	var m eventv1.GatewayDefinition
	if err := protojson.Unmarshal([]byte(text), &m); err != nil {
		t.Fatal(err)
	}
	d, err := GatewayDefinitionFromProto(&m)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Validate(); err != nil {
		t.Errorf("valid definition refused: %v", err)
	}
	out, err := protojson.Marshal(GatewayDefinitionToProto(d))
	if err != nil || !sameJSON(t, string(out), text) {
		t.Errorf("came back as %s, %v", out, err)
	}
}

func TestFromProtoStopsAtDepth(t *testing.T) {
	m := &eventv1.Schema{Type: eventv1.SchemaType_SCHEMA_TYPE_STRING}
	for range 5000 {
		m = &eventv1.Schema{Type: eventv1.SchemaType_SCHEMA_TYPE_ARRAY, Items: m}
	}
	_, err := SchemaFromProto(m)
	if e, ok := errors.AsType[*policy.Error](err); !ok || e.Reason != "depth" || !strings.HasPrefix(e.Field, "items.items") {
		t.Errorf("a deep schema: %v", err)
	}
}

func TestToProtoEndsForSchemaThatContainsItself(t *testing.T) {
	s := &policy.Schema{Type: policy.SchemaArray}
	s.Items = s
	depth := 0
	for m := SchemaToProto(s); m != nil; m = m.GetItems() {
		depth++
	}
	if depth != policy.MaxSchemaDepth+1 {
		t.Errorf("cut off at %d, want one more than %d", depth, policy.MaxSchemaDepth)
	}
}
