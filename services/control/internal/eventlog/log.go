// Package eventlog turns commands into events in Postgres: one log, append only, in which positions 1, 2, 3, … have no gap
// and commit order is number order, however many control replicas append.
//
// It guarantees that a command is decided on the state at the head (it holds a lock from before it looks until it has
// committed), that its events commit together or not at all, that each event is signed and carries the hash of the one
// before, and that a state it hands out was folded from a chain whose last signature holds.
package eventlog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/verdict-io/verdict/services/internal/stream"
	"github.com/verdict-io/verdict/services/internal/trust"
	"github.com/verdict-io/verdict/services/policy"
)

var (
	// ErrWentBack: the log lacks or contradicts what this process has seen committed: it was restored from an older copy.
	ErrWentBack = errors.New("the log went back")
	// ErrCorrupt: an event in the log is not what control wrote.
	ErrCorrupt = errors.New("the log is corrupt")
	// ErrRefused: writes are refused until an operator has decided (Refuse).
	ErrRefused = errors.New("writes are refused")
	// ErrUnavailable: Postgres did not answer in time. Nothing is committed.
	ErrUnavailable = errors.New("the log is not available")
	// ErrUnknown: Postgres went away during a commit, so nobody knows yet. Asking again with the same client token tells.
	ErrUnknown = errors.New("whether this was committed is not known")
)

// Config is what a Log needs.
type Config struct {
	PostgresURL string
	// Trust is for TLS with the database, as far as PostgresURL names no files of its own.
	Trust  *trust.Trust
	Signer *stream.Signer
	Keys   stream.Keyring // trusted to have signed what is in the log; the signer's own key among them
	Policy policy.Config
	// AppendTimeout bounds a transaction that appends, on the server's side too. Default 5 s.
	AppendTimeout time.Duration
	// Pool is how many connections readers share. Default 8.
	Pool   int32
	Logger *slog.Logger
	// Registerer gets the metrics; nil keeps them to itself.
	Registerer prometheus.Registerer
	// Now is the clock. Default time.Now.
	Now func() time.Time
}

// Log is the log. Its methods may be called from any number of goroutines.
type Log struct {
	cfg   Config
	pool  *pgxpool.Pool // readers
	write *pgxpool.Pool // one connection, so that writers that wait for the lock never take a reader's

	state   atomic.Pointer[policy.State] // the newest state known to be committed; never goes back
	mu      sync.Mutex                   // guards changed and the order of publications
	changed chan struct{}                // closed and replaced at every publication
	folding chan struct{}                // holds a token while somebody reads what is missing, so that it is read once

	queue   queue
	metrics metrics
	refusal atomic.Pointer[error]
}

// Open connects, checks that the database is migrated and that this role cannot rewrite the log, and folds the whole log. An
// empty log is begun by the first Append, or by Begin.
func Open(ctx context.Context, cfg Config) (*Log, error) {
	if cfg.AppendTimeout == 0 {
		cfg.AppendTimeout = 5 * time.Second
	}
	if cfg.Pool == 0 {
		cfg.Pool = 8
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	l := &Log{cfg: cfg, changed: make(chan struct{}), folding: make(chan struct{}, 1), queue: newQueue()}
	l.state.Store(policy.Empty())
	l.metrics = newMetrics(l, cfg.Registerer)
	if err := l.connect(ctx); err != nil {
		return nil, err
	}
	if err := l.start(ctx); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

func (l *Log) connect(ctx context.Context) error {
	read, err := pgxpool.ParseConfig(l.cfg.PostgresURL)
	if err == nil {
		err = checkPlain(read.ConnConfig, l.cfg.Trust)
	}
	if err != nil {
		return fmt.Errorf("postgres url: %w", err)
	}
	read.BeforeConnect = func(_ context.Context, c *pgx.ConnConfig) error {
		secure(c, l.cfg.Trust)
		return nil
	}
	read.MaxConns = l.cfg.Pool
	read.ConnConfig.ConnectTimeout = l.cfg.AppendTimeout
	read.ConnConfig.RuntimeParams["application_name"] = "verdict-control"
	read.ConnConfig.RuntimeParams["statement_timeout"] = "30s"
	keepAlive(read.ConnConfig)
	write := read.Copy()
	write.MaxConns = 1
	write.ConnConfig.RuntimeParams["transaction_timeout"] = fmt.Sprintf("%dms", l.cfg.AppendTimeout.Milliseconds())
	if l.pool, err = pgxpool.NewWithConfig(ctx, read); err != nil {
		return err
	}
	if l.write, err = pgxpool.NewWithConfig(ctx, write); err != nil {
		l.pool.Close()
	}
	return err
}

// start brings the state to the head for the first time.
func (l *Log) start(ctx context.Context) error {
	if err := l.Ping(ctx); err != nil {
		return err
	}
	if err := l.CheckMigrated(ctx); err != nil {
		return err
	}
	if err := l.checkRole(ctx); err != nil {
		return err
	}
	_, err := l.State(ctx)
	return err
}

// Begin begins the log when there is none; Append does it too.
func (l *Log) Begin(ctx context.Context) error {
	if l.Known().Position > 0 {
		return nil
	}
	id, err := uuid.NewRandom()
	if err != nil {
		return err
	}
	results, err := l.append(ctx, []Request{{
		Account: policy.LogAccount, Cause: internalCause(), Command: policy.CreateLog{ID: id.String(), Region: l.cfg.Policy.Region},
	}})
	if err != nil || errors.Is(results[0].Err, policy.ErrExists) { // another replica was faster
		return err
	}
	return results[0].Err
}

// internalCause is the cause of what the service does by itself.
func internalCause() policy.Cause {
	return policy.Cause{Actor: policy.Actor{Account: policy.LogAccount, ID: "verdict", Method: policy.MethodInternal}}
}

// Close closes the connections. Appends under way end with an error.
func (l *Log) Close() {
	for _, pool := range []*pgxpool.Pool{l.pool, l.write} {
		if pool != nil {
			pool.Close()
		}
	}
}

// Ping is nil when the database answers.
func (l *Log) Ping(ctx context.Context) error { return unavailable(ctx, l.pool.Ping(ctx)) }

// Refuse makes every write fail with ErrRefused and this reason; nil allows them again.
func (l *Log) Refuse(reason error) {
	if reason == nil {
		l.refusal.Store(nil)
		return
	}
	l.refusal.Store(&reason)
}

// Refusal is why writes are refused, nil when they are not.
func (l *Log) Refusal() error {
	if reason := l.refusal.Load(); reason != nil {
		return fmt.Errorf("%w: %w", ErrRefused, *reason)
	}
	return nil
}

// Known is the newest state that this process has seen, without asking the database.
func (l *Log) Known() *policy.State { return l.state.Load() }

// State is the state at the head of the log: not older than the call.
func (l *Log) State(ctx context.Context) (*policy.State, error) {
	known := l.state.Load()
	head, err := l.head(ctx)
	if err != nil {
		return nil, err
	}
	if err := head.includes(known); err != nil {
		return nil, err
	}
	if head.Position == known.Position {
		return known, nil
	}
	return l.catchUp(ctx, head.Position)
}

// Head is the last position of the log, read from the database for this call. It folds nothing.
func (l *Log) Head(ctx context.Context) (stream.Head, error) {
	known := l.state.Load()
	head, err := l.head(ctx)
	if err != nil {
		return stream.Head{}, err
	}
	if err := head.includes(known); err != nil {
		return stream.Head{}, err
	}
	if known.LogID == "" && head.Position > 0 { // another replica has begun the log
		if _, err := l.catchUp(ctx, 1); err != nil {
			return stream.Head{}, err
		}
	}
	return stream.Head{LogID: l.state.Load().LogID, Position: head.Position, Hash: head.hash}, nil
}

type headRow struct {
	Position uint64
	hash     policy.Hash
}

// includes refuses a head that cannot come after what was seen before it was read.
func (h headRow) includes(known *policy.State) error {
	switch {
	case h.Position < known.Position:
		return fmt.Errorf("%w: it ends at position %d, and position %d was seen", ErrWentBack, h.Position, known.Position)
	case h.Position == known.Position && h.hash != known.Hash:
		return fmt.Errorf("%w: position %d is not what it was", ErrWentBack, h.Position)
	}
	return nil
}

// head asks again when the connection turns out to have broken while it was idle, as after a restart of Postgres.
func (l *Log) head(ctx context.Context) (headRow, error) {
	for attempt := 0; ; attempt++ {
		var position uint64
		var hash []byte
		err := unavailable(ctx, l.pool.QueryRow(ctx, "SELECT position, hash FROM verdict.events ORDER BY position DESC LIMIT 1").Scan(&position, &hash))
		switch {
		case err == nil:
			return headRow{Position: position, hash: policy.Hash(hash)}, nil
		case errors.Is(err, pgx.ErrNoRows):
			return headRow{}, nil
		case attempt == 2 || ctx.Err() != nil || !connectionLost(err):
			return headRow{}, err
		}
	}
}

// catchUp folds what is missing up to at least the position upTo, which is committed.
func (l *Log) catchUp(ctx context.Context, upTo uint64) (*policy.State, error) {
	select {
	case l.folding <- struct{}{}:
		defer func() { <-l.folding }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	s := l.state.Load()
	if err := l.continues(ctx, s); err != nil {
		return nil, err
	}
	for s.Position < upTo {
		page, err := l.page(ctx, s.Position)
		if err != nil {
			return nil, err
		}
		if len(page) == 0 {
			return nil, fmt.Errorf("%w: position %d was seen, and is gone", ErrWentBack, upTo)
		}
		if s, err = l.fold(s, page); err != nil {
			return nil, err
		}
		l.publish(s)
	}
	return l.state.Load(), nil
}

// continues refuses a log in which the event of a known state is not what it was.
func (l *Log) continues(ctx context.Context, known *policy.State) error {
	if known.Position == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, ioTimeout)
	defer cancel()
	row, err := l.Row(ctx, known.Position)
	if err == nil && policy.Hash(row.Event.GetHash()) != known.Hash {
		err = fmt.Errorf("%w: position %d is not what it was", ErrWentBack, known.Position)
	}
	return err
}

// publish makes s the newest known state, unless a newer one is there, or s is in the middle of a command.
func (l *Log) publish(s *policy.State) {
	if !s.Whole {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if s.Position > l.state.Load().Position {
		l.state.Store(s)
		close(l.changed)
		l.changed = make(chan struct{})
	}
}

// Wait returns the newest known state once it is beyond position, or the error of ctx.
func (l *Log) Wait(ctx context.Context, position uint64) (*policy.State, error) {
	for {
		l.mu.Lock()
		s, changed := l.state.Load(), l.changed
		l.mu.Unlock()
		if s.Position > position {
			return s, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

const channel = "verdict_events"

// ioTimeout bounds what loops ask of the database.
const ioTimeout = 15 * time.Second

// pollInterval is how long a lost notification can delay a replica.
const pollInterval = time.Second

// Run keeps the known state near the head until ctx ends: it is woken by NOTIFY and looks every second anyway. A
// connection that breaks is made anew; Run returns only the error of ctx.
func (l *Log) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		if err := l.listen(ctx); err != nil && ctx.Err() == nil {
			l.cfg.Logger.WarnContext(ctx, "listening for events", slog.Any("error", err))
		}
		select {
		case <-ctx.Done():
		case <-time.After(pollInterval):
		}
	}
	return context.Cause(ctx)
}

// listen uses a connection of its own: a notification needs one that nobody else reads.
func (l *Log) listen(ctx context.Context) error {
	config := l.single()
	delete(config.RuntimeParams, "statement_timeout")
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	begin, cancel := context.WithTimeout(ctx, ioTimeout)
	defer cancel()
	if _, err := conn.Exec(begin, "LISTEN "+channel); err != nil {
		return err
	}
	for {
		if err := l.look(ctx); err != nil {
			return err
		}
		wait, cancel := context.WithTimeout(ctx, pollInterval)
		_, err := conn.WaitForNotification(wait)
		cancel()
		if err != nil && wait.Err() == nil {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
}

// look is State for the loop, which has no caller whose deadline would end a wait for a database that is silent.
func (l *Log) look(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, ioTimeout)
	defer cancel()
	_, err := l.State(ctx)
	return err
}
