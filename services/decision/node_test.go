package decision_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"math"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/structpb"

	decisionv1 "github.com/verdict-io/verdict/proto/gen/verdict/decision/v1"
	"github.com/verdict-io/verdict/proto/gen/verdict/decision/v1/decisionv1connect"
	"github.com/verdict-io/verdict/services/decision"
	"github.com/verdict-io/verdict/services/internal/identity"
	"github.com/verdict-io/verdict/services/internal/rpc"
	"github.com/verdict-io/verdict/services/policy"
	"github.com/verdict-io/verdict/services/snapshot"
)

// An answer names the revision, the policies and its record, and the record holds what was decided about.
func TestAuthorizeIsRecorded(t *testing.T) {
	s := newSite(t)
	req := request(t, `"amount":500`)
	req.RequestId = "req-1"
	got, err := s.node.Authorize(asCaller(t), req)
	if err != nil {
		t.Fatal(err)
	}
	revision := s.state.Position
	want := &decisionv1.AuthorizeResponse{
		Decision: decisionv1.Decision_DECISION_ALLOW, Proceed: true, DeterminingPolicies: []string{policyID}, Reason: got.GetReason(),
		DecisionId: got.GetDecisionId(), PolicyEngineId: engineID, Revision: strconv.FormatUint(revision, 10), Mode: decisionv1.Mode_MODE_ENFORCE,
	}
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" || got.GetReason() == "" || len(got.GetDecisionId()) != 39 {
		t.Error(diff, got)
	}
	record := s.journal.last(t)
	canonical, err := proto.MarshalOptions{Deterministic: true}.Marshal(req)
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256(canonical)
	if !strings.Contains(record.GetContextJson(), `"amount":500`) || !strings.Contains(record.GetContextJson(), `"now"`) {
		t.Errorf("context recorded: %s", record.GetContextJson())
	}
	if string(record.GetRequestDigest()) != string(digest[:]) {
		t.Error("the digest is not the request's")
	}
	hash := s.state.Hash
	for what, ok := range map[string]bool{
		"account":    record.GetAccount() == account,
		"revision":   record.GetRevision() == revision && string(record.GetLogHash()) == string(hash[:]),
		"request id": record.GetRequestId() == "req-1",
		"evaluator":  record.GetEvaluatorVersion() == snapshot.EvaluatorVersion,
		"settings":   record.GetSettings().GetStalenessBoundMs() == 10_000 && record.GetSettings().GetStrictForbids(),
		"replayable": record.GetReplayable(),
		"staleness":  record.StalenessUs != nil,
		"tags":       record.GetPrincipal().GetTags()["role"] == "agent",
		"source":     record.GetEngineSource() == decisionv1.EngineSource_ENGINE_SOURCE_GATEWAY,
		"reason":     record.GetReasonCode() == snapshot.CodeAllowed,
	} {
		if !ok {
			t.Errorf("%s: %v", what, record)
		}
	}
}

// Promise 6.1: what cannot be recorded is not answered, neither with ALLOW nor with DENY.
func TestNoAnswerWithoutRecord(t *testing.T) {
	s := newSite(t)
	s.journal.full = errors.New("no room") //nolint:err113 // a test's
	for _, input := range []string{`"amount":500`, `"amount":2000`} {
		if got, err := s.node.Authorize(asCaller(t), request(t, input)); err == nil {
			t.Errorf("answered %v", got)
		}
	}
	batch := &decisionv1.BatchAuthorizeRequest{Requests: []*decisionv1.AuthorizeRequest{request(t, `"amount":500`)}}
	if got, err := s.node.BatchAuthorize(asCaller(t), batch); err == nil {
		t.Errorf("answered %v", got)
	}
}

// What does not fit the tool is denied with its reason, and recorded; what is no request is an error, and leaves no record.
// listed is a context with this input.
func listed(input *structpb.Value) *structpb.Struct {
	return &structpb.Struct{Fields: map[string]*structpb.Value{"input": input}}
}

func TestDenialsAndErrors(t *testing.T) {
	s := newSite(t)
	number := func(f float64) *structpb.Struct {
		return &structpb.Struct{Fields: map[string]*structpb.Value{"input": structpb.NewStructValue(&structpb.Struct{
			Fields: map[string]*structpb.Value{"orderId": structpb.NewStringValue("1"), "amount": structpb.NewNumberValue(f)},
		})}}
	}
	for name, c := range map[string]struct {
		change func(*decisionv1.AuthorizeRequest)
		denied string // the reason code of a denial
		failed string // the field of an error
	}{
		"over the limit":  {change: func(r *decisionv1.AuthorizeRequest) { r.ContextJson = `{"input":{"orderId":"1","amount":1000}}` }, denied: snapshot.CodeDefaultDeny},
		"wrong type":      {change: func(r *decisionv1.AuthorizeRequest) { r.ContextJson = `{"input":{"orderId":"1","amount":"5"}}` }, denied: snapshot.CodeArgumentType},
		"missing":         {change: func(r *decisionv1.AuthorizeRequest) { r.ContextJson = `{"input":{"orderId":"1"}}` }, denied: snapshot.CodeArgumentMissing},
		"undeclared":      {change: func(r *decisionv1.AuthorizeRequest) { r.ContextJson = `{"input":{"orderId":"1","amount":1,"x":1}}` }, denied: snapshot.CodeArgumentUndeclared},
		"no context":      {change: func(r *decisionv1.AuthorizeRequest) { r.ContextJson = "" }, denied: snapshot.CodeArgumentMissing},
		"2^53 in context": {change: func(r *decisionv1.AuthorizeRequest) { r.ContextJson, r.Context = "", number(1<<53) }, denied: snapshot.CodeNumberTooLarge},
		"2^53 in text": {change: func(r *decisionv1.AuthorizeRequest) {
			r.ContextJson = `{"input":{"orderId":"1","amount":9007199254740992}}`
		}, denied: snapshot.CodeDefaultDeny},
		"NaN in context": {change: func(r *decisionv1.AuthorizeRequest) { r.ContextJson, r.Context = "", number(math.NaN()) }, denied: snapshot.CodeNumberTooLarge},
		"unknown tool":   {change: func(r *decisionv1.AuthorizeRequest) { r.Action.Id = "RefundTarget___other" }, denied: snapshot.CodeUnknownTool},
		"not an object":  {change: func(r *decisionv1.AuthorizeRequest) { r.ContextJson = `[1]` }, failed: "context"},
		"not JSON":       {change: func(r *decisionv1.AuthorizeRequest) { r.ContextJson = `{"input":` }, failed: "contextJson"},
		"10,000 levels":  {change: func(r *decisionv1.AuthorizeRequest) { r.ContextJson = strings.Repeat("[", 10_000) }, failed: "contextJson"},
		"100,001 values": {change: func(r *decisionv1.AuthorizeRequest) {
			r.ContextJson, r.Context = "", listed(structpb.NewListValue(&structpb.ListValue{Values: make([]*structpb.Value, 50_000)}))
			for list := r.GetContext().GetFields()["input"].GetListValue().GetValues(); len(list) > 0; list = list[1:] {
				list[0] = structpb.NewListValue(&structpb.ListValue{Values: []*structpb.Value{structpb.NewBoolValue(true)}})
			}
		}, failed: "context"},
		"101 levels in context": {change: func(r *decisionv1.AuthorizeRequest) {
			deep := structpb.NewNullValue()
			for range 100 {
				deep = structpb.NewListValue(&structpb.ListValue{Values: []*structpb.Value{deep}})
			}
			r.ContextJson, r.Context = "", listed(deep)
		}, failed: "context"},
		"both contexts": {change: func(r *decisionv1.AuthorizeRequest) { r.Context = number(1) }, failed: "contextJson"},
		"value without kind": {change: func(r *decisionv1.AuthorizeRequest) {
			r.ContextJson, r.Context = "", &structpb.Struct{Fields: map[string]*structpb.Value{"input": {}}}
		}, failed: "context"},
		"no principal type": {change: func(r *decisionv1.AuthorizeRequest) { r.Principal.Type = "" }, failed: "principal.type"},
		"no principal":      {change: func(r *decisionv1.AuthorizeRequest) { r.Principal = nil }, failed: "principal.type"},
		"unknown gateway":   {change: func(r *decisionv1.AuthorizeRequest) { r.Resource.Id += "x" }, failed: "resource.id"},
		"unknown engine":    {change: func(r *decisionv1.AuthorizeRequest) { r.PolicyEngineId = "Other-0123456789" }, failed: "policyEngineId"},
		"revision":          {change: func(r *decisionv1.AuthorizeRequest) { r.AtLeastRevision = "-1" }, failed: "atLeastRevision"},
		"a long action":     {change: func(r *decisionv1.AuthorizeRequest) { r.Action.Id = strings.Repeat("x", 128<<10) }, failed: "principal"},
		"long tags":         {change: func(r *decisionv1.AuthorizeRequest) { r.Principal.Tags["t"] = strings.Repeat("x", 128<<10) }, failed: "principal"},
		"request id":        {change: func(r *decisionv1.AuthorizeRequest) { r.RequestId = strings.Repeat("x", 257) }, failed: "requestId"},
	} {
		t.Run(name, func(t *testing.T) {
			before := len(s.journal.records)
			req := request(t, `"amount":1`)
			c.change(req)
			got, err := s.node.Authorize(asCaller(t), req)
			if c.failed != "" {
				refusal, ok := errors.AsType[*policy.Error](err)
				if !ok || refusal.Field != c.failed || len(s.journal.records) != before {
					t.Errorf("answered %v, %v with %d records more", got, err, len(s.journal.records)-before)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			record := s.journal.last(t)
			if got.GetDecision() != decisionv1.Decision_DECISION_DENY || got.GetProceed() || got.GetReason() == "" ||
				record.GetReasonCode() != c.denied || len(s.journal.records) != before+1 {
				t.Errorf("answered %v, recorded %s", got, record.GetReasonCode())
			}
		})
	}
}

// Promise 5: an answer is never from before the revision that was asked for.
func TestAtLeastRevision(t *testing.T) {
	s := newSite(t)
	req := request(t, `"amount":500`)
	req.AtLeastRevision = strconv.FormatUint(s.state.Position+2, 10)
	ended, cancel := context.WithCancel(asCaller(t))
	cancel()
	_, err := s.node.Authorize(ended, req)
	if refusal, ok := errors.AsType[*rpc.Error](err); !ok || refusal.Code != connect.CodeUnavailable {
		t.Errorf("a revision from the future: %v", err)
	}
	s.do(account, policy.DetachEngine{GatewayID: gatewayID})
	s.follower.arrives = s.state
	got, err := s.node.Authorize(asCaller(t), req)
	if err != nil {
		t.Fatal(err)
	}
	if got.GetRevision() != req.GetAtLeastRevision() || got.GetPolicyEngineId() != "" || !got.GetProceed() {
		t.Errorf("answered %v", got)
	}
}

// A batch is decided at one revision, in order, or not at all.
func TestBatch(t *testing.T) {
	s := newSite(t)
	batch := &decisionv1.BatchAuthorizeRequest{Requests: []*decisionv1.AuthorizeRequest{request(t, `"amount":500`), request(t, `"amount":2000`)}}
	got, err := s.node.BatchAuthorize(asCaller(t), batch)
	if err != nil {
		t.Fatal(err)
	}
	if a := got.GetResponses(); len(a) != 2 || !a[0].GetProceed() || a[1].GetProceed() || a[0].GetRevision() != a[1].GetRevision() ||
		a[0].GetDecisionId() == a[1].GetDecisionId() || len(s.journal.records) != 2 {
		t.Errorf("answered %v", got)
	}
	batch.Requests[1].Principal.Type = ""
	_, err = s.node.BatchAuthorize(asCaller(t), batch)
	if refusal, ok := errors.AsType[*policy.Error](err); !ok || refusal.Field != "requests[1].principal.type" || len(s.journal.records) != 2 {
		t.Errorf("a bad item: %v, %d records", err, len(s.journal.records))
	}
	for _, n := range []int{0, 1001} {
		batch.Requests = make([]*decisionv1.AuthorizeRequest, n)
		if _, err := s.node.BatchAuthorize(asCaller(t), batch); err == nil {
			t.Errorf("a batch of %d was taken", n)
		}
	}
}

// Promise 5: past the bound the setting decides, and a stale node never allows because no engine is attached.
func TestStale(t *testing.T) {
	s := newSite(t)
	s.follower.age = time.Minute
	ask := func() *decisionv1.AuthorizeResponse {
		got, err := s.node.Authorize(asCaller(t), request(t, `"amount":500`))
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	if got := ask(); !got.GetStale() || !got.GetProceed() || !s.journal.last(t).GetStale() || s.journal.last(t).GetStalenessUs() != 60_000_000 {
		t.Errorf("serve: %v", got)
	}
	s.do(account, policy.SetEngineSettings{ID: engineID, Settings: policy.Settings{OnStale: policy.OnStaleDeny}})
	s.node.Publish(s.state, []string{account})
	if got := ask(); got.GetProceed() || got.GetDecision() != decisionv1.Decision_DECISION_DENY {
		t.Errorf("deny: %v", got)
	}
	s.follower.age, s.follower.unproven = 0, true
	if got := ask(); got.GetProceed() || s.journal.last(t).StalenessUs != nil {
		t.Errorf("never proved: %v", got)
	}
	s.do(account, policy.DetachEngine{GatewayID: gatewayID})
	s.node.Publish(s.state, []string{account})
	if got := ask(); got.GetProceed() || got.GetDecision() != decisionv1.Decision_DECISION_DENY {
		t.Errorf("no engine: %v", got)
	}
}

// LOG_ONLY: the decision is Cedar's, and the call proceeds.
func TestLogOnly(t *testing.T) {
	s := newSite(t)
	s.do(account, policy.UpdateGateway{ID: gatewayID, Definition: attached(policy.ModeLogOnly)})
	s.node.Publish(s.state, []string{account})
	got, err := s.node.Authorize(asCaller(t), request(t, `"amount":2000`))
	if err != nil {
		t.Fatal(err)
	}
	if got.GetDecision() != decisionv1.Decision_DECISION_DENY || !got.GetProceed() || got.GetMode() != decisionv1.Mode_MODE_LOG_ONLY {
		t.Errorf("answered %v", got)
	}
}

// What the settings redact leaves the node neither in the record's context nor in its tags nor in quotations.
func TestRedaction(t *testing.T) {
	s := newSite(t)
	s.permit("overflows", `permit(principal, action == AgentCore::Action::"RefundTarget___process_refund", resource == AgentCore::Gateway::"`+gateway+`")
		when { context.input.amount * 9223372036854775807 == 7 };`)
	s.do(account, policy.SetEngineSettings{ID: engineID, Settings: policy.Settings{
		RedactedPaths: &[]string{"/context/input/none", "/context/input/note", "/principal/tags/email"},
	}})
	s.node.Publish(s.state, []string{account})
	req := request(t, `"amount":500,"note":"secret"`)
	if _, err := s.node.Authorize(asCaller(t), req); err != nil {
		t.Fatal(err)
	}
	record := s.journal.last(t)
	data, err := proto.Marshal(record)
	if err != nil {
		t.Fatal(err)
	}
	if failed := record.GetErrors(); len(failed) != 1 || strings.Contains(failed[0].GetMessage(), "500") {
		t.Errorf("the evaluator's words were recorded: %v", failed)
	}
	if strings.Contains(string(data), "secret") || strings.Contains(string(data), "a@example.com") || record.GetReplayable() ||
		len(record.GetRequestDigest()) > 0 {
		t.Errorf("recorded %v", record)
	}
	if diff := cmp.Diff([]string{"/context/input/note", "/principal/tags/email"}, record.GetRedactedPaths()); diff != "" {
		t.Error(diff)
	}
	if !strings.Contains(record.GetContextJson(), `"amount":500`) || record.GetPrincipal().GetTags()["role"] != "agent" {
		t.Errorf("too much was removed: %v", record)
	}
	if req.GetPrincipal().GetTags()["email"] == "" {
		t.Error("the caller's own message was changed")
	}
}

// A trace that is not in the form of W3C Trace Context is none, and hinders nothing.
func TestMalformedTrace(t *testing.T) {
	s := newSite(t)
	h := behindEdge(t, s.node)
	body, err := proto.Marshal(request(t, `"amount":1`))
	if err != nil {
		t.Fatal(err)
	}
	const good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	for trace, want := range map[string]int{
		good: 16, "": 0, good[:54]: 0, "x": 0, strings.Replace(good, "0af", "xyz", 1): 0, strings.Replace(good, "b7a", "xyz", 1): 0,
		strings.ReplaceAll(good, "-", "_"): 0, strings.Repeat("é", 40): 0,
	} {
		r := httptest.NewRequest(http.MethodPost, "http://127.0.0.1"+decisionv1connect.DecisionServiceAuthorizeProcedure, bytes.NewReader(body))
		r.RemoteAddr = "127.0.0.1:5000"
		r.Header.Set("Content-Type", "application/proto")
		r.Header.Set("Traceparent", trace)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		record := s.journal.last(t)
		if w.Code != http.StatusOK || len(record.GetTraceId()) != want || len(record.GetSpanId()) != want/2 || record.GetRequestId() == "" {
			t.Errorf("%q: status %d, trace %x, span %x", trace, w.Code, record.GetTraceId(), record.GetSpanId())
		}
	}
}

func TestWithoutStateOrCaller(t *testing.T) {
	s := newSite(t)
	if _, err := s.node.Authorize(t.Context(), request(t, `"amount":1`)); !errors.Is(err, identity.ErrUnauthenticated) {
		t.Errorf("nobody was answered: %v", err)
	}
	empty := decision.NewNode(s.journal, nil)
	empty.Follow(s.follower)
	if err := empty.Ready(); !errors.Is(err, decision.ErrNoState) {
		t.Errorf("ready: %v", err)
	}
	if _, err := empty.Authorize(asCaller(t), request(t, `"amount":1`)); !errors.Is(err, decision.ErrNoState) {
		t.Errorf("answered: %v", err)
	}
	if err := s.node.Ready(); err != nil {
		t.Error(err)
	}
}
