//go:build faults

package relay

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/verdict-io/verdict/services/control/internal/eventlog"
	"github.com/verdict-io/verdict/services/internal/stream"
	"github.com/verdict-io/verdict/services/internal/testenv"
	"github.com/verdict-io/verdict/services/policy"
)

// Promise 2 on three servers: the leader of the stream is stopped three times under load, and nothing is lost, doubled or out
// of order.
func TestLeaderKilled(t *testing.T) {
	cluster := testenv.NewCluster(t, 3)
	b := newBench(t)
	conn := cluster.Connect(t)
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	r, err := New(Config{
		Log: b.log, Conn: cluster.Connect(t), Keys: b.keys, Signer: b.signer, Replicas: 3, Poll: 100 * time.Millisecond,
		Logger: testenv.Logger(t), Registerer: prometheus.NewRegistry(),
	})
	if err != nil {
		t.Fatal(err)
	}
	start(t, r)
	testenv.Eventually(t, "the first copy", func() error { return copied(t.Context(), js, b.log, 1) })
	load, stop := context.WithCancel(t.Context())
	done := make(chan int)
	go func() { done <- appendUntil(load, t, b.log) }()
	for range 3 {
		testenv.Within(t, time.Minute, "all three hold the stream", func() error { return cluster.Current(stream.PolicyStream) })
		var leader *testenv.NATS
		testenv.Within(t, time.Minute, "a leader", func() error {
			if leader = cluster.Leader(stream.PolicyStream); leader == nil {
				return errors.New("there is none")
			}
			return nil
		})
		leader.Stop()
		before := b.log.Known().Position
		testenv.Within(t, time.Minute, "the copy goes on without it", func() error { return reaches(t.Context(), js, before+200) })
		leader.Start(t)
	}
	stop()
	t.Logf("%d commands while the leader was stopped 3 times", <-done)
	testenv.Within(t, time.Minute, "the whole copy", func() error { return copied(t.Context(), js, b.log, 1) })
	if r.Status() != nil {
		t.Errorf("in the end the relay says %v", r.Status())
	}
}

// appendUntil makes engines and deletes them until ctx ends, and says how many.
func appendUntil(ctx context.Context, t *testing.T, l *eventlog.Log) (commands int) {
	pace := time.NewTicker(4 * time.Millisecond)
	defer pace.Stop()
	for ctx.Err() == nil {
		<-pace.C
		name := fmt.Sprintf("load%d", commands)
		id := policy.NewID(policy.KindEngine, name, "0123456789")
		results, err := l.Append(context.WithoutCancel(ctx),
			eventlog.Request{Account: account, Command: policy.CreateEngine{ID: id, Name: name}},
			eventlog.Request{Account: account, Command: policy.DeleteEngine{ID: id}})
		if err != nil || results[0].Err != nil || results[1].Err != nil {
			t.Error(err, results)
			return commands
		}
		commands += 2
	}
	return commands
}

func reaches(ctx context.Context, js jetstream.JetStream, position uint64) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	s, err := js.Stream(ctx, stream.PolicyStream)
	if err != nil {
		return err
	}
	if last := s.CachedInfo().State.LastSeq; last < position {
		return fmt.Errorf("it is at %d, want %d", last, position)
	}
	return nil
}

// NATS comes back with an older copy of its store, under a running relay: the copy is completed.
func TestNATSRestored(t *testing.T) {
	b := newBench(t)
	start(t, b.relay(t, 0))
	b.append(t, 20)
	testenv.Eventually(t, "the copy", func() error { return b.copied(t, 1) })
	b.nats.Stop()
	backup := b.nats.Backup(t)
	b.nats.Start(t)
	b.append(t, 20)
	testenv.Eventually(t, "the longer copy", func() error { return b.copied(t, 1) })
	b.nats.Stop()
	b.nats.Restore(t, backup)
	b.append(t, 5)
	b.nats.Start(t)
	testenv.Eventually(t, "the copy after the restore", func() error { return b.copied(t, 1) })
}

// Postgres comes back with an older copy of the log, under a running control: both the log itself and the relay notice, and
// a restarted control refuses writes too.
func TestPostgresRestored(t *testing.T) {
	b := newBench(t)
	r := b.relay(t, 0)
	start(t, r)
	b.append(t, 20)
	backup := b.Backup(t)
	b.append(t, 10)
	testenv.Eventually(t, "the copy", func() error { return b.copied(t, 1) })
	b.Restore(t, backup)
	request := eventlog.Request{Account: account, Command: policy.CreateEngine{ID: "x-0123456789", Name: "x"}}
	testenv.Eventually(t, "the running control refuses", func() error {
		_, err := b.log.Append(t.Context(), request)
		if errors.Is(err, eventlog.ErrWentBack) {
			return nil
		}
		return fmt.Errorf("append: %w", err)
	})
	testenv.Eventually(t, "its relay stops", func() error {
		if !errors.Is(r.Status(), ErrStopped) || b.log.Refusal() == nil {
			return fmt.Errorf("status: %w", r.Status())
		}
		return nil
	})
	restarted := b.openLog(t)
	again := b.relayOf(t, restarted, 0)
	if err := again.Look(t.Context()); !errors.Is(err, ErrStopped) {
		t.Errorf("after a restart the relay says %v", err)
	}
	if _, err := restarted.Append(t.Context(), request); !errors.Is(err, eventlog.ErrRefused) {
		t.Errorf("after a restart a write gives %v", err)
	}
}

// Both come back with older copies, the stream's older than the log's: nothing contradicts, and all goes on. This is the
// other half: not every restore needs an operator.
func TestBothRestored(t *testing.T) {
	b := newBench(t)
	stop := start(t, b.relay(t, 0))
	b.append(t, 10)
	testenv.Eventually(t, "the copy", func() error { return b.copied(t, 1) })
	b.nats.Stop()
	store := b.nats.Backup(t)
	b.nats.Start(t)
	b.append(t, 10)
	backup := b.Backup(t)
	b.append(t, 10)
	stop()
	b.nats.Stop()
	b.nats.Restore(t, store)
	b.Restore(t, backup)
	b.nats.Start(t)
	restarted := b.openLog(t)
	start(t, b.relayOf(t, restarted, 0))
	appendTo(t, restarted, "later", 5, &b.made)
	testenv.Eventually(t, "the copy after the restore", func() error { return copied(t.Context(), b.js, restarted, 1) })
}
