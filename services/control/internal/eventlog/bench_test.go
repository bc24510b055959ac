package eventlog

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/verdict-io/verdict/services/policy"
)

// BenchmarkAppend measures commands a second: 1 and 16 writers, commands one by one and 100 in a call. Beside it, in the same
// run, what the database does without us: the same rows inserted under the same lock, one transaction a row.
func BenchmarkAppend(b *testing.B) {
	for _, writers := range []int{1, 16} {
		for _, together := range []int{1, 100} {
			b.Run(fmt.Sprintf("writers=%d/together=%d", writers, together), func(b *testing.B) {
				l := newBench(b).open(b)
				var n atomic.Int64
				measure(b, writers, together, func() error {
					requests := make([]Request, together)
					for i := range requests {
						requests[i] = setSettings(n.Add(1))
					}
					_, err := l.Append(b.Context(), requests...)
					return err
				})
			})
		}
	}
	b.Run("baseline/writers=1", func(b *testing.B) {
		l := newBench(b).open(b)
		var position int64 = 1
		measure(b, 1, 1, func() error {
			position++
			tx, err := l.write.Begin(b.Context())
			if err != nil {
				return err
			}
			if _, err := tx.Exec(b.Context(), "SELECT pg_advisory_xact_lock($1)", int64(lockKey)); err != nil {
				return err
			}
			_, err = tx.Exec(b.Context(), `INSERT INTO verdict.events (`+columns+`) SELECT $1::bigint, true, 'x', $1::bigint, 'x', $1::bigint, NULL, body, hash, key_id, signature
				FROM verdict.events WHERE position = 1`, position)
			if err != nil {
				return err
			}
			return tx.Commit(b.Context())
		})
	})
}

// setSettings is one event, of a size that does not grow.
func setSettings(n int64) Request {
	bound := time.Duration(1000+n%1000) * time.Millisecond
	return Request{Account: account, Cause: cause(""), Command: policy.SetAccountSettings{Settings: policy.Settings{StalenessBound: &bound}}}
}

func measure(b *testing.B, writers, together int, do func() error) {
	var left atomic.Int64
	b.ResetTimer()
	left.Store(int64(b.N))
	var group sync.WaitGroup
	for range writers {
		group.Go(func() {
			for left.Add(-1) >= 0 {
				if err := do(); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	group.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N*together)/b.Elapsed().Seconds(), "commands/s")
	b.ReportMetric(0, "ns/op")
}
