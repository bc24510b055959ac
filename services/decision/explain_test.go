package decision_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	decisionv1 "github.com/verdict-io/verdict/proto/gen/verdict/decision/v1"
	"github.com/verdict-io/verdict/services/policy"
)

// An explanation comes when it is asked for, changes nothing of the answer, and is not in the record.
func TestExplanation(t *testing.T) {
	s := newSite(t)
	req := request(t, `"amount":2000`)
	plain, err := s.node.Authorize(asCaller(t), req)
	if err != nil {
		t.Fatal(err)
	}
	before := s.journal.last(t)
	req.Explain = true
	got, err := s.node.Authorize(asCaller(t), req)
	if err != nil {
		t.Fatal(err)
	}
	want := []*decisionv1.PermitExplanation{{PolicyId: policyID, Clauses: []*decisionv1.Clause{
		{
			Text: `resource == AgentCore::Gateway::"` + gateway + `"`, Result: decisionv1.ClauseResult_CLAUSE_RESULT_TRUE,
			Values: []*decisionv1.ClauseValue{{Expression: "resource", Value: `AgentCore::Gateway::"` + gateway + `"`}},
		},
		{
			Text: "context.input.amount < 1000", Result: decisionv1.ClauseResult_CLAUSE_RESULT_FALSE,
			Values: []*decisionv1.ClauseValue{{Expression: "context.input.amount", Value: "2000"}},
		},
	}}}
	if diff := cmp.Diff(want, got.GetExplanation(), protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
	got.Explanation = nil
	ids := protocmp.IgnoreFields(&decisionv1.AuthorizeResponse{}, "decision_id")
	if diff := cmp.Diff(plain, got, protocmp.Transform(), ids); diff != "" {
		t.Error(diff)
	}
	differs := protocmp.IgnoreFields(&decisionv1.DecisionDetail{}, "context_json", "now_us", "request_digest", "latency_ns", "staleness_us")
	if diff := cmp.Diff(before, s.journal.last(t), protocmp.Transform(), differs); diff != "" {
		t.Error(diff)
	}
}

func TestExplanationsOfABatch(t *testing.T) {
	s := newSite(t)
	plain, explained := request(t, `"amount":2000`), request(t, `"amount":2000`)
	explained.Explain = true
	batch := &decisionv1.BatchAuthorizeRequest{Requests: []*decisionv1.AuthorizeRequest{plain, explained}}
	got, err := s.node.BatchAuthorize(asCaller(t), batch)
	if err != nil {
		t.Fatal(err)
	}
	if a, b := got.GetResponses()[0], got.GetResponses()[1]; len(a.GetExplanation()) != 0 || len(b.GetExplanation()) != 1 {
		t.Errorf("explained %v and %v", a.GetExplanation(), b.GetExplanation())
	}
	for range 20 {
		batch.Requests = append(batch.Requests, proto.CloneOf(explained))
	}
	before := len(s.journal.records)
	_, err = s.node.BatchAuthorize(asCaller(t), batch)
	if refusal, ok := errors.AsType[*policy.Error](err); !ok || refusal.Field != "requests" || len(s.journal.records) != before {
		t.Errorf("21 explanations: %v", err)
	}
}
