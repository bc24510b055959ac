package ingest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/verdict-io/verdict/services/internal/stream"
	"github.com/verdict-io/verdict/services/internal/testenv"
)

// Another ingester that is faster purges messages that a reader has not got yet: the reader begins again from the progress. A
// message that is missing in the middle is lost, and the reader goes on.
func TestReaderMissesMessages(t *testing.T) {
	t.Parallel()
	nats := testenv.NewNATS(t)
	conn := nats.Connect(t)
	i, err := New(Config{Conn: conn, Logger: testenv.Logger(t), Registerer: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	config := stream.DecisionStreamConfig(0, 1, 1<<30)
	config.DenyDelete = false
	s, err := js.CreateStream(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	for range 6 {
		if _, err := js.Publish(t.Context(), stream.TickSubject(0), nil); err != nil {
			t.Fatal(err)
		}
	}
	p := i.partitions[0]
	p.progress.StreamID = stream.DecisionStreamID(s.CachedInfo())
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := s.DeleteMsg(ctx, 3); err != nil {
		t.Fatal(err)
	}
	out := make(chan *block, 10)
	whole, err := p.openReader(ctx, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer whole.close()
	if n, err := whole.fetch(ctx, out); n != 5 || err != nil || whole.next != 7 {
		t.Errorf("%d messages, %v; the next is %d", n, err, whole.next)
	}
	late, err := p.openReader(ctx, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer late.close()
	if err := s.Purge(ctx, jetstream.WithPurgeSequence(5)); err != nil {
		t.Fatal(err)
	}
	if _, err := late.fetch(ctx, out); !errors.Is(err, errAgain) {
		t.Errorf("behind a purge it reads on: %v", err)
	}
}
