package follow

import (
	"math"
	"time"
)

// clock tells the time in two ways.
type clock struct {
	boot func() time.Duration // since some moment, the same until the machine boots again; it counts the time of a suspension
	wall func() time.Time
}

var systemClock = clock{boot: sinceBoot, wall: time.Now}

const unproven = math.MinInt64

// Staleness is the time since the newest question for the head was sent whose answer has been applied: everything that was
// committed before is in State. Where there is no such answer, in this life or, as the state file has it, an earlier one, it is
// not proven, and d means nothing. It reads a clock and is meant to be called for every decision.
func (f *Follower) Staleness() (d time.Duration, proven bool) {
	sent := f.proved.Load()
	if sent == unproven {
		return 0, false
	}
	return f.clock.boot() - time.Duration(sent), true
}

// proof is a moment at which the state was known to be at the head, by both clocks, as another life can read it.
type proof struct {
	wall int64 // microseconds since 1970 UTC; 0 for no proof
	boot int64 // nanoseconds
}

// proofOf is the moment on the clock that Staleness counts from, made readable for the next life.
func (c clock) proofOf(sent int64) proof {
	age := c.boot() - time.Duration(sent)
	return proof{wall: c.wall().Add(-age).UnixMicro(), boot: sent}
}

// on is the moment by c.boot, unproven if it cannot be told. The wall clock may have been set and the machine may have booted
// again since, so that of the two ages the greater counts; and a moment that is still to come proves nothing.
func (p proof) on(c clock) int64 {
	now := c.boot()
	age := c.wall().Sub(time.UnixMicro(p.wall))
	if p.wall == 0 || age < 0 {
		return unproven
	}
	return int64(now - max(age, now-time.Duration(p.boot)))
}
