package ingest

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	decisionv1 "github.com/verdict-io/verdict/proto/gen/verdict/decision/v1"
	"github.com/verdict-io/verdict/services/audit/internal/store"
	"github.com/verdict-io/verdict/services/internal/stream"
)

// acceptor decides which records of a stream go into the table: each once, and none before the one before it. It keeps the
// mark of each boot, the last number that was taken.
//
// A boot without a mark is new, or it is over and comes again: what the table has of it from before the block is its mark
// then. That is known for sure: all blocks before this one have landed, each whole. What the table has of the block itself does
// not count: a batch that came too early in it would seem to fit when the block is accepted a second time.
type acceptor struct {
	lastSeq lastSeq
	boots   map[stream.Boot]*boot
}

// lastSeq is the last number of a boot in the table, without what came from the current stream at sequence before and later; 0
// when there is none.
type lastSeq func(ctx context.Context, id stream.Boot, before uint64) (uint64, error)

type boot struct {
	node   string
	seq    uint64
	marked bool // in the progress: something was taken, and the boot is not over
	over   bool // the last record that was taken is the boot's last
	named  bool // did not close, and the next boot on its disk named it: nothing more is to come
}

// accepted is what became of a block.
type accepted struct {
	rows    []store.Row
	rejects []store.Reject
	marks   []store.Mark // of boots that are not over, in the order of boots
	// seen is how far each boot has got of which a batch came, by node.
	seen    map[string]map[stream.Boot]uint64
	dropped map[string]int // records that were not taken, by cause
}

// Causes of a record that is not taken.
const (
	causeKnown = "known" // at or below the mark: it came before
	causeGap   = "gap"   // one before it is missing
)

func newAcceptor(marks []store.Mark, lastSeq lastSeq) *acceptor {
	a := &acceptor{lastSeq: lastSeq, boots: map[stream.Boot]*boot{}}
	for _, m := range marks {
		a.boots[m.Boot] = &boot{node: m.Node, seq: m.Seq, marked: true}
	}
	return a
}

// accept takes the next block. After an error, which is lastSeq's, the acceptor must not be used any more.
func (a *acceptor) accept(ctx context.Context, b *block) (accepted, error) {
	if err := a.forget(ctx, b.first); err != nil {
		return accepted{}, err
	}
	out := accepted{seen: map[string]map[stream.Boot]uint64{}, dropped: map[string]int{}, rows: make([]store.Row, 0, b.rows)}
	for _, batch := range b.batches {
		if batch.err != nil {
			out.reject(batch, batch.data, batch.err)
		} else if err := a.batch(ctx, batch, b.first, &out); err != nil {
			return accepted{}, err
		}
	}
	for id, boot := range a.boots {
		if _, ok := out.seen[boot.node][id]; ok {
			out.seen[boot.node][id] = boot.seq
		}
		if boot.over || !boot.marked {
			delete(a.boots, id)
			continue
		}
		out.marks = append(out.marks, store.Mark{Node: boot.node, Boot: id, Seq: boot.seq})
	}
	slices.SortFunc(out.marks, func(x, y store.Mark) int { return bytes.Compare(x.Boot[:], y.Boot[:]) })
	return out, nil
}

func (a *acceptor) batch(ctx context.Context, b *batch, first uint64, out *accepted) error {
	boot, err := a.boot(ctx, b.frame.Node, b.frame.Boot, first)
	if err != nil {
		return err
	}
	if boot.node != b.frame.Node {
		err := fmt.Errorf("node %s sends records %d to %d of boot %s, which is of node %s",
			b.frame.Node, b.frame.FirstSeq, b.frame.LastSeq, b.frame.Boot, boot.node)
		out.reject(b, b.data, err)
		return nil
	}
	if out.seen[boot.node] == nil {
		out.seen[boot.node] = map[stream.Boot]uint64{}
	}
	out.seen[boot.node][b.frame.Boot] = boot.seq
	if b.frame.FirstSeq > boot.seq+1 {
		out.dropped[causeGap] += len(b.records)
		return nil
	}
	a.take(boot, b, out)
	return nil
}

// boot is what is known of a boot; another node's if that was there first.
func (a *acceptor) boot(ctx context.Context, node string, id stream.Boot, before uint64) (*boot, error) {
	if known := a.boots[id]; known != nil {
		return known, nil
	}
	seq, err := a.lastSeq(ctx, id, before)
	if err != nil {
		return nil, err
	}
	a.boots[id] = &boot{node: node, seq: seq}
	return a.boots[id], nil
}

// take takes the records of b above the mark, and moves the mark past them, also past those that are bad: they will not
// become better.
func (a *acceptor) take(boot *boot, b *batch, out *accepted) {
	known := min(boot.seq+1-b.frame.FirstSeq, uint64(len(b.records)))
	out.dropped[causeKnown] += int(known)
	for _, r := range b.records[known:] {
		boot.seq++
		boot.marked, boot.over, boot.named = true, false, false
		if r.err != nil {
			out.reject(b, r.data, fmt.Errorf("record %d of boot %s: %w", boot.seq, b.frame.Boot, r.err))
			continue
		}
		out.rows = append(out.rows, store.Row{
			Record: r.DecisionRecord, GivenOut: b.frame.GivenOut, Sequence: b.sequence, StoredAt: b.storedAt,
		})
		switch what := r.GetWhat().(type) {
		case *decisionv1.DecisionRecord_Opened:
			a.end(boot.node, what.Opened.GetPreviousBoot())
		case *decisionv1.DecisionRecord_Closed:
			boot.over = true
		}
	}
}

// end is for a boot that did not close, and whose records were sent before the next boot's on the same disk.
func (a *acceptor) end(node string, id []byte) {
	if len(id) != len(stream.Boot{}) {
		return
	}
	if before := a.boots[stream.Boot(id)]; before != nil && before.node == node {
		before.named = true
	}
}

// forget removes the marks of boots that were named in the blocks before, which have landed by now. A mark above what the table
// has, since the boot's last record was bad, stays: without it a record behind that one would seem to come too early.
func (a *acceptor) forget(ctx context.Context, before uint64) error {
	for id, boot := range a.boots {
		if !boot.named {
			continue
		}
		boot.named = false
		landed, err := a.lastSeq(ctx, id, before)
		if err != nil {
			return err
		}
		if landed == boot.seq {
			delete(a.boots, id)
		}
	}
	return nil
}

func (out *accepted) reject(b *batch, data []byte, reason error) {
	out.rejects = append(out.rejects, store.Reject{Sequence: b.sequence, StoredAt: b.storedAt, Reason: reason.Error(), Data: data})
}
