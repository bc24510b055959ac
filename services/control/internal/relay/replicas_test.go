package relay

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/verdict-io/verdict/services/control/internal/eventlog"
	"github.com/verdict-io/verdict/services/internal/testenv"
	"github.com/verdict-io/verdict/services/policy"
)

// The replica with the lease loses NATS and not Postgres: it gives the lease away, and another one publishes.
func TestLeaderWithoutNATS(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	leader := b.relay(t, 0)
	start(t, leader)
	testenv.Eventually(t, "the copy", func() error { return b.copied(t, 1) })
	start(t, b.relayOf(t, b.openLog(t), 0))
	leader.cfg.Conn.Close()
	b.append(t, 3)
	testenv.Eventually(t, "the copy without it", func() error { return b.copied(t, 1) })
	testenv.Eventually(t, "its status", func() error {
		if leader.Status() == nil {
			return errors.New("it says that all is well")
		}
		return nil
	})
}

// A replica that has the lease and does nothing with it: the others say so.
func TestLeaderThatSleeps(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	stop := start(t, b.relay(t, 0))
	testenv.Eventually(t, "the copy", func() error { return b.copied(t, 1) })
	stop()
	lease, err := b.log.TryLease(t.Context())
	if err != nil || lease == nil {
		t.Fatal(lease, err)
	}
	b.append(t, 3)
	r := b.relayOf(t, b.openLog(t), 0)
	start(t, r)
	testenv.Eventually(t, "the status", func() error {
		if err := r.Status(); err == nil || !strings.Contains(err.Error(), "does not publish") {
			return fmt.Errorf("status: %w", err)
		}
		return nil
	})
	lease.Release(t.Context())
	testenv.Eventually(t, "the copy after all", func() error { return b.copied(t, 1) })
}

// Two replicas start on an empty database, and one of them begins the log: the other sees it as its own; set to another
// region, it takes no part in it.
func TestBegunByAnother(t *testing.T) {
	t.Parallel()
	b := newEmptyBench(t)
	second, foreign := b.openRegion(t, "us-east-1"), b.openRegion(t, "eu-west-1")
	b.log = b.openLog(t)
	start(t, b.relay(t, 0))
	testenv.Eventually(t, "the copy", func() error { return b.copied(t, 1) })
	r := b.relayOf(t, second, 0)
	if err := r.Look(t.Context()); err != nil {
		t.Errorf("the look of the second: %v", err)
	}
	head, err := b.openRegion(t, "us-east-1").Head(t.Context())
	if err != nil || head.LogID != b.log.Known().LogID {
		t.Errorf("the head is %+v, %v", head, err)
	}
	request := eventlog.Request{Account: account, Command: policy.CreateEngine{ID: "x-0123456789", Name: "x"}}
	if _, err := foreign.Append(t.Context(), request); err == nil || !strings.Contains(err.Error(), "region") {
		t.Errorf("an append of another region: %v", err)
	}
}

// blinking hides the stream at every other look.
type blinking struct {
	jetstream.JetStream
	looks int
}

func (b *blinking) Stream(ctx context.Context, name string) (jetstream.Stream, error) {
	if b.looks++; b.looks%2 == 1 {
		return nil, jetstream.ErrStreamNotFound
	}
	return b.JetStream.Stream(ctx, name)
}

// A replica that finds the stream missing while another publishes: what was committed during the look is no history of its own.
func TestLookUnderLoad(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	start(t, b.relay(t, 0))
	testenv.Eventually(t, "the copy", func() error { return b.copied(t, 1) })
	ctx, stop := context.WithCancel(t.Context())
	var load sync.WaitGroup
	for w := range 4 {
		load.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				name := fmt.Sprintf("load%d_%d", w, i)
				id := policy.NewID(policy.KindEngine, name, "0123456789")
				_, err := b.log.Append(context.WithoutCancel(ctx),
					eventlog.Request{Account: account, Command: policy.CreateEngine{ID: id, Name: name}},
					eventlog.Request{Account: account, Command: policy.DeleteEngine{ID: id}})
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	second := b.openLog(t)
	r := b.relayOf(t, second, 0)
	r.js = &blinking{JetStream: r.js}
	for range 150 {
		if _, err := r.look(ctx); errors.Is(err, ErrStopped) || second.Refusal() != nil {
			t.Errorf("a look: %v; writes: %v", err, second.Refusal())
			break
		}
	}
	stop()
	load.Wait()
}
