package dev

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/structpb"

	decisionv1 "github.com/verdict-io/verdict/proto/gen/verdict/decision/v1"
	"github.com/verdict-io/verdict/proto/gen/verdict/decision/v1/decisionv1connect"
	"github.com/verdict-io/verdict/services/cmd/verdict/internal/query"
)

// ask puts a refund before the policies.
func (e *example) ask(ctx context.Context, decisionURL string, amount int) (*decisionv1.AuthorizeResponse, error) {
	arguments, err := structpb.NewStruct(map[string]any{"input": map[string]any{"orderId": "12345", "amount": amount}})
	if err != nil {
		return nil, err
	}
	client := decisionv1connect.NewDecisionServiceClient(http.DefaultClient, decisionURL)
	return client.Authorize(ctx, &decisionv1.AuthorizeRequest{
		Principal: &decisionv1.Principal{Type: "AgentCore::OAuthUser", Id: "u-1", Tags: map[string]string{"role": "refund-agent"}},
		Action:    &decisionv1.Entity{Type: "AgentCore::Action", Id: action},
		Resource:  &decisionv1.Entity{Type: "AgentCore::Gateway", Id: e.gateway.GetGatewayArn()},
		Context:   arguments, AtLeastRevision: e.revision,
	})
}

// printDecision is one line for one decision.
func printDecision(w io.Writer, amount int, d *decisionv1.AuthorizeResponse) {
	fmt.Fprintf(w, "refund of %4d: %-5s %s\n", amount, strings.TrimPrefix(d.GetDecision().String(), "DECISION_"), d.GetReason())
}

// rowsSQL finds the decisions of the example in the audit table.
func rowsSQL(ids ...string) string {
	return "SELECT recorded_at, decision, JSONExtractInt(context_json, 'input', 'amount') AS amount, reason\n" +
		"FROM decisions WHERE decision_id IN ('" + strings.Join(ids, "', '") + "') ORDER BY recorded_at"
}

// errNoRows: the decisions are on their way.
var errNoRows = errors.New("the audit table does not have them yet")

// awaitRows asks until the table has n rows.
func awaitRows(ctx context.Context, auditURL, sql string, n int) (*query.Table, error) {
	for {
		found, err := query.All(ctx, http.DefaultClient, auditURL, sql)
		if err != nil {
			return nil, err
		}
		if len(found.Rows) >= n {
			return found, nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", errNoRows, context.Cause(ctx))
		case <-time.After(100 * time.Millisecond):
		}
	}
}
