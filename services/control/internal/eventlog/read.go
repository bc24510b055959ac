package eventlog

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/jackc/pgx/v5"

	eventv1 "github.com/verdict-io/verdict/proto/gen/verdict/event/v1"
	"github.com/verdict-io/verdict/services/internal/stream"
	"github.com/verdict-io/verdict/services/policy"
)

// pageSize is how many events are read at once. Each is at most stream.MaxEvent; most are below a kilobyte.
const pageSize = 500

// Row is an event as it is stored: the event, and the columns that repeat what it says.
type Row struct {
	Position        uint64
	Commits         bool
	Account         string
	AccountPosition uint64
	Stream          string
	StreamVersion   uint64
	ClientToken     *string
	Event           *eventv1.PolicyEvent
}

const columns = "position, commits, account, account_position, stream, stream_version, client_token, body, hash, key_id, signature"

func scanRow(row pgx.CollectableRow) (Row, error) {
	r := Row{Event: &eventv1.PolicyEvent{}}
	err := row.Scan(&r.Position, &r.Commits, &r.Account, &r.AccountPosition, &r.Stream, &r.StreamVersion, &r.ClientToken,
		&r.Event.Body, &r.Event.Hash, &r.Event.KeyId, &r.Event.Signature)
	return r, err
}

type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// readPage is the events after a position, at most pageSize of them. A command may be cut.
func readPage(ctx context.Context, q querier, after uint64) ([]Row, error) {
	rows, err := q.Query(ctx, "SELECT "+columns+" FROM verdict.events WHERE position > $1 ORDER BY position LIMIT $2", after, pageSize)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, scanRow)
}

// Read yields the events after a position in order, up to the head as it is when the reading gets there. An error is the
// last pair. Nothing is checked but what the database itself guarantees.
func (l *Log) Read(ctx context.Context, after uint64) iter.Seq2[Row, error] {
	return func(yield func(Row, error) bool) {
		for {
			page, err := l.page(ctx, after)
			if err != nil {
				yield(Row{}, err)
				return
			}
			for _, r := range page {
				if !yield(r, nil) {
					return
				}
				after = r.Position
			}
			if len(page) < pageSize {
				return
			}
		}
	}
}

// page is readPage for callers without a deadline.
func (l *Log) page(ctx context.Context, after uint64) ([]Row, error) {
	bounded, cancel := context.WithTimeout(ctx, ioTimeout)
	defer cancel()
	rows, err := readPage(bounded, l.pool, after)
	return rows, unavailable(ctx, err)
}

// Row is the event at a position, which is not beyond the head; one that is not there any more is ErrWentBack.
func (l *Log) Row(ctx context.Context, position uint64) (Row, error) {
	rows, err := l.pool.Query(ctx, "SELECT "+columns+" FROM verdict.events WHERE position = $1", position)
	if err != nil {
		return Row{}, unavailable(ctx, err)
	}
	found, err := pgx.CollectRows(rows, scanRow)
	if err != nil {
		return Row{}, unavailable(ctx, err)
	}
	if len(found) == 0 {
		return Row{}, fmt.Errorf("%w: position %d is gone", ErrWentBack, position)
	}
	return found[0], nil
}

// fold applies rows, which follow s, to s. The hashes chain every event to the one before, so that the signature of the last
// one vouches for all of them.
func (l *Log) fold(s *policy.State, rows []Row) (*policy.State, error) {
	for i, row := range rows {
		var r policy.Recorded
		var err error
		if i == len(rows)-1 {
			r, err = stream.Open(row.Event, l.cfg.Keys)
		} else {
			r, err = stream.Decode(row.Event)
		}
		if err == nil {
			s, err = s.Apply(r)
		}
		if errors.Is(err, stream.ErrUnknownType) {
			return nil, fmt.Errorf("position %d: %w", row.Position, err)
		}
		if err != nil {
			return nil, fmt.Errorf("%w at position %d: %w (`verdict fsck` tells more)", ErrCorrupt, row.Position, err)
		}
	}
	if s.Position > 0 && s.Region != l.cfg.Policy.Region {
		return nil, fmt.Errorf("the log was begun for region %q, and this control is set to %q", s.Region, l.cfg.Policy.Region)
	}
	return s, nil
}
