package e2e

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"connectrpc.com/connect"

	controlv1 "github.com/verdict-io/verdict/proto/gen/verdict/control/v1"
	eventv1 "github.com/verdict-io/verdict/proto/gen/verdict/event/v1"
	"github.com/verdict-io/verdict/services/internal/testenv"
)

// These are the rows of the README's table of what works while something is away. Each ends with it back, and everything as if it
// had never been away.

var errNotYet = errors.New("not yet")

// staleSoon lets nodes say after half a second that they cannot prove their state fresh.
func (f *fleet) staleSoon(t testing.TB, control *service) {
	t.Helper()
	bound := uint64(500)
	_, err := control.controlClient().UpdateAccountSettings(t.Context(), &controlv1.UpdateAccountSettingsRequest{
		Settings: &eventv1.Settings{StalenessBoundMs: &bound},
	})
	must(t, err)
}

// wantStale waits until a node's answers are flagged, or no longer, and are right all the while.
func (f *fleet) wantStale(t testing.TB, node *service, stale bool) (ids []string) {
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

func deadline(t testing.TB, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}
