//go:build faults

package e2e

import (
	"strings"
	"testing"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/structpb"

	decisionv1 "github.com/verdict-io/verdict/proto/gen/verdict/decision/v1"
	"github.com/verdict-io/verdict/services/internal/testenv"
)

// When the spool takes no more, there are no answers, since they could not be recorded; when audit is back, there are again.
func TestSpoolFull(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	control := f.start(t, "control", anyAddr)
	audit := f.start(t, "audit", anyAddr)
	node := f.start(t, "decision", anyAddr, "VERDICT_CONTROL_URL="+control.url, "VERDICT_DECISION_SPOOL_BYTES=48MiB")
	ids := []string{f.wantRefund(t, node, 500, true, f.loadExample(t, control)).GetDecisionId()}
	f.wantRows(t, audit, ids)
	audit.kill()
	large := &decisionv1.AuthorizeRequest{
		Principal: &decisionv1.Principal{Type: "AgentCore::OAuthUser", Id: "u-1"},
		Action:    &decisionv1.Entity{Type: "AgentCore::Action", Id: "RefundTarget___process_refund"},
		Resource:  &decisionv1.Entity{Type: "AgentCore::Gateway", Id: f.gateway},
		Context: &structpb.Struct{Fields: map[string]*structpb.Value{"input": structpb.NewStructValue(&structpb.Struct{
			Fields: map[string]*structpb.Value{
				"orderId": structpb.NewStringValue(strings.Repeat("x", 300<<10)), "amount": structpb.NewNumberValue(1),
			},
		})}},
	}
	var full error
	for range 1000 {
		got, err := node.decisionClient().Authorize(t.Context(), large)
		if err != nil {
			full = err
			break
		}
		ids = append(ids, got.GetDecisionId())
	}
	if connect.CodeOf(full) != connect.CodeUnavailable || !strings.Contains(full.Error(), "spool") {
		t.Fatalf("after %d large decisions: %v", len(ids), full)
	}
	if err := node.ready(t); err == nil {
		t.Error("a node that cannot answer is ready")
	}
	audit = f.start(t, "audit", anyAddr)
	testenv.Eventually(t, "an answer", func() error {
		got, err := f.refund(t.Context(), node, 500, "")
		if err == nil {
			ids = append(ids, got.GetDecisionId())
		}
		return err
	})
	f.wantRows(t, audit, ids)
	must(t, node.ready(t))
}
