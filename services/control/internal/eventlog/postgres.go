package eventlog

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// keepAlive has the server notice within about ten seconds that this process has gone without a word: a lock that a connection
// holds lasts as long as the server believes in the connection. On this side it helps a connection that is idle; what waits
// for an answer has a deadline.
func keepAlive(c *pgx.ConnConfig) {
	c.RuntimeParams["tcp_keepalives_idle"] = "5"
	c.RuntimeParams["tcp_keepalives_interval"] = "2"
	c.RuntimeParams["tcp_keepalives_count"] = "3"
	c.RuntimeParams["tcp_user_timeout"] = "10000"
	dialer := &net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: 2 * time.Second, Count: 3}}
	c.DialFunc = dialer.DialContext
}

// checkRole refuses a role that could rewrite the log: then append-only would be a habit, not a rule.
func (l *Log) checkRole(ctx context.Context) error {
	var user string
	var mighty bool
	err := l.pool.QueryRow(ctx, `SELECT current_user, (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)
		OR pg_has_role((SELECT relowner FROM pg_class WHERE oid = 'verdict.events'::regclass), 'MEMBER')
		OR has_table_privilege('verdict.events', 'UPDATE, DELETE, TRUNCATE')`).Scan(&user, &mighty)
	if err != nil {
		return err
	}
	if mighty {
		return fmt.Errorf("control is connected as %q, which can rewrite the log: connect as %s, which `verdict migrate` makes", user, Role)
	}
	return nil
}

// unavailable is ErrUnavailable for a failure to reach the database, and the end of ctx when it is that. A time-out within the
// driver looks like the end of a context, and is not.
func unavailable(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}

// pgCode is the SQLSTATE of an error of the server, "" of any other.
func pgCode(err error) string {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pg.Code
	}
	return ""
}

// codeTransactionTimeout is Postgres's transaction_timeout, which also ends the connection.
const codeTransactionTimeout = "25P04"

// connectionLost reports whether it was the connection that failed, and not the statement.
func connectionLost(err error) bool {
	switch code := pgCode(err); code {
	case "57P01", "57P02": // the server is going down, or an administrator ended the connection
		return true
	case "":
		return errors.Is(err, ErrUnavailable) && !errors.Is(err, errCommit)
	default:
		return strings.HasPrefix(code, "08")
	}
}
