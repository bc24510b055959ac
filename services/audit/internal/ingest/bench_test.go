package ingest

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/verdict-io/verdict/services/internal/stream"
	"github.com/verdict-io/verdict/services/internal/testenv"
)

// BenchmarkIngest ingests records that wait in a stream, in batches of 500.
func BenchmarkIngest(b *testing.B) {
	const size = 500
	bench := newBench(b)
	n := newSilentNode(b, bench.nats.Connect(b), "n", 1, size)
	n.decide(b.N)
	js, err := jetstream.New(bench.nats.Connect(b))
	if err != nil {
		b.Fatal(err)
	}
	if _, err := js.CreateStream(b.Context(), stream.DecisionStreamConfig(0, 1, 1<<30)); err != nil {
		b.Fatal(err)
	}
	for first := uint64(1); first <= n.made; first += size {
		data, err := n.batch(first, min(n.made, first+size-1), n.made, false)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := js.Publish(b.Context(), stream.DecisionSubject(0, n.name, n.boot), data); err != nil {
			b.Fatal(err)
		}
	}
	i := bench.ingester(b, nil)
	b.ReportAllocs()
	b.ResetTimer()
	stop := start(b, i)
	testenv.Within(b, 5*time.Minute, "confirmation", func() error {
		for len(n.said) > 0 {
			n.hear(<-n.said)
		}
		return n.done()
	})
	b.StopTimer()
	stop()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
	if err := bench.whole(b.Context(), n); err != nil {
		b.Error(err)
	}
}
