package e2e

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"connectrpc.com/connect"

	auditv1 "github.com/verdict-io/verdict/proto/gen/verdict/audit/v1"
	decisionv1 "github.com/verdict-io/verdict/proto/gen/verdict/decision/v1"
	"github.com/verdict-io/verdict/services/internal/testenv"
)

// The whole path: a policy made through the API decides, and what was decided is in the table, once, with what it was about; an
// orderly end leaves nothing open.
func TestRefund(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.environ = append(f.environ, "VERDICT_PARTITIONS=3")
	control := f.start(t, "control", anyAddr)
	audit := f.start(t, "audit", anyAddr)
	node := f.start(t, "decision", anyAddr, "VERDICT_CONTROL_URL="+control.url)
	revision := f.loadExample(t, control)
	allowed := f.wantRefund(t, node, 500, true, revision)
	ctx, info := connect.NewClientContext(t.Context())
	info.RequestHeader().Set("Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	info.RequestHeader().Set("X-Request-Id", "the-callers-own")
	denied, err := f.refund(ctx, node, 2000, revision)
	must(t, err)
	f.wantRows(t, audit, []string{allowed.GetDecisionId(), denied.GetDecisionId()})

	rows, err := f.sql(t.Context(), audit, "SELECT decision, JSONExtractInt(context_json, 'input', 'amount'), principal_id FROM decisions ORDER BY seq")
	must(t, err)
	if got := fmt.Sprint(rows); got != "[[ALLOW 500 u-1] [DENY 2000 u-1]]" {
		t.Errorf("the table holds %s", got)
	}
	f.queryVerb(t, audit, denied.GetDecisionId())
	found, err := audit.auditClient().GetDecision(t.Context(), &auditv1.GetDecisionRequest{DecisionId: denied.GetDecisionId()})
	must(t, err)
	detail := found.GetRecord().GetDecision()
	if id, span := fmt.Sprintf("%x", detail.GetTraceId()), fmt.Sprintf("%x", detail.GetSpanId()); id != "0af7651916cd43dd8448eb211c80319c" ||
		span != "b7ad6b7169203331" || detail.GetRequestId() != "the-callers-own" {
		t.Errorf("joined with the caller's trace as %s, %s, %s", id, span, detail.GetRequestId())
	}
	if detail.GetDecision() != decisionv1.Decision_DECISION_DENY || detail.GetReason() != denied.GetReason() || detail.GetGatewayArn() != f.gateway {
		t.Errorf("GetDecision: %v", found)
	}
	_, err = audit.auditClient().GetDecision(t.Context(), &auditv1.GetDecisionRequest{DecisionId: strings.Repeat("a", 39)})
	if connect.CodeOf(err) != connect.CodeNotFound {
		t.Errorf("a decision that nobody made: %v", err)
	}

	if code := node.end(t); code != 0 {
		t.Errorf("the node exits %d: %s", code, node.log)
	}
	testenv.Eventually(t, "completeness", func() error {
		got, err := audit.auditClient().Completeness(t.Context(), &auditv1.CompletenessRequest{})
		if err != nil {
			return err
		}
		boots := got.GetBoots()
		if len(boots) != 1 || boots[0].GetStatus() != auditv1.CompletenessStatus_COMPLETENESS_STATUS_COMPLETE || boots[0].GetRecorded() != 4 {
			return fmt.Errorf("%v", boots)
		}
		return nil
	})
}

// queryVerb asks with the tool: as a table and as JSON, from a flag and from stdin, and with SQL that is refused.
func (f *fleet) queryVerb(t *testing.T, audit *service, denied string) {
	t.Helper()
	ask := func(stdin string, args ...string) (string, int) {
		cmd := exec.CommandContext(t.Context(), filepath.Join(bin, "verdict"), append([]string{"query"}, args...)...)
		cmd.Env, cmd.Stdin = slices.Concat(f.environ, []string{"VERDICT_QUERY_URL=" + audit.url}), strings.NewReader(stdin)
		out, _ := cmd.CombinedOutput()
		return string(out), cmd.ProcessState.ExitCode()
	}
	sql := "SELECT decision_id, decision, trace_id FROM decisions WHERE request_id = 'the-callers-own'"
	table := "decision_id" + strings.Repeat(" ", 30) + "decision  trace_id\n" + denied + "  DENY      0af7651916cd43dd8448eb211c80319c\n"
	object := `{"decision":"DENY","decision_id":"` + denied + `","trace_id":"0af7651916cd43dd8448eb211c80319c"}` + "\n"
	for _, c := range []struct {
		stdin string
		args  []string
		want  string
		code  int
	}{
		{"", []string{"--sql", sql}, table, 0},
		{sql, nil, table, 0},
		{sql, []string{"--format", "json"}, object, 0},
		{"DROP TABLE decisions", nil, "error: ", 1},
		{" ", nil, "error: query needs SQL", 2},
	} {
		if out, code := ask(c.stdin, c.args...); !strings.HasPrefix(out, c.want) || c.code == 0 && out != c.want || code != c.code {
			t.Errorf("verdict query %q < %q exits %d:\n%s", c.args, c.stdin, code, out)
		}
	}
}

// A node that was there before answers with control and NATS both down, at once and at its revision, however it ended; one that was
// not is not ready, and answers nothing.
func TestNodeStartsAlone(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	control := f.start(t, "control", anyAddr)
	f.start(t, "audit", anyAddr)
	node := f.start(t, "decision", anyAddr, "VERDICT_CONTROL_URL="+control.url)
	before := f.wantRefund(t, node, 500, true, f.loadExample(t, control))
	if code := node.end(t); code != 0 {
		t.Errorf("the node exits %d", code)
	}
	control.kill()
	f.nats.Stop()
	ids := map[string]bool{before.GetDecisionId(): true}
	for life := range 3 {
		if life > 0 {
			node.kill()
		}
		node = f.start(t, "decision", anyAddr, "VERDICT_CONTROL_URL="+control.url)
		must(t, node.ready(t))
		ids[f.wantRefund(t, node, 500, true, before.GetRevision()).GetDecisionId()] = true
		ids[f.wantRefund(t, node, 2000, false, before.GetRevision()).GetDecisionId()] = true
	}
	if len(ids) != 7 {
		t.Errorf("the boots gave out an id twice: %v", ids)
	}
	testenv.Eventually(t, "what /readyz says", func() error {
		_, text := node.get(t, "/readyz")
		return testenv.Contains(text, `"condition":"nats","ok":false`, `"condition":"snapshot","ok":true`)
	})
	fresh := t.TempDir()
	lost := f.start(t, "decision", anyAddr, "VERDICT_CONTROL_URL="+control.url, "VERDICT_DECISION_DIR="+fresh, "VERDICT_NODE=node-2")
	if err := lost.ready(t); err == nil {
		t.Error("a node that has never had a state is ready")
	}
	if _, err := f.refund(t.Context(), lost, 500, ""); connect.CodeOf(err) != connect.CodeUnavailable {
		t.Errorf("a node without state: %v", err)
	}
}
