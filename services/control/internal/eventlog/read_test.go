package eventlog

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/verdict-io/verdict/services/internal/stream"
	"github.com/verdict-io/verdict/services/internal/testenv"
	"github.com/verdict-io/verdict/services/policy"
)

// A page of the log may end in the middle of a command; a state never does.
func TestPageCutsCommand(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	l := b.open(t)
	// One event, and then two each: the first page after position 1 ends between the two of the last command.
	requests := []Request{setSettings(1)}
	for i := range pageSize / 2 {
		requests = append(requests, createEngine(fmt.Sprintf("e%d", i)))
	}
	mustAppend(t, b.open(t), requests...)
	if _, err := l.catchUp(t.Context(), pageSize+1); err != nil {
		t.Fatal(err)
	}
	if s := l.Known(); !s.Whole {
		t.Errorf("the state of position %d, in the middle of a command, was published", s.Position)
	}
	if s, err := l.State(t.Context()); err != nil || s.Position != pageSize+2 || !s.Whole {
		t.Errorf("the state is that of %d, %v, want %d", s.Position, err, pageSize+2)
	}
}

// Promise 3: the log goes back after somebody has read its head and before he has read what leads there.
func TestWentBackWhileReading(t *testing.T) {
	t.Parallel()
	l := newBench(t).open(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if _, err := l.catchUp(ctx, 7); !errors.Is(err, ErrWentBack) {
		t.Errorf("reading up to position 7 of 1: %v, want %v", err, ErrWentBack)
	}
}

// A Postgres that takes connections and says nothing is away, whatever deadline the caller has.
func TestPostgresSilent(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	u, err := url.Parse(b.URL)
	if err != nil {
		t.Fatal(err)
	}
	u.Host = silent.Addr().String()
	l := &Log{cfg: Config{PostgresURL: u.String(), AppendTimeout: 50 * time.Millisecond, Pool: 1}}
	if err := l.connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	if _, err := l.head(t.Context()); !errors.Is(err, ErrUnavailable) {
		t.Errorf("got %v, want %v", err, ErrUnavailable)
	}
}

// Promise 9: an event of a later version stops whoever meets it. It is neither skipped nor taken for a corrupt one.
func TestUnknownType(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	l := b.open(t)
	later := l.Known().Next(account, policy.Activated{Of: policy.Ref{Kind: "robot", ID: "r-1"}}, 0)
	later.Commits = true
	sealed, err := stream.Seal(later, b.signer)
	if err != nil {
		t.Fatal(err)
	}
	b.insert(t, Row{
		Position: later.Position, Commits: true, Account: account, AccountPosition: 1, Stream: "robot/r-1", StreamVersion: 1, Event: sealed,
	})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	_, stateErr := l.State(ctx)
	_, appendErr := l.Append(ctx, createEngine("one"))
	_, openErr := Open(ctx, b.config(t))
	_, walkErr := Walk(ctx, b.URL, nil, b.keys, func(Row) error { return nil })
	for what, err := range map[string]error{"a read": stateErr, "a write": appendErr, "a start": openErr, "fsck": walkErr} {
		if !errors.Is(err, stream.ErrUnknownType) || errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "position 2") {
			t.Errorf("%s: %v, want %v at position 2", what, err, stream.ErrUnknownType)
		}
	}
}

// insert puts a row into the log, past everything, and without a notification.
func (b *bench) insert(t *testing.T, r Row) {
	t.Helper()
	_, err := b.owner(t).Exec(t.Context(), "INSERT INTO verdict.events ("+columns+") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
		r.Position, r.Commits, r.Account, r.AccountPosition, r.Stream, r.StreamVersion, r.ClientToken,
		r.Event.GetBody(), r.Event.GetHash(), r.Event.GetKeyId(), r.Event.GetSignature())
	if err != nil {
		t.Fatal(err)
	}
}

// Promise 2: a notification only wakes. Without it the poll finds what is new.
func TestNotificationLost(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	l := b.open(t)
	go func() { _ = l.Run(t.Context()) }()
	for want := uint64(2); want <= 3; want++ { // the first may be found by the look at the start
		quiet := &transaction{log: l, state: l.Known()}
		if err := quiet.decideAll(t.Context(), nil, []Request{setSettings(int64(want))}); err != nil {
			t.Fatal(err)
		}
		b.insert(t, quiet.rows[0])
		testenv.Eventually(t, "the event", func() error {
			if at := l.Known().Position; at != want {
				return fmt.Errorf("the state is that of %d, want %d", at, want)
			}
			return nil
		})
	}
}
