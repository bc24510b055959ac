package drive

import (
	"math"
	"slices"
	"time"
)

// Latencies are how long answers took, in microseconds, each of them: a percentile is exact.
type Latencies []uint32

func microseconds(d time.Duration) uint32 {
	return uint32(min(max(d.Microseconds(), 0), math.MaxUint32))
}

// Sort must be called before Percentile.
func (l Latencies) Sort() { slices.Sort(l) }

// Percentile is the least latency that p percent of the answers did not exceed, p above 0 and at most 100; 0 without answers.
func (l Latencies) Percentile(p float64) time.Duration {
	if len(l) == 0 {
		return 0
	}
	rank := int(math.Ceil(p * float64(len(l)) / 100))
	return time.Duration(l[max(rank, 1)-1]) * time.Microsecond
}
