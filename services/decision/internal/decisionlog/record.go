package decisionlog

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	decisionv1 "github.com/verdict-io/verdict/proto/gen/verdict/decision/v1"
	"github.com/verdict-io/verdict/services/decision/internal/wire"
	"github.com/verdict-io/verdict/services/internal/stream"
)

// Fields of DecisionRecord behind the prefix and the number.
const (
	fieldRecordedAt = 5
	fieldDecision   = 6
	fieldOpened     = 7
	fieldClosed     = 8
)

// seqBytes is the most that a number takes in a record.
const seqBytes = 1 + 10

// buffers are for records on their way into the spool; large ones are not kept.
var buffers = sync.Pool{New: func() any { return new(make([]byte, 0, 2048)) }}

const keptBuffer = 64 << 10

// Record gives a decision its number and puts it into the spool. When it returns nil, the decision outlives the process. A record of
// more than stream.MaxRecord leaves its context out and is not replayable. With ErrFull, ErrClosed, ErrTooLarge or an error of the
// disk the decision must not be answered: it is not recorded. d is neither changed nor kept. Record does not wait for NATS; it
// waits for the disk only when decisions come faster than it takes them.
func (w *Writer) Record(d *decisionv1.DecisionDetail, at time.Time) (stream.DecisionID, error) {
	buffer := buffers.Get().(*[]byte)
	body, leftOut, err := encodeDecision((*buffer)[:0], d, at, stream.MaxRecord-len(w.own.prefix)-seqBytes)
	var seq uint64
	if err == nil {
		seq, err = w.append(body, leftOut)
	}
	if cap(body) <= keptBuffer {
		*buffer = body
		buffers.Put(buffer)
	}
	if err != nil {
		return stream.DecisionID{}, err
	}
	select {
	case w.wake <- struct{}{}:
	default: // whoever sends is awake already
	}
	return stream.DecisionID{Boot: w.own.boot, Seq: seq}, nil
}

// encodeDecision appends what stands behind the number: serialized fields of one message may be concatenated. Beyond most bytes the
// context is left out.
func encodeDecision(b []byte, d *decisionv1.DecisionDetail, at time.Time, most int) (_ []byte, leftOut bool, err error) {
	b = appendTime(b, at)
	whole, err := appendDetail(b, d)
	if err == nil && len(whole) > most {
		d = proto.CloneOf(d)
		leftOut = d.ContextJson != ""
		d.ContextJson, d.Replayable = "", false
		whole, err = appendDetail(b, d)
	}
	if err != nil {
		return whole, false, fmt.Errorf("the decision's record: %w", err)
	}
	return whole, leftOut, nil
}

func appendDetail(b []byte, d *decisionv1.DecisionDetail) ([]byte, error) {
	start := len(b)
	b, err := wire.AppendDetail(b, d)
	size := uint64(len(b) - start)
	var room [16]byte
	header := protowire.AppendVarint(protowire.AppendTag(room[:0], fieldDecision, protowire.BytesType), size)
	return slices.Insert(b, start, header...), err
}

func appendTime(b []byte, at time.Time) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, fieldRecordedAt, protowire.VarintType), uint64(at.UnixMicro()))
}

// openingRecord is the first record of a boot behind its number.
func openingRecord(build string, r recovered) []byte {
	var previous []byte
	if r.previousBound > 0 {
		previous = r.previous[:]
	}
	opened, _ := proto.Marshal(&decisionv1.BootOpened{ // which fails only for text that is no UTF-8
		Build: strings.ToValidUTF8(build, "?"), PreviousBoot: previous, PreviousGivenOut: r.previousBound,
		PreviousIsBound: r.previousBound > 0 && !r.previousExact,
	})
	b := protowire.AppendTag(appendTime(nil, time.Now()), fieldOpened, protowire.BytesType)
	return protowire.AppendBytes(b, opened)
}

// closingRecord is the last record of a boot behind its number.
func closingRecord() []byte {
	b := protowire.AppendTag(appendTime(nil, time.Now()), fieldClosed, protowire.BytesType)
	return protowire.AppendBytes(b, nil)
}

// append numbers a record and writes it.
func (w *Writer) append(body []byte, leftOut bool) (seq uint64, err error) {
	size := len(w.own.prefix) + seqBytes + len(body)
	if size > maxFrame {
		return 0, fmt.Errorf("%w: %d bytes without its context, and at most %d", ErrTooLarge, size, maxFrame)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if err = w.commit(body, size); err != nil {
		if errors.Is(err, errFault) {
			err = fmt.Errorf("%w: %w", ErrFull, err)
		}
		if errors.Is(err, ErrFull) {
			w.counts.full++
		}
		return 0, err
	}
	w.counts.records++
	w.counts.bytes += uint64(size)
	if leftOut {
		w.counts.leftOut++
	}
	return w.own.last, nil
}

// commit makes room for a record, reserves its number and writes it. Called with mu, which it may give up for a while.
func (w *Writer) commit(body []byte, size int) (err error) {
	defer faultAsError(&err)()
	if err := w.room(size); err != nil {
		return err
	}
	if w.own.last >= w.reserved {
		if err := w.reserve(); err != nil {
			return err
		}
	}
	w.own.add(body)
	if w.reserved-w.own.last == reserveBlock/2 {
		w.nudgeKeeper() // to reserve more before it is needed
	}
	return nil
}

// add gives a record the next number. The order is that of the promise: the record is there before its number counts as given out.
func (b *boot) add(body []byte) {
	var number [seqBytes]byte
	seq := b.last + 1
	b.current().write(seq, b.prefix, appendSeq(number[:0], seq), body)
	b.last, b.bound = seq, seq
	storeWord(b.page.data, wordGivenOut, seq)
}

// current is the segment that is written to.
func (b *boot) current() *segment { return b.segments[len(b.segments)-1] }

// room sees to it that a record of size bytes fits the last segment. Called with mu, which it gives up while it waits for a new one.
func (w *Writer) room(size int) error {
	for {
		switch {
		case w.closed:
			return ErrClosed
		case w.own.current().room(size, closeRoom):
			return nil
		case w.spare != nil:
			w.own.segments = append(w.own.segments, w.spare)
			w.own.made++
			w.spare = nil
			w.nudgeKeeper()
		case w.making:
			w.finished.Wait()
		case w.makeErr != nil: // the keeper tries again, so that not every decision does
			return w.makeErr
		default:
			if err := w.makeSpare(); err != nil {
				return err
			}
		}
	}
}

// reserve lets another block of numbers be given out, once the disk knows. Called with mu.
func (w *Writer) reserve() error {
	upTo := w.reserved + reserveBlock
	storeWord(w.own.page.data, wordReserved, upTo)
	if err := w.own.page.sync(0, headerSize); err != nil {
		return err
	}
	w.reserved = upTo
	return nil
}

// end writes the closing record, for which every segment has room. Called with mu.
func (w *Writer) end() (err error) {
	defer faultAsError(&err)()
	w.own.add(closingRecord())
	w.own.closed = true
	w.counts.records++
	storeWord(w.own.page.data, wordClosed, 1)
	return nil
}
