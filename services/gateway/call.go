package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	decisionv1 "github.com/verdict-io/verdict/proto/gen/verdict/decision/v1"
	"github.com/verdict-io/verdict/services/gateway/internal/lambda"
	"github.com/verdict-io/verdict/services/policy"
	"github.com/verdict-io/verdict/services/snapshot"
)

// codeDenied is AgentCore's JSON-RPC code for a call that policy denies.
const codeDenied = -32002

// AgentCore's words.
const (
	deniedBefore = "Tool Execution Denied: Tool call not allowed due to policy enforcement ["
	deniedAfter  = "]"
	// defaultDeny is what is said of a tool that the caller cannot know of, whether or not there is one.
	defaultDeny = "No policy applies to the request (denied by default)."
	// failedDeny is said where there is no decision.
	failedDeny = "Policy evaluation failed: no decision could be had, so the call is denied. Please retry later."
)

// MetaKey is the member of a result's _meta that says what was decided; in an error it is all of data.
const MetaKey = "io.verdict/decision"

// decided is what callers are told of the decision about their call.
type decided struct {
	ID       string `json:"id,omitempty"` // finds it in the audit table
	Decision string `json:"decision,omitempty"`
	Mode     string `json:"mode,omitempty"`
	Revision string `json:"revision,omitempty"`
	Engine   string `json:"policyEngineId,omitempty"`
	TraceID  string `json:"traceId"`
	Request  string `json:"requestId"`
}

func (a *asking) decided(resp *decisionv1.AuthorizeResponse) decided {
	return decided{
		ID: resp.GetDecisionId(), Decision: strings.TrimPrefix(resp.GetDecision().String(), "DECISION_"),
		Mode: strings.TrimPrefix(resp.GetMode().String(), "MODE_"), Revision: resp.GetRevision(), Engine: resp.GetPolicyEngineId(),
		TraceID: traceID(a.trace), Request: a.requestID,
	}
}

// undecided is what callers are told where nothing was decided.
func (a *asking) undecided() decided { return decided{TraceID: traceID(a.trace), Request: a.requestID} }

// callTool asks whether a tool may be called with these arguments, and calls it if it may.
func (s *Service) callTool(ctx context.Context, a *asking, params *mcp.CallToolParamsRaw) (mcp.Result, error) {
	if params.Name == searchName && a.front.searches() {
		return s.search(ctx, a, params.Arguments)
	}
	if params.Name == "" {
		s.metrics.called(outcomeInvalid)
		return nil, &jsonrpc.Error{Code: jsonrpc.CodeInvalidParams, Message: "params.name is required: the tool, as tools/list has it"}
	}
	if len(params.Arguments) > maxArguments {
		s.metrics.called(outcomeInvalid)
		return nil, &jsonrpc.Error{Code: jsonrpc.CodeInvalidParams, Message: fmt.Sprintf("arguments may have %d bytes; these have %d", maxArguments, len(params.Arguments))}
	}
	c := &call{service: s, asking: a, name: params.Name, arguments: params.Arguments, tool: a.front.tool(params.Name)}
	if len(c.arguments) == 0 {
		c.arguments = json.RawMessage("{}")
	}
	if c.tool != nil {
		c.misfit = snapshot.CheckArguments(c.tool.input, c.arguments)
	}
	result, outcome, err := c.run(ctx)
	s.metrics.called(outcome)
	return result, err
}

// maxArguments is what a function takes (Lambda: 6 MB), in bytes. Nothing is decided about more.
const maxArguments = 6 << 20

// call is one tools/call.
type call struct {
	service   *Service
	asking    *asking
	name      string
	arguments json.RawMessage
	tool      *tool // nil when there is none of this name
	misfit    error // why the arguments do not fit it
}

// outcome is what became of a call: a label of the metric.
type outcome string

const (
	outcomeCalled     outcome = "called"
	outcomeDenied     outcome = "denied"
	outcomeInvalid    outcome = "invalid"     // no such tool, or not such arguments
	outcomeNoDecision outcome = "no_decision" // and so denied
	outcomeFailed     outcome = "failed"      // the target did
)

// run is the whole call. Where an engine is attached a decision is asked for, and recorded, even of a call that cannot be made: who
// answers for what agents did wants to see what they tried.
func (c *call) run(ctx context.Context) (mcp.Result, outcome, error) {
	if !c.asking.front.attached() && !c.possible() {
		return nil, outcomeInvalid, c.invalid(c.asking.undecided())
	}
	if err := c.away(ctx); err != nil {
		return c.failed(ctx, c.asking.undecided(), err), outcomeFailed, nil
	}
	resp, err := c.authorize(ctx)
	if err != nil {
		return c.undecided(ctx, err)
	}
	about := c.asking.decided(resp)
	switch {
	case !resp.GetProceed():
		return c.deny(ctx, about, resp.GetReason())
	case c.tool == nil && resp.GetMode() == decisionv1.Mode_MODE_ENFORCE: // the node has heard of a tool that this process has not
		return c.deny(ctx, about, defaultDeny)
	case !c.possible():
		return nil, outcomeInvalid, c.invalid(about)
	}
	return c.invoke(ctx, about)
}

// away is why the target would not be called now, so that nothing need be decided; nil where it would, or where the caller must not hear
// of it.
func (c *call) away(ctx context.Context) error {
	if !c.possible() {
		return nil
	}
	err := c.service.targets.Ready(c.tool.target)
	if what := c.tool.lacking; what != "" {
		err = &lambda.Failure{Kind: lambda.Refused, Message: "this tool cannot be called: its target has a " + what + ", which Verdict does not do yet"}
	}
	if err != nil && c.visible(ctx) {
		return err
	}
	return nil
}

// undecided is the answer where there is no decision: because of the request, which is like any other denial, or for other reasons,
// which are nobody's to know.
func (c *call) undecided(ctx context.Context, cause error) (mcp.Result, outcome, error) {
	if reason := reasonOf(cause); reason != "" {
		return c.deny(ctx, c.asking.undecided(), reason)
	}
	c.service.noDecision(ctx, c.asking, cause)
	result, err := c.denied(c.asking.undecided(), failedDeny)
	return result, outcomeNoDecision, err
}

// possible reports whether there is such a tool, and it takes such arguments.
func (c *call) possible() bool { return c.tool != nil && c.misfit == nil }

// authorize asks for the decision.
func (c *call) authorize(ctx context.Context) (*decisionv1.AuthorizeResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, c.service.cfg.DecisionTimeout)
	defer cancel()
	began := time.Now()
	resp, err := c.service.decider.Authorize(ctx, &decisionv1.AuthorizeRequest{
		Principal: c.asking.caller.Principal, Action: &decisionv1.Entity{Type: policy.TypeAction, Id: c.name}, Resource: c.asking.front.resource(),
		ContextJson: string(c.context()), AtLeastRevision: revision(c.asking.position), RequestId: c.asking.requestID,
	})
	c.service.metrics.decided("call", time.Since(began))
	if err != nil {
		return nil, err
	}
	return resp, c.check(resp)
}

// context is the context of the decision: the arguments, as they came.
func (c *call) context() []byte {
	var b bytes.Buffer
	b.Grow(len(c.arguments) + len(`{"input":}`))
	b.WriteString(`{"input":`)
	b.Write(c.arguments)
	b.WriteByte('}')
	return b.Bytes()
}

// check finds answers that no decision node gives. Whether one proceeds is never taken from a part of an answer.
func (c *call) check(resp *decisionv1.AuthorizeResponse) error {
	allowed := resp.GetDecision() == decisionv1.Decision_DECISION_ALLOW
	known := allowed || resp.GetDecision() == decisionv1.Decision_DECISION_DENY
	if !known || resp.GetProceed() != (allowed || resp.GetMode() == decisionv1.Mode_MODE_LOG_ONLY) {
		return errWrongAnswer
	}
	return nil
}

// deny is the answer to a call that policy denies. A tool that would be denied whatever its arguments are is not spoken of: it is denied in
// the words for one that does not exist.
func (c *call) deny(ctx context.Context, about decided, reason string) (mcp.Result, outcome, error) {
	switch {
	case !c.visible(ctx):
		reason = defaultDeny
	case c.misfit != nil:
		return nil, outcomeInvalid, c.invalid(about)
	}
	result, err := c.denied(about, reason)
	return result, outcomeDenied, err
}

// visible reports whether tools/list would have the tool for the caller. Where that cannot be found out it is not.
func (c *call) visible(ctx context.Context) bool {
	listed, err := c.service.permitted(ctx, c.asking, c.name)
	return err == nil && len(listed) > 0
}

// denied is a denial in the form that the gateway's tag asks for.
func (c *call) denied(about decided, reason string) (mcp.Result, error) {
	text := deniedBefore + reason + deniedAfter
	if c.asking.front.source.Tags[DeniedTag] == DeniedResult {
		return textResult("AuthorizeActionException - "+text, true, about), nil
	}
	return nil, &jsonrpc.Error{Code: codeDenied, Message: text, Data: encode(about)}
}

// DeniedTag is the tag of a gateway that says how a denied call is answered: as a JSON-RPC error, or, with DeniedResult, as a result
// with isError, which agents get to read.
const (
	DeniedTag    = "verdict:denied"
	DeniedResult = "result"
)

// invalid is the answer to a call that cannot be made.
func (c *call) invalid(about decided) error {
	text := "Unknown tool: " + strconv.Quote(clip(c.name))
	if c.misfit != nil {
		text = "Invalid arguments for tool " + c.name + ": " + c.misfit.Error()
	}
	return &jsonrpc.Error{Code: jsonrpc.CodeInvalidParams, Message: text, Data: encode(about)}
}

// clip keeps what came from outside short enough for a message.
func clip(text string) string {
	const most = 200
	return strings.ToValidUTF8(text[:min(len(text), most)], "\uFFFD")
}

// invoke calls the target.
func (c *call) invoke(ctx context.Context, about decided) (mcp.Result, outcome, error) {
	began := time.Now()
	body, err := c.service.targets.Invoke(ctx, lambda.Call{
		Target: c.tool.target, ARN: c.tool.function, Tool: c.tool.id, MessageID: c.asking.messageID, RequestID: c.asking.requestID, Arguments: c.arguments,
	})
	c.service.metrics.target(time.Since(began))
	if err != nil {
		return c.failed(ctx, about, err), outcomeFailed, nil
	}
	result := textResult(string(body), false, about)
	if c.tool.listed.OutputSchema != nil && bytes.HasPrefix(bytes.TrimLeft(body, " \t\r\n"), []byte("{")) {
		result.StructuredContent = json.RawMessage(body)
	}
	return result, outcomeCalled, nil
}

// failed is the answer where the target did not do its part.
func (c *call) failed(ctx context.Context, about decided, err error) mcp.Result {
	text, detail := internalError, err.Error()
	if failure := (*lambda.Failure)(nil); errors.As(err, &failure) {
		text, detail = failure.Message, failure.Detail
	}
	c.service.proc.Logger.LogAttrs(ctx, slog.LevelWarn, "a target failed", slog.String("tool", c.tool.id), slog.String("gateway", c.asking.front.arn),
		slog.String("error", detail), slog.String("request_id", c.asking.requestID))
	result := textResult(text, true, about)
	if c.asking.front.debug() {
		result.Meta["debug"] = detail
	}
	return result
}

// textResult is a result with one text.
func textResult(text string, failed bool, about decided) *callResult {
	return &callResult{CallToolResult: &mcp.CallToolResult{
		Meta: mcp.Meta{MetaKey: about}, Content: []mcp.Content{&mcp.TextContent{Text: text}}, IsError: failed,
	}}
}

// callResult always says isError, as AgentCore does.
type callResult struct{ *mcp.CallToolResult }

// MarshalJSON is part of json.Marshaler.
func (r *callResult) MarshalJSON() ([]byte, error) {
	body, err := json.Marshal(r.CallToolResult)
	if err != nil || r.IsError || len(body) < 2 {
		return body, err
	}
	return append([]byte(`{"isError":false,`), body[1:]...), nil
}

func encode(about decided) json.RawMessage {
	text, err := json.Marshal(about)
	if err != nil { // strings can always be encoded
		return nil
	}
	return text
}

// noDecision is for the operator: calls are denied that policy might allow.
func (s *Service) noDecision(ctx context.Context, a *asking, err error) {
	s.proc.Logger.LogAttrs(ctx, slog.LevelWarn, "no decision could be had", slog.String("gateway", a.front.arn),
		slog.String("request_id", a.requestID), slog.Any("error", err))
}

// reasonOf is what is wrong with the request, for the caller, where that is why there is no decision; else "".
func reasonOf(err error) string {
	if refusal := (*policy.Error)(nil); errors.As(err, &refusal) && errors.Is(err, policy.ErrInvalid) {
		return refusal.Message
	}
	if refusal := (*connect.Error)(nil); errors.As(err, &refusal) {
		switch refusal.Code() { //nolint:exhaustive // of these the text is for whoever made the request
		case connect.CodeInvalidArgument, connect.CodeResourceExhausted:
			return refusal.Message()
		}
	}
	return ""
}
