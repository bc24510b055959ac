package gateway_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/verdict-io/verdict/services/gateway"
	"github.com/verdict-io/verdict/services/policy"
)

func TestListIsWhatCouldBeCalled(t *testing.T) {
	w := newWorld(t)
	if diff := cmp.Diff([]string{refund}, w.list()); diff != "" {
		t.Error(diff)
	}
	w.write("orders", "permit", lookup, "true")
	if diff := cmp.Diff([]string{lookup, refund}, w.list()); diff != "" {
		t.Error(diff)
	}
	w.write("closed", "forbid", "", "true")
	if got := w.list(); len(got) > 0 {
		t.Errorf("listed %q", got)
	}
	w.update(func(d *policy.GatewayDefinition) { d.PolicyEngine.Mode = policy.ModeLogOnly })
	if diff := cmp.Diff([]string{lookup, refund}, w.list()); diff != "" {
		t.Error(diff)
	}
	if got := len(w.recorded()); got > 0 {
		t.Errorf("lists made %d records", got)
	}
}

// A listed tool carries the schema that its arguments are checked against.
func TestListedSchemas(t *testing.T) {
	w := newWorld(t)
	a := w.post(`{"jsonrpc":"2.0","id":1,"method":"tools/list"}`)
	var got struct {
		Tools []struct {
			Name, Description string
			InputSchema       json.RawMessage
		}
	}
	if err := json.Unmarshal(a.Result, &got); err != nil {
		t.Fatal(err)
	}
	want := `{"type":"object","properties":{"amount":{"type":"integer","description":"Refund amount in dollars"},"note":{"type":"string"}},` +
		`"required":["amount"],"additionalProperties":false}`
	if len(got.Tools) != 1 || got.Tools[0].Description != "Process a customer refund" || string(got.Tools[0].InputSchema) != want {
		t.Errorf("%s", a.body)
	}
}

// manyTools are n tools of a target.
func manyTools(n int) []policy.Tool {
	tools := make([]policy.Tool, n)
	for i := range tools {
		tools[i] = policy.Tool{Name: fmt.Sprintf("tool_%04d", i), Description: "One of many", InputSchema: &policy.Schema{Type: policy.SchemaObject}}
	}
	return tools
}

func TestPages(t *testing.T) {
	w := newWorld(t)
	w.do(account, policy.CreateTarget{GatewayID: gatewayID, ID: "aaaaaaaaaa", Name: "A", Definition: functionTarget("refund", manyTools(999)...)})
	w.do(account, policy.CreateTarget{GatewayID: gatewayID, ID: "bbbbbbbbbb", Name: "B", Definition: functionTarget("refund", manyTools(999)...)})
	w.write("all", "permit", "", "true")
	var names []string
	cursor, pages := "", 0
	for {
		a := w.post(`{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"cursor":"` + cursor + `"}}`)
		var page mcp.ListToolsResult
		if err := json.Unmarshal(a.Result, &page); err != nil {
			t.Fatal(err)
		}
		for _, tool := range page.Tools {
			names = append(names, tool.Name)
		}
		if pages, cursor = pages+1, page.NextCursor; cursor == "" {
			break
		}
	}
	if pages != 2 || len(names) != 2000 || !slices.IsSorted(names) || len(slices.Compact(names)) != 2000 {
		t.Errorf("%d pages, %d tools", pages, len(names))
	}
	for _, cursor := range []string{"!", "x", strings.Repeat("QQ", 4000)} {
		w.wantError(w.post(`{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"cursor":"`+cursor+`"}}`), -32602, "cursor")
	}
	w.update(func(d *policy.GatewayDefinition) {
		d.MCP = &policy.MCPConfiguration{DisableListToolsPagination: new(true)}
	})
	if a := w.post(`{"jsonrpc":"2.0","id":1,"method":"tools/list"}`); strings.Contains(a.body, "nextCursor") || strings.Count(a.body, `"name"`) != 2000 {
		t.Errorf("without pages: %d tools", strings.Count(a.body, `"name"`))
	}
}

// The tool that finds tools is there when the gateway asks for it, and finds what its caller could call.
func TestSearch(t *testing.T) {
	w := newWorld(t)
	const search = "x_amz_bedrock_agentcore_search"
	w.wantDenied(w.call(search, `{"query":"refund"}`), "No policy applies to the request (denied by default).")
	w.mcp(policy.MCPConfiguration{SearchType: policy.SearchSemantic})
	if diff := cmp.Diff([]string{search, refund}, w.list()); diff != "" {
		t.Error(diff)
	}
	found := func(query string) []string {
		a := w.call(search, `{"query":"`+query+`"}`)
		var got struct {
			StructuredContent struct{ Tools []struct{ Name string } }
		}
		if err := json.Unmarshal(a.Result, &got); err != nil {
			t.Fatal(err, a.body)
		}
		names := []string{}
		for _, tool := range got.StructuredContent.Tools {
			names = append(names, tool.Name)
		}
		return names
	}
	for query, want := range map[string][]string{
		"give a customer their money back: refunds": {refund}, "find an order": {}, "weather": {},
	} {
		if diff := cmp.Diff(want, found(query)); diff != "" {
			t.Errorf("%s: %s", query, diff)
		}
	}
	w.write("orders", "permit", lookup, "true")
	if diff := cmp.Diff([]string{lookup}, found("which order is number 7")); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{refund, lookup}, found("refund a customer")); diff != "" {
		t.Error(diff)
	}
	for _, arguments := range []string{`{}`, `{"query":""}`, `{"query":7}`, `[]`, `{"query":"` + strings.Repeat("x", 5000) + `"}`} {
		w.wantError(w.call(search, arguments), -32602, "query has to be a text")
	}
	w.wantCalls(0)
}

// Every version that the SDK speaks, through its own client and as raw POSTs.
func TestVersions(t *testing.T) {
	w := newWorld(t)
	for _, version := range mcp.SupportedProtocolVersions() {
		if version >= "2026" {
			continue
		}
		a := w.post(`{"jsonrpc":"2.0","id":"i","method":"initialize","params":{"protocolVersion":"` + version + `","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}`)
		if !strings.Contains(string(a.Result), `"protocolVersion":"`+version+`"`) || string(a.ID) != `"i"` {
			t.Errorf("initialize with %s: %s", version, a.body)
		}
		w.wantText(w.call(refund, `{"amount":1}`, "Mcp-Protocol-Version", version), "$1")
	}
	const newest = "2026-07-28"
	meta := `"_meta":{"io.modelcontextprotocol/protocolVersion":"` + newest + `","io.modelcontextprotocol/clientInfo":{"name":"t","version":"1"},"io.modelcontextprotocol/clientCapabilities":{}}`
	header := []string{"Mcp-Protocol-Version", newest, "Mcp-Method", "tools/call", "Mcp-Name", refund}
	a := w.post(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"`+refund+`","arguments":{"amount":1},`+meta+`}}`, header...)
	w.wantText(a, "$1")
	a = w.post(`{"jsonrpc":"2.0","id":1,"method":"server/discover","params":{`+meta+`}}`, "Mcp-Protocol-Version", newest, "Mcp-Method", "server/discover")
	if !strings.Contains(a.body, newest) || a.Error != nil {
		t.Errorf("server/discover: %s", a.body)
	}
	for _, version := range []string{"1999-01-01", "x", "2025-03-27", "2027-01-01"} {
		a := w.call(refund, `{"amount":1}`, "Mcp-Protocol-Version", version)
		w.wantError(a, -32022, "does not speak this version")
		if a.status != http.StatusBadRequest || string(a.ID) != "1" {
			t.Errorf("%s: %d %s", version, a.status, a.body)
		}
	}
}

// Whoever may keep a list for others learns that it is only for whoever asked.
func TestListsArePrivate(t *testing.T) {
	w := newWorld(t)
	const newest = "2026-07-28"
	for _, method := range []string{"tools/list", "prompts/list"} {
		a := w.post(`{"jsonrpc":"2.0","id":1,"method":"`+method+`","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"`+newest+
			`","io.modelcontextprotocol/clientInfo":{"name":"t","version":"1"},"io.modelcontextprotocol/clientCapabilities":{}}}}`,
			"Mcp-Protocol-Version", newest, "Mcp-Method", method)
		if !strings.Contains(string(a.Result), `"cacheScope":"private"`) {
			t.Errorf("%s: %s", method, a.body)
		}
	}
}

func TestSupportedVersionsAreNarrowed(t *testing.T) {
	w := newWorld(t)
	w.update(func(d *policy.GatewayDefinition) {
		d.MCP = &policy.MCPConfiguration{SupportedVersions: []string{"2025-06-18", "2031-01-01"}}
	})
	w.wantText(w.call(refund, `{"amount":1}`, "Mcp-Protocol-Version", "2025-06-18"), "$1")
	w.wantError(w.call(refund, `{"amount":1}`, "Mcp-Protocol-Version", "2025-03-26"), -32022, "")
	w.wantError(w.call(refund, `{"amount":1}`, "Mcp-Protocol-Version", "2031-01-01"), -32022, "")
	a := w.post(`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-03-26","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}`)
	if !strings.Contains(string(a.Result), `"protocolVersion":"2025-06-18"`) {
		t.Errorf("initialize: %s", a.body)
	}
	w.update(func(d *policy.GatewayDefinition) {
		d.MCP = &policy.MCPConfiguration{SupportedVersions: []string{"2031-01-01"}}
	})
	w.wantError(w.call(refund, `{"amount":1}`), -32022, "")
	w.wantCalls(1)
}

func TestSessions(t *testing.T) {
	w := newWorld(t)
	w.update(func(d *policy.GatewayDefinition) {
		d.MCP = &policy.MCPConfiguration{Session: &policy.SessionConfiguration{TimeoutSeconds: new(int32(900))}}
	})
	a := w.call(refund, `{"amount":1}`)
	w.wantError(a, -32600, "Missing Mcp-Session-Id")
	if a.status != http.StatusBadRequest {
		t.Errorf("%d", a.status)
	}
	if a := w.call(refund, `{"amount":1}`, "Mcp-Session-Id", "nobody's"); a.status != http.StatusNotFound {
		t.Errorf("an unknown session: %d %s", a.status, a.body)
	}
	w.wantCalls(0)
	session := w.connect()
	result, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: refund, Arguments: map[string]any{"amount": 7}})
	if err != nil || result.IsError || session.ID() == "" {
		t.Fatal(result, err, session.ID())
	}
	w.wantText(w.call(refund, `{"amount":1}`, "Mcp-Session-Id", session.ID()), "$1")
	w.write("more", "permit", refund, "context.input.amount < 3000") // a session outlives a policy
	w.wantText(w.call(refund, `{"amount":2999}`, "Mcp-Session-Id", session.ID()), "$2999")

	// Another gateway's session is none here, and ends with its settings.
	w.update(func(d *policy.GatewayDefinition) {
		d.MCP = &policy.MCPConfiguration{Session: &policy.SessionConfiguration{}}
	})
	if a := w.call(refund, `{"amount":1}`, "Mcp-Session-Id", session.ID()); a.status != http.StatusNotFound {
		t.Errorf("a session from before: %d %s", a.status, a.body)
	}
	w.wantCalls(3)
}

// What MCP has beside tools works; what is no MCP is refused in the way of the specification.
func TestTheRestOfTheProtocol(t *testing.T) {
	w := newWorld(t)
	for method, want := range map[string]string{
		"ping": `"result":{}`, "prompts/list": `"prompts":[]`, "resources/list": `"resources":[]`, "resources/templates/list": `"resourceTemplates":[]`,
	} {
		if a := w.post(`{"jsonrpc":"2.0","id":1,"method":"` + method + `"}`); a.status != http.StatusOK || !strings.Contains(a.body, want) {
			t.Errorf("%s: %d %s", method, a.status, a.body)
		}
	}
	if a := w.post(`{"jsonrpc":"2.0","method":"notifications/initialized"}`); a.status != http.StatusAccepted {
		t.Errorf("a notification: %d %s", a.status, a.body)
	}
	for body, want := range map[string]int64{
		`{"jsonrpc":"2.0","id":1,"method":"subscriptions/listen","params":{}}`:           -32601,
		`{"jsonrpc":"2.0","id":1,"method":"logging/setLevel","params":{"level":"info"}}`: -32601,
		`{`: -32700, `{} {}`: -32700, `{"jsonrpc":"2.0","id":1,"method":7}`: -32600,
		`{"jsonrpc":"2.0","id":1.5,"method":"ping"}`: -32600, `{"jsonrpc":"2.0","id":9007199254740993,"method":"ping"}`: -32600, `{"jsonrpc":"2.0","id":1e300,"method":"ping"}`: -32600,
		`{"jsonrpc":"2.0","id":1,"method":"tools/evil"}`:                        -32601,
		`{"jsonrpc":"2.0","id":1,"method":"tools/call"}`:                        -32600,
		`{"jsonrpc":"2.0","id":1,"method":"prompts/get","params":{"name":"x"}}`: -32602,
	} {
		if a := w.post(body); a.Error == nil || a.Error.Code != want {
			t.Errorf("%s: %d %s", body, a.status, a.body)
		}
	}
	call := `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"` + refund + `","arguments":{"amount":1}}}`
	for name, a := range map[string]answer{
		"no JSON": w.post(`{`), "nothing": w.post(``), "null": w.post(`null`), "a number": w.post(`7`), "no version": w.post(`{"id":1,"method":"ping"}`),
		"a batch":                w.post(`[`+call+`,`+call+`]`, "Mcp-Protocol-Version", "2025-06-18"),
		"an empty batch":         w.post(`[]`),
		"a large batch":          w.post("[" + strings.Repeat(call+",", 50) + call + "]"),
		"another type":           w.post(call, "Content-Type", "text/plain"),
		"nothing to take":        w.post(call, "Accept", "text/html"),
		"call as a notification": w.post(`{"jsonrpc":"2.0","method":"tools/call","params":{"name":"` + refund + `","arguments":{"amount":1}}}`),
	} {
		if a.status < 400 {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
		if a.Error == nil {
			t.Errorf("%s: no error of JSON-RPC: %s", name, a.body)
		}
	}
	for _, method := range []string{http.MethodGet, http.MethodDelete, http.MethodPut} {
		req, err := http.NewRequestWithContext(t.Context(), method, w.url, nil)
		if err != nil {
			t.Fatal(err)
		}
		if a := w.send(req); a.status != http.StatusMethodNotAllowed {
			t.Errorf("%s: %d %s", method, a.status, a.body)
		}
	}
	w.wantCalls(0)
}

// Paths that are no gateway's, of any account, are answered alike.
func TestPaths(t *testing.T) {
	w := newWorld(t)
	base := strings.TrimSuffix(w.url, "/gateways/"+gatewayID+"/mcp")
	for _, path := range []string{"/", "/gateways/x/mcp", "/gateways//mcp", "/gateways/" + gatewayID, "/gateways/" + gatewayID + "/mcp/", "/gateways/" + gatewayID + "/x/mcp", "/mcp", "/gateways/%2e%2e/mcp"} {
		w.url = base + path
		if a := w.call(refund, `{"amount":1}`); a.status != http.StatusNotFound || string(a.ID) != "1" {
			t.Errorf("%s: %d %s", path, a.status, a.body)
		}
	}
	w.wantCalls(0)
}

// A page of another site that a browser shows cannot call tools.
func TestOtherSites(t *testing.T) {
	w := newWorld(t)
	for name, header := range map[string][]string{
		"another origin": {"Origin", "https://evil.example"}, "fetched across sites": {"Sec-Fetch-Site", "cross-site"},
	} {
		if a := w.call(refund, `{"amount":1}`, header...); a.status != http.StatusForbidden {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.url, strings.NewReader(`{"jsonrpc":"2.0","id":1,"method":"ping"}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Host = "rebound.example"
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "*/*")
	if a := w.send(req); a.status != http.StatusForbidden {
		t.Errorf("a name that was made to lead here: %d %s", a.status, a.body)
	}
	w.wantCalls(0)
}

// Only gateways of the account that is served are there.
func TestAccountsAreApart(t *testing.T) {
	w := newWorld(t, func(c *gateway.Config) { c.Account = "222222222222" })
	if a := w.call(refund, `{"amount":1}`); a.status != http.StatusNotFound {
		t.Errorf("%d %s", a.status, a.body)
	}
	w.wantCalls(0)
}

func TestInstructions(t *testing.T) {
	w := newWorld(t)
	w.mcp(policy.MCPConfiguration{Instructions: "Be kind."})
	if got := w.connect().InitializeResult(); got.Instructions != "Be kind." || got.ServerInfo.Name != "refund-gw" {
		t.Errorf("%+v", got)
	}
}

// What a definition asks for and is not there may be what keeps a caller from something, so nothing is served without it.
func TestDefinitionsThatAskForMore(t *testing.T) {
	hook := "arn:aws:lambda:us-east-1:111111111111:function:hook"
	for what, change := range map[string]func(*policy.GatewayDefinition){
		"interceptorConfigurations": func(d *policy.GatewayDefinition) {
			d.Interceptors = []policy.Interceptor{{LambdaARN: hook, Points: []policy.InterceptionPoint{policy.InterceptRequest}}}
		},
		"wafConfiguration":             func(d *policy.GatewayDefinition) { d.WAF = &policy.WAFConfiguration{FailureMode: policy.WAFFailClose} },
		"customTransformConfiguration": func(d *policy.GatewayDefinition) { d.CustomTransform = &policy.CustomTransform{LambdaARN: hook} },
	} {
		w := newWorld(t)
		w.update(change)
		a := w.call(refund, `{"amount":1}`)
		w.wantError(a, -32603, what)
		if a.status != http.StatusNotImplemented {
			t.Errorf("%s: %d", what, a.status)
		}
		w.wantCalls(0)
	}
	w := newWorld(t)
	d := functionTarget("refund", refundTool())
	d.PrivateEndpoint = &policy.PrivateEndpoint{LatticeResource: "rcfg-0123456789abcdef0"}
	w.do(account, policy.UpdateTarget{GatewayID: gatewayID, ID: suffix, Definition: d})
	if got := w.list(); len(got) > 0 {
		t.Errorf("a target behind a private endpoint is listed: %q", got)
	}
	if a := w.call(refund, `{"amount":1}`); !strings.Contains(a.body, `"isError":true`) || !strings.Contains(a.body, "privateEndpoint") {
		t.Errorf("%s", a.body)
	}
	w.wantCalls(0)
	if got := len(w.recorded()); got > 0 {
		t.Errorf("%d decisions about a call that is not made", got)
	}
}
