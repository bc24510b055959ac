package e2e

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/structpb"

	controlv1 "github.com/verdict-io/verdict/proto/gen/verdict/control/v1"
	decisionv1 "github.com/verdict-io/verdict/proto/gen/verdict/decision/v1"
	eventv1 "github.com/verdict-io/verdict/proto/gen/verdict/event/v1"
	"github.com/verdict-io/verdict/services/internal/testenv"
)

// These are the rows of the README's table of what works while something is away. Each ends with it back, and everything as if it
// had never been away.

var errNotYet = errors.New("not yet")

// staleSoon lets nodes say after half a second that they cannot prove their state fresh.
func (f *fleet) staleSoon(t *testing.T, control *service) {
	t.Helper()
	bound := uint64(500)
	_, err := control.controlClient().UpdateAccountSettings(t.Context(), &controlv1.UpdateAccountSettingsRequest{
		Settings: &eventv1.Settings{StalenessBoundMs: &bound},
	})
	must(t, err)
}

// wantStale waits until a node's answers are flagged, or no longer, and are right all the while.
func (f *fleet) wantStale(t *testing.T, node *service, stale bool) (ids []string) {
	t.Helper()
	testenv.Eventually(t, fmt.Sprintf("stale=%v", stale), func() error {
		got := f.wantRefund(t, node, 500, true, "")
		ids = append(ids, got.GetDecisionId())
		if got.GetStale() != stale {
			return errNotYet
		}
		return nil
	})
	return ids
}

func TestWithoutPostgres(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	postgres, url := testenv.Through(t, f.URL)
	control := f.start(t, "control", anyAddr, "VERDICT_POSTGRES_URL="+url)
	node := f.start(t, "decision", anyAddr, "VERDICT_CONTROL_URL="+control.url)
	f.wantRefund(t, node, 500, true, f.loadExample(t, control))
	f.staleSoon(t, control)
	f.wantStale(t, node, false)
	postgres.Cut()
	_, err := control.controlClient().CreatePolicyEngine(t.Context(), &controlv1.CreatePolicyEngineRequest{Name: "Late"})
	if code := connect.CodeOf(err); code != connect.CodeUnavailable {
		t.Errorf("a write without Postgres: %v", err)
	}
	f.wantStale(t, node, true)
	postgres.Heal()
	testenv.Eventually(t, "a write", func() error {
		_, err := control.controlClient().CreatePolicyEngine(t.Context(), &controlv1.CreatePolicyEngineRequest{Name: "Later"})
		return err
	})
	f.wantStale(t, node, false)
}

func TestWithoutNATS(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	control := f.start(t, "control", anyAddr)
	audit := f.start(t, "audit", anyAddr)
	node := f.start(t, "decision", anyAddr, "VERDICT_CONTROL_URL="+control.url)
	ids := []string{f.wantRefund(t, node, 500, true, f.loadExample(t, control)).GetDecisionId()}
	f.wantRows(t, audit, ids)
	f.nats.Stop()
	// A change is taken, and a node that must have it gets it from control.
	ids = append(ids, f.wantRefund(t, node, 2000, true, f.permit(t, control, "more", 5000)).GetDecisionId())
	ids = append(ids, f.wantRefund(t, node, 7000, false, "").GetDecisionId())
	rows, err := f.sql(t.Context(), audit, "SELECT count() FROM decisions")
	must(t, err)
	if fmt.Sprint(rows) != "[[1]]" {
		t.Errorf("what is in the table cannot be searched: %v", rows)
	}
	f.nats.Start(t)
	f.wantRows(t, audit, ids)
}

func TestWithoutClickHouse(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	clickhouse, url := testenv.Through(t, f.clickhouse.URL)
	control := f.start(t, "control", anyAddr)
	audit := f.start(t, "audit", anyAddr, "VERDICT_CLICKHOUSE_URL="+url)
	node := f.start(t, "decision", anyAddr, "VERDICT_CONTROL_URL="+control.url)
	ids := []string{f.wantRefund(t, node, 500, true, f.loadExample(t, control)).GetDecisionId()}
	f.wantRows(t, audit, ids)
	clickhouse.Cut()
	for range 20 {
		ids = append(ids, f.wantRefund(t, node, 500, true, "").GetDecisionId())
	}
	if _, err := f.sql(t.Context(), audit, "SELECT 1"); connect.CodeOf(err) != connect.CodeUnavailable {
		t.Errorf("a query without ClickHouse: %v", err)
	}
	testenv.Eventually(t, "what /readyz says", func() error {
		_, text := audit.get(t, "/readyz")
		return testenv.Contains(text, `"condition":"clickhouse","ok":false`)
	})
	clickhouse.Heal()
	f.wantRows(t, audit, ids)
}

func TestWithoutControl(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	control := f.start(t, "control", anyAddr)
	node := f.start(t, "decision", anyAddr, "VERDICT_CONTROL_URL="+control.url)
	f.wantRefund(t, node, 500, true, f.loadExample(t, control))
	f.staleSoon(t, control)
	f.wantStale(t, node, false)
	control.kill()
	f.wantStale(t, node, true)
	if _, err := f.refund(deadline(t, 200*time.Millisecond), node, 500, "1000000"); err == nil {
		t.Error("an answer from before the revision that was asked for")
	}
	control = f.start(t, "control", control.url)
	f.wantStale(t, node, false)
	f.wantRefund(t, node, 2000, true, f.permit(t, control, "more", 5000))
}

func TestWithoutAudit(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	control := f.start(t, "control", anyAddr)
	node := f.start(t, "decision", anyAddr, "VERDICT_CONTROL_URL="+control.url)
	ids := []string{f.wantRefund(t, node, 500, true, f.loadExample(t, control)).GetDecisionId()}
	audit := f.start(t, "audit", anyAddr)
	f.wantRows(t, audit, ids)
	audit.kill()
	for range 20 {
		ids = append(ids, f.wantRefund(t, node, 500, true, "").GetDecisionId())
	}
	audit = f.start(t, "audit", anyAddr)
	f.wantRows(t, audit, ids)
}

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

func deadline(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}
