package ingest

import (
	"bytes"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	decisionv1 "github.com/verdict-io/verdict/proto/gen/verdict/decision/v1"
	"github.com/verdict-io/verdict/services/internal/stream"
)

// recordVersion is the version of records that this reader knows.
const recordVersion = 1

// message is a message of a decision stream. Whatever is published on the tick subject is a tick.
type message struct {
	sequence uint64
	storedAt time.Time // by the server
	size     int       // bytes, the larger of what the stream stores and what is in memory once decompressed
	batch    *batch    // nil for a tick
}

// batch is a message that is not a tick. If err is nil its frame is good, though single records may be bad.
type batch struct {
	sequence uint64
	storedAt time.Time
	err      error
	data     []byte       // the whole message
	frame    stream.Batch // without its records
	records  []record     // of frame.FirstSeq, FirstSeq+1, …
}

// record is either a record that is what its frame says, or bytes and why they are not.
type record struct {
	*decisionv1.DecisionRecord
	data []byte
	err  error
}

// decode is a message that came on subject. stored is the bytes that the stream has of it.
func decode(partition int, subject string, data []byte, sequence uint64, storedAt time.Time, stored int) message {
	m := message{sequence: sequence, storedAt: storedAt, size: stored}
	if subject == stream.TickSubject(partition) {
		return m
	}
	m.batch = &batch{sequence: sequence, storedAt: storedAt, data: data}
	frame, err := stream.DecodeBatch(data)
	if err == nil && subject != stream.DecisionSubject(partition, frame.Node, frame.Boot) {
		err = fmt.Errorf("it came on %q and says that it is of node %s and boot %s", subject, frame.Node, frame.Boot)
	}
	if err != nil {
		m.batch.err = err
		return m
	}
	size := 0
	m.batch.records = make([]record, len(frame.Records))
	for i, raw := range frame.Records {
		size += len(raw)
		m.batch.records[i] = decodeRecord(&frame, frame.FirstSeq+uint64(i), raw)
	}
	m.size = max(m.size, size)
	frame.Records = nil
	m.batch.frame = frame
	return m
}

func decodeRecord(frame *stream.Batch, seq uint64, raw []byte) record {
	var r decisionv1.DecisionRecord
	err := proto.Unmarshal(raw, &r)
	switch {
	case err != nil:
	case r.GetVersion() != recordVersion:
		err = fmt.Errorf("its version is %d, and this reader knows %d: upgrade audit before the nodes", r.GetVersion(), recordVersion)
	case r.GetNode() != frame.Node || !bytes.Equal(r.GetBoot(), frame.Boot[:]) || r.GetSeq() != seq:
		err = fmt.Errorf("it says that it is number %d of node %.80q, boot %.40x; its batch says number %d of %s, %x",
			r.GetSeq(), r.GetNode(), r.GetBoot(), seq, frame.Node, frame.Boot)
	default:
		return record{DecisionRecord: &r}
	}
	return record{data: raw, err: err}
}

// rows is what b counts for when a stream is cut.
func (b *batch) rows() int { return max(1, len(b.records)) }
