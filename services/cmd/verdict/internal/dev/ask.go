package dev

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/verdict-io/verdict/services/cmd/verdict/internal/query"
)

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
