package decision_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/verdict-io/verdict/services/internal/access"
	"github.com/verdict-io/verdict/services/internal/identity"
	"github.com/verdict-io/verdict/services/internal/rpc"
	"github.com/verdict-io/verdict/services/policy"
)

// pdp is a node that is asked over HTTP by a caller on loopback.
type pdp struct {
	*site
	url string
}

func newPDP(t testing.TB, publicURL string) *pdp {
	t.Helper()
	s := newSite(t)
	s.records()
	callers, err := identity.NewLoopback(account)
	if err != nil {
		t.Fatal(err)
	}
	rules, err := access.New("")
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(s.node.Handler(rpc.Config{Callers: callers, Access: rules, MaxBytes: 1 << 20}, publicURL))
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetHTTP1(true)
	server.Config.Protocols.SetUnencryptedHTTP2(true)
	server.Start()
	t.Cleanup(server.Close)
	return &pdp{s, server.URL}
}

// The gateways that stand for the resources of the certification scenario.
var records = map[string]string{
	"record-1": policy.ARN(region, account, policy.GatewayRef(policy.NewID(policy.KindGateway, "record-1", suffix))),
	"record-2": policy.ARN(region, account, policy.GatewayRef(policy.NewID(policy.KindGateway, "record-2", suffix))),
}

// records makes the fixture of OpenID's certification scenario (openid/authzen, certification/authorization-api-1_0-scenario.md,
// section 2) of what there is here: a resource is a gateway, an action one of its tools, whose arguments are the properties of the
// action. A tool takes declared arguments alone, so that `read` declares the one of which the scenario says that it is additional.
func (s *site) records() {
	optional := func(kind policy.SchemaType, name string) *policy.Schema {
		return &policy.Schema{Type: policy.SchemaObject, Properties: map[string]*policy.Schema{name: {Type: kind}}}
	}
	tools := []policy.Tool{
		{Name: "read", Description: "reads", InputSchema: optional(policy.SchemaString, "method")},
		{Name: "write", Description: "writes", InputSchema: &policy.Schema{Type: policy.SchemaObject}},
		{Name: "delete", Description: "deletes", InputSchema: &policy.Schema{
			Type: policy.SchemaObject, Properties: map[string]*policy.Schema{"soft": {Type: policy.SchemaBoolean}}, Required: []string{"soft"},
		}},
	}
	for _, name := range []string{"record-1", "record-2"} {
		id := policy.NewID(policy.KindGateway, name, suffix)
		s.do(account, policy.CreateGateway{ID: id, Name: name, Definition: attached(policy.ModeEnforce)})
		s.do(account, policy.CreateTarget{GatewayID: id, ID: strings.ToUpper(strings.ReplaceAll(name, "-", "")) + "000", Name: "Records", Definition: policy.TargetDefinition{
			Configuration: policy.TargetConfiguration{Lambda: &policy.LambdaTarget{
				ARN: "arn:aws:lambda:us-east-1:111111111111:function:records", Tools: policy.ToolSchema{Inline: tools},
			}},
		}})
	}
	for name, statement := range map[string]string{
		"rules_1_3": `permit(principal is AgentCore::OAuthUser, action == AgentCore::Action::"Records___read", resource == AgentCore::Gateway::"record-1");`,
		"rule_2":    `permit(principal == AgentCore::OAuthUser::"alice", action == AgentCore::Action::"Records___write", resource == AgentCore::Gateway::"record-1");`,
		"rule_6":    `permit(principal is AgentCore::OAuthUser, action == AgentCore::Action::"Records___write", resource == AgentCore::Gateway::"record-2") when { principal.hasTag("role") && principal.getTag("role") == "admin" };`,
		"rule_7":    `permit(principal == AgentCore::OAuthUser::"alice", action == AgentCore::Action::"Records___delete", resource == AgentCore::Gateway::"record-1") when { context.input.soft };`,
	} {
		s.permit(name, strings.NewReplacer(`"record-1"`, `"`+records["record-1"]+`"`, `"record-2"`, `"`+records["record-2"]+`"`).Replace(statement))
	}
	s.node.Publish(s.state, nil)
}

// mapped is a body of the scenario with the names that things have here.
var mapped = strings.NewReplacer(
	`"user"`, `"OAuthUser"`, `"record"`, `"Gateway"`, `"record-1"`, `"`+records["record-1"]+`"`, `"record-2"`, `"`+records["record-2"]+`"`,
	`"read"`, `"Records___read"`, `"write"`, `"Records___write"`, `"delete"`, `"Records___delete"`,
)

type outcome struct {
	status int
	header http.Header
	text   string

	Decision    *bool
	Context     map[string]any
	Evaluations []struct {
		Decision *bool
		Context  map[string]any
	}
	Error struct {
		Status               int
		Message, Code, Field string
	}
}

// decisions are those of an answer, one or several, as 1 and 0.
func (o outcome) decisions() string {
	var out strings.Builder
	add := func(d *bool) {
		switch {
		case d == nil:
			out.WriteByte('?')
		case *d:
			out.WriteByte('1')
		default:
			out.WriteByte('0')
		}
	}
	if o.Decision != nil {
		add(o.Decision)
	}
	for _, e := range o.Evaluations {
		add(e.Decision)
	}
	return out.String()
}

func (p *pdp) ask(t *testing.T, method, path, body string, edit ...func(*http.Request)) (out outcome) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, p.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	for _, e := range edit {
		e(req)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	out.status, out.header, out.text = resp.StatusCode, resp.Header, string(text)
	if kind := resp.Header.Get("Content-Type"); kind != "application/json" {
		t.Errorf("%s is %q", text, kind)
	}
	if err := json.Unmarshal(text, &out); err != nil {
		t.Errorf("%s: %v", text, err)
	}
	return out
}

const (
	one     = "/access/v1/evaluation"
	several = "/access/v1/evaluations"
)

// The certification scenario of OpenID, by its sections, with the rest of it: levels Basic, Batch and Discovery. What cannot be had:
// the properties of a resource decide nothing, since a gateway has none, so that rules 5 and 6 are about record-2 itself; search; and
// a resource of an evaluation that takes `type` from the common one (3.2.7, which the scenario calls advisory), since by the text of
// the specification a key replaces the whole key.
func TestAuthZENScenario(t *testing.T) {
	t.Parallel()
	p := newPDP(t, "")
	const (
		alice = `"subject":{"type":"user","id":"alice"}`
		bob   = `"subject":{"type":"user","id":"bob"}`
		admin = `"subject":{"type":"user","id":"bob","properties":{"role":"admin"}}`
		read  = `"action":{"name":"read"}`
		write = `"action":{"name":"write"}`
		first = `"resource":{"type":"record","id":"record-1"}`
		old   = `"resource":{"type":"record","id":"record-2","properties":{"status":"archived"}}`
	)
	for _, tt := range []struct{ section, path, body, want string }{
		{"2.2.1 rule 1", one, `{` + alice + `,` + read + `,` + first + `}`, "1"},
		{"rule 2", one, `{` + alice + `,` + write + `,` + first + `}`, "1"},
		{"rule 3", one, `{` + bob + `,` + read + `,` + first + `}`, "1"},
		{"2.2.2 rule 4", one, `{` + bob + `,` + write + `,` + first + `}`, "0"},
		{"2.2.3 context", one, `{` + alice + `,` + read + `,` + first + `,"context":{"time":"2025-06-27T18:03-07:00","ip":"192.168.1.1"}}`, "1"},
		{"2.2.4 rule 5", one, `{` + alice + `,` + write + `,` + old + `}`, "0"},
		{"2.2.5 rule 6", one, `{` + admin + `,` + write + `,` + old + `}`, "1"},
		{"2.2.6 rule 7", one, `{` + alice + `,"action":{"name":"delete","properties":{"soft":true}},` + first + `}`, "1"},
		{"2.2.7 rule 8", one, `{` + alice + `,"action":{"name":"delete","properties":{"soft":false}},` + first + `}`, "0"},
		{"2.2.8 additional properties", one, `{"subject":{"type":"user","id":"alice","properties":{"department":"Sales","role":"manager"}},
			"action":{"name":"read","properties":{"method":"GET"}},"resource":{"type":"record","id":"record-1","properties":{"status":"active","owner":"bob"}}}`, "1"},
		{"2.2.9 unknown fields", one, `{` + alice + `,` + read + `,` + first + `,"foo":"bar","futureField":{"nested":true}}`, "1"},

		{"3.2.1 two", several, `{` + alice + `,` + read + `,"evaluations":[{` + first + `},{` + old + `}]}`, "10"},
		{"3.2.2 in order", several, `{` + bob + `,` + first + `,"evaluations":[{` + read + `},{` + write + `}]}`, "10"},
		{"3.2.3 properties", several, `{` + alice + `,` + write + `,"evaluations":[{` + first + `},{` + old + `}]}`, "10"},
		{"3.2.4 subjects", several, `{` + write + `,` + old + `,"evaluations":[{` + alice + `},{` + admin + `}]}`, "01"},
		{"3.2.5 no defaults", several, `{"evaluations":[{` + alice + `,` + read + `,` + first + `},{` + bob + `,` + write + `,` + first + `}]}`, "10"},
		{"3.2.6 contexts", several, `{` + alice + `,` + read + `,"context":{"time":"a"},"evaluations":[{` + first + `},{` + old + `,"context":{"time":"b","source":"c"}}]}`, "10"},
		{"3.2.7 a key replaces the whole key", several, `{` + alice + `,` + write + `,"resource":{"type":"record"},"evaluations":[{"resource":{"id":"record-1"}},{` + first + `}]}`, "01"},
		{"3.4.1 one that is none", several, `{` + alice + `,` + read + `,"evaluations":[{` + first + `},{}]}`, "10"},
		{"3.4.2 no array", several, `{` + alice + `,` + read + `,` + first + `}`, "1"},
		{"3.4.3 an empty array", several, `{` + alice + `,` + read + `,` + first + `,"evaluations":[]}`, "1"},
	} {
		for range 2 { // 2.6: the same each time
			got := p.ask(t, http.MethodPost, tt.path, mapped.Replace(tt.body))
			if got.status != http.StatusOK || got.decisions() != tt.want {
				t.Errorf("%s: %d, decided %s, want %s: %s", tt.section, got.status, got.decisions(), tt.want, got.text)
			}
		}
	}
}

// What is no evaluation is an error that says where, and nothing is recorded of it (sections 2.4 and 5 of the scenario, and more).
func TestAuthZENErrors(t *testing.T) {
	t.Parallel()
	p := newPDP(t, "")
	before := len(p.journal.records)
	good := map[string]string{
		"subject": `{"type":"user","id":"alice"}`, "action": `{"name":"read"}`, "resource": `{"type":"record","id":"record-1"}`,
	}
	with := func(key, value string) string {
		var members []string
		for name, text := range good {
			if name == key {
				text = value
			}
			if text != "" {
				members = append(members, fmt.Sprintf("%q:%s", name, text))
			}
		}
		if _, there := good[key]; !there {
			members = append(members, fmt.Sprintf("%q:%s", key, value))
		}
		return mapped.Replace(`{` + strings.Join(members, ",") + `}`)
	}
	many := strings.Repeat(`{},`, 1000) + `{}`
	for _, tt := range []struct {
		name, body string
		status     int
		field      string
	}{
		{"no subject", with("subject", ""), 400, "subject.type"},
		{"no action", with("action", ""), 400, "action.name"},
		{"no resource", with("resource", ""), 400, "resource.type"},
		{"null", with("resource", "null"), 400, "resource.type"},
		{"no type of a subject", with("subject", `{"id":"alice"}`), 400, "subject.type"},
		{"no id of a subject", with("subject", `{"type":"user"}`), 400, "subject.id"},
		{"empty id of a subject", with("subject", `{"type":"user","id":""}`), 400, "subject.id"},
		{"no name", with("action", `{}`), 400, "action.name"},
		{"no type of a resource", with("resource", `{"id":"record-1"}`), 400, "resource.type"},
		{"no id of a resource", with("resource", `{"type":"record"}`), 400, "resource.id"},
		{"subject is a string", with("subject", `"alice"`), 400, "subject"},
		{"name is a number", with("action", `{"name":123}`), 400, "action.name"},
		{"properties are an array", with("subject", `{"type":"user","id":"a","properties":[]}`), 400, "subject.properties"},
		{"arguments are an array", with("action", `{"name":"read","properties":[]}`), 400, "action.properties"},
		{"context is an array", with("context", `[]`), 400, "context"},
		{"input is a string", with("context", `{"input":"x"}`), 400, "context.input"},
		{"two inputs", strings.Replace(with("context", `{"input":{"method":"PUT"}}`), `"Records___read"`, `"Records___read","properties":{"method":"GET"}`, 1), 400, "context.input"},
		{"two inputs that a float64 takes for one", strings.Replace(with("context", `{"input":{"n":9007199254740993}}`), `"Records___read"`, `"Records___read","properties":{"n":9007199254740992}`, 1), 400, "context.input"},
		{"not JSON", `{"subject":`, 400, ""},
		{"a member twice", strings.Replace(with("x", `1`), `"subject":`, `"subject":{},"subject":`, 1), 400, ""},
		{"a member twice, within", with("action", `{"name":"read","properties":{"a":{"b":1,"b":2}}}`), 400, ""},
		{"more behind it", with("x", `1`) + `{}`, 400, ""},
		{"not UTF-8", with("subject", "{\"type\":\"user\",\"id\":\"\xff\"}"), 400, ""},
		{"empty", ``, 400, ""},
		{"an array", `[]`, 400, ""},
		{"another type", with("subject", `{"type":"spaceship","id":"alice"}`), 400, "subject.type"},
		{"another type of resource", with("resource", `{"type":"spaceship","id":"x"}`), 400, "resource.type"},
		{"a role with properties", with("subject", `{"type":"IamEntity","id":"arn:x","properties":{"a":"b"}}`), 400, "subject.properties"},
		{"an unknown gateway", with("resource", `{"type":"Gateway","id":"arn:x"}`), 404, "resource.id"},
		{"nested deep", with("action", `{"name":"read","properties":{"a":`+strings.Repeat("[", 70)+strings.Repeat("]", 70)+`}}`), 400, "action.properties"},
		{"a megabyte", with("x", `"`+strings.Repeat("x", 1<<20)+`"`), 413, ""},
		{"1,001 evaluations", with("evaluations", `[`+many+`]`), 400, "evaluations"},
		{"evaluations are no array", with("evaluations", `{}`), 400, "evaluations"},
		{"another semantic", strings.Replace(with("evaluations", `[{}]`), `{`, `{"options":{"evaluations_semantic":"all"},`, 1), 400, "options.evaluations_semantic"},
		{"a short request, long when written out", with("evaluations", `[`+many[4:]+`]`)[:1] + `"context":{"x":"` + strings.Repeat("x", 10_000) + `"},` + with("evaluations", `[`+many[3:]+`]`)[1:], 413, ""},
	} {
		path := one
		if strings.Contains(tt.body, `"evaluations"`) {
			path = several
		}
		got := p.ask(t, http.MethodPost, path, tt.body)
		if got.status != tt.status || got.Error.Status != tt.status || got.Error.Field != tt.field || got.Error.Message == "" || got.Decision != nil {
			t.Errorf("%s: %d, want %d about %q: %.300s", tt.name, got.status, tt.status, tt.field, got.text)
		}
	}
	for name, edit := range map[string]func(*http.Request){
		"content type": func(r *http.Request) { r.Header.Set("Content-Type", "text/plain") }, "no content type": func(r *http.Request) { r.Header.Del("Content-Type") },
		"two request ids": func(r *http.Request) { r.Header["X-Request-Id"] = []string{"a", "b"} },
		"long request id": func(r *http.Request) { r.Header.Set("X-Request-Id", strings.Repeat("x", 257)) },
	} {
		if got := p.ask(t, http.MethodPost, one, with("x", `1`), edit); got.status != http.StatusBadRequest || got.Decision != nil {
			t.Errorf("%s: %d %s", name, got.status, got.text)
		}
	}
	for _, other := range []string{"/access/v1/search/subject", "/access/v1/evaluation/", "/access/"} {
		if got := p.ask(t, http.MethodPost, other, `{}`); got.status != http.StatusNotFound || !strings.Contains(got.Error.Message, one) {
			t.Errorf("%s: %d %s", other, got.status, got.text)
		}
	}
	if n := len(p.journal.records); n != before {
		t.Errorf("%d records of what is no evaluation", n-before)
	}
}

// Several are decided in order, at one revision, until the semantic says that it is enough; only what is answered is recorded.
func TestAuthZENSemantics(t *testing.T) {
	t.Parallel()
	p := newPDP(t, "")
	const yes, no, bad = `{"resource":{"type":"record","id":"record-1"}}`, `{"resource":{"type":"record","id":"record-2"}}`, `{"resource":7}`
	for _, tt := range []struct {
		semantic string
		entries  []string
		want     string
		records  int
	}{
		{`"execute_all"`, []string{yes, bad, no, yes}, "1001", 3},
		{`null`, []string{no, yes}, "01", 2},
		{`"deny_on_first_deny"`, []string{yes, no, yes}, "10", 2},
		{`"deny_on_first_deny"`, []string{yes, bad, yes}, "10", 1},
		{`"deny_on_first_deny"`, []string{yes, yes}, "11", 2},
		{`"permit_on_first_permit"`, []string{no, bad, yes, no}, "001", 2},
		{`"permit_on_first_permit"`, []string{no, no}, "00", 2},
	} {
		before := len(p.journal.records)
		got := p.ask(t, http.MethodPost, several, mapped.Replace(`{"subject":{"type":"user","id":"alice"},"action":{"name":"read"},
			"options":{"evaluations_semantic":`+tt.semantic+`,"x":1},"evaluations":[`+strings.Join(tt.entries, ",")+`]}`))
		if got.decisions() != tt.want || len(p.journal.records)-before != tt.records {
			t.Errorf("%s of %s: decided %s with %d records, want %s with %d: %s", tt.semantic, tt.entries, got.decisions(), len(p.journal.records)-before, tt.want, tt.records, got.text)
		}
		for i, e := range got.Evaluations {
			failure, failed := e.Context["error"].(map[string]any)
			if failed != (tt.entries[i] == bad) || failed && (failure["status"] != 400.0 || failure["field"] != "resource") {
				t.Errorf("%s of %s: number %d says %v", tt.semantic, tt.entries, i, e.Context)
			}
		}
	}
}

// An evaluation is Authorize: the same record, with tags and arguments as they were written and the caller's own request id.
func TestAuthZENIsRecorded(t *testing.T) {
	t.Parallel()
	p := newPDP(t, "")
	const id = "any text (at all)"
	got := p.ask(t, http.MethodPost, one, `{"subject":{"type":"AgentCore::OAuthUser","id":"u-1","properties":
			{"role":"agent","n":9007199254740993, "groups": [ "a", "b" ],"org":{"b":1.50,"a":"\u003c"},"gone":null}},
		"action":{"name":"RefundTarget___process_refund","properties":{"orderId":"1","amount":9007199254740993}},
		"context":{"input":{"amount":9007199254740993,"orderId":"\u0031"},"time":"now"},
		"resource":{"type":"AgentCore::Gateway","id":"`+gateway+`"}}`, func(r *http.Request) {
		r.Header.Set("X-Request-Id", id)
		r.Header.Set("Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	})
	if got.decisions() != "0" || got.header.Get("X-Request-Id") != id {
		t.Fatalf("%v %s", got.header, got.text)
	}
	record := p.journal.last(t)
	want := map[string]string{"role": "agent", "n": "9007199254740993", "groups": `["a","b"]`, "org": `{"a":"<","b":1.50}`}
	if tags := record.GetPrincipal().GetTags(); fmt.Sprint(tags) != fmt.Sprint(want) {
		t.Errorf("tags %v, want %v", tags, want)
	}
	if !strings.Contains(record.GetContextJson(), `"amount":9007199254740993`) || strings.Contains(record.GetContextJson(), `"time"`) {
		t.Errorf("arguments %s", record.GetContextJson())
	}
	if record.GetRequestId() != id || len(record.GetTraceId()) != 16 || record.GetAccount() != account {
		t.Errorf("record %v", record)
	}
	for name, want := range map[string]any{
		"reason": record.GetReason(), "policyDecision": "DENY", "policyEngineId": engineID, "mode": "ENFORCE", "revision": fmt.Sprint(record.GetRevision()),
	} {
		if got.Context[name] != want {
			t.Errorf("%s is %v, want %v", name, got.Context[name], want)
		}
	}
	if id, _ := got.Context["id"].(string); len(id) != 39 {
		t.Errorf("id %q", id)
	}
}

// Promise 6.1 here: what cannot be recorded is no decision. And a LOG_ONLY gateway lets pass, and says what the policies say.
func TestAuthZENFailsClosed(t *testing.T) {
	t.Parallel()
	p := newPDP(t, "")
	body := mapped.Replace(`{"subject":{"type":"user","id":"bob"},"action":{"name":"write"},"resource":{"type":"record","id":"record-1"},"evaluations":[{}]}`)
	p.do(account, policy.UpdateGateway{ID: policy.NewID(policy.KindGateway, "record-1", suffix), Definition: attached(policy.ModeLogOnly)})
	p.node.Publish(p.state, nil)
	if got := p.ask(t, http.MethodPost, one, body); got.decisions() != "1" || got.Context["policyDecision"] != "DENY" || got.Context["mode"] != "LOG_ONLY" {
		t.Errorf("LOG_ONLY: %s", got.text)
	}
	p.journal.full = errors.New("no room") //nolint:err113 // a test's
	for _, path := range []string{one, several} {
		if got := p.ask(t, http.MethodPost, path, body); got.status != http.StatusInternalServerError || got.decisions() != "" {
			t.Errorf("%s: %d %s", path, got.status, got.text)
		}
	}
}

// The metadata names this node as it is asked, or as its operator says, and only what there is; anybody may read it.
func TestAuthZENMetadata(t *testing.T) {
	t.Parallel()
	for _, public := range []string{"", "https://pdp.example.com"} {
		p := newPDP(t, public)
		base := public
		if base == "" {
			base = p.url
		}
		got := p.ask(t, http.MethodGet, "/.well-known/authzen-configuration", "", func(r *http.Request) { r.Header.Set("X-Forwarded-Host", "evil.example") })
		want := fmt.Sprintf(`{"access_evaluation_endpoint":"%[1]s/access/v1/evaluation","access_evaluations_endpoint":"%[1]s/access/v1/evaluations","policy_decision_point":"%[1]s"}`, base)
		if members := sortedMembers(t, got.text); got.status != http.StatusOK || members != want {
			t.Errorf("%d %s, want %s", got.status, members, want)
		}
		if got := p.ask(t, http.MethodPost, "/.well-known/authzen-configuration", "{}"); got.status != http.StatusMethodNotAllowed {
			t.Errorf("POST: %d %s", got.status, got.text)
		}
		if public == "" {
			if got := p.ask(t, http.MethodGet, "/.well-known/authzen-configuration", "", func(r *http.Request) { r.Host = `a"b` }); got.status != http.StatusBadRequest {
				t.Errorf("a wrong host: %d %s", got.status, got.text)
			}
		}
	}
}

func sortedMembers(t *testing.T, text string) string {
	t.Helper()
	var members map[string]string
	if err := json.Unmarshal([]byte(text), &members); err != nil {
		t.Fatal(err)
	}
	out, err := json.Marshal(members) // sorts them
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// Whoever is unknown is told so in this API's form, and gets no decision.
func TestAuthZENCallers(t *testing.T) {
	t.Parallel()
	p := newPDP(t, "")
	got := p.ask(t, http.MethodPost, one, `{}`, func(r *http.Request) { r.Header.Set("X-Forwarded-For", "192.0.2.1") })
	if got.status != http.StatusUnauthorized || got.Error.Status != http.StatusUnauthorized || !slices.Contains(got.header["Www-Authenticate"], "Bearer") {
		t.Errorf("%d %v %s", got.status, got.header, got.text)
	}
}
