package follow

import (
	"slices"
	"testing"

	"github.com/nats-io/nats.go"
)

// Events of a page, applied: what catching up costs.
func BenchmarkFold(b *testing.B) {
	h := newHistory(b).engines(2000)
	for b.Loop() {
		f := newBench(b, h, 1)
		for page := range slices.Chunk(h.events[1:], 256) {
			f.fold(b.Context(), page)
		}
		wantPosition(b, f, len(h.events))
	}
	b.ReportMetric(b.Elapsed().Seconds()*1e6/float64(b.N)/float64(len(h.events)), "µs/event")
}

// Live events, each with its signature.
func BenchmarkReceive(b *testing.B) {
	h := newHistory(b).engines(1000)
	var messages []*nats.Msg
	for _, ev := range h.events[1:] {
		messages = append(messages, live(b, ev))
	}
	for b.Loop() {
		f := newBench(b, h, 1)
		for _, msg := range messages {
			f.receive(b.Context(), msg)
		}
		wantPosition(b, f, len(h.events))
	}
	b.ReportMetric(b.Elapsed().Seconds()*1e6/float64(b.N)/float64(len(h.events)), "µs/event")
}

func BenchmarkStaleness(b *testing.B) {
	f := newBench(b, newHistory(b), 1)
	f.clock = systemClock
	f.proved.Store(0)
	for b.Loop() {
		f.Staleness()
	}
}

// Reading the state file.
func BenchmarkParse(b *testing.B) {
	data := file(b, newHistory(b).engines(2000))
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if _, err := parse(data); err != nil {
			b.Fatal(err)
		}
	}
}
