package testenv

import (
	"crypto/sha256"
	"encoding/binary"
	"testing"

	"github.com/verdict-io/verdict/services/policy"
)

// Carry is the state after a command of an account, as control carries it out, but for the hashes, which are of the position alone.
func Carry(t testing.TB, state *policy.State, account string, c policy.Command, region string) *policy.State {
	t.Helper()
	if err := c.Check(); err != nil {
		t.Fatal(err)
	}
	events, err := policy.Decide(state, account, c, policy.Config{Region: region, Limits: policy.DefaultLimits()})
	if err != nil {
		t.Fatal(err)
	}
	for i, ev := range events {
		r := state.Next(account, ev, 1_000_000)
		r.EventID, r.Commits = "event", i == len(events)-1
		var position [8]byte
		binary.BigEndian.PutUint64(position[:], r.Position)
		r.Hash = sha256.Sum256(position[:])
		if state, err = state.Apply(r); err != nil {
			t.Fatal(err)
		}
	}
	return state
}
