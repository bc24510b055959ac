package eventlog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	eventv1 "github.com/verdict-io/verdict/proto/gen/verdict/event/v1"
	"github.com/verdict-io/verdict/services/internal/stream"
	"github.com/verdict-io/verdict/services/policy"
)

// lockKey is the advisory lock that is held from before a command is decided until its events are committed.
const lockKey = 0x76657264696374 // "verdict"

// transaction is one attempt to append.
type transaction struct {
	log     *Log
	state   *policy.State
	rows    []Row // to be inserted
	bytes   int   // of rows
	results []Result
}

func (t *transaction) run(ctx context.Context, requests []Request) error {
	l := t.log
	if err := l.Refusal(); err != nil {
		return err
	}
	conn, err := l.write.Acquire(ctx)
	if err != nil {
		return unavailable(ctx, err)
	}
	defer conn.Release()
	tx, err := conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.ReadCommitted})
	if err != nil {
		return unavailable(ctx, err)
	}
	defer tx.Rollback(context.WithoutCancel(ctx)) //nolint:errcheck // after a commit it does nothing; before, the end of the connection undoes it too
	if err := t.lock(ctx, tx); err != nil {
		return err
	}
	if err := t.decideAll(ctx, tx, requests); err != nil {
		return err
	}
	if len(t.rows) == 0 {
		return nil
	}
	if err := t.insert(ctx, tx); err != nil {
		return unavailable(ctx, err)
	}
	if err := tx.Commit(ctx); err != nil {
		return t.settle(ctx, err)
	}
	l.publish(t.state)
	return nil
}

// lock takes the lock, and then brings the state to the head. The lock is a statement of its own: a statement that takes it
// on the way works on a snapshot from before it had it.
func (t *transaction) lock(ctx context.Context, tx pgx.Tx) error {
	if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock($1)", int64(lockKey)); err != nil {
		return unavailable(ctx, err)
	}
	l := t.log
	known := l.state.Load()
	if known.Position > 0 {
		// The known head itself must still be there: otherwise this log is another one by now.
		var hash []byte
		err := tx.QueryRow(ctx, "SELECT hash FROM verdict.events WHERE position = $1", known.Position).Scan(&hash)
		if errors.Is(err, pgx.ErrNoRows) || (err == nil && policy.Hash(hash) != known.Hash) {
			return fmt.Errorf("%w: position %d, which was seen committed, is gone or another", ErrWentBack, known.Position)
		}
		if err != nil {
			return unavailable(ctx, err)
		}
	}
	for {
		page, err := readPage(ctx, tx, known.Position)
		if err != nil {
			return unavailable(ctx, err)
		}
		if known, err = l.fold(known, page); err != nil {
			return err
		}
		l.publish(known)
		if len(page) < pageSize {
			t.state = known
			return nil
		}
	}
}

// maxBytes is how much a transaction inserts before the requests that are left go into the next one, so that large events
// cannot make it run out of time for all.
const maxBytes = 8 << 20

// decideAll decides requests, each on the state that the one before left, until all are decided or the transaction is full.
func (t *transaction) decideAll(ctx context.Context, tx pgx.Tx, requests []Request) error {
	for _, r := range requests {
		if t.bytes > maxBytes {
			return nil // what is left gets a transaction of its own
		}
		result, err := t.replay(ctx, tx, r)
		if err != nil {
			return err
		}
		if result == nil {
			result = t.decide(ctx, r)
		}
		t.results = append(t.results, *result)
	}
	return nil
}

// decide carries one request out in memory. Whatever goes wrong, a panic too, is the result of this request alone: it shares
// the transaction with others.
func (t *transaction) decide(ctx context.Context, r Request) (result *Result) {
	defer func() {
		if v := recover(); v != nil {
			t.log.cfg.Logger.ErrorContext(ctx, "a decision panicked", slog.Any("panic", v), slog.String("stack", string(debug.Stack())))
			result = &Result{Err: fmt.Errorf("deciding %T: panic: %v", r.Command, v)}
		}
	}()
	now := t.log.cfg.Now().UnixMicro()
	by := policy.By{Actor: r.Cause.Actor, MayWeaken: r.MayWeaken, Now: max(now, t.state.RecordedAt)}
	events, err := policy.DecideFor(by, t.state, r.Account, r.Command, t.log.cfg.Policy)
	if err != nil {
		return &Result{Err: err}
	}
	result = &Result{Before: t.state}
	state, rows := t.state, []Row(nil)
	for i, event := range events {
		next := state.Next(r.Account, event, now)
		next.Commits, next.Cause = i == len(events)-1, r.Cause
		row, err := t.seal(&next)
		if err == nil {
			state, err = state.Apply(next)
		}
		if err != nil {
			return &Result{Err: err}
		}
		result.Events, rows = append(result.Events, next), append(rows, row)
	}
	t.state, t.rows = state, append(t.rows, rows...)
	for _, row := range rows {
		t.bytes += len(row.Event.GetBody())
	}
	result.After, result.Revision = state, state.Position
	return result
}

// seal gives r its id and hash, and makes the row of it.
func (t *transaction) seal(r *policy.Recorded) (Row, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return Row{}, err
	}
	r.EventID = id.String()
	sealed, err := stream.Seal(*r, t.log.cfg.Signer)
	if err != nil {
		return Row{}, err
	}
	r.Hash = policy.Hash(sealed.GetHash())
	return newRow(*r, sealed), nil
}

func newRow(r policy.Recorded, ev *eventv1.PolicyEvent) Row {
	row := Row{
		Position: r.Position, Commits: r.Commits, Account: r.Account, AccountPosition: r.AccountPosition,
		Stream: r.Event.Ref().Stream(), StreamVersion: r.StreamVersion, Event: ev,
	}
	if r.Commits && r.Cause.ClientToken != "" {
		row.ClientToken = &r.Cause.ClientToken
	}
	return row
}

// replay finds what a request with this client token did before; nil when it is new. Requests of this transaction count as
// before.
func (t *transaction) replay(ctx context.Context, tx pgx.Tx, r Request) (*Result, error) {
	if r.Cause.ClientToken == "" {
		return nil, nil
	}
	for _, earlier := range t.results {
		if n := len(earlier.Events); n > 0 && earlier.Events[0].Account == r.Account && earlier.Events[0].Cause.ClientToken == r.Cause.ClientToken {
			return replayed(earlier.Events, r), nil
		}
	}
	rows, err := tx.Query(ctx, `SELECT `+columns+` FROM verdict.events e, (
			SELECT position AS last, coalesce((SELECT max(b.position) FROM verdict.events b WHERE b.position < c.position AND b.commits), 0) AS before
			FROM verdict.events c WHERE c.account = $1 AND c.client_token = $2) command
		WHERE e.position > command.before AND e.position <= command.last ORDER BY e.position`, r.Account, r.Cause.ClientToken)
	if err != nil {
		return nil, unavailable(ctx, err)
	}
	found, err := pgx.CollectRows(rows, scanRow)
	if err != nil || len(found) == 0 {
		return nil, unavailable(ctx, err)
	}
	var events []policy.Recorded
	for _, row := range found {
		event, err := stream.Open(row.Event, t.log.cfg.Keys)
		if err != nil {
			return nil, fmt.Errorf("%w at position %d: %w", ErrCorrupt, row.Position, err)
		}
		events = append(events, event)
	}
	return replayed(events, r), nil
}

func replayed(events []policy.Recorded, r Request) *Result {
	if events[0].Cause.RequestHash != r.Cause.RequestHash {
		return &Result{Err: ErrTokenReused}
	}
	return &Result{Events: events, Revision: events[len(events)-1].Position, Replayed: true}
}

const insertRows = `INSERT INTO verdict.events (` + columns + `)
	SELECT * FROM unnest($1::bigint[], $2::boolean[], $3::text[], $4::bigint[], $5::text[], $6::bigint[], $7::text[],
		$8::bytea[], $9::bytea[], $10::text[], $11::bytea[])`

func (t *transaction) insert(ctx context.Context, tx pgx.Tx) error {
	var (
		positions, accountPositions, versions []uint64
		commits                               []bool
		accounts, streams, keys               []string
		tokens                                []*string
		bodies, hashes, signatures            [][]byte
	)
	for _, r := range t.rows {
		positions, commits, accounts = append(positions, r.Position), append(commits, r.Commits), append(accounts, r.Account)
		accountPositions, streams = append(accountPositions, r.AccountPosition), append(streams, r.Stream)
		versions, tokens = append(versions, r.StreamVersion), append(tokens, r.ClientToken)
		bodies, hashes = append(bodies, r.Event.GetBody()), append(hashes, r.Event.GetHash())
		keys, signatures = append(keys, r.Event.GetKeyId()), append(signatures, r.Event.GetSignature())
	}
	b := &pgx.Batch{}
	b.Queue(insertRows, positions, commits, accounts, accountPositions, streams, versions, tokens, bodies, hashes, keys, signatures)
	b.Queue("SELECT pg_notify($1, '')", channel)
	return tx.SendBatch(ctx, b).Close()
}

// settle finds out whether a transaction whose commit failed is in the log. It takes the lock, which the old transaction
// holds until it has ended one way or the other, and looks.
func (t *transaction) settle(ctx context.Context, cause error) error {
	if pgCode(cause) != "" && pgCode(cause) != codeTransactionTimeout && !connectionLost(cause) {
		return unavailable(ctx, cause) // the server itself said that it did not commit
	}
	// Each statement by itself: the lock is given away at once, and no transaction of ours can be left open with it.
	pool, last := t.log.pool, t.rows[len(t.rows)-1]
	_, err := pool.Exec(ctx, "SELECT pg_advisory_xact_lock($1)", int64(lockKey))
	there := false
	if err == nil {
		err = pool.QueryRow(ctx, "SELECT EXISTS (SELECT FROM verdict.events WHERE position = $1 AND hash = $2)", last.Position, last.Event.GetHash()).Scan(&there)
	}
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", ErrUnknown, errors.Join(cause, err))
	case there:
		t.log.publish(t.state)
		return nil
	}
	return fmt.Errorf("%w: %w: %w", ErrUnavailable, errCommit, cause)
}
