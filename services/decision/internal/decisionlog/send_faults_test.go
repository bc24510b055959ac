//go:build faults

package decisionlog

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/verdict-io/verdict/services/internal/stream"
	"github.com/verdict-io/verdict/services/internal/testenv"
)

// weather is a node whose process and whose NATS suffer, and every decision that it was given a number for.
type weather struct {
	*bench
	cfg     Config
	w       *Writer
	stop    func()
	audit   *audit
	backup  string
	given   map[stream.DecisionID]string
	results []string // what was done, for the message of a failure
}

func (e *weather) begin(t *testing.T) {
	e.w = open(t, e.cfg)
	e.stop = run(t, e.w)
}

// kill goes on as if the process had been killed and begun anew, with what it left.
func (e *weather) kill(t *testing.T) {
	e.stop()
	e.cfg.Dir = killed(t, e.cfg.Dir)
	closeNow(t, e.w)
	e.begin(t)
}

func (e *weather) restart(t *testing.T) {
	closeNow(t, e.w)
	e.begin(t)
}

func (e *weather) record(t *testing.T) {
	for i := range 1 + rand.IntN(800) {
		request := fmt.Sprint(len(e.given), "/", i)
		id, err := e.w.Record(detail(request), time.Now())
		if err != nil {
			t.Fatal(err)
		}
		if e.given[id] != "" {
			t.Fatalf("%v was given twice", id)
		}
		e.given[id] = request
	}
}

func (e *weather) take(t *testing.T) {
	if err := errors.Join(e.audit.take(t.Context()), e.audit.confirm()); err != nil {
		t.Fatal(err)
	}
}

func (e *weather) deleteStream(t *testing.T) {
	if err := e.js.DeleteStream(t.Context(), stream.DecisionStream(0)); err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
		t.Fatal(err)
	}
}

func (e *weather) save(t *testing.T) {
	e.nats.Stop()
	e.backup = e.nats.Backup(t)
	e.nats.Start(t)
	e.reconnected(t)
}

func (e *weather) restore(t *testing.T) {
	if e.backup == "" {
		return
	}
	e.nats.Stop()
	e.nats.Restore(t, e.backup)
	e.nats.Start(t)
	e.reconnected(t)
}

// reconnected waits for the test's own questions to be answered again.
func (e *weather) reconnected(t *testing.T) {
	testenv.Eventually(t, "NATS", func() error {
		_, err := e.js.AccountInfo(t.Context())
		return err
	})
}

// Whatever happens to the process, the server and the stream, in whatever order: in the end audit has every decision that Record
// returned, once, with what was decided, and the spool is empty but for the running boot.
func TestWeather(t *testing.T) {
	for round := range 6 {
		t.Run(fmt.Sprint(round), func(t *testing.T) {
			b := newBench(t)
			b.makeStream(t, 0)
			e := &weather{bench: b, cfg: b.config(t), audit: newAudit(b, 0), given: map[stream.DecisionID]string{}}
			e.cfg.Registerer = nil
			e.begin(t)
			happen := map[string]func(*testing.T){
				"record": e.record, "record again": e.record, "kill": e.kill, "restart": e.restart, "take": e.take, "take again": e.take,
				"delete the stream": e.deleteStream, "save NATS": e.save, "restore NATS": e.restore,
				"acknowledge": func(t *testing.T) { e.reconnected(t); e.take(t); acknowledged(t, e.w) },
			}
			for range 40 {
				for what, f := range happen { // in no order: any first
					e.results = append(e.results, what)
					f(t)
					break
				}
			}
			e.record(t)
			e.check(t)
			if t.Failed() {
				t.Log(e.results)
			}
		})
	}
}

func (e *weather) check(t *testing.T) {
	t.Helper()
	testenv.Within(t, time.Minute, "every decision", func() error {
		err := errors.Join(e.audit.take(t.Context()), e.audit.confirm())
		for id := range e.given {
			if e.audit.table[id] == nil {
				return errors.Join(err, fmt.Errorf("%d of %s is not there; the mark is %d", id.Seq, id.Boot, e.audit.marks[id.Boot]))
			}
		}
		return err
	})
	for id, request := range e.given {
		if got := e.audit.table[id].GetDecision().GetRequestId(); got != request {
			t.Fatalf("%v was given for %s and holds %s", id, request, got)
		}
	}
	if e.audit.doubled > 0 {
		t.Errorf("%d records were taken twice", e.audit.doubled)
	}
	e.audit.confirmed(t, e.w)
	testenv.Eventually(t, "an empty spool", func() error {
		e.w.mu.Lock()
		defer e.w.mu.Unlock()
		if n := len(e.w.sender.boots); n != 1 {
			return fmt.Errorf("%d boots", n)
		}
		return nil
	})
	t.Logf("%d decisions, %d came again, %d batches behind a gap", len(e.given), e.audit.dropped, e.audit.gaps)
}

// On three servers, the leader of the stream is stopped three times under load: nothing is lost and nothing is behind a gap.
func TestLeaderKilled(t *testing.T) {
	cluster := testenv.NewCluster(t, 3)
	b := &bench{conn: cluster.Connect(t), dir: t.TempDir()}
	var err error
	if b.js, err = jetstream.New(b.conn); err != nil {
		t.Fatal(err)
	}
	name := stream.DecisionStream(0)
	testenv.Within(t, time.Minute, "the stream", func() error {
		_, err := b.js.CreateOrUpdateStream(t.Context(), stream.DecisionStreamConfig(0, 3, streamBytes))
		return err
	})
	cfg := b.config(t)
	cfg.Conn = cluster.Connect(t)
	w := start(t, cfg)
	a := newAudit(b, 0)
	last := uint64(0)
	for range 3 {
		testenv.Within(t, time.Minute, "all three hold the stream", func() error { return cluster.Current(name) })
		leader := cluster.Leader(name)
		if leader == nil {
			t.Fatal("the stream has no leader")
		}
		record(t, w, 200)
		leader.Stop()
		last = record(t, w, 200).Seq
		testenv.Within(t, time.Minute, "the stream goes on without it", func() error {
			return errors.Join(a.all(t.Context(), w.own.boot, last), a.confirm())
		})
		leader.Start(t)
	}
	a.confirmed(t, w)
	if a.gaps > 0 {
		t.Errorf("%d batches came behind a gap", a.gaps)
	}
}
