package awsapi

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"

	"github.com/verdict-io/verdict/services/internal/rpc"
	"github.com/verdict-io/verdict/services/policy"
)

// Whatever a body is: it is decoded, and then to what it says, or refused with a text for the caller.
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		``, `{}`, `null`, `[]`, `{"name":"gw","authorizerType":"NONE","tags":{"a":"b"}}`, `{"name":null,"kmsKeyArn":null}`, `{"name":"a","name":"b"}`,
		`{"name":"t","targetConfiguration":{"mcp":{"lambda":{"lambdaArn":"a","toolSchema":{"inlinePayload":[{"name":"n","description":"d","inputSchema":{"type":"object","properties":{"a":{"type":"array","items":{"type":"string"}}}}}]}}}},"credentialProviderConfigurations":[{"credentialProviderType":"GATEWAY_IAM_ROLE"}]}`,
		`{"targetConfiguration":{"http":{}}}`, `{"definition":{"cedar":{"statement":"permit(principal, action, resource);"}}}`, `{"description":{"optionalValue":5}}`,
		`{"a":` + strings.Repeat("[", 200) + strings.Repeat("]", 200) + `}`, `{"name":"\ud800"}`, "{\"name\":\"\xff\"}", `{"protocolConfiguration":{"mcp":{"sessionConfiguration":{"sessionTimeoutInSeconds":1e99}}}}`,
	} {
		f.Add(seed)
	}
	api := New(Config{MaxBody: 1 << 16})
	f.Fuzz(func(t *testing.T, body string) {
		decodes[createGatewayInput](t, api, body)
		decodes[createGatewayTargetInput](t, api, body)
		decodes[updatePolicyInput](t, api, body)
	})
}

func decodes[T any](t *testing.T, api *API, body string) {
	t.Helper()
	in, err := decode[T](api, &request{Request: httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body))})
	if err != nil {
		ours, theirs := (*rpc.Error)(nil), (*policy.Error)(nil)
		if !errors.As(err, &ours) && !errors.As(err, &theirs) || err.Error() == "" {
			t.Fatalf("%q: %v", body, err)
		}
		return
	}
	again, err := json.Marshal(in, json.Deterministic(true))
	if err != nil {
		t.Fatal(err)
	}
	out, err := decode[T](api, &request{Request: httptest.NewRequest(http.MethodPost, "/", strings.NewReader(string(again)))})
	if err != nil {
		t.Fatalf("%q is encoded as %s: %v", body, again, err)
	}
	if third, err := json.Marshal(out, json.Deterministic(true)); err != nil || string(third) != string(again) {
		t.Fatalf("%q is encoded as %s, and that as %s: %v", body, again, third, err)
	}
}
