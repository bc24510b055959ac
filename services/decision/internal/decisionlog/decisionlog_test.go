package decisionlog

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	decisionv1 "github.com/verdict-io/verdict/proto/gen/verdict/decision/v1"
	"github.com/verdict-io/verdict/services/internal/dirlock"
	"github.com/verdict-io/verdict/services/internal/stream"
	"github.com/verdict-io/verdict/services/internal/testenv"
)

// A boot opens, decides, closes, and all of it is in audit's table as it was recorded.
func TestRecorded(t *testing.T) {
	b := newBench(t)
	b.makeStream(t, 0)
	w := start(t, b.config(t))
	at := time.UnixMicro(1767323045678901)
	want := detail("the one")
	id, err := w.Record(want, at)
	if err != nil {
		t.Fatal(err)
	}
	if id != (stream.DecisionID{Boot: w.own.boot, Seq: 2}) {
		t.Errorf("the first decision is %v", id)
	}
	if err := w.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	a := newAudit(b, 0)
	a.follow(t, w.own.boot, 3)
	if len(a.table) != 3 || a.dropped+a.gaps != 0 {
		t.Errorf("%d records, %d came again, %d batches behind a gap", len(a.table), a.dropped, a.gaps)
	}
	opened, got, closed := a.table[stream.DecisionID{Boot: id.Boot, Seq: 1}], a.table[id], a.table[stream.DecisionID{Boot: id.Boot, Seq: 3}]
	if diff := cmp.Diff(&decisionv1.BootOpened{Build: "v1"}, opened.GetOpened(), protocmp.Transform()); diff != "" {
		t.Error("opening record:", diff)
	}
	wantRecord := &decisionv1.DecisionRecord{
		Version: 1, Node: "node-1", Boot: id.Boot[:], Seq: 2, RecordedAtUs: 1767323045678901, What: &decisionv1.DecisionRecord_Decision{Decision: want},
	}
	if diff := cmp.Diff(wantRecord, got, protocmp.Transform()); diff != "" {
		t.Error("decision:", diff)
	}
	if closed.GetClosed() == nil {
		t.Errorf("the last record is %v", closed)
	}
	if a.givenOut[id.Boot] != 3 {
		t.Errorf("the last batch says that %d numbers are given out", a.givenOut[id.Boot])
	}
}

// Numbers have no gap and are given once, whoever asks at once, over many segments.
func TestConcurrently(t *testing.T) {
	const goroutines, each = 16, 500
	b := newBench(t)
	b.makeStream(t, 0)
	w := start(t, b.config(t))
	var mu sync.Mutex
	seen := map[uint64]string{}
	var wg sync.WaitGroup
	for g := range goroutines {
		wg.Go(func() {
			for i := range each {
				d := detail(string(rune('a'+g)) + time.Duration(i).String())
				id, err := w.Record(d, time.Now())
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				seen[id.Seq] = d.GetRequestId()
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if len(seen) != goroutines*each {
		t.Fatalf("%d decisions have %d numbers", goroutines*each, len(seen))
	}
	a := newAudit(b, 0)
	a.follow(t, w.own.boot, goroutines*each+1)
	for seq, request := range seen {
		if got := a.table[stream.DecisionID{Boot: w.own.boot, Seq: seq}].GetDecision().GetRequestId(); got != request {
			t.Fatalf("number %d was given for %s and holds %s", seq, request, got)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.own.made < 3 {
		t.Errorf("%d segments were enough", w.own.made)
	}
}

// What is recorded is neither changed nor kept: the caller may use it again.
func TestRecordLeavesTheDecisionAlone(t *testing.T) {
	w := open(t, newBench(t).config(t))
	d := detail("r")
	d.ContextJson = string(make([]byte, stream.MaxRecord))
	before := proto.CloneOf(d)
	if _, err := w.Record(d, time.Now()); err != nil {
		t.Fatal(err)
	}
	if !proto.Equal(before, d) {
		t.Error("the decision was changed")
	}
}

// A context that makes the record too large is left out, what is left is kept, and says that it cannot be decided again. What is
// too large even so has no number.
func TestLargeRecords(t *testing.T) {
	w := open(t, newBench(t).config(t))
	most := stream.MaxRecord - len(w.own.prefix) - seqBytes - len(appendTime(nil, time.Now()))
	whole := detail("one")
	for {
		over := protowireSize(whole) - most
		if over == 0 {
			break
		}
		whole.ContextJson = string(make([]byte, len(whole.ContextJson)-over))
	}
	cut := proto.CloneOf(whole)
	cut.ContextJson += "x"
	cut.RequestId = "two"
	for _, d := range []*decisionv1.DecisionDetail{whole, cut} {
		if _, err := w.Record(d, time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	huge := detail("huge")
	huge.Reason = string(make([]byte, maxFrame))
	if id, err := w.Record(huge, time.Now()); !errors.Is(err, ErrTooLarge) || id != (stream.DecisionID{}) {
		t.Errorf("a huge record: %v, %v", id, err)
	}
	last := record(t, w, 1)
	got := records(t, left(t, killed(t, w.cfg.Dir)).boots[0])
	if diff := cmp.Diff(whole, got[1].GetDecision(), protocmp.Transform()); diff != "" {
		t.Error("what just fits:", diff)
	}
	cut.ContextJson, cut.Replayable = "", false
	if diff := cmp.Diff(cut, got[2].GetDecision(), protocmp.Transform()); diff != "" {
		t.Error("what does not:", diff)
	}
	if last.Seq != 4 || len(got) != 4 {
		t.Errorf("the refused record took a number: %d records, the last has %d", len(got), last.Seq)
	}
}

// protowireSize is what a decision takes in a record.
func protowireSize(d *decisionv1.DecisionDetail) int {
	return protowire.SizeTag(fieldDecision) + protowire.SizeBytes(proto.Size(d))
}

// What is no UTF-8 cannot be recorded, and takes no number.
func TestRecordRefusesBadText(t *testing.T) {
	w := open(t, newBench(t).config(t))
	if _, err := w.Record(&decisionv1.DecisionDetail{Reason: "\xff"}, time.Now()); err == nil {
		t.Error("recorded")
	}
	if id := record(t, w, 1); id.Seq != 2 {
		t.Errorf("the next number is %d", id.Seq)
	}
}

// After Close nothing is recorded, and the closing record is the last number however many are about to record.
func TestClose(t *testing.T) {
	b := newBench(t)
	b.makeStream(t, 0)
	w := start(t, b.config(t))
	var mu sync.Mutex
	var last uint64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for {
				id, err := w.Record(detail("r"), time.Now())
				if err != nil {
					if !errors.Is(err, ErrClosed) {
						t.Error(err)
					}
					return
				}
				mu.Lock()
				last = max(last, id.Seq)
				mu.Unlock()
			}
		})
	}
	testenv.Eventually(t, "some decisions", func() error {
		mu.Lock()
		defer mu.Unlock()
		if last < 1000 {
			return errors.New("not yet")
		}
		return nil
	})
	if err := errors.Join(w.Close(t.Context()), w.Close(t.Context()), w.Run(t.Context())); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	a := newAudit(b, 0)
	a.follow(t, w.own.boot, last+1)
	if len(a.table) != int(last)+1 {
		t.Errorf("%d records, and the last decision has number %d", len(a.table), last)
	}
	if a.table[stream.DecisionID{Boot: w.own.boot, Seq: last + 1}].GetClosed() == nil {
		t.Error("the last record does not close the boot")
	}
	if !errors.Is(w.Status(), ErrClosed) {
		t.Errorf("status: %v", w.Status())
	}
}

// A spool belongs to one process at a time.
func TestLocked(t *testing.T) {
	cfg := newBench(t).config(t)
	w := open(t, cfg)
	cfg.Registerer = nil
	if _, err := Open(cfg); !errors.Is(err, dirlock.ErrLocked) {
		t.Fatalf("a second writer: %v", err)
	}
	record(t, w, 1)
	closeNow(t, w)
	open(t, cfg)
}

func TestOpenRefuses(t *testing.T) {
	good := newBench(t).config(t)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Config){
		"no folder":           func(c *Config) { c.Dir = "" },
		"a folder in a file":  func(c *Config) { c.Dir = filepath.Join(file, "spool") },
		"a node with a dot":   func(c *Config) { c.Node = "a.b" },
		"no partition":        func(c *Config) { c.Partitions = 0 },
		"no connection":       func(c *Config) { c.Conn = nil },
		"no logger":           func(c *Config) { c.Logger = nil },
		"tiny segments":       func(c *Config) { c.SegmentBytes = 4096 },
		"odd segments":        func(c *Config) { c.SegmentBytes = 1<<20 + 1 },
		"a spool of two segs": func(c *Config) { c.SpoolBytes = 2 << 20 },
	} {
		t.Run(name, func(t *testing.T) {
			cfg := good
			change(&cfg)
			if w, err := Open(cfg); err == nil {
				closeNow(t, w)
				t.Error("opened")
			}
		})
	}
}
