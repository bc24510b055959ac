package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	decisionv1 "github.com/verdict-io/verdict/proto/gen/verdict/decision/v1"
	"github.com/verdict-io/verdict/services/internal/stream"
)

// ErrNotFound: the account has no such decision, or none yet.
var ErrNotFound = errors.New("no such decision")

// Decision is one decision of an account, as the node recorded it.
func (s *Store) Decision(ctx context.Context, account string, id stream.DecisionID) (*decisionv1.DecisionRecord, error) {
	var r row
	into := make([]any, len(columns))
	for i, c := range columns {
		into[i] = c.at(&r)
	}
	err := s.conn.QueryRow(ctx, "SELECT "+names(columns)+" FROM "+s.table("decisions")+
		" WHERE account = $1 AND decision_id = $2 AND kind = '"+kindDecision+"' LIMIT 1", account, id.String()).Scan(into...)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, fmt.Errorf("%w: %s", ErrNotFound, id)
	}
	if err != nil {
		return nil, fmt.Errorf("decision %s: %w", id, unavailable(err))
	}
	rec, err := r.record()
	if err != nil {
		return nil, fmt.Errorf("decision %s in the table: %w", id, err)
	}
	return rec, nil
}
