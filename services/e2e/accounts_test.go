package e2e

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"connectrpc.com/connect"

	auditv1 "github.com/verdict-io/verdict/proto/gen/verdict/audit/v1"
	controlv1 "github.com/verdict-io/verdict/proto/gen/verdict/control/v1"
	"github.com/verdict-io/verdict/services/internal/testenv"
)

const otherAccount = "111111111111"

// tenant is what one account sees of a site.
type tenant struct {
	*fleet
	control, audit, node *service
}

// tenant starts the services whose callers act for an account, on what all accounts share.
func (f *fleet) tenant(t *testing.T, account string) *tenant {
	t.Helper()
	as := []string{
		"VERDICT_CONTROL_LOOPBACK_ACCOUNT=" + account, "VERDICT_AUDIT_LOOPBACK_ACCOUNT=" + account, "VERDICT_DECISION_LOOPBACK_ACCOUNT=" + account,
		"VERDICT_AUDIT_ACCOUNTS=000000000000," + otherAccount, "VERDICT_NODE=node-" + account, "VERDICT_DECISION_DIR=" + t.TempDir(),
	}
	own := *f
	out := &tenant{fleet: &own, control: f.start(t, "control", anyAddr, as...), audit: f.start(t, "audit", anyAddr, as...)}
	out.node = f.start(t, "decision", anyAddr, append(as, "VERDICT_CONTROL_URL="+out.control.url)...)
	return out
}

// What belongs to another account is not found, by whichever service and whatever question.
func TestAccountsDoNotMeet(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	first, second := f.tenant(t, "000000000000"), f.tenant(t, otherAccount)
	revision := first.loadExample(t, first.control)
	ids := []string{
		first.wantRefund(t, first.node, 500, true, revision).GetDecisionId(), first.wantRefund(t, first.node, 2000, false, revision).GetDecisionId(),
	}
	first.wantRows(t, first.audit, ids)
	second.wantNothingOf(t, first, revision)

	// Of the same names, made by the other account, each has his own.
	newer := second.loadExample(t, second.control)
	if first.gateway == second.gateway || first.engine == second.engine {
		t.Errorf("both accounts have %s and %s", first.gateway, first.engine)
	}
	own := []string{second.wantRefund(t, second.node, 999, true, newer).GetDecisionId()}
	second.wantRows(t, second.audit, own)
	first.wantRows(t, first.audit, ids)
	second.wantNothingOf(t, first, newer)
	first.wantNothingOf(t, second, newer)
	second.wantNoDecision(t, ids)
	first.wantNoDecision(t, own)
	second.wantSQLConfined(t, first, own)
}

// wantNothingOf wants that control and node know nothing of what the other has.
func (x *tenant) wantNothingOf(t *testing.T, other *tenant, revision string) {
	t.Helper()
	_, err := x.control.controlClient().GetPolicyEngine(t.Context(), &controlv1.GetPolicyEngineRequest{PolicyEngineId: other.engine})
	if connect.CodeOf(err) != connect.CodeNotFound {
		t.Errorf("the engine of another account: %v", err)
	}
	_, err = x.control.controlClient().DeletePolicyEngine(t.Context(), &controlv1.DeletePolicyEngineRequest{PolicyEngineId: other.engine})
	if connect.CodeOf(err) != connect.CodeNotFound {
		t.Errorf("deleting the engine of another account: %v", err)
	}
	engines, err := x.control.controlClient().ListPolicyEngines(t.Context(), &controlv1.ListPolicyEnginesRequest{})
	must(t, err)
	for _, e := range engines.GetPolicyEngines() {
		if e.GetPolicyEngineId() == other.engine {
			t.Error("a list has the engine of another account")
		}
	}
	foreign := x.refundRequest(500, revision)
	foreign.Resource.Id = other.gateway
	if got, err := x.node.decisionClient().Authorize(t.Context(), foreign); connect.CodeOf(err) != connect.CodeNotFound {
		t.Errorf("at the gateway of another account: %v, %v", got, err)
	}
	foreign.Resource.Type, foreign.Resource.Id, foreign.PolicyEngineId = "Thing", "x", other.engine
	if got, err := x.node.decisionClient().Authorize(t.Context(), foreign); connect.CodeOf(err) != connect.CodeNotFound {
		t.Errorf("with the engine of another account: %v, %v", got, err)
	}
}

func (x *tenant) wantNoDecision(t *testing.T, ids []string) {
	t.Helper()
	for _, id := range ids {
		got, err := x.audit.auditClient().GetDecision(t.Context(), &auditv1.GetDecisionRequest{DecisionId: id})
		if connect.CodeOf(err) != connect.CodeNotFound {
			t.Errorf("a decision of another account: %v, %v", got, err)
		}
	}
}

// wantSQLConfined wants SQL to see the account's own rows, and to do nothing but read them.
func (x *tenant) wantSQLConfined(t *testing.T, other *tenant, own []string) {
	t.Helper()
	var fetched atomic.Int32
	page := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { fetched.Add(1) }))
	t.Cleanup(page.Close)
	database := x.clickhouse.Database
	for _, sql := range []string{
		"INSERT INTO decisions (account) VALUES ('" + otherAccount + "')", "INSERT INTO FUNCTION url('" + page.URL + "', CSV, 'a String') SELECT 'x'",
		"ALTER TABLE decisions DELETE WHERE 1", "DELETE FROM decisions WHERE 1", "UPDATE decisions SET decision = 'ALLOW' WHERE 1",
		"TRUNCATE TABLE decisions", "DROP TABLE decisions", "DROP DATABASE " + database, "OPTIMIZE TABLE decisions FINAL", "DETACH TABLE decisions",
		"RENAME TABLE decisions TO d", "CREATE TABLE x (a UInt8) ENGINE = Memory", "CREATE TEMPORARY TABLE x (a UInt8)", "CREATE VIEW v AS SELECT count() FROM decisions",
		"CREATE FUNCTION f AS (x) -> x", "CREATE USER u", "GRANT ALL ON *.* TO account_" + otherAccount, "SET readonly = 0", "SYSTEM SHUTDOWN", "KILL QUERY WHERE 1",
		"BACKUP TABLE decisions TO Disk('default', 'b')", "ATTACH TABLE x", "USE system", "SELECT 1; SELECT 2", "SELECT 1; DROP TABLE decisions",
		"SELECT 1 SETTINGS readonly = 0", "SELECT count() FROM (SELECT 1 SETTINGS max_execution_time = 0)", "SELECT count() FROM decisions INTO OUTFILE '/tmp/x'",
		"SELECT count() FROM file('/etc/passwd', LineAsString)", "SELECT file('/etc/passwd')", "SELECT `file`('/etc/passwd')", "SELECT FILE /**/ ('/etc/passwd')",
		"SELECT count() FROM url('" + page.URL + "', LineAsString)", "SELECT count() FROM s3('" + page.URL + "/b/k', CSV, 'a String')", "DESCRIBE TABLE url('" + page.URL + "', CSV)",
		"SELECT count() FROM remote('127.0.0.1', " + database + ", decisions)", "SELECT count() FROM remote('" + strings.TrimPrefix(page.URL, "http://") + "', " + database + ", decisions)",
		"SELECT count() FROM clusterAllReplicas('default', " + database + ", decisions)", "SELECT count() FROM executable('id', CSV, 'a String')",
		"SELECT count() FROM mysql('127.0.0.1:1', 'd', 't', 'u', 'p')", "SELECT count() FROM postgresql('127.0.0.1:1', 'd', 't', 'u', 'p')",
		"SELECT count() FROM mergeTreeIndex(" + database + ", decisions)", "SELECT count() FROM mergeTreeProjection(" + database + ", decisions, x)",
		"SELECT count() FROM rejects", "SELECT count() FROM ingest_progress", "SELECT count() FROM " + database + ".goose_db_version",
		"SELECT count() FROM system.processes", "SELECT count() FROM system.query_log", "SELECT count() FROM system.parts", "SELECT count() FROM system.users", "SELECT count() FROM system.grants",
		"SELECT count() FROM system.row_policies", "SELECT count() FROM system.disks", "SHOW TABLES", "SHOW GRANTS", "SHOW CREATE TABLE decisions", "EXPLAIN ESTIMATE SELECT count() FROM decisions",
	} {
		rows, err := x.sql(t.Context(), x.audit, sql)
		if code := connect.CodeOf(err); err == nil || code != connect.CodePermissionDenied && code != connect.CodeInvalidArgument {
			t.Errorf("%s: %v, %v", sql, rows, err)
		}
	}
	if n := fetched.Load(); n > 0 {
		t.Errorf("SQL fetched a page %d times", n)
	}
	for _, c := range []struct{ sql, want string }{
		{"SELECT count() FROM decisions WHERE account != '" + otherAccount + "'", "[[0]]"},
		{"SELECT count(), min(account), max(account) FROM decisions", fmt.Sprintf("[[%d %s %s]]", len(own), otherAccount, otherAccount)},
		{"SELECT count() FROM merge('" + database + "', '^decisions$')", fmt.Sprintf("[[%d]]", len(own))},
		{"SELECT sum(total_rows), sum(total_bytes) FROM system.tables WHERE database = '" + database + "'", "[[<nil> <nil>]]"},
		{"SELECT count() FROM system.databases", "[[0]]"},
		{"SELECT getSetting('readonly')", "[[1]]"},
		{"SELECT name FROM system.tables", "[]"},
	} {
		rows, err := x.sql(t.Context(), x.audit, c.sql)
		if got := fmt.Sprint(rows); err != nil || got != c.want {
			t.Errorf("%s: %s, %v; want %s", c.sql, got, err, c.want)
		}
	}
	x.wantRows(t, x.audit, own)
	all, err := other.sql(t.Context(), other.audit, "SELECT DISTINCT account FROM decisions")
	if err != nil || fmt.Sprint(all) != "[[000000000000]]" {
		t.Errorf("afterwards the other account sees %v, %v", all, err)
	}
}

// One change of a policy reaches all nodes: those that are asked for its revision have it, with NATS and without, and are never
// behind it.
func TestOneChangeReachesAllNodes(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	control := f.start(t, "control", anyAddr)
	var nodes []*service
	for i := range 3 {
		nodes = append(nodes, f.start(t, "decision", anyAddr, "VERDICT_CONTROL_URL="+control.url,
			fmt.Sprintf("VERDICT_NODE=node-%d", i), "VERDICT_DECISION_DIR="+t.TempDir()))
	}
	f.wantOnAll(t, nodes, 500, true, f.loadExample(t, control))
	f.wantOnAll(t, nodes, 1500, true, f.permit(t, control, "more", 2000))
	policies, err := control.controlClient().ListPolicies(t.Context(), &controlv1.ListPoliciesRequest{PolicyEngineId: f.engine})
	must(t, err)
	i := slices.IndexFunc(policies.GetPolicies(), func(p *controlv1.Policy) bool { return p.GetName() == "more" })
	deleted, err := control.controlClient().DeletePolicy(t.Context(), &controlv1.DeletePolicyRequest{
		PolicyEngineId: f.engine, PolicyId: policies.GetPolicies()[i].GetPolicyId(),
	})
	must(t, err)
	f.wantOnAll(t, nodes, 1500, false, deleted.GetRevision())
	f.nats.Stop()
	f.wantOnAll(t, nodes, 3000, true, f.permit(t, control, "most", 5000))
	f.nats.Start(t)
	f.wantOnAll(t, nodes, 7000, true, f.permit(t, control, "all", 10000))
	newest := f.permit(t, control, "again", 20000) // and nobody asks for its revision
	for i, node := range nodes {
		testenv.Eventually(t, fmt.Sprintf("node %d", i), func() error {
			if got, err := f.refund(t.Context(), node, 15000, ""); err != nil || got.GetRevision() != newest {
				return fmt.Errorf("%v, %w; want revision %s", got, err, newest)
			}
			return nil
		})
		f.wantRefund(t, node, 15000, true, "")
	}
}

// wantOnAll asks all nodes at once.
func (f *fleet) wantOnAll(t *testing.T, nodes []*service, amount float64, allowed bool, revision string) {
	t.Helper()
	answers := make(chan error, len(nodes))
	for i, node := range nodes {
		go func() {
			got, err := f.refund(t.Context(), node, amount, revision)
			if err == nil && (got.GetProceed() != allowed || len(got.GetRevision()) < len(revision) || len(got.GetRevision()) == len(revision) && got.GetRevision() < revision) {
				err = fmt.Errorf("node %d at revision %s, a refund of %v: %v", i, revision, amount, got)
			}
			answers <- err
		}()
	}
	for range nodes {
		if err := <-answers; err != nil {
			t.Error(err)
		}
	}
}
