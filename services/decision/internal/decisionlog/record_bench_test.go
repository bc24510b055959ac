package decisionlog

import (
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/verdict-io/verdict/services/internal/stream"
)

// BenchmarkRecord is a decision into the spool, beside what serializing it costs alone.
func BenchmarkRecord(b *testing.B) {
	d := detail("request")
	b.Run("marshal_alone", func(b *testing.B) {
		b.ReportAllocs()
		b.SetBytes(int64(proto.Size(d)))
		var buffer []byte
		for b.Loop() {
			var err error
			if buffer, err = (proto.MarshalOptions{}).MarshalAppend(buffer[:0], d); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("record", func(b *testing.B) {
		w := benchWriter(b)
		b.ReportAllocs()
		for b.Loop() {
			if _, err := w.Record(d, time.Now()); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("record_parallel", func(b *testing.B) {
		w := benchWriter(b)
		b.ReportAllocs()
		b.ResetTimer()
		b.RunParallel(func(pb *testing.PB) {
			d := detail("request")
			for pb.Next() {
				if _, err := w.Record(d, time.Now()); err != nil {
					b.Error(err)
					return
				}
			}
		})
	})
}

// benchWriter has the settings of production, and room that does not run out.
func benchWriter(b *testing.B) *Writer {
	b.Helper()
	env := newBench(b)
	cfg := env.config(b)
	return open(b, Config{Dir: cfg.Dir, Node: cfg.Node, Build: cfg.Build, Partitions: 1, SpoolBytes: 16 << 30, Conn: cfg.Conn, Logger: cfg.Logger})
}

// BenchmarkSend is a decision from Record to the stream's acknowledgement, in batches, with a server in the same process.
func BenchmarkSend(b *testing.B) {
	env := newBench(b)
	if _, err := env.js.CreateStream(b.Context(), stream.DecisionStreamConfig(0, 1, 16<<30)); err != nil {
		b.Fatal(err)
	}
	cfg := env.config(b)
	w := open(b, Config{Dir: cfg.Dir, Node: cfg.Node, Build: cfg.Build, Partitions: 1, SpoolBytes: 16 << 30, Conn: cfg.Conn, Logger: cfg.Logger})
	record(b, w, b.N)
	b.ResetTimer()
	run(b, w)
	acknowledged(b, w)
}
