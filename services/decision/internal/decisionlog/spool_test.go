package decisionlog

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"github.com/verdict-io/verdict/services/internal/stream"
	"github.com/verdict-io/verdict/services/internal/testenv"
)

// A batch that is full and takes the last of what there is leaves nobody waiting: the next decision is sent as any other, though audit
// says nothing.
func TestNextDecisionAfterAFullBatch(t *testing.T) {
	b := newBench(t)
	b.makeStream(t, 0)
	w := open(t, b.config(t))
	record(t, w, batchRecords-1) // and the opening record
	run(t, w)
	acknowledged(t, w)
	record(t, w, 1)
	acknowledged(t, w)
}

// A boot that closed, and whose end the machine lost afterwards, did not close as far as the disk says, and is named.
func TestClosedBootThatLostItsEnd(t *testing.T) {
	b := newBench(t)
	w := open(t, b.config(t))
	record(t, w, 10)
	closeNow(t, w)
	path := filepath.Join(w.cfg.Dir, w.own.boot.String(), segmentName(1))
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	at := 0
	for range 5 {
		at += frameSize(len(readFrame(data, at)))
	}
	clear(data[at:])
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	r := left(t, w.cfg.Dir)
	if r.previous != w.own.boot || r.previousBound != 12 {
		t.Errorf("names %s with %d, want %s with 12", r.previous, r.previousBound, w.own.boot)
	}
}

// A boot whose records the disk does not give any more holds up nobody else.
func TestUnreadableBoot(t *testing.T) {
	b := newBench(t)
	b.makeStream(t, 0)
	w := open(t, b.config(t))
	record(t, w, 10)
	dir := killed(t, w.cfg.Dir)
	cfg := b.config(t)
	cfg.Dir = dir
	next := open(t, cfg)
	path := filepath.Join(dir, w.own.boot.String(), segmentName(1))
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	binary.NativeEndian.PutUint64(data[frameSize(len(readFrame(data, 0))):], 1)
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(data, 0); err != nil {
		t.Fatal(err)
	}
	f.Close()
	run(t, next)
	id := record(t, next, 10)
	s, err := b.js.Stream(t.Context(), stream.DecisionStream(0))
	if err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, "the running boot's batch", func() error {
		_, err := s.GetLastMsgForSubject(t.Context(), stream.DecisionSubject(0, cfg.Node, id.Boot))
		return err
	})
}
