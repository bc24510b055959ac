package relay

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"

	eventv1 "github.com/verdict-io/verdict/proto/gen/verdict/event/v1"
	"github.com/verdict-io/verdict/services/control/internal/eventlog"
	"github.com/verdict-io/verdict/services/internal/stream"
	"github.com/verdict-io/verdict/services/internal/testenv"
	"github.com/verdict-io/verdict/services/policy"
)

const account = "000000000000"

// bench is a log, a NATS, and as many relays as a test wants.
type bench struct {
	testenv.Database
	nats   *testenv.NATS
	conn   *nats.Conn
	js     jetstream.JetStream
	signer *stream.Signer
	keys   stream.Keyring
	log    *eventlog.Log
	made   int
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := newEmptyBench(t)
	b.log = b.openLog(t)
	return b
}

// newEmptyBench leaves the log to the test.
func newEmptyBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{nats: testenv.NewNATS(t)}
	b.Database = testenv.NewDatabase(t, func(ctx context.Context, owner string) error {
		_, err := eventlog.Migrate(ctx, owner, "", nil)
		return err
	})
	b.signer, b.keys = testenv.NewKeys(t)
	b.conn = b.nats.Connect(t)
	var err error
	if b.js, err = jetstream.New(b.conn); err != nil {
		t.Fatal(err)
	}
	return b
}

// openLog is one more replica's log, begun.
func (b *bench) openLog(t *testing.T) *eventlog.Log {
	t.Helper()
	l := b.openRegion(t, "us-east-1")
	if err := l.Begin(t.Context()); err != nil && !errors.Is(err, eventlog.ErrRefused) {
		t.Fatal(err)
	}
	return l
}

func (b *bench) openRegion(t *testing.T, region string) *eventlog.Log {
	t.Helper()
	l, err := eventlog.Open(t.Context(), eventlog.Config{
		PostgresURL: b.URL, Signer: b.signer, Keys: b.keys, Logger: testenv.Logger(t),
		Policy: policy.Config{Region: region, Limits: policy.DefaultLimits()},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	return l
}

func (b *bench) relay(t *testing.T, keep uint64) *Relay {
	t.Helper()
	return b.relayOf(t, b.log, keep)
}

func (b *bench) relayOf(t *testing.T, l *eventlog.Log, keep uint64) *Relay {
	t.Helper()
	r, err := New(Config{
		Log: l, Conn: b.nats.Connect(t), Keys: b.keys, Signer: b.signer, Keep: keep, Poll: 20 * time.Millisecond,
		Logger: testenv.Logger(t), Registerer: prometheus.NewRegistry(),
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// start runs a relay until the test ends or stop is called.
func start(t *testing.T, r *Relay) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = r.Run(ctx) }()
	stop = func() { cancel(); <-done }
	t.Cleanup(stop)
	return stop
}

// append makes n engines: two events each.
func (b *bench) append(t *testing.T, n int) {
	t.Helper()
	appendTo(t, b.log, "engine", n, &b.made)
}

func appendTo(t *testing.T, l *eventlog.Log, prefix string, n int, made *int) {
	t.Helper()
	for range n {
		*made++
		name := fmt.Sprintf("%s%d", prefix, *made)
		results, err := l.Append(t.Context(), eventlog.Request{
			Account: account, Cause: policy.Cause{RequestID: "r"},
			Command: policy.CreateEngine{ID: policy.NewID(policy.KindEngine, name, "0123456789"), Name: name},
		})
		if err != nil || results[0].Err != nil {
			t.Fatal(err, results)
		}
	}
}

// copied is nil when the stream holds the log's events from a position to the head, each under its number, and no other.
func (b *bench) copied(t *testing.T, from uint64) error {
	t.Helper()
	return copied(t.Context(), b.js, b.log, from)
}

func copied(ctx context.Context, js jetstream.JetStream, l *eventlog.Log, from uint64) error {
	s, err := js.Stream(ctx, stream.PolicyStream)
	if err != nil {
		return err
	}
	head, err := l.Head(ctx)
	if err != nil {
		return err
	}
	if state := s.CachedInfo().State; state.FirstSeq != from || state.LastSeq != head.Position {
		return fmt.Errorf("the stream holds %d to %d, want %d to %d", state.FirstSeq, state.LastSeq, from, head.Position)
	}
	for row, err := range l.Read(ctx, from-1) {
		if err != nil {
			return err
		}
		msg, err := s.GetMsg(ctx, row.Position)
		if err != nil {
			return fmt.Errorf("message %d: %w", row.Position, err)
		}
		want, err := proto.Marshal(row.Event)
		if err != nil {
			return err
		}
		if string(msg.Data) != string(want) || msg.Subject != subjectOf(row) {
			return fmt.Errorf("message %d is not the event of that position", row.Position)
		}
	}
	return nil
}

// subjectOf is spelled out here, since others rely on it.
func subjectOf(row eventlog.Row) string {
	return "verdict.policy." + row.Account + "." + strings.ReplaceAll(row.Stream, "/", ".")
}

// Promise 2: position p is message p, also with two relays, neither of which knows of the other.
func TestRelay(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	start(t, b.relay(t, 0))
	second := b.openLog(t)
	start(t, b.relayOf(t, second, 0))
	live, err := b.conn.SubscribeSync(stream.LiveAll)
	if err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, "the first event", func() error { return b.copied(t, 1) })
	b.append(t, 30)
	testenv.Eventually(t, "the copy", func() error { return b.copied(t, 1) })
	want := uint64(2)
	for want <= 61 {
		msg, err := live.NextMsg(5 * time.Second)
		if err != nil {
			t.Fatal(err)
		}
		var event eventv1.PolicyEvent
		if err := proto.Unmarshal(msg.Data, &event); err != nil {
			t.Fatal(err)
		}
		r, err := stream.Open(&event, b.keys)
		if err != nil {
			t.Fatal(err)
		}
		if r.Position == 1 {
			continue
		}
		if msg.Header.Get(nats.MsgIdHdr) != "" { // an acknowledgement could mean that it was there once, and is no longer
			t.Fatalf("position %d has a message id", r.Position)
		}
		if r.Position != want || msg.Header.Get("Nats-Sequence") != fmt.Sprint(want) {
			t.Fatalf("republished: position %d as sequence %s, want %d", r.Position, msg.Header.Get("Nats-Sequence"), want)
		}
		want++
	}
}

// Two relays without a lease between them publish the same log at the same time: the expected sequence keeps them in step.
func TestTwoRelaysAtOnce(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.append(t, 100)
	relays := []*Relay{b.relay(t, 0), b.relayOf(t, b.openLog(t), 0)}
	if _, err := relays[0].create(t.Context()); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, len(relays))
	for _, r := range relays {
		go func() {
			for {
				last, err := r.look(t.Context())
				if err == nil && last == 201 {
					done <- nil
					return
				}
				if err == nil {
					_, err = r.publish(t.Context(), last) // an error says that the other was faster: look again
				}
				if errors.Is(err, ErrStopped) || errors.Is(err, errMissing) {
					done <- err
					return
				}
			}
		}()
	}
	for range relays {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if err := b.copied(t, 1); err != nil {
		t.Error(err)
	}
}

// A crash between publish and whatever follows: the next relay looks, and goes on where the stream ends.
func TestCrashAfterPublish(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	r := b.relay(t, 0)
	if _, err := r.create(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.append(t, 3)
	if last, err := r.publish(t.Context(), 0); err != nil || last != 7 {
		t.Fatal(last, err)
	}
	b.append(t, 2)
	// Half of the next command is published, and then the process is gone.
	for row, err := range b.log.Read(t.Context(), 7) {
		if err != nil {
			t.Fatal(err)
		}
		p, err := r.send(row)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := settle(t.Context(), 7, []pending{p}); err != nil {
			t.Fatal(err)
		}
		break
	}
	start(t, b.relay(t, 0))
	testenv.Eventually(t, "the copy", func() error { return b.copied(t, 1) })
}

// Promise 2: whatever becomes of the stream, in the end it holds the log's tail again.
func TestRepair(t *testing.T) {
	t.Parallel()
	const all = 41 // positions at the time of the fault
	tests := map[string]struct {
		fault func(t *testing.T, b *bench)
		from  uint64 // the first position afterwards
	}{
		"deleted": {func(t *testing.T, b *bench) { b.deleteStream(t) }, all - 10 + 1},
		"recreated lower by a stranger, with junk": {func(t *testing.T, b *bench) {
			b.recreate(t, func(c *jetstream.StreamConfig) {})
			b.junk(t, 5)
		}, all - 10 + 1},
		"recreated lower by a stranger, empty": {func(t *testing.T, b *bench) {
			b.recreate(t, func(c *jetstream.StreamConfig) {})
		}, all - 10 + 1},
		"recreated higher by a stranger, with junk": {func(t *testing.T, b *bench) {
			b.recreate(t, func(c *jetstream.StreamConfig) { c.FirstSeq = 500 })
			b.junk(t, 3)
		}, all - 10 + 1},
		"recreated by a stranger with genuine events": {func(t *testing.T, b *bench) {
			b.recreate(t, func(c *jetstream.StreamConfig) {})
			b.replayGenuine(t, 5)
		}, all - 10 + 1},
		"purged": {func(t *testing.T, b *bench) {
			b.recreate(t, func(c *jetstream.StreamConfig) {
				*c = stream.PolicyStreamConfig(b.log.Known().LogID, 1, 1, 1<<30)
				c.DenyPurge = false
			})
			b.replayGenuine(t, all)
			s, err := b.js.Stream(t.Context(), stream.PolicyStream)
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Purge(t.Context()); err != nil {
				t.Fatal(err)
			}
		}, all - 10 + 1},
		"a forged message at the end": {func(t *testing.T, b *bench) { b.forge(t) }, all - 10 + 1},
		"a genuine event under another number": {func(t *testing.T, b *bench) {
			b.recreate(t, func(c *jetstream.StreamConfig) { *c = stream.PolicyStreamConfig(b.log.Known().LogID, 1, 1, 1<<30) })
			b.publish(t, 3, "verdict.policy.-.log."+b.log.Known().LogID) // as message 1, on the subject of event 1
		}, all - 10 + 1},
		"a genuine event on another subject": {func(t *testing.T, b *bench) {
			b.recreate(t, func(c *jetstream.StreamConfig) { *c = stream.PolicyStreamConfig(b.log.Known().LogID, 1, 1, 1<<30) })
			b.publish(t, 1, "verdict.policy.junk")
		}, all - 10 + 1},
		"made anew, and then a crash": {func(t *testing.T, b *bench) {
			b.recreate(t, func(c *jetstream.StreamConfig) { *c = stream.PolicyStreamConfig(b.log.Known().LogID, 21, 1, 1<<30) })
		}, 21},
		"its last message is gone": {func(t *testing.T, b *bench) {
			b.recreate(t, func(c *jetstream.StreamConfig) {
				*c = stream.PolicyStreamConfig(b.log.Known().LogID, 1, 1, 1<<30)
				c.DenyDelete = false
			})
			b.replayGenuine(t, 5)
			s, err := b.js.Stream(t.Context(), stream.PolicyStream)
			if err != nil {
				t.Fatal(err)
			}
			if err := s.DeleteMsg(t.Context(), 5); err != nil {
				t.Fatal(err)
			}
		}, all - 10 + 1},
		"an older copy of the store": {func(t *testing.T, b *bench) {
			b.recreate(t, func(c *jetstream.StreamConfig) { *c = stream.PolicyStreamConfig(b.log.Known().LogID, 1, 1, 1<<30) })
			b.replayGenuine(t, 21)
		}, 1},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			b.append(t, 20)
			stop := start(t, b.relay(t, 10_000))
			testenv.Eventually(t, "the copy before", func() error { return b.copied(t, 1) })
			stop()
			test.fault(t, b)
			start(t, b.relay(t, 10))
			testenv.Eventually(t, "the copy after", func() error { return b.copied(t, test.from) })
			b.append(t, 5)
			testenv.Eventually(t, "what came later", func() error { return b.copied(t, test.from) })
		})
	}
}

// Promise 2: the server may bring back the messages of a stream that was deleted a moment ago, and say nothing of it.
func TestOldMessagesComeBack(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	r := b.relay(t, 0)
	haunted := &hauntedServer{JetStream: r.js, times: 2}
	r.js = haunted
	if _, err := r.create(t.Context()); err != nil || haunted.times != 0 {
		t.Fatalf("the stream was made with %d ghosts to come: %v", haunted.times, err)
	}
	s, err := b.js.Stream(t.Context(), stream.PolicyStream)
	if err != nil || s.CachedInfo().State.Msgs != 0 {
		t.Errorf("the new stream is not empty: %v", err)
	}
}

// hauntedServer makes streams that have a message already, for some times.
type hauntedServer struct {
	jetstream.JetStream
	times int
}

func (h *hauntedServer) CreateStream(ctx context.Context, cfg jetstream.StreamConfig) (jetstream.Stream, error) {
	s, err := h.JetStream.CreateStream(ctx, cfg)
	if err == nil && h.times > 0 {
		h.times--
		_, err = h.Publish(ctx, "verdict.policy.ghost", []byte("ghost"))
	}
	return s, err
}

// The same while the relay runs: it notices by itself.
func TestRepairWhileRunning(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	r := b.relay(t, 10)
	start(t, r)
	testenv.Eventually(t, "the first event", func() error { return b.copied(t, 1) })
	b.append(t, 20)
	testenv.Eventually(t, "the copy", func() error { return b.copied(t, 1) })
	for _, fault := range []func(*testing.T, *bench){
		func(t *testing.T, b *bench) { b.deleteStream(t) },
		func(t *testing.T, b *bench) { b.forge(t) },
	} {
		fault(t, b)
		testenv.Eventually(t, "the repair", func() error { return b.copied(t, 32) })
	}
	b.nats.Stop()
	testenv.Eventually(t, "NATS away", func() error {
		if r.Status() == nil {
			return errors.New("the relay has not noticed")
		}
		return nil
	})
	b.append(t, 5) // writes go on
	b.nats.Start(t)
	testenv.Eventually(t, "NATS back", func() error { return b.copied(t, 32) })
}

func (b *bench) deleteStream(t *testing.T) {
	t.Helper()
	if err := b.js.DeleteStream(t.Context(), stream.PolicyStream); err != nil {
		t.Fatal(err)
	}
}

// recreate makes the stream as somebody else would.
func (b *bench) recreate(t *testing.T, change func(*jetstream.StreamConfig)) {
	t.Helper()
	config := jetstream.StreamConfig{Name: stream.PolicyStream, Subjects: []string{stream.PolicyAll}, Storage: jetstream.FileStorage}
	change(&config)
	testenv.Eventually(t, "an empty stream", func() error {
		// The server may bring back the old messages; see create.
		if err := b.js.DeleteStream(t.Context(), stream.PolicyStream); err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
			return err
		}
		s, err := b.js.CreateStream(t.Context(), config)
		if err != nil {
			return err
		}
		info, err := s.Info(t.Context())
		if err == nil && info.State.Msgs != 0 {
			err = fmt.Errorf("%v", info.State) //nolint:err113 // a test's
		}
		return err
	})
}

func (b *bench) junk(t *testing.T, n int) {
	t.Helper()
	for range n {
		if _, err := b.js.Publish(t.Context(), "verdict.policy.junk", []byte("junk")); err != nil {
			t.Fatal(err)
		}
	}
}

// publish publishes the event of a position as the next message.
func (b *bench) publish(t *testing.T, position uint64, subject string) {
	t.Helper()
	event, err := b.log.Row(t.Context(), position)
	if err != nil {
		t.Fatal(err)
	}
	data, err := proto.Marshal(event.Event)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.js.Publish(t.Context(), subject, data); err != nil {
		t.Fatal(err)
	}
}

func (b *bench) replayGenuine(t *testing.T, n int) {
	t.Helper()
	r := b.relay(t, 0)
	for row, err := range b.log.Read(t.Context(), 0) {
		if err != nil {
			t.Fatal(err)
		}
		if row.Position > uint64(n) {
			return
		}
		p, err := r.send(row)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := settle(t.Context(), row.Position-1, []pending{p}); err != nil {
			t.Fatal(err)
		}
	}
}

// forge publishes what would be the next event, signed by somebody else.
func (b *bench) forge(t *testing.T) {
	t.Helper()
	s, err := b.log.State(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	forger, _ := testenv.NewKeys(t)
	next := s.Next(account, policy.EngineCreated{ID: "evil-0123456789", Name: "evil"}, 0)
	next.Commits = true
	event, err := stream.Seal(next, forger)
	if err != nil {
		t.Fatal(err)
	}
	data, err := proto.Marshal(event)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.js.Publish(t.Context(), stream.Subject(account, next.Event.Ref().Stream()), data); err != nil {
		t.Fatal(err)
	}
}

// Promise 3: the log went back. The relay stops, leaves the stream as it is, and the log takes no writes, with a reason.
func TestLogWentBack(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		then func(t *testing.T, b *bench, l *eventlog.Log)
		says string
	}{
		"shorter":                               {func(*testing.T, *bench, *eventlog.Log) {}, "the log ends at position 21, and the stream has position 41"},
		"went on, shorter":                      {func(t *testing.T, b *bench, l *eventlog.Log) { appendTo(t, l, "other", 2, &b.made) }, "the log ends at position 25"},
		"went on, longer":                       {func(t *testing.T, b *bench, l *eventlog.Log) { appendTo(t, l, "other", 30, &b.made) }, "is not what was published"},
		"and junk stands on what was published": {func(t *testing.T, b *bench, _ *eventlog.Log) { b.junk(t, 3) }, "the log ends at position 21, and the stream has position"},
		"and the stream lost its messages": {func(t *testing.T, b *bench, _ *eventlog.Log) {
			b.recreate(t, func(c *jetstream.StreamConfig) { *c = stream.PolicyStreamConfig(b.log.Known().LogID, 42, 1, 1<<30) })
		}, "now empty, once had position 41"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			b.append(t, 20)
			stop := start(t, b.relay(t, 0))
			testenv.Eventually(t, "the copy", func() error { return b.copied(t, 1) })
			stop()
			b.cutLog(t, 21)
			l := b.openLog(t) // control is restarted on the restored database
			test.then(t, b, l)
			r := b.relayOf(t, l, 0)
			if err := r.Look(t.Context()); !errors.Is(err, ErrStopped) || !strings.Contains(err.Error(), test.says) {
				t.Errorf("the first look: %v, want it to say %q", err, test.says)
			}
			start(t, r)
			_, err := l.Append(t.Context(), eventlog.Request{Account: account, Command: policy.CreateEngine{ID: "x-0123456789", Name: "x"}})
			if !errors.Is(err, eventlog.ErrRefused) || !strings.Contains(err.Error(), test.says) {
				t.Errorf("a write: %v, want it to be refused and to say %q", err, test.says)
			}
			if _, err := l.State(t.Context()); err != nil {
				t.Errorf("a read: %v", err)
			}
			s, err := b.js.Stream(t.Context(), stream.PolicyStream)
			if err != nil || s.CachedInfo().State.LastSeq < 41 {
				t.Errorf("the stream was touched: %v", err)
			}
		})
	}
}

// cutLog removes what comes after a position, as a restore from an older copy does.
func (b *bench) cutLog(t *testing.T, last uint64) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), b.OwnerURL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	for _, s := range []string{"SET session_replication_role = replica", fmt.Sprintf("DELETE FROM verdict.events WHERE position > %d", last)} {
		if _, err := conn.Exec(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
}

// Two deployments on one NATS are a mistake of an operator: the second stops, whatever keys it has, and the first's stream,
// which may be the only copy of its log's tail, stays.
func TestAnotherLog(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	start(t, b.relay(t, 0))
	testenv.Eventually(t, "the copy", func() error { return b.copied(t, 1) })
	for name, fault := range map[string]func(){
		"with events": func() {},
		"emptied": func() {
			b.recreate(t, func(c *jetstream.StreamConfig) { *c = stream.PolicyStreamConfig(b.log.Known().LogID, 2, 1, 1<<30) })
		},
	} {
		fault()
		for _, sameKeys := range []bool{true, false} {
			other := newBench(t)
			cfg := Config{Log: other.log, Conn: b.conn, Keys: other.keys, Signer: other.signer, Logger: testenv.Logger(t), Registerer: prometheus.NewRegistry()}
			if sameKeys {
				cfg.Keys, cfg.Signer = b.keys, b.signer
			}
			r, err := New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			if err := r.Look(t.Context()); !errors.Is(err, ErrStopped) || !strings.Contains(err.Error(), "one of the two addresses is wrong") {
				t.Errorf("%s, the same keys %v: the look: %v", name, sameKeys, err)
			}
		}
	}
}

// A replica that is behind in keys does not know who signed the last event. The log has it, so it is ours.
func TestKeyRotation(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	stop := start(t, b.relay(t, 0))
	b.append(t, 3)
	testenv.Eventually(t, "the copy", func() error { return b.copied(t, 1) })
	stop()
	r := b.relay(t, 0)
	_, r.cfg.Keys = testenv.NewKeys(t)
	if last, err := r.look(t.Context()); err != nil || last != 7 {
		t.Errorf("with other keys the stream ends at %d, %v", last, err)
	}
}

// A replica that is behind in version cannot fold the newest event. It transports it all the same, and takes it for ours.
func TestLaterVersion(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.append(t, 3)
	b.insertUnknown(t)
	if _, err := b.log.State(t.Context()); !errors.Is(err, stream.ErrUnknownType) {
		t.Fatalf("the fold: %v", err)
	}
	r := b.relay(t, 0)
	start(t, r)
	testenv.Eventually(t, "the copy", func() error { return b.copied(t, 1) })
	testenv.Eventually(t, "the relay's status", r.Status)
	if last, err := b.relay(t, 0).look(t.Context()); err != nil || last != 8 {
		t.Errorf("the stream ends at %d, %v", last, err)
	}
}

// insertUnknown appends, past the log, what a later version would: an event of a type that this one does not know.
func (b *bench) insertUnknown(t *testing.T) {
	t.Helper()
	s := b.log.Known()
	next := s.Next(account, policy.AccountSettingsChanged{Account: account}, 0)
	next.Commits = true
	sealed, err := stream.Seal(next, b.signer)
	if err != nil {
		t.Fatal(err)
	}
	var body eventv1.EventBody
	if err := proto.Unmarshal(sealed.GetBody(), &body); err != nil {
		t.Fatal(err)
	}
	body.Type = "account.renamed"
	data, err := proto.Marshal(&body)
	if err != nil {
		t.Fatal(err)
	}
	hash := stream.HashBody(data)
	conn, err := pgx.Connect(t.Context(), b.OwnerURL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	_, err = conn.Exec(t.Context(), `INSERT INTO verdict.events (position, commits, account, account_position, stream, stream_version, body, hash, key_id, signature)
		VALUES ($1, true, $2, $3, $4, 1, $5, $6, $7, $8)`,
		body.GetPosition(), account, body.GetAccountPosition(), body.GetStream(), data, hash[:], b.signer.KeyID(), b.signer.SignEvent(hash))
	if err != nil {
		t.Fatal(err)
	}
}

// What an operator sets of a stream that is there takes effect; what the servers refuse is said, and the copy goes on.
func TestAdjust(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	stop := start(t, b.relay(t, 0))
	testenv.Eventually(t, "the copy", func() error { return b.copied(t, 1) })
	stop()
	r := b.relay(t, 0)
	r.cfg.MaxBytes = 1 << 28
	stop = start(t, r)
	testenv.Eventually(t, "the new size", func() error {
		s, err := b.js.Stream(t.Context(), stream.PolicyStream)
		if err == nil && s.CachedInfo().Config.MaxBytes != 1<<28 {
			err = fmt.Errorf("%d bytes", s.CachedInfo().Config.MaxBytes)
		}
		return err
	})
	stop()
	r = b.relay(t, 0)
	r.cfg.Replicas = 3 // of one server
	start(t, r)
	b.append(t, 3)
	testenv.Eventually(t, "the copy all the same", func() error { return b.copied(t, 1) })
	testenv.Eventually(t, "the status", func() error {
		if err := r.Status(); err == nil || !strings.Contains(err.Error(), "3 replicas") {
			return fmt.Errorf("status: %w", err)
		}
		return nil
	})
	if err := b.log.Refusal(); err != nil {
		t.Errorf("writes are refused: %v", err)
	}
}
