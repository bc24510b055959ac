//go:build faults

package store_test

import (
	"errors"
	"testing"

	"github.com/verdict-io/verdict/services/audit/internal/store"
	"github.com/verdict-io/verdict/services/internal/stream"
	"github.com/verdict-io/verdict/services/internal/testenv"
)

// EndInserts returns when no INSERT of the stream runs, though the client of one hangs; what that client sends later does not land.
// INSERTs of other streams go on.
func TestEndInserts(t *testing.T) {
	t.Parallel()
	ch := testenv.NewClickHouse(t, migrate)
	s := open(t, ch)
	hanging := block(1, decided(stream.Boot{1}, 1, accountA))
	batch, err := store.BeginInsert(t.Context(), s, &hanging)
	if err != nil {
		t.Fatal(err)
	}
	defer batch.Close()
	running := func() uint64 {
		return one[uint64](t, ch, "SELECT count() FROM system.processes WHERE startsWith(query_id, 'verdict/' || currentDatabase() || '/"+hanging.StreamID+"/')")
	}
	if err := s.EndInserts(t.Context(), "another"); err != nil || running() != 1 {
		t.Fatalf("ending those of another stream: %v, %d run, want 1", err, running())
	}
	if err := s.EndInserts(t.Context(), hanging.StreamID); err != nil || running() != 0 {
		t.Errorf("%v, %d run", err, running())
	}
	if err := store.FinishInsert(batch, &hanging); err == nil {
		t.Error("an INSERT that was ended goes on")
	}
	if n := one[uint64](t, ch, "SELECT count() FROM decisions"); n != 0 {
		t.Errorf("%d rows", n)
	}
	if err := s.Insert(t.Context(), hanging); err != nil {
		t.Errorf("the same block again: %v", err)
	}
	if n := one[uint64](t, ch, "SELECT count() FROM decisions"); n != 1 {
		t.Errorf("%d rows, want 1", n)
	}
}

// A query that takes too long is ended by ClickHouse, and the caller hears why.
func TestQueryTakesTooLong(t *testing.T) {
	t.Parallel()
	s, _ := twoAccounts(t)
	_, err := ask(t.Context(), s, accountA, "SELECT count() FROM numbers(1000000000000) WHERE NOT ignore(sipHash64(number))")
	if !errors.Is(err, store.ErrTime) {
		t.Error(err)
	}
}
