package e2e

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	controlv1 "github.com/verdict-io/verdict/proto/gen/verdict/control/v1"
	decisionv1 "github.com/verdict-io/verdict/proto/gen/verdict/decision/v1"
	"github.com/verdict-io/verdict/services/internal/testenv"
)

// answer is what a service says over HTTP with JSON: a decision, or an error with its Problem.
type answer struct {
	status int
	body   string

	Decision   string `json:"decision"`
	Proceed    bool   `json:"proceed"`
	Reason     string `json:"reason"`
	DecisionID string `json:"decisionId"`

	Code    string `json:"code"`
	Message string `json:"message"`
	Details []struct {
		Value string `json:"value"`
	} `json:"details"`
	problem controlv1.Problem
}

// post sends bytes as they are.
func (s *service) post(t *testing.T, procedure, contentType, body string) *answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.url+procedure, strings.NewReader(body))
	must(t, err)
	req.Header.Set("Content-Type", contentType)
	resp, err := http.DefaultClient.Do(req)
	must(t, err)
	defer resp.Body.Close()
	var text bytes.Buffer
	_, err = text.ReadFrom(resp.Body)
	must(t, err)
	a := &answer{status: resp.StatusCode, body: text.String()}
	_ = json.Unmarshal(text.Bytes(), a) // what is no JSON has no decision and no code, which is looked at
	for _, d := range a.Details {
		value, err := base64.RawStdEncoding.DecodeString(d.Value)
		must(t, err)
		must(t, proto.Unmarshal(value, &a.problem))
	}
	return a
}

const authorize = "/verdict.decision.v1.DecisionService/Authorize"

// request is the JSON of a request that is allowed, with some members replaced; a member of "" is left out.
func (f *fleet) request(change map[string]string) string {
	members := map[string]string{
		"principal": `{"type":"AgentCore::OAuthUser","id":"u-1","tags":{"role":"refund-agent"}}`,
		"action":    `{"type":"AgentCore::Action","id":"RefundTarget___process_refund"}`,
		"resource":  fmt.Sprintf(`{"type":"AgentCore::Gateway","id":%q}`, f.gateway),
		"context":   `{"input":{"orderId":"1","amount":1}}`,
	}
	var out []string
	maps.Copy(members, change)
	for name, value := range members {
		if value != "" {
			out = append(out, fmt.Sprintf("%q:%s", name, value))
		}
	}
	slices.Sort(out)
	return "{" + strings.Join(out, ",") + "}"
}

// nested is JSON of so many levels.
func nested(levels int) string {
	return strings.Repeat(`{"input":`, levels) + "1" + strings.Repeat("}", levels)
}

// quoted is a text as a JSON string.
func quoted(text string) string {
	out, _ := json.Marshal(text) // a string can always be encoded
	return string(out)
}

// What is no request is an error that says what to do, with a code for programs, and leaves no record. What is a request but does
// not fit is denied with a reason, and recorded. Neither is ever an allow, and none of it ends the node.
func TestBadRequests(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	control := f.start(t, "control", anyAddr)
	audit := f.start(t, "audit", anyAddr)
	node := f.start(t, "decision", anyAddr, "VERDICT_CONTROL_URL="+control.url)
	ids := []string{f.wantRefund(t, node, 500, true, f.loadExample(t, control)).GetDecisionId()}
	other, err := control.controlClient().CreatePolicyEngine(t.Context(), &controlv1.CreatePolicyEngineRequest{Name: "Other"})
	must(t, err)
	f.wantRefund(t, node, 2000, false, other.GetRevision())

	good := node.post(t, authorize, "application/json", f.request(nil))
	if good.Decision != "DECISION_ALLOW" || !good.Proceed {
		t.Fatalf("the request that all others are made from: %s", good.body)
	}
	unknown := fmt.Sprintf(`{"type":"AgentCore::Gateway","id":%q}`, f.gateway[:len(f.gateway)-10]+"0000000000")
	elsewhere := fmt.Sprintf(`{"type":"AgentCore::Gateway","id":%q}`, strings.Replace(f.gateway, "000000000000", "111111111111", 1))
	refused := []struct {
		name              string
		change            map[string]string
		code, word, field string // of Connect and of the Problem; field "" is not looked at
		text              string // some of the message
	}{
		{"context is a list", map[string]string{"context": `[1]`}, "invalid_argument", "", "", "unexpected token"},
		{"context is a number", map[string]string{"context": `1`}, "invalid_argument", "", "", "unexpected token"},
		{"context is a text", map[string]string{"context": `"{}"`}, "invalid_argument", "", "", "unexpected token"},
		{"contextJson is a list", map[string]string{"context": "", "contextJson": `"[1]"`}, "invalid_argument", "type", "context", "has to be an object"},
		{"contextJson is an object", map[string]string{"context": "", "contextJson": `{}`}, "invalid_argument", "", "", "contextJson"},
		{"contextJson is cut off", map[string]string{"context": "", "contextJson": `"{\"input\":"`}, "invalid_argument", "json", "contextJson", "at byte"},
		{"contextJson has more behind it", map[string]string{"context": "", "contextJson": `"{} {}"`}, "invalid_argument", "json", "contextJson", "at byte"},
		{"contextJson says something twice", map[string]string{"context": "", "contextJson": `"{\"input\":{},\"input\":{}}"`}, "invalid_argument", "json", "contextJson", "input"},
		{"context and contextJson", map[string]string{"contextJson": `"{}"`}, "invalid_argument", "both", "contextJson", "send one of them"},
		{"no principal", map[string]string{"principal": ""}, "invalid_argument", "required", "principal.type", "AgentCore::OAuthUser"},
		{"a principal without type", map[string]string{"principal": `{"id":"u-1"}`}, "invalid_argument", "required", "principal.type", "AgentCore::OAuthUser"},
		{"a principal without id", map[string]string{"principal": `{"type":"AgentCore::OAuthUser"}`}, "invalid_argument", "required", "principal.id", "subject"},
		{"a principal of another type", map[string]string{"principal": `{"type":"User","id":"u-1"}`}, "invalid_argument", "enum", "principal.type", "AgentCore::OAuthUser"},
		{"no action", map[string]string{"action": ""}, "invalid_argument", "required", "action.type", "AgentCore::Action"},
		{"an action without id", map[string]string{"action": `{"type":"AgentCore::Action"}`}, "invalid_argument", "required", "action.id", "RefundTarget___process_refund"},
		{"no resource", map[string]string{"resource": ""}, "invalid_argument", "required", "resource.type", "policyEngineId"},
		{"an unknown gateway", map[string]string{"resource": unknown}, "not_found", "", "resource.id", "0000000000"},
		{"another account's gateway", map[string]string{"resource": elsewhere}, "not_found", "", "resource.id", "111111111111"},
		{"an unknown engine", map[string]string{"policyEngineId": `"RefundEngine-0000000000"`}, "not_found", "", "policyEngineId", "RefundEngine-0000000000"},
		{
			"another engine than the gateway's",
			map[string]string{"policyEngineId": quoted(other.GetPolicyEngine().GetPolicyEngineId())},
			"invalid_argument", "mismatch", "policyEngineId", "leave one of the two out",
		},
		{"a revision that is none", map[string]string{"atLeastRevision": `"newest"`}, "invalid_argument", "revision", "atLeastRevision", "no revision"},
		{"a revision from the future", map[string]string{"atLeastRevision": `"18446744073709551615"`}, "unavailable", "revision_not_reached", "atLeastRevision", "within the deadline"},
		{"a member that nobody knows", map[string]string{"contxt": `{}`}, "invalid_argument", "", "", `contxt`},
		{"a member of the principal that nobody knows", map[string]string{"principal": `{"type":"AgentCore::OAuthUser","id":"u","role":"x"}`}, "invalid_argument", "", "", `role`},
		{"10,000 levels of context", map[string]string{"context": nested(10_000)}, "invalid_argument", "", "", "levels"},
		{"10,000 levels of contextJson", map[string]string{"context": "", "contextJson": quoted(nested(10_000))}, "invalid_argument", "json", "contextJson", "nested"},
		{"10 MB", map[string]string{"context": fmt.Sprintf(`{"input":{"orderId":%q,"amount":1}}`, strings.Repeat("x", 10<<20))}, "resource_exhausted", "", "", "larger than"},
		{"a principal of 1 MB", map[string]string{"principal": fmt.Sprintf(`{"type":"AgentCore::OAuthUser","id":%q}`, strings.Repeat("x", 1<<20))}, "invalid_argument", "length", "principal", "together"},
		{"tags of 1 MB", map[string]string{"principal": fmt.Sprintf(`{"type":"AgentCore::OAuthUser","id":"u","tags":{"role":%q}}`, strings.Repeat("x", 1<<20))}, "invalid_argument", "length", "principal", "together"},
		{"a long request id", map[string]string{"requestId": quoted(strings.Repeat("x", 1000))}, "invalid_argument", "length", "requestId", "256"},
	}
	for _, c := range refused {
		t.Run(c.name, func(t *testing.T) {
			got := node.post(t, authorize, "application/json", f.request(c.change))
			if got.Code != c.code || got.Proceed || got.Decision != "" || got.DecisionID != "" || !strings.Contains(got.Message, c.text) ||
				c.word != "" && got.problem.GetCode() != c.word || c.field != "" && got.problem.GetField() != c.field {
				t.Errorf("%d %.600s\nproblem: %v", got.status, got.body, &got.problem)
			}
			if len(got.Message) > 2000 {
				t.Errorf("an error of %d bytes", len(got.Message))
			}
		})
	}
	t.Run("not JSON of the service", func(t *testing.T) { node.wantNoAnswer(t, f.request(nil)) })

	denied := []struct {
		name   string
		change map[string]string
		text   string // some of the reason
	}{
		{"2^53 in context", map[string]string{"context": `{"input":{"orderId":"1","amount":9007199254740992}}`}, "contextJson"},
		{"-2^53 in context", map[string]string{"context": `{"input":{"orderId":"1","amount":-9007199254740993}}`}, "contextJson"},
		{"2^63 in contextJson", map[string]string{"context": "", "contextJson": `"{\"input\":{\"orderId\":\"1\",\"amount\":9223372036854775808}}"`}, "amount"},
		{"half of something whole", map[string]string{"context": `{"input":{"orderId":"1","amount":1.5}}`}, "amount"},
		{"a text for a number", map[string]string{"context": `{"input":{"orderId":"1","amount":"1"}}`}, "amount"},
		{"null for a number", map[string]string{"context": `{"input":{"orderId":"1","amount":null}}`}, "amount"},
		{"an argument that is missing", map[string]string{"context": `{"input":{"orderId":"1"}}`}, "amount"},
		{"an argument that nobody declared", map[string]string{"context": `{"input":{"orderId":"1","amount":1,"admin":true}}`}, "admin"},
		{"no context", map[string]string{"context": ""}, ""},
		{"an unknown tool", map[string]string{"action": `{"type":"AgentCore::Action","id":"RefundTarget___nothing"}`}, "RefundTarget___nothing"},
		{"an engine without policies", map[string]string{"resource": `{"type":"Thing","id":"x"}`, "policyEngineId": quoted(other.GetPolicyEngine().GetPolicyEngineId())}, ""},
		{"90 levels of context", map[string]string{"context": nested(90)}, ""},
	}
	want := 3 // the two questions at the beginning and the good one
	for _, c := range denied {
		t.Run(c.name, func(t *testing.T) {
			got := node.post(t, authorize, "application/json", f.request(c.change))
			if got.Decision != "DECISION_DENY" || got.Proceed || got.DecisionID == "" || !strings.Contains(got.Reason, c.text) {
				t.Errorf("%d %.600s", got.status, got.body)
			}
			ids = append(ids, got.DecisionID)
		})
		want++
	}
	exact := node.post(t, authorize, "application/json", f.request(map[string]string{
		"context": "", "contextJson": `"{\"input\":{\"orderId\":\"1\",\"amount\":-9007199254740993}}"`,
	}))
	want++
	if exact.Decision != "DECISION_ALLOW" {
		t.Errorf("a large number in contextJson: %s", exact.body)
	}
	// What is recorded is what was decided: no more, no less.
	testenv.Eventually(t, "the rows", func() error {
		rows, err := f.sql(t.Context(), audit, "SELECT count(), countIf(decision_id IN ('"+strings.Join(ids, "','")+"')), "+
			"countIf(JSONExtractInt(context_json, 'input', 'amount') = -9007199254740993) FROM decisions")
		if err != nil {
			return err
		}
		if got, want := fmt.Sprint(rows), fmt.Sprintf("[[%d %d 1]]", want, len(ids)); got != want {
			return fmt.Errorf("%s, want %s", got, want)
		}
		return nil
	})
	f.wantRefund(t, node, 500, true, "")
}

// wantNoAnswer sends a good request in ways that are not the service's.
func (s *service) wantNoAnswer(t *testing.T, good string) {
	t.Helper()
	for _, c := range []struct{ procedure, contentType, body string }{
		{authorize, "text/plain", good},
		{authorize, "application/xml", good},
		{authorize, "application/x-www-form-urlencoded", good},
		{authorize, "", good},
		{authorize, "application/proto", good},
		{authorize, "application/json", ""},
		{authorize, "application/json", "null"},
		{authorize, "application/json", "[" + good + "]"},
		{authorize, "application/json", good + good},
		{authorize, "application/json", good[:len(good)-1]},
		{authorize, "application/json", strings.Replace(good, "refund-agent", "\xff", 1)},
		{authorize, "application/json", strings.Repeat("[", 1<<20)},
		{authorize + "d", "application/json", good},
		{"/", "application/json", good},
	} {
		got := s.post(t, c.procedure, c.contentType, c.body)
		if got.status < 400 || got.status >= 500 || got.Proceed || got.Decision != "" {
			t.Errorf("%s as %q of %.60q: %d %.300s", c.procedure, c.contentType, c.body, got.status, got.body)
		}
	}
}

// A batch with one item that is no request is an error that names it, and nothing of it is decided.
func TestBadBatch(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	control := f.start(t, "control", anyAddr)
	audit := f.start(t, "audit", anyAddr)
	node := f.start(t, "decision", anyAddr, "VERDICT_CONTROL_URL="+control.url)
	ids := []string{f.wantRefund(t, node, 500, true, f.loadExample(t, control)).GetDecisionId()}
	const batch = "/verdict.decision.v1.DecisionService/BatchAuthorize"
	good, bad := f.request(nil), f.request(map[string]string{"principal": ""})
	got := node.post(t, batch, "application/json", `{"requests":[`+good+`,`+bad+`]}`)
	if got.Code != "invalid_argument" || got.problem.GetField() != "requests[1].principal.type" {
		t.Errorf("%d %s\nproblem: %v", got.status, got.body, &got.problem)
	}
	for _, body := range []string{`{}`, `{"requests":[]}`, `{"requests":[` + strings.Repeat(good+",", 1000) + good + `]}`} {
		if got := node.post(t, batch, "application/json", body); got.Code != "invalid_argument" || got.problem.GetField() != "requests" {
			t.Errorf("%.60s: %d %s", body, got.status, got.body)
		}
	}
	both, err := node.decisionClient().BatchAuthorize(t.Context(), &decisionv1.BatchAuthorizeRequest{
		Requests: []*decisionv1.AuthorizeRequest{f.refundRequest(500, ""), f.refundRequest(2000, "")},
	})
	must(t, err)
	for i, want := range []bool{true, false} {
		ids = append(ids, both.GetResponses()[i].GetDecisionId())
		if both.GetResponses()[i].GetProceed() != want {
			t.Errorf("%d of a batch: %v", i, both.GetResponses()[i])
		}
	}
	f.wantRows(t, audit, ids)
}
