package eventlog

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// leaseKey is the advisory lock of whoever relays the log.
const leaseKey = lockKey + 1

// Lease is held by at most one process at a time, as long as its connection lives. It saves work, and is no fence: who has it
// and cannot do the work gives it away.
type Lease struct{ conn *pgx.Conn }

// TryLease takes the lease; nil when somebody else has it.
func (l *Log) TryLease(ctx context.Context) (*Lease, error) {
	conn, err := pgx.ConnectConfig(ctx, l.single())
	if err != nil {
		return nil, unavailable(ctx, err)
	}
	var ok bool
	if err := conn.QueryRow(ctx, "SELECT pg_try_advisory_lock($1)", int64(leaseKey)).Scan(&ok); err != nil || !ok {
		return nil, unavailable(ctx, closing(ctx, conn, err))
	}
	return &Lease{conn: conn}, nil
}

func closing(ctx context.Context, conn *pgx.Conn, err error) error {
	_ = conn.Close(context.WithoutCancel(ctx)) // err, if there is one, says more
	return err
}

// Held is nil while the lease is held.
func (l *Lease) Held(ctx context.Context) error { return unavailable(ctx, l.conn.Ping(ctx)) }

// Release gives the lease away.
func (l *Lease) Release(ctx context.Context) { _ = closing(ctx, l.conn, nil) }
