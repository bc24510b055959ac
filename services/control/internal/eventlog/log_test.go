package eventlog

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	eventv1 "github.com/verdict-io/verdict/proto/gen/verdict/event/v1"
	"github.com/verdict-io/verdict/services/internal/stream"
	"github.com/verdict-io/verdict/services/internal/testenv"
	"github.com/verdict-io/verdict/services/policy"
)

const account = "000000000000"

var testPolicy = policy.Config{Region: "us-east-1", Limits: policy.DefaultLimits()}

type bench struct {
	testenv.Database
	signer *stream.Signer
	keys   stream.Keyring
}

func migrate(ctx context.Context, ownerURL string) error {
	_, err := Migrate(ctx, ownerURL, "", nil)
	return err
}

func newBench(t testing.TB) *bench {
	t.Helper()
	signer, keys := testenv.NewKeys(t)
	return &bench{Database: testenv.NewDatabase(t, migrate), signer: signer, keys: keys}
}

// open opens the log as one more replica.
func (b *bench) open(t testing.TB) *Log {
	t.Helper()
	return b.openWith(t, b.config(t))
}

func (b *bench) openWith(t testing.TB, cfg Config) *Log {
	t.Helper()
	l, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	if err := l.Begin(t.Context()); err != nil {
		t.Fatal(err)
	}
	return l
}

func (b *bench) config(t testing.TB) Config {
	return Config{PostgresURL: b.URL, Signer: b.signer, Keys: b.keys, Policy: testPolicy, Logger: testenv.Logger(t)}
}

// owner is a connection that may do everything, as an attacker with the owner's rights may.
func (b *bench) owner(t testing.TB) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), b.OwnerURL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func createEngine(name string) Request {
	suffix := fmt.Sprintf("%010x", uint64(time.Now().UnixNano())&0xffffffffff)
	return Request{Account: account, Cause: cause(""), Command: policy.CreateEngine{ID: policy.NewID(policy.KindEngine, name, suffix), Name: name}}
}

func cause(token string) policy.Cause {
	return policy.Cause{
		Actor:     policy.Actor{Account: account, ID: "tester", Method: "loopback", SourceAddress: "127.0.0.1"},
		RequestID: "req-1", ClientToken: token,
	}
}

// mustAppend fails the test unless every request is carried out.
func mustAppend(t testing.TB, l *Log, requests ...Request) []Result {
	t.Helper()
	results, err := l.Append(t.Context(), requests...)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range results {
		if r.Err != nil {
			t.Fatal(r.Err)
		}
	}
	return results
}

func TestAppend(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	l := b.open(t)
	if got := l.Known(); got.Position != 1 || got.LogID == "" {
		t.Fatalf("a new log is at position %d with id %q, want 1 and an id", got.Position, got.LogID)
	}
	first := mustAppend(t, l, createEngine("one"))[0]
	if first.Revision != 3 || len(first.Events) != 2 || first.Events[0].Commits || !first.Events[1].Commits {
		t.Errorf("creating an engine gave %+v, want two events of which the second commits, at 3", first)
	}
	results, err := l.Append(t.Context(), createEngine("two"), createEngine("one"), createEngine("bad name"), createEngine("three"))
	if err != nil {
		t.Fatal(err)
	}
	if !errors.Is(results[1].Err, policy.ErrExists) || !errors.Is(results[2].Err, policy.ErrInvalid) || results[0].Err != nil || results[3].Err != nil {
		t.Errorf("got errors %v, %v, %v, %v", results[0].Err, results[1].Err, results[2].Err, results[3].Err)
	}
	other := b.open(t)
	s, err := other.State(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if s.Position != 7 || s.Account(account).EngineCount() != 3 || s.Hash != l.Known().Hash {
		t.Errorf("another replica is at %d with %d engines, want 7 and 3", s.Position, s.Account(account).EngineCount())
	}
	if err := s.Verify(); err != nil {
		t.Error(err)
	}
}

// Promise 1: two processes append to one log without a gap or a skip, in commit order, and a name is taken once.
func TestAppendConcurrently(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	logs := []*Log{b.open(t), b.open(t)}
	const writers, each = 8, 12
	ctx, stop := context.WithCancel(t.Context())
	seen := watch(t, ctx, b.open(t))
	var taken sync.Map
	var group sync.WaitGroup
	for w := range writers {
		group.Go(func() {
			for i := range each {
				name := fmt.Sprintf("contested%d", i) // every writer wants every name
				results, err := logs[w%2].Append(ctx, createEngine(name), createEngine(fmt.Sprintf("own_%d_%d", w, i)))
				if err != nil {
					t.Error(err)
					return
				}
				if results[0].Err == nil {
					if _, twice := taken.LoadOrStore(name, w); twice {
						t.Errorf("%s was taken twice", name)
					}
				} else if !errors.Is(results[0].Err, policy.ErrExists) {
					t.Error(results[0].Err)
				}
				if results[1].Err != nil {
					t.Error(results[1].Err)
				}
			}
		})
	}
	group.Wait()
	want := uint64(1 + 2*(each+writers*each))
	s, err := logs[0].State(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if s.Position != want {
		t.Errorf("the log ends at %d, want %d", s.Position, want)
	}
	if err := s.Verify(); err != nil {
		t.Error(err)
	}
	stop()
	checkWatched(t, <-seen, want)
}

// watch reads positions as they become visible, as a follower would: everything after the last one it saw.
func watch(t *testing.T, ctx context.Context, l *Log) <-chan []uint64 {
	out := make(chan []uint64, 1)
	go func() {
		var positions []uint64
		last := uint64(0)
		for done := false; !done; {
			done = ctx.Err() != nil // one more round after the end
			for row, err := range l.Read(context.WithoutCancel(ctx), last) {
				if err != nil {
					t.Error(err)
					break
				}
				positions, last = append(positions, row.Position), row.Position
			}
		}
		out <- positions
	}()
	return out
}

func checkWatched(t *testing.T, positions []uint64, want uint64) {
	t.Helper()
	for i, p := range positions {
		if p != uint64(i+1) {
			t.Fatalf("after position %d a reader saw %d: commit order is not number order", i, p)
		}
	}
	if uint64(len(positions)) != want {
		t.Errorf("a reader saw %d positions, want %d", len(positions), want)
	}
}

func TestClientToken(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	l, other := b.open(t), b.open(t)
	token := strings.Repeat("a", 36)
	request := func(name string, hash byte) Request {
		r := createEngine(name)
		r.Cause = cause(token)
		r.Cause.RequestHash = policy.Hash{hash}
		return r
	}
	first := mustAppend(t, l, request("one", 1))[0]
	for _, replica := range []*Log{l, other} {
		again := mustAppend(t, replica, request("one", 1))[0]
		if !again.Replayed || again.Revision != first.Revision || again.Events[0].Event.Ref() != first.Events[0].Event.Ref() {
			t.Errorf("the same request again gave %+v, want the first answer", again)
		}
		results, err := replica.Append(t.Context(), request("two", 2))
		if err != nil || !errors.Is(results[0].Err, ErrTokenReused) {
			t.Errorf("the token with another request gave %v, %v", results, err)
		}
	}
	stranger := request("one", 1)
	stranger.Account = "111111111111"
	if got := mustAppend(t, l, stranger)[0]; got.Replayed {
		t.Error("a token of another account was found")
	}
	twice := request("three", 3)
	twice.Cause.ClientToken = strings.Repeat("b", 36)
	results := mustAppend(t, l, twice, twice)
	if results[0].Replayed || !results[1].Replayed || results[0].Revision != results[1].Revision {
		t.Error("the same request twice in one transaction was carried out twice")
	}
}

// Promise 1: an event that NATS would refuse is refused, and what else was asked for goes through.
func TestEventTooLarge(t *testing.T) {
	t.Parallel()
	l := newBench(t).open(t)
	gateway := policy.CreateGateway{ID: "gw-0123456789", Name: "gw", Definition: policy.GatewayDefinition{AuthorizerType: policy.AuthorizerNone}}
	mustAppend(t, l, Request{Account: account, Command: gateway})
	before := l.Known().Position
	target := func(id string, size int) Request {
		tool := policy.Tool{Name: "t", Description: strings.Repeat("x", size), InputSchema: &policy.Schema{Type: policy.SchemaObject}}
		lambda := &policy.LambdaTarget{ARN: "arn:aws:lambda:us-east-1:000000000000:function:f", Tools: policy.ToolSchema{Inline: []policy.Tool{tool}}}
		return Request{Account: account, Command: policy.CreateTarget{
			GatewayID: gateway.ID, ID: id, Name: id, Definition: policy.TargetDefinition{Configuration: policy.TargetConfiguration{Lambda: lambda}},
		}}
	}
	results, err := l.Append(t.Context(), target("aaaaaaaaaa", stream.MaxEvent), target("bbbbbbbbbb", stream.MaxEvent-1000))
	if err != nil {
		t.Fatal(err)
	}
	refused, ok := errors.AsType[*policy.Error](results[0].Err)
	if !ok || refused.Reason != "too_large" || results[1].Err != nil || l.Known().Position != before+2 {
		t.Errorf("got %v and %v, and the log moved from %d to %d", results[0].Err, results[1].Err, before, l.Known().Position)
	}
}

// Promise 1: the table refuses what would rewrite it, to the owner as well as to control.
func TestAppendOnly(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	l := b.open(t)
	mustAppend(t, l, createEngine("one"))
	owner := b.owner(t)
	for _, statement := range []string{
		"UPDATE verdict.events SET body = body", "UPDATE verdict.events SET body = body WHERE false",
		"DELETE FROM verdict.events", "DELETE FROM verdict.events WHERE position > 100", "TRUNCATE verdict.events",
	} {
		if _, err := owner.Exec(t.Context(), statement); err == nil || !strings.Contains(err.Error(), "append only") {
			t.Errorf("%s as owner: %v", statement, err)
		}
		if _, err := l.pool.Exec(t.Context(), statement); err == nil {
			t.Errorf("%s as control succeeded", statement)
		}
	}
	for _, statement := range []string{"DROP TABLE verdict.events", "ALTER TABLE verdict.events DISABLE TRIGGER ALL"} {
		if _, err := l.pool.Exec(t.Context(), statement); err == nil {
			t.Errorf("%s as control succeeded", statement)
		}
	}
	config := b.config(t)
	config.PostgresURL = b.OwnerURL
	if _, err := Open(t.Context(), config); err == nil || !strings.Contains(err.Error(), "can rewrite the log") {
		t.Errorf("opening as the owner: %v", err)
	}
}

// Promise 1: what somebody changed behind the triggers is found before it is believed.
func TestTampering(t *testing.T) {
	t.Parallel()
	const other = "overlay(body placing 'nobody'::bytea from position('tester'::bytea in body))" // nothing in it is impossible
	tests := map[string]string{
		"a body":                     "UPDATE verdict.events SET body = set_byte(body, 20, get_byte(body, 20) # 1) WHERE position = 4",
		"a hash":                     "UPDATE verdict.events SET hash = set_byte(hash, 0, get_byte(hash, 0) # 1) WHERE position = 4",
		"the last signature":         "UPDATE verdict.events SET signature = set_byte(signature, 0, get_byte(signature, 0) # 1) WHERE position = 7",
		"a command, removed":         "DELETE FROM verdict.events WHERE position IN (4, 5)",
		"a body, its hash fixed":     "UPDATE verdict.events SET body = set_byte(body, 20, get_byte(body, 20) # 1), hash = sha256('verdict-event/1\n'::bytea || set_byte(body, 20, get_byte(body, 20) # 1)) WHERE position = 4",
		"who did it, the hash fixed": "UPDATE verdict.events SET body = " + other + ", hash = sha256('verdict-event/1\n'::bytea || " + other + ") WHERE position = 4",
	}
	for name, statement := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			mustAppend(t, b.open(t), createEngine("one"), createEngine("two"), createEngine("three"))
			tamper(t, b, statement)
			if _, err := Open(t.Context(), b.config(t)); !errors.Is(err, ErrCorrupt) {
				t.Errorf("a new replica opened the log: %v", err)
			}
		})
	}
}

// tamper runs a statement as somebody who can switch the triggers off.
func tamper(t *testing.T, b *bench, statement string) {
	t.Helper()
	owner := b.owner(t)
	for _, s := range []string{"SET session_replication_role = replica", statement} {
		if _, err := owner.Exec(t.Context(), s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}

// Promise 3: a log that lost what this process has seen committed takes no more, and says so.
func TestLogWentBack(t *testing.T) {
	t.Parallel()
	tests := map[string]func(t *testing.T, b *bench){
		"shorter": func(*testing.T, *bench) {},
		"as long, but different": func(t *testing.T, b *bench) {
			mustAppend(t, b.open(t), createEngine("other"))
		},
		"longer and different": func(t *testing.T, b *bench) {
			mustAppend(t, b.open(t), createEngine("other"), createEngine("more"))
		},
	}
	for name, then := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			l := b.open(t)
			mustAppend(t, l, createEngine("one"))
			mustAppend(t, l, createEngine("two"))
			tamper(t, b, "DELETE FROM verdict.events WHERE position > 3")
			then(t, b)
			if _, err := l.Append(t.Context(), createEngine("three")); !errors.Is(err, ErrWentBack) {
				t.Errorf("append: %v", err)
			}
			if _, err := l.State(t.Context()); !errors.Is(err, ErrWentBack) {
				t.Errorf("state: %v", err)
			}
		})
	}
}

// Promise 1: a writer that hangs with the lock in its hands does not keep readers waiting, and is cut off.
func TestHungLockHolder(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	config := b.config(t)
	config.AppendTimeout = 500 * time.Millisecond
	config.Pool = 1
	l, err := Open(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	// A replica that hangs: it has the lock and never comes back. It has the same transaction_timeout.
	hung, err := Open(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(hung.Close)
	tx, err := hung.write.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), "SELECT pg_advisory_xact_lock($1)", int64(lockKey)); err != nil {
		t.Fatal(err)
	}
	var writers sync.WaitGroup
	for i := range 8 {
		writers.Go(func() { mustAppend(t, l, createEngine(fmt.Sprintf("waits%d", i))) })
	}
	for range 20 {
		read, cancel := context.WithTimeout(t.Context(), 400*time.Millisecond)
		if _, err := l.State(read); err != nil {
			t.Errorf("a read beside a hung writer: %v", err)
		}
		cancel()
	}
	writers.Wait() // they get the lock once the server has cut the holder off
	if err := tx.Commit(t.Context()); err == nil {
		t.Error("the transaction that hung was committed")
	}
}

// A holder that never lets go: the answer is an error, and nothing happened.
func TestLockNeverFree(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	l := b.open(t)
	owner := b.owner(t)
	if _, err := owner.Exec(t.Context(), "SELECT pg_advisory_lock($1)", int64(lockKey)); err != nil {
		t.Fatal(err)
	}
	// Only this append is to be over soon: connecting, and appending once the lock is free, take what a busy machine takes.
	patience := l.cfg.AppendTimeout
	l.cfg.AppendTimeout = 100 * time.Millisecond
	if _, err := l.Append(t.Context(), createEngine("one")); !errors.Is(err, ErrUnavailable) {
		t.Errorf("append: %v, want %v", err, ErrUnavailable)
	}
	l.cfg.AppendTimeout = patience
	if _, err := owner.Exec(t.Context(), "SELECT pg_advisory_unlock($1)", int64(lockKey)); err != nil {
		t.Fatal(err)
	}
	if got := mustAppend(t, l, createEngine("one"))[0].Revision; got != 3 {
		t.Errorf("the next append stands at %d, want 3", got)
	}
}

func TestRefuse(t *testing.T) {
	t.Parallel()
	l := newBench(t).open(t)
	l.Refuse(errors.New("the stream is ahead"))
	_, err := l.Append(t.Context(), createEngine("one"))
	if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "the stream is ahead") {
		t.Errorf("append: %v", err)
	}
	if _, err := l.State(t.Context()); err != nil {
		t.Errorf("a read while writes are refused: %v", err)
	}
	l.Refuse(nil)
	mustAppend(t, l, createEngine("one"))
}

// A caller that gives up before its turn leaves nothing behind.
func TestAppendGivenUp(t *testing.T) {
	t.Parallel()
	l := newBench(t).open(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	l.queue.turn <- struct{}{} // somebody else appends
	if _, err := l.Append(ctx, createEngine("one")); !errors.Is(err, context.Canceled) {
		t.Errorf("append: %v", err)
	}
	<-l.queue.turn
	if got := mustAppend(t, l, createEngine("one"))[0].Revision; got != 3 {
		t.Errorf("the next append stands at %d, want 3", got)
	}
}

// A connection that is lost during the commit: committed or not, the answer is right.
func TestCommitLost(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	l := b.open(t)
	done := mustAppend(t, l, createEngine("done"))[0]
	state := l.Known()
	committed := &transaction{log: l, state: done.After, rows: []Row{{Position: done.Revision, Event: eventAt(t, l, done.Revision)}}}
	if err := committed.settle(t.Context(), errors.New("connection reset")); err != nil {
		t.Errorf("a commit that happened: %v", err)
	}
	sealed, err := stream.Seal(state.Next(account, policy.AccountSettingsChanged{Account: account}, 0), b.signer)
	if err != nil {
		t.Fatal(err)
	}
	lost := &transaction{log: l, rows: []Row{{Position: state.Position + 1, Event: sealed}}}
	if err := lost.settle(t.Context(), errors.New("connection reset")); !errors.Is(err, ErrUnavailable) {
		t.Errorf("a commit that did not happen: %v", err)
	}
}

func eventAt(t *testing.T, l *Log, position uint64) *eventv1.PolicyEvent {
	t.Helper()
	row, err := l.Row(t.Context(), position)
	if err != nil {
		t.Fatal(err)
	}
	return row.Event
}

// A command that makes the decision panic is refused alone, and the log goes on.
func TestPanickingDecision(t *testing.T) {
	t.Parallel()
	l := newBench(t).open(t)
	l.cfg.Now = func() time.Time { panic("the clock broke") }
	results, err := l.Append(t.Context(), createEngine("one"))
	if err != nil || results[0].Err == nil || !strings.Contains(results[0].Err.Error(), "the clock broke") {
		t.Errorf("append: %v, %v", results, err)
	}
	l.cfg.Now = time.Now
	if got := mustAppend(t, l, createEngine("one"))[0].Revision; got != 3 {
		t.Errorf("the next append stands at %d, want 3", got)
	}
}

// Promise 1: control does not run as anybody who could rewrite the log, however he came by that.
func TestMightyRole(t *testing.T) {
	t.Parallel()
	for name, statement := range map[string]string{
		"the owner":    "ALTER TABLE verdict.events OWNER TO " + Role + "; REVOKE UPDATE, DELETE, TRUNCATE ON verdict.events FROM " + Role,
		"may update":   "GRANT UPDATE ON verdict.events TO " + Role,
		"may delete":   "GRANT DELETE ON verdict.events TO " + Role,
		"may truncate": "GRANT TRUNCATE ON verdict.events TO " + Role,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			if _, err := b.owner(t).Exec(t.Context(), statement); err != nil {
				t.Fatal(err)
			}
			if _, err := Open(t.Context(), b.config(t)); err == nil || !strings.Contains(err.Error(), "can rewrite the log") {
				t.Errorf("control started: %v", err)
			}
		})
	}
}
