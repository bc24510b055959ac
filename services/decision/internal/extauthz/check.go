// Package extauthz is Envoy's external authorization, envoy.service.auth.v3.Authorization: it turns an MCP message that Envoy is to
// pass on into a request of a decision node, when the message calls a tool, and the node's decision into what Envoy does with it.
//
// It guarantees that Envoy is told to let a tool be called only where the node has said so and recorded it; that whatever fails, is
// not understood, or could be understood otherwise behind Envoy is a deny, in the answer; and that who calls, and through which
// gateway, comes from Envoy's configuration and from tokens that Envoy has verified, and from what the client wrote only where that
// configuration says so.
package extauthz

import (
	"context"
	"net/http"
	"unicode/utf8"

	"connectrpc.com/connect"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	decisionv1 "github.com/verdict-io/verdict/proto/gen/verdict/decision/v1"
	extauthzv1 "github.com/verdict-io/verdict/proto/gen/verdict/extauthz/v1"
	"github.com/verdict-io/verdict/services/internal/rpc"
	"github.com/verdict-io/verdict/services/policy"
)

// Procedure is what Envoy calls.
const Procedure = "/envoy.service.auth.v3.Authorization/Check"

// Node decides.
type Node interface {
	Authorize(ctx context.Context, req *decisionv1.AuthorizeRequest) (*decisionv1.AuthorizeResponse, error)
}

// Refusal is what the caller may know of an error; it has it logged and counted.
type Refusal = func(ctx context.Context, err error) *rpc.Error

// Checker answers Envoy. It is safe for concurrent use.
type Checker struct {
	node    Node
	refusal Refusal
}

// New is a Checker.
func New(node Node, refusal Refusal) *Checker { return &Checker{node, refusal} }

// Check answers for one request. It never fails: an error, and an answer that says nothing, may be allows to Envoy.
func (c *Checker) Check(ctx context.Context, req *extauthzv1.CheckRequest) (*extauthzv1.CheckResponse, error) {
	attributes := req.GetAttributes()
	s, err := readSettings(attributes.GetContextExtensions())
	if err != nil {
		return c.fail(ctx, nil, err), nil
	}
	m, err := readMessage(attributes.GetRequest().GetHttp())
	if err != nil {
		return c.fail(ctx, m, err), nil
	}
	if !m.callsTool() {
		return allow(""), nil
	}
	asked, err := s.request(attributes, m)
	if err != nil {
		return c.fail(ctx, m, err), nil
	}
	answer, err := c.node.Authorize(ctx, asked)
	if err != nil {
		return c.fail(ctx, m, err), nil
	}
	if !answer.GetProceed() {
		return deny(m, answer.GetReason(), answer.GetDecisionId()), nil
	}
	return allow(answer.GetDecisionId()), nil
}

// request is what the node is asked about a tool's call.
func (s *settings) request(attributes *extauthzv1.AttributeContext, m *message) (*decisionv1.AuthorizeRequest, error) {
	principal, err := s.principal(attributes)
	if err != nil {
		return nil, err
	}
	input := m.arguments
	if len(input) == 0 {
		input = jsontext.Value("{}")
	}
	tool := m.tool
	if s.target != "" {
		tool = policy.ActionID(s.target, tool)
	}
	return &decisionv1.AuthorizeRequest{
		Principal: principal, Action: &decisionv1.Entity{Type: policy.TypeAction, Id: tool},
		Resource:    &decisionv1.Entity{Type: policy.TypeGateway, Id: s.gateway},
		ContextJson: `{"input":` + string(input) + `}`, RequestId: requestID(attributes.GetRequest().GetHttp()),
	}, nil
}

// maxRequestID is the longest request id that is recorded.
const maxRequestID = 256

// requestID joins a record with Envoy's logs. Clients may have written it.
func requestID(r *extauthzv1.HttpRequest) string {
	for _, id := range []string{header(r, "x-request-id"), r.GetId()} {
		if id != "" && len(id) <= maxRequestID && utf8.ValidString(id) {
			return id
		}
	}
	return ""
}

// decisionHeader tells the target, and the client of a denied call, where the decision is found.
const decisionHeader = "x-verdict-decision-id"

// allow lets a request pass, with the id of the decision, or without one.
func allow(decisionID string) *extauthzv1.CheckResponse {
	ok := &extauthzv1.OkHttpResponse{HeadersToRemove: []string{decisionHeader}}
	if decisionID != "" {
		ok = &extauthzv1.OkHttpResponse{Headers: []*extauthzv1.HeaderValueOption{set(decisionHeader, decisionID)}}
	}
	return &extauthzv1.CheckResponse{
		Status: &extauthzv1.Status{}, HttpResponse: &extauthzv1.CheckResponse_OkResponse{OkResponse: ok},
	}
}

// fail denies what is no decision's matter.
func (c *Checker) fail(ctx context.Context, m *message, err error) *extauthzv1.CheckResponse {
	return deny(m, c.refusal(ctx, err).Message, "")
}

// codeDenied is AgentCore's code of an error in JSON-RPC.
const codeDenied = -32002

// deny has Envoy answer the client; m may be nil.
func deny(m *message, reason, decisionID string) *extauthzv1.CheckResponse {
	id, text := jsontext.Value("null"), "Request Denied: "+reason
	if m != nil {
		if m.callsTool() {
			text = "Tool Execution Denied: Tool call not allowed due to policy enforcement [" + reason + "]"
		}
		if len(m.id) > 0 {
			id = m.id
		}
	}
	headers := []*extauthzv1.HeaderValueOption{set("content-type", "application/json")}
	if decisionID != "" {
		headers = append(headers, set(decisionHeader, decisionID))
	}
	return &extauthzv1.CheckResponse{
		Status: &extauthzv1.Status{Code: int32(connect.CodePermissionDenied), Message: text},
		HttpResponse: &extauthzv1.CheckResponse_DeniedResponse{DeniedResponse: &extauthzv1.DeniedHttpResponse{
			Status: &extauthzv1.HttpStatus{Code: http.StatusForbidden}, Headers: headers, Body: body(id, text),
		}},
	}
}

// body is an error of JSON-RPC, in AgentCore's words.
func body(id jsontext.Value, text string) string {
	type failure struct {
		Code    int    `json:"code"`
		Message string `json:"message"`
	}
	out, err := json.Marshal(struct {
		Version string         `json:"jsonrpc"`
		ID      jsontext.Value `json:"id"`
		Error   failure        `json:"error"`
	}{"2.0", id, failure{codeDenied, text}})
	if err != nil { // what was read can be written
		return ""
	}
	return string(out)
}

func set(name, value string) *extauthzv1.HeaderValueOption {
	return &extauthzv1.HeaderValueOption{
		Header:       &extauthzv1.HeaderValue{Key: name, Value: value},
		AppendAction: extauthzv1.HeaderAppendAction_HEADER_APPEND_ACTION_OVERWRITE_IF_EXISTS_OR_ADD,
	}
}
