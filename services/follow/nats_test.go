package follow

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/verdict-io/verdict/services/internal/testenv"
	"github.com/verdict-io/verdict/services/policy"
)

// startOn is start with a real NATS, in real time.
func startOn(t *testing.T, c *control, conn *nats.Conn) *running {
	t.Helper()
	r := &running{published: &published{}, control: c, reg: prometheus.NewRegistry()}
	var err error
	r.Follower, err = New(Config{
		Conn: conn, Events: c.client(), Keys: c.log.keys, Publish: r.published.publish, Logger: testenv.Logger(t), Registerer: r.reg,
		HeadEvery: 50 * time.Millisecond, GapWait: 20 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run returns %v", err)
		}
	})
	return r
}

func (r *running) reaches(t *testing.T, want *policy.State) {
	t.Helper()
	testenv.Eventually(t, fmt.Sprintf("position %d", want.Position), func() error {
		if s := r.State(); s == nil || s.Position < want.Position {
			return fmt.Errorf("at %d: %w", position(s), r.Status())
		}
		return nil
	})
	if got := r.State(); got.Hash != want.Hash {
		t.Errorf("at %d the hash is not the log's", got.Position)
	}
}

// publishAs publishes a message of a test as the server would.
func publishAs(t *testing.T, conn *nats.Conn, msgs ...*nats.Msg) {
	t.Helper()
	for _, msg := range msgs {
		if err := conn.PublishMsg(msg); err != nil {
			t.Fatal(err)
		}
	}
	if err := conn.Flush(); err != nil {
		t.Fatal(err)
	}
}

// Live events apply with control away; after NATS was away, control brings what was missed, and live events come again.
func TestLiveEvents(t *testing.T) {
	t.Parallel()
	server := testenv.NewNATS(t)
	h := newHistory(t).engines(1)
	all := h.branch(3).engines(6)
	c := newControl(h)
	r := startOn(t, c, server.Connect(t))
	r.reaches(t, all.states[3])
	c.set(func(s *served) { s.away = true })
	relay := server.Connect(t)
	testenv.Eventually(t, "live events", func() error { // until the subscription is there
		for _, ev := range all.events[3:7] {
			publishAs(t, relay, live(t, ev))
		}
		if at := r.State().Position; at < 7 {
			return fmt.Errorf("at %d", at)
		}
		return nil
	})
	testenv.Eventually(t, "a word that control is away", func() error {
		if r.Status() == nil {
			return errors.New("none")
		}
		return nil
	})

	server.Stop()
	c.set(func(s *served) { s.log = all.branch(11); s.away = false })
	r.reaches(t, all.states[11])
	server.Start(t)
	c.set(func(s *served) { s.away = true })
	relay = server.Connect(t)
	testenv.Eventually(t, "live events again", func() error {
		publishAs(t, relay, live(t, all.events[11]), live(t, all.events[12]))
		if at := r.State().Position; at < 13 {
			return fmt.Errorf("at %d", at)
		}
		return nil
	})
}

// Somebody floods the subject with what control did not sign: control is asked no more often than without him, and what
// is genuine comes through.
func TestFlood(t *testing.T) {
	t.Parallel()
	server := testenv.NewNATS(t)
	h := newHistory(t).engines(20)
	stranger := h.branch(3)
	stranger.signer, _ = testenv.NewKeys(t)
	stranger.engines(10)
	c := newControl(h.branch(3))
	r := startOn(t, c, server.Connect(t))
	r.reaches(t, h.states[3])
	conn := server.Connect(t)
	for range 200 {
		for _, ev := range stranger.events[3:] {
			publishAs(t, conn, live(t, ev), stranger.hint())
		}
	}
	testenv.Eventually(t, "the flood", func() error {
		if metric(t, r.reg, "refused_total", "signature") == 0 {
			return errors.New("nothing was refused")
		}
		return nil
	})
	c.set(func(s *served) { s.log = h })
	r.reaches(t, h.head())
	if n := c.count("ReadEvents"); n > 3 {
		t.Errorf("control was read %d times", n)
	}
}

// A connection that is closed for good is NATS that is away.
func TestClosedConnection(t *testing.T) {
	t.Parallel()
	conn := testenv.NewNATS(t).Connect(t)
	conn.Close()
	h := newHistory(t).engines(2)
	r := startOn(t, newControl(h), conn)
	r.reaches(t, h.head())
}
