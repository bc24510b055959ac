package store

import (
	"context"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

// BeginInsert is an INSERT of which the server has only heard that it comes.
func BeginInsert(ctx context.Context, s *Store, b *Block) (driver.Batch, error) {
	return s.begin(ctx, b, "decisions", names(columns))
}

// FinishInsert sends the rows.
func FinishInsert(batch driver.Batch, b *Block) error {
	if err := appendRows(batch, b); err != nil {
		return err
	}
	return batch.Send()
}
