//go:build faults

package eventlog

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"
)

// Commits of 5 ms, as with a synchronous standby: two replicas and 32 writers keep the order, and share transactions, so that
// they are not limited to one command a commit.
func TestSlowCommits(t *testing.T) {
	b := newBench(t)
	owner := b.owner(t)
	var name string
	if err := owner.QueryRow(t.Context(), "SELECT current_database()").Scan(&name); err != nil {
		t.Fatal(err)
	}
	for _, setting := range []string{"commit_delay = 5000", "commit_siblings = 0", "synchronous_commit = on"} {
		if _, err := owner.Exec(t.Context(), "ALTER DATABASE "+name+" SET "+setting); err != nil {
			t.Fatal(err)
		}
	}
	logs := []*Log{b.open(t), b.open(t)}
	ctx, stop := context.WithCancel(t.Context())
	seen := watch(t, ctx, b.open(t))
	const writers, each = 32, 10
	began := time.Now()
	var group sync.WaitGroup
	for w := range writers {
		group.Go(func() {
			for i := range each {
				mustAppend(t, logs[w%2], createEngine(fmt.Sprintf("slow_%d_%d", w, i)))
			}
		})
	}
	group.Wait()
	took := time.Since(began)
	s, err := logs[0].State(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if want := uint64(1 + 2*writers*each); s.Position != want {
		t.Errorf("the log ends at %d, want %d", s.Position, want)
	}
	if err := s.Verify(); err != nil {
		t.Error(err)
	}
	var fsync, delay string
	if err := logs[0].pool.QueryRow(t.Context(), "SELECT current_setting('fsync'), current_setting('commit_delay')").Scan(&fsync, &delay); err != nil {
		t.Fatal(err)
	}
	if fsync != "on" || delay != "5000" {
		t.Fatalf("commits are not slow: fsync %s, commit_delay %s; run with `make test-faults`, whose Postgres has fsync on", fsync, delay)
	}
	t.Logf("%d commands in %v: %.0f/s", writers*each, took, float64(writers*each)/took.Seconds())
	stop()
	checkWatched(t, <-seen, s.Position)
}
