//go:build faults

package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/nats-io/nats.go/jetstream"

	auditv1 "github.com/verdict-io/verdict/proto/gen/verdict/audit/v1"
	"github.com/verdict-io/verdict/services/internal/stream"
	"github.com/verdict-io/verdict/services/internal/testenv"
)

// decisionsVariable is how many answers TestNothingIsLost waits for in each of its cases; 10,000 when it is not set.
const decisionsVariable = "VERDICT_E2E_DECISIONS"

func decisions(t *testing.T) int64 {
	t.Helper()
	text := os.Getenv(decisionsVariable)
	if text == "" {
		return 10_000
	}
	n, err := strconv.ParseInt(text, 10, 64)
	must(t, err)
	return n
}

// crowd is clients that ask a node without pause. What fails they ask again.
type crowd struct {
	answered atomic.Int64
	failed   atomic.Int64
	ids      [][]string // of each client, once it has ended
	stop     func()
}

// ask has clients ask about refunds, until stop. They name the revision that holds the example: a node that is started again may
// answer from an earlier one, and says so, until it has heard of what it had not saved.
func (f *fleet) ask(t *testing.T, node *service, clients int) *crowd {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	c := &crowd{ids: make([][]string, clients)}
	var asking sync.WaitGroup
	for i := range clients {
		asking.Go(func() {
			again := time.NewTicker(5 * time.Millisecond) // so that a node that is away does not cost the others their CPU
			defer again.Stop()
			for n := 0; ctx.Err() == nil; n++ {
				got, err := f.refund(ctx, node, float64(n%2000), f.revision)
				if err != nil {
					c.failed.Add(1)
					<-again.C
					continue
				}
				if got.GetProceed() != (n%2000 < 1000) {
					t.Errorf("a refund of %d: %v", n%2000, got)
				}
				c.ids[i] = append(c.ids[i], got.GetDecisionId())
				c.answered.Add(1)
			}
		})
	}
	c.stop = sync.OnceFunc(func() { cancel(); asking.Wait() })
	t.Cleanup(c.stop)
	return c
}

// more waits for n answers more.
func (c *crowd) more(t *testing.T, n int64) {
	t.Helper()
	c.until(t, c.answered.Load()+n)
}

func (c *crowd) until(t *testing.T, n int64) {
	t.Helper()
	testenv.Within(t, 5*time.Minute, "answers", func() error {
		if got := c.answered.Load(); got < n {
			return fmt.Errorf("%d, want %d", got, n)
		}
		return nil
	})
}

// world is a fleet whose parts can be taken away.
type world struct {
	*fleet
	control, node *service
	audits        []*service
	auditEnviron  string
	clickhouse    *testenv.Proxy
}

func newWorld(t *testing.T, audits int) *world {
	t.Helper()
	w := &world{fleet: newFleet(t)}
	var url string
	w.clickhouse, url = testenv.Through(t, w.fleet.clickhouse.URL)
	w.auditEnviron = "VERDICT_CLICKHOUSE_URL=" + url
	w.control = w.start(t, "control", anyAddr)
	for range audits {
		w.audits = append(w.audits, w.start(t, "audit", anyAddr, w.auditEnviron))
	}
	w.node = w.start(t, "decision", anyAddr, "VERDICT_CONTROL_URL="+w.control.url)
	w.wantRefund(t, w.node, 500, true, w.loadExample(t, w.control))
	return w
}

// fault takes something away and gives it back.
type fault struct {
	name       string
	away, back func(t *testing.T)
}

func nothing(*testing.T) {}

// killNode starts the node again at once, on the same folder and address: away, it would only keep the crowd waiting.
func (w *world) killNode() fault {
	return fault{"the node is killed", func(t *testing.T) {
		w.node.kill()
		w.node = w.start(t, "decision", w.node.url, "VERDICT_CONTROL_URL="+w.control.url)
	}, nothing}
}

func (w *world) killAudit(i int) fault {
	return fault{
		"audit is killed", func(*testing.T) { w.audits[i].kill() },
		func(t *testing.T) { w.audits[i] = w.start(t, "audit", w.audits[i].url, w.auditEnviron) },
	}
}

func (w *world) stopNATS() fault {
	return fault{"NATS is down", func(*testing.T) { w.nats.Stop() }, func(t *testing.T) { w.nats.Start(t) }}
}

func (w *world) cutClickHouse() fault {
	return fault{"ClickHouse is cut off", func(*testing.T) { w.clickhouse.Cut() }, func(*testing.T) { w.clickhouse.Heal() }}
}

// deleteStream removes what audit has not ingested yet, as an operator may.
func (w *world) deleteStream() fault {
	return fault{"the stream is deleted", func(t *testing.T) {
		js, err := jetstream.New(w.nats.Admin(t, stream.AuditAccount))
		must(t, err)
		testenv.Eventually(t, "the stream is deleted", func() error {
			err := js.DeleteStream(t.Context(), stream.DecisionStream(0))
			if errors.Is(err, jetstream.ErrStreamNotFound) {
				return nil // since the last time there was no audit that made it again
			}
			return err
		})
	}, nothing}
}

// olderStore puts an older copy of all streams in the place of what NATS has.
func (w *world) olderStore(c *crowd) fault {
	return fault{"NATS comes back with an older copy", func(t *testing.T) {
		w.nats.Stop()
		backup := w.nats.Backup(t)
		w.nats.Start(t)
		c.more(t, 200)
		w.nats.Stop()
		w.nats.Restore(t, backup)
		w.nats.Start(t)
	}, nothing}
}

// rounds has faults happen in turn, again and again, until there are n answers: in every other round each while the one before it
// is still there.
func (w *world) rounds(t *testing.T, c *crowd, n int64, faults ...fault) (rounds int) {
	t.Helper()
	each := min(max(n/int64(6*len(faults)), 50), 1000)
	for c.answered.Load() < n || rounds < 2 {
		back := nothing
		for _, f := range faults {
			if rounds%2 == 0 {
				back(t)
				back = nothing
			}
			f.away(t)
			back(t)
			c.more(t, each)
			back = f.back
		}
		back(t)
		c.more(t, each)
		rounds++
	}
	return rounds
}

// Whatever of the path of decisions fails, and however the failures meet: what was answered is in the table, and nothing is there
// twice or was never decided. Completeness says so of itself.
func TestNothingIsLost(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		audits int
		faults func(*world, *crowd) []fault
	}{
		{"all parts fail", 1, func(w *world, _ *crowd) []fault {
			return []fault{w.killNode(), w.killAudit(0), w.stopNATS(), w.cutClickHouse()}
		}},
		{"the node is killed while audit is away", 1, func(w *world, _ *crowd) []fault {
			audit, node := w.killAudit(0), w.killNode()
			return []fault{{"both", func(t *testing.T) { audit.away(t); node.away(t) }, audit.back}}
		}},
		{"two audits", 2, func(w *world, _ *crowd) []fault {
			return []fault{w.killAudit(0), w.stopNATS(), w.killAudit(1), w.cutClickHouse(), w.killNode()}
		}},
		{"the stream is deleted", 1, func(w *world, c *crowd) []fault {
			return []fault{w.deleteStream(), w.killAudit(0), w.deleteStream(), w.killNode(), w.olderStore(c)}
		}},
		{"the stream is deleted, two audits", 2, func(w *world, c *crowd) []fault {
			return []fault{w.deleteStream(), w.cutClickHouse(), w.deleteStream(), w.olderStore(c), w.killAudit(1)}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, c.audits)
			clients := w.ask(t, w.node, 4)
			rounds := w.rounds(t, clients, decisions(t), c.faults(w, clients)...)
			clients.stop()
			if code := w.node.end(t); code != 0 {
				t.Errorf("the node exits %d", code)
			}
			w.wantWhole(t, clients, rounds)
		})
	}
}

// NATS, then ClickHouse, then both are away for half a minute, under load.
func TestHalfAMinuteAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	clients := w.ask(t, w.node, 1)
	nats, clickhouse := w.stopNATS(), w.cutClickHouse()
	for _, faults := range [][]fault{{nats}, {clickhouse}, {nats, clickhouse}} {
		begun, before := time.Now(), clients.answered.Load()
		for _, f := range faults {
			f.away(t)
		}
		testenv.Within(t, time.Minute, "half a minute of answers", func() error {
			if time.Since(begun) < 30*time.Second {
				return errNotYet
			}
			return nil
		})
		if clients.answered.Load() == before || clients.failed.Load() > 0 {
			t.Errorf("%d answers and %d failures meanwhile", clients.answered.Load()-before, clients.failed.Load())
		}
		for _, f := range faults {
			f.back(t)
		}
		clients.more(t, 100)
	}
	clients.stop()
	if code := w.node.end(t); code != 0 {
		t.Errorf("the node exits %d", code)
	}
	w.wantWhole(t, clients, 1)
}

// wantWhole wants every answer to be a row, every number of every boot to be one row, and Completeness to know.
func (w *world) wantWhole(t *testing.T, c *crowd, rounds int) {
	t.Helper()
	var boots []*auditv1.BootCompleteness
	testenv.Within(t, 2*time.Minute, "every boot complete", func() error {
		got, err := w.audits[0].auditClient().Completeness(t.Context(), &auditv1.CompletenessRequest{})
		if err != nil {
			return err
		}
		boots = got.GetBoots()
		for _, b := range boots {
			if b.GetStatus() == auditv1.CompletenessStatus_COMPLETENESS_STATUS_LOST {
				t.Fatalf("lost: %v", b)
			}
			if b.GetStatus() != auditv1.CompletenessStatus_COMPLETENESS_STATUS_COMPLETE {
				return fmt.Errorf("%v", b)
			}
		}
		return nil
	})
	var expected uint64
	for _, b := range boots {
		expected += b.GetGivenOut()
		if b.GetRecorded() != b.GetGivenOut() {
			t.Errorf("a boot with more rows, or less, than numbers: %v", b)
		}
	}
	got := w.counts(t)
	answered, failed := uint64(c.answered.Load()), uint64(c.failed.Load())
	t.Logf("%d rounds, %d boots: %d answers, %d asked in vain; %d numbers given out, %d rows, %d of them distinct, %d of them decisions",
		rounds, len(boots), answered, failed, expected, got.rows, got.distinct, got.decisions)
	if got.rows != expected || got.distinct != expected || got.ids != got.decisions || got.rejects != 0 {
		t.Errorf("%d numbers were given out, and the table holds %+v", expected, got)
	}
	if got.opened != uint64(len(boots)) || got.closed != 1 || got.boots != uint64(len(boots)) || got.decisions+got.opened+got.closed != expected {
		t.Errorf("of %d boots, one of which ended in order, the table holds %+v", len(boots), got)
	}
	if first := uint64(1); got.decisions < answered+first || got.decisions > answered+failed+first {
		t.Errorf("%d answers and %d questions without one: %d decisions", answered, failed, got.decisions)
	}
	w.wantAnswers(t, slices.Concat(c.ids...))
}

// counts is what ClickHouse's owner sees.
type counts struct{ rows, distinct, decisions, ids, opened, closed, boots, rejects uint64 }

func (w *world) counts(t *testing.T) (c counts) {
	t.Helper()
	options, err := clickhouse.ParseDSN(w.fleet.clickhouse.URL)
	must(t, err)
	db := clickhouse.OpenDB(options)
	defer db.Close()
	must(t, db.QueryRowContext(t.Context(), `SELECT count(), uniqExact(node, boot, seq), countIf(kind = 'decision'), uniqExactIf(decision_id, kind = 'decision'),
		countIf(kind = 'opened'), countIf(kind = 'closed'), uniqExact(boot), (SELECT count() FROM rejects) FROM decisions`).
		Scan(&c.rows, &c.distinct, &c.decisions, &c.ids, &c.opened, &c.closed, &c.boots, &c.rejects))
	return c
}

// wantAnswers wants every decision that was answered to be a row, as the account sees it: in parts, since an answer to SQL has a limit.
func (w *world) wantAnswers(t *testing.T, ids []string) {
	t.Helper()
	found := map[string]bool{}
	const parts = 16
	for part := range parts {
		rows, err := w.sql(t.Context(), w.audits[0], fmt.Sprintf("SELECT decision_id FROM decisions WHERE seq %% %d = %d", parts, part))
		must(t, err)
		for _, row := range rows {
			id, _ := row[0].(string)
			found[id] = true
		}
	}
	missing := slices.DeleteFunc(ids, func(id string) bool { return found[id] })
	if len(missing) > 0 {
		t.Errorf("%d decisions were answered and are no rows, such as %s", len(missing), missing[0])
	}
}
