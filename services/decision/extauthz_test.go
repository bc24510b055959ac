package decision_test

import (
	"encoding/json"
	"errors"
	"maps"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/structpb"

	extauthzv1 "github.com/verdict-io/verdict/proto/gen/verdict/extauthz/v1"
	"github.com/verdict-io/verdict/services/policy"
)

// fromEnvoy reads a message that Envoy's own code wrote (testdata/envoy/generate.go).
func fromEnvoy(t testing.TB, name string, m proto.Message) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", "envoy", name+".binpb"))
	if err != nil {
		t.Fatal(err)
	}
	if err := proto.Unmarshal(data, m); err != nil {
		t.Fatal(err)
	}
}

// refundCall is what Envoy asks about a call of the refund tool.
func refundCall(t testing.TB, edit ...func(*extauthzv1.AttributeContext)) *extauthzv1.CheckRequest {
	t.Helper()
	m := &extauthzv1.CheckRequest{}
	fromEnvoy(t, "check_request", m)
	for _, e := range edit {
		e(m.GetAttributes())
	}
	return m
}

// envoy asks over gRPC, as Envoy does.
func (p *pdp) envoy(t testing.TB, m *extauthzv1.CheckRequest) (*extauthzv1.CheckResponse, error) {
	t.Helper()
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(transport.CloseIdleConnections)
	client := connect.NewClient[extauthzv1.CheckRequest, extauthzv1.CheckResponse](&http.Client{Transport: transport},
		p.url+"/envoy.service.auth.v3.Authorization/Check", connect.WithGRPC())
	resp, err := client.CallUnary(t.Context(), connect.NewRequest(m))
	if err != nil {
		return nil, err
	}
	return resp.Msg, nil
}

func withBody(text string) func(*extauthzv1.AttributeContext) {
	return func(a *extauthzv1.AttributeContext) { a.Request.Http.Body = text }
}

func withHeader(name, value string) func(*extauthzv1.AttributeContext) {
	return func(a *extauthzv1.AttributeContext) { a.Request.Http.Headers[name] = value }
}

// extended replaces settings; "" removes one.
func extended(settings map[string]string) func(*extauthzv1.AttributeContext) {
	return func(a *extauthzv1.AttributeContext) {
		maps.Copy(a.ContextExtensions, settings)
		maps.DeleteFunc(a.ContextExtensions, func(_, value string) bool { return value == "" })
	}
}

func withClaim(name string, value *structpb.Value) func(*extauthzv1.AttributeContext) {
	return func(a *extauthzv1.AttributeContext) {
		a.MetadataContext.FilterMetadata["envoy.filters.http.jwt_authn"].Fields["jwt_payload"].GetStructValue().Fields[name] = value
	}
}

// A tool's call is Authorize: principal and gateway from where clients cannot write, and the same record. Question and answers are those
// of Envoy's own code.
func TestEnvoyAllowsAndDenies(t *testing.T) {
	t.Parallel()
	p := newPDP(t, "")
	got, err := p.envoy(t, refundCall(t))
	if err != nil {
		t.Fatal(err)
	}
	want := &extauthzv1.CheckResponse{}
	fromEnvoy(t, "check_allowed", want)
	ignoreID := cmp.Options{protocmp.Transform(), protocmp.IgnoreFields(&extauthzv1.HeaderValue{}, "value")}
	if diff := cmp.Diff(want, got, ignoreID); diff != "" || len(got.GetOkResponse().GetHeaders()[0].GetHeader().GetValue()) != 39 {
		t.Errorf("allowed: %s%v", diff, got)
	}
	record := p.journal.last(t)
	if tags := record.GetPrincipal().GetTags(); record.GetPrincipal().GetId() != "u-1" || record.GetPrincipal().GetType() != policy.TypeOAuthUser ||
		tags["role"] != "agent" || tags["iat"] != "1700000000" || tags["groups"] != `["a","b"]` || tags["sub"] != "u-1" {
		t.Errorf("principal %v", record.GetPrincipal())
	}
	if record.GetResource().GetId() != gateway || record.GetAction().GetId() != "RefundTarget___process_refund" || record.GetRequestId() != "envoy-1" ||
		!strings.Contains(record.GetContextJson(), `"amount":500`) {
		t.Errorf("record %v", record)
	}

	got, err = p.envoy(t, refundCall(t, withBody(`{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"process_refund","arguments":{"orderId":"1","amount":9007199254740993}}}`)))
	if err != nil {
		t.Fatal(err)
	}
	fromEnvoy(t, "check_denied", want)
	if diff := cmp.Diff(want, got, ignoreID); diff != "" {
		t.Error("denied: " + diff)
	}
	if text := p.journal.last(t).GetContextJson(); !strings.Contains(text, `"amount":9007199254740993`) {
		t.Errorf("arguments %s", text)
	}

	before := len(p.journal.records)
	if got, err = p.envoy(t, refundCall(t, withBody(`{"jsonrpc":"2.0","id":1,"method":"tools/list"}`))); err != nil {
		t.Fatal(err)
	}
	fromEnvoy(t, "check_passed", want)
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" || len(p.journal.records) != before {
		t.Error("passed: " + diff)
	}
}

const passes = ""

// What calls no tool passes, without a decision; what might, or is not understood, or was not seen whole, is denied with a text that
// says what to do, and is no decision either.
func TestEnvoyMessages(t *testing.T) {
	t.Parallel()
	p := newPDP(t, "")
	before := len(p.journal.records)
	const call = `{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"process_refund","arguments":{"orderId":"1","amount":500}}}`
	message := func(method string) func(*extauthzv1.AttributeContext) {
		return withBody(`{"jsonrpc":"2.0","id":1,"method":"` + method + `"}`)
	}
	replaced := func(old, with string) func(*extauthzv1.AttributeContext) {
		return withBody(strings.Replace(call, old, with, 1))
	}
	none := func(a *extauthzv1.AttributeContext) { a.Request.Http.Body = "" }
	raw := func(text string) func(*extauthzv1.AttributeContext) {
		return func(a *extauthzv1.AttributeContext) { a.Request.Http.Body, a.Request.Http.RawBody = "", []byte(text) }
	}
	for name, tt := range map[string]struct {
		edit func(*extauthzv1.AttributeContext)
		want string // passes, or a part of the text
	}{
		"initialize":        {message("initialize"), passes},
		"ping":              {message("ping"), passes},
		"a notification":    {withBody(`{"jsonrpc":"2.0","method":"notifications/initialized"}`), passes},
		"prompts":           {message("prompts/get"), passes},
		"a client's answer": {withBody(`{"jsonrpc":"2.0","id":1,"result":{}}`), passes},
		"a client's error":  {withBody(`{"jsonrpc":"2.0","id":1,"error":{"code":-1,"message":"no"}}`), passes},
		"as bytes":          {raw(`{"jsonrpc":"2.0","id":1,"method":"ping"}`), passes},
		"identity encoding": {func(a *extauthzv1.AttributeContext) {
			message("ping")(a)
			withHeader("content-encoding", "identity")(a)
		}, passes},
		"an unknown method":  {message("tools/invoke"), "tools/invoke"},
		"another spelling":   {message("Tools/Call"), "no method"},
		"a prefix":           {message("notifications"), "no method"},
		"no body":            {none, "with_request_body"},
		"a part of the body": {withHeader("x-envoy-auth-partial-body", "true"), "max_request_bytes"},
		"two bodies":         {func(a *extauthzv1.AttributeContext) { a.Request.Http.RawBody = []byte(call) }, "two bodies"},
		"compressed":         {withHeader("content-encoding", "gzip"), "compressed"},
		"in UTF-7": {func(a *extauthzv1.AttributeContext) {
			withBody(`{"jsonrpc":"2.0","method":"tools/list","id":"x+ACI-,+ACI-method+ACI-:+ACI-tools/call+ACI-"}`)(a)
			withHeader("content-type", "application/json; charset=utf-7")(a)
		}, "UTF-8"},
		"in Latin-1":           {withHeader("content-type", "application/json;charset=ISO-8859-1"), "UTF-8"},
		"two content types":    {withHeader("content-type", "application/json,application/json"), "UTF-8"},
		"another content type": {withHeader("content-type", "text/plain"), "UTF-8"},
		"no content type":      {withHeader("content-type", ""), "UTF-8"},
		"a charset in capitals": {func(a *extauthzv1.AttributeContext) {
			message("ping")(a)
			withHeader("content-type", `application/json; charset="UTF-8"`)(a)
		}, passes},
		"a name with a NUL":     {replaced(`"name":"process_refund"`, `"name":"process_refund","name\u0000":"other"`), "may have the members"},
		"a member that is none": {replaced(`"name":"process_refund"`, `"name":"process_refund","x":1`), "may have the members"},
		"several":               {withBody(`[` + call + `]`), "several messages"},
		"no JSON":               {withBody(`hello`), "JSON object"},
		"half of it":            {withBody(call[:50]), "not the JSON"},
		"more behind it":        {withBody(call + `{}`), "not the JSON"},
		"two methods":           {replaced(`"method":"tools/call"`, `"method":"ping","method":"tools/call"`), "once"},
		"a method in capitals":  {replaced(`"method":"tools/call"`, `"method":"ping","Method":"tools/call"`), "members"},
		"a long s":              {withBody("{\"jsonrpc\":\"2.0\",\"method\":\"ping\",\"param\u017f\":{}}"), "members"},
		"a name in capitals":    {replaced(`"name":"process_refund"`, `"name":"process_refund","Name":"other"`), "may have the members"},
		"arguments in capitals": {
			replaced(`"arguments":{`, `"ARGUMENTS":{"amount":5000},"arguments":{`), "may have the members",
		},
		"two amounts":           {replaced(`"amount":500`, `"amount":500,"amount":5000`), "once"},
		"no version":            {replaced(`"jsonrpc":"2.0",`, ``), "2.0"},
		"method and result":     {withBody(`{"jsonrpc":"2.0","id":1,"method":"ping","result":{}}`), "either"},
		"neither":               {withBody(`{"jsonrpc":"2.0","id":1}`), "either"},
		"a method that is none": {withBody(`{"jsonrpc":"2.0","id":1,"method":null}`), "either"},
		"no params":             {withBody(`{"jsonrpc":"2.0","id":1,"method":"tools/call"}`), "params"},
		"no name":               {replaced(`"name":"process_refund",`, ``), "name"},
		"a number for a name":   {replaced(`"process_refund"`, `5`), "name"},
		"deep":                  {withBody(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"process_refund","arguments":{"a":` + strings.Repeat("[", 99) + strings.Repeat("]", 99) + `}}}`), "nested"},
	} {
		got, err := p.envoy(t, refundCall(t, tt.edit))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if tt.want == passes {
			if got.GetStatus().GetCode() != 0 || got.GetOkResponse() == nil {
				t.Errorf("%s: %v", name, got)
			}
			continue
		}
		wantDenied(t, name, got, tt.want)
	}
	if n := len(p.journal.records) - before; n != 0 {
		t.Errorf("%d records of what is no tool's call", n)
	}
}

// wantDenied wants a deny that Envoy and the client understand, in both places where Envoy looks.
func wantDenied(t *testing.T, name string, got *extauthzv1.CheckResponse, says string) {
	t.Helper()
	var body struct {
		JSONRPC string `json:"jsonrpc"`
		Error   struct {
			Code    int    `json:"code"`
			Message string `json:"message"`
		} `json:"error"`
	}
	denied := got.GetDeniedResponse()
	if err := json.Unmarshal([]byte(denied.GetBody()), &body); err != nil {
		t.Errorf("%s: %v: %v", name, err, got)
	}
	if got.GetStatus().GetCode() != int32(connect.CodePermissionDenied) || denied.GetStatus().GetCode() != http.StatusForbidden || body.JSONRPC != "2.0" ||
		body.Error.Code != -32002 || !strings.Contains(body.Error.Message, says) || got.GetStatus().GetMessage() != body.Error.Message {
		t.Errorf("%s: %v does not say %q", name, got, says)
	}
}

// Who calls is never what the client says, unless the configuration wants that; a configuration that does not say it, or not clearly, denies.
func TestEnvoyPrincipals(t *testing.T) {
	t.Parallel()
	p := newPDP(t, "")
	noToken := func(a *extauthzv1.AttributeContext) { a.MetadataContext = nil }
	both := func(edits ...func(*extauthzv1.AttributeContext)) func(*extauthzv1.AttributeContext) {
		return func(a *extauthzv1.AttributeContext) {
			for _, e := range edits {
				e(a)
			}
		}
	}
	for name, tt := range map[string]struct {
		edit      func(*extauthzv1.AttributeContext)
		principal string // who is recorded, or
		denied    string // a part of the text
	}{
		"a token":              {edit: func(*extauthzv1.AttributeContext) {}, principal: "AgentCore::OAuthUser u-1"},
		"a header is not read": {edit: withHeader("x-user", "mallory"), principal: "AgentCore::OAuthUser u-1"},
		"no token":             {edit: both(noToken, withHeader("authorization", "Bearer x")), denied: "metadata_context_namespaces"},
		"another key":          {edit: extended(map[string]string{"verdict.jwt_payload": "other"}), denied: "payload_in_metadata: other"},
		"no sub":               {edit: withClaim("sub", structpb.NewNumberValue(5)), denied: "sub"},
		"a large number":       {edit: withClaim("n", structpb.NewListValue(&structpb.ListValue{Values: []*structpb.Value{structpb.NewNumberValue(1 << 53)}})), denied: "2^53"},
		"no number":            {edit: withClaim("n", structpb.NewNumberValue(math.NaN())), denied: "2^53"},
		"one for all":          {edit: both(noToken, extended(map[string]string{"verdict.principal_id": "svc"})), principal: "AgentCore::OAuthUser svc"},
		"a role":               {edit: extended(map[string]string{"verdict.principal_id": "arn:x", "verdict.principal_type": "AgentCore::IamEntity"}), principal: "AgentCore::IamEntity arn:x"},
		"a header":             {edit: both(extended(map[string]string{"verdict.principal_header": "X-User"}), withHeader("x-user", "bob")), principal: "AgentCore::OAuthUser bob"},
		"a header is missing":  {edit: extended(map[string]string{"verdict.principal_header": "X-User"}), denied: "X-User"},
		"two ways":             {edit: extended(map[string]string{"verdict.principal_header": "X-User", "verdict.principal_id": "a"}), denied: "only one"},
		"a token for a role":   {edit: extended(map[string]string{"verdict.principal_type": "AgentCore::IamEntity"}), denied: "principal_type"},
		"no gateway":           {edit: extended(map[string]string{"verdict.gateway": ""}), denied: "verdict.gateway"},
		"an unknown gateway":   {edit: extended(map[string]string{"verdict.gateway": gateway + "x"}), denied: "gateway"},
		"an unknown setting":   {edit: extended(map[string]string{"verdict.gatway": "x"}), denied: "verdict.gatway"},
		"an unknown type":      {edit: extended(map[string]string{"verdict.principal_id": "x", "verdict.principal_type": "User"}), denied: "principal.type"},
		"nothing at all":       {edit: func(a *extauthzv1.AttributeContext) { proto.Reset(a) }, denied: "verdict.gateway"},
		"a tool of no target":  {edit: extended(map[string]string{"verdict.target": ""}), denied: "there is no tool"},
		"the target in the name": {edit: both(extended(map[string]string{"verdict.target": ""}),
			withBody(`{"jsonrpc":"2.0","id":"a","method":"tools/call","params":{"name":"RefundTarget___process_refund","arguments":{"orderId":"1","amount":500}}}`)), principal: "AgentCore::OAuthUser u-1"},
	} {
		got, err := p.envoy(t, refundCall(t, tt.edit))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if tt.denied != "" {
			wantDenied(t, name, got, tt.denied)
			continue
		}
		who := p.journal.last(t).GetPrincipal()
		if got.GetOkResponse() == nil || who.GetType()+" "+who.GetId() != tt.principal {
			t.Errorf("%s: %v for %v", name, got, who)
		}
	}
}

// What fails is a deny in the answer, so that it does not depend on what Envoy does with failures. LOG_ONLY lets pass.
func TestEnvoyFailsClosed(t *testing.T) {
	t.Parallel()
	p := newPDP(t, "")
	over := withBody(`{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"process_refund","arguments":{"orderId":"1","amount":5000}}}`)
	p.do(account, policy.UpdateGateway{ID: gatewayID, Definition: attached(policy.ModeLogOnly)})
	p.node.Publish(p.state, nil)
	if got, err := p.envoy(t, refundCall(t, over)); err != nil || got.GetOkResponse() == nil {
		t.Errorf("LOG_ONLY: %v, %v", got, err)
	}
	p.journal.full = errors.New("the secret disk is full") //nolint:err113 // a test's
	got, err := p.envoy(t, refundCall(t))
	if err != nil {
		t.Fatal(err)
	}
	wantDenied(t, "no record", got, "internal error")
	if strings.Contains(got.String(), "secret") {
		t.Error(got)
	}
}
