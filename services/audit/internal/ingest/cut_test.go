package ingest

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// edges is what a cutter makes of messages: first and last sequence of each block, the open one last.
func edges(messages []message) (ends [][2]uint64, blocks []*block) {
	var c cutter
	for _, m := range messages {
		blocks = append(blocks, c.add(m)...)
	}
	if c.open != nil {
		blocks = append(blocks, c.open)
	}
	for _, b := range blocks {
		ends = append(ends, [2]uint64{b.first, b.last})
	}
	return ends, blocks
}

// at is a message of n records; of none, a tick.
func at(sequence uint64, ms, n, size int) message {
	m := message{sequence: sequence, storedAt: time.Date(2026, 11, 22, 23, 59, 58, 0, time.UTC).Add(time.Duration(ms) * time.Millisecond), size: size}
	if n > 0 {
		m.batch = &batch{sequence: sequence, storedAt: m.storedAt, records: manyRecords[:n]}
	}
	return m
}

var manyRecords = make([]record, blockRows)

func TestCut(t *testing.T) {
	for name, c := range map[string]struct {
		messages []message
		want     [][2]uint64
	}{
		"nothing":                {nil, nil},
		"one second":             {[]message{at(1, 0, 5, 9), at(2, 999, 5, 9)}, [][2]uint64{{1, 2}}},
		"another second":         {[]message{at(1, 999, 5, 9), at(2, 1000, 5, 9)}, [][2]uint64{{1, 1}, {2, 2}}},
		"another day":            {[]message{at(1, 1999, 5, 9), at(2, 2000, 5, 9)}, [][2]uint64{{1, 1}, {2, 2}}},
		"a clock that goes back": {[]message{at(1, 1000, 5, 9), at(2, 999, 5, 9), at(3, 1000, 5, 9)}, [][2]uint64{{1, 1}, {2, 2}, {3, 3}}},
		"a tick":                 {[]message{at(1, 0, 5, 9), at(2, 1100, 0, 9), at(3, 1200, 5, 9)}, [][2]uint64{{1, 1}, {2, 3}}},
		"rows":                   {[]message{at(1, 0, blockRows-1, 9), at(2, 1, 1, 9), at(3, 2, 1, 9)}, [][2]uint64{{1, 2}, {3, 3}}},
		"not yet so many rows":   {[]message{at(1, 0, blockRows-2, 9), at(2, 1, 1, 9), at(3, 2, 9, 9)}, [][2]uint64{{1, 3}}},
		"bytes":                  {[]message{at(1, 0, 1, blockBytes-1), at(2, 1, 1, 1), at(3, 2, 1, 9)}, [][2]uint64{{1, 2}, {3, 3}}},
		"bytes of ticks":         {[]message{at(1, 0, 0, blockBytes), at(2, 1, 1, 1)}, [][2]uint64{{1, 1}, {2, 2}}},
		"two at once":            {[]message{at(1, 0, 1, 9), at(2, 1000, blockRows, 9)}, [][2]uint64{{1, 1}, {2, 2}}},
		"a hole":                 {[]message{at(5, 0, 1, 9), at(9, 1, 1, 9)}, [][2]uint64{{5, 9}}},
	} {
		t.Run(name, func(t *testing.T) {
			got, _ := edges(c.messages)
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// Records wait for a tick; a tick does not wait for another one.
func TestWaits(t *testing.T) {
	var c cutter
	for i, step := range []struct {
		message message
		waits   bool
	}{
		{at(1, 0, 0, 9), false},
		{at(2, 100, 3, 9), true},
		{at(3, 1100, 0, 9), false},
		{at(4, 2100, 1, 9), true},
		{at(5, 2200, 0, 9), true},
		{at(6, 2300, blockRows, 9), false},
	} {
		c.add(step.message)
		if c.waits() != step.waits {
			t.Errorf("after message %d: %v", i+1, c.waits())
		}
	}
}

// Whoever goes on behind any block cuts the same blocks as who read from the beginning; each message is in one block, no block is
// of two seconds, and none is longer than its last message makes it.
func TestCutsAlike(t *testing.T) {
	dice := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		var messages []message
		ms := 0
		for seq := range uint64(60) {
			ms += dice.IntN(700)
			messages = append(messages, at(seq+1, ms, dice.IntN(4)*dice.IntN(blockRows/5), dice.IntN(blockBytes/3)))
		}
		all, blocks := edges(messages)
		next := uint64(1)
		for i, b := range blocks {
			if b.first != next {
				t.Fatalf("block %d begins at %d, want %d", i, b.first, next)
			}
			next = b.last + 1
			rows, bytes := 0, 0
			for seq := b.first; seq <= b.last; seq++ {
				m := messages[seq-1]
				if rows >= blockRows || bytes >= blockBytes || m.storedAt.Unix() != messages[b.first-1].storedAt.Unix() {
					t.Fatalf("message %d is in block %v", seq, all[i])
				}
				bytes += m.size
				if m.batch != nil {
					rows += m.batch.rows()
				}
			}
			again, _ := edges(messages[b.last:])
			if diff := cmp.Diff(all[i+1:], again); diff != "" && len(again) > 0 {
				t.Fatalf("behind block %v: %s", all[i], diff)
			}
		}
		if next != uint64(len(messages)+1) {
			t.Fatalf("the last block ends at %d", next-1)
		}
	}
}
