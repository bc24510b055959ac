package store_test

import (
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	decisionv1 "github.com/verdict-io/verdict/proto/gen/verdict/decision/v1"
	"github.com/verdict-io/verdict/services/audit/internal/store"
	"github.com/verdict-io/verdict/services/internal/stream"
)

// benchBlock is 50,000 decisions of four boots, ten accounts, forty tools, a thousand users.
func benchBlock(first uint64) store.Block {
	b := store.Block{StreamID: "bench", FirstSequence: first}
	for i := range uint64(50_000) {
		n := first*50_000 + i
		rec := decided(stream.Boot{byte(n % 4)}, n/4+1, fmt.Sprintf("%012d", n%10))
		d := rec.What.(*decisionv1.DecisionRecord_Decision).Decision
		d.Principal.Id = fmt.Sprintf("user-%d", n*7919%1000)
		d.Action.Id = fmt.Sprintf("Target%d___tool_%d", n%5, n%8)
		d.ContextJson = fmt.Sprintf(`{"input":{"orderId":"%d","amount":%d},"system":{"now":{"__extn":{"fn":"datetime","arg":"2026-11-20T13:14:15Z"}}}}`, n*104729, n%1000)
		binary.BigEndian.PutUint64(d.RequestDigest, n*0x9E3779B97F4A7C15)
		d.Errors, d.LogOnly, d.RedactedPaths, d.Revision = nil, nil, nil, 4711+n/10_000
		d.RequestId, d.LatencyNs = fmt.Sprintf("req-%x", n*0x9E3779B97F4A7C15), 800+n%977
		rec.RecordedAtUs = storedAt.UnixMicro() + int64(n)
		b.Rows = append(b.Rows, store.Row{Record: rec, GivenOut: n/4 + 1, Sequence: first, StoredAt: storedAt.Add(time.Duration(n))})
	}
	return b
}

func BenchmarkInsert(b *testing.B) {
	s := newStore(b)
	for i := uint64(0); b.Loop(); i++ {
		b.StopTimer()
		next := benchBlock(i)
		b.StartTimer()
		if err := s.Insert(b.Context(), next); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(50_000*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
}
