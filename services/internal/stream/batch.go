package stream

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"github.com/klauspost/compress/zstd"
	"google.golang.org/protobuf/proto"

	decisionv1 "github.com/verdict-io/verdict/proto/gen/verdict/decision/v1"
)

// Bounds of a batch of decision records.
const (
	// MaxBatch is the largest batch, as published.
	MaxBatch = 512 << 10
	// MaxBatchRecords is the most that the records of a batch amount to before compression.
	MaxBatchRecords = 4 << 20
	// MaxBatchCount is the most records that a batch has. Nodes send fewer; without a bound a few bytes of zeros, compressed, would
	// be millions of them.
	MaxBatchCount = 10_000
	// MaxRecord is the largest record that is kept whole; a larger one leaves its context out.
	MaxRecord = 384 << 10

	batchVersion = 1
)

// ErrBatch: the bytes are no batch of decision records.
var ErrBatch = errors.New("not a batch of decision records")

// Batch is records of one boot, in order and without a gap.
type Batch struct {
	Node     string
	Boot     Boot
	FirstSeq uint64
	LastSeq  uint64
	GivenOut uint64   // the last number the boot had given out
	Records  [][]byte // serialized DecisionRecords
}

var zstdWriter = sync.OnceValues(func() (*zstd.Encoder, error) {
	return zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
})

var zstdReader = sync.OnceValues(func() (*zstd.Decoder, error) {
	return zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(MaxBatchRecords+MaxRecord))
})

// EncodeBatch is the message that b travels in. That it fits MaxBatch is for the caller to see: it may have to put fewer records
// in. The records are copied.
func EncodeBatch(b Batch) ([]byte, error) {
	if got, want := uint64(len(b.Records)), b.LastSeq-b.FirstSeq+1; got != want || got == 0 {
		return nil, fmt.Errorf("batch %d to %d has %d records", b.FirstSeq, b.LastSeq, got)
	}
	if len(b.Records) > MaxBatchCount {
		return nil, fmt.Errorf("batch %d to %d has more than %d records", b.FirstSeq, b.LastSeq, MaxBatchCount)
	}
	size := 0
	for _, record := range b.Records {
		size += binary.MaxVarintLen32 + len(record)
	}
	raw := make([]byte, 0, size)
	for _, record := range b.Records {
		raw = binary.AppendUvarint(raw, uint64(len(record)))
		raw = append(raw, record...)
	}
	enc, err := zstdWriter()
	if err != nil {
		return nil, err
	}
	return proto.Marshal(&decisionv1.DecisionBatch{
		Version: batchVersion, Node: b.Node, Boot: b.Boot[:], FirstSeq: b.FirstSeq, LastSeq: b.LastSeq, GivenOut: b.GivenOut,
		Compression: decisionv1.Compression_COMPRESSION_ZSTD, RecordsSize: uint64(len(raw)), Records: enc.EncodeAll(raw, nil),
	})
}

// DecodeBatch is the inverse of EncodeBatch. What it refuses, with an error that wraps ErrBatch, can never be read: it is no more
// than MaxBatchRecords and MaxBatchCount, and holds as many records as it says. The records themselves are not looked at.
func DecodeBatch(data []byte) (Batch, error) {
	b, err := decodeBatch(data)
	if err != nil {
		return Batch{}, fmt.Errorf("%w: %w", ErrBatch, err)
	}
	return b, nil
}

func decodeBatch(data []byte) (Batch, error) {
	var m decisionv1.DecisionBatch
	if err := proto.Unmarshal(data, &m); err != nil {
		return Batch{}, err
	}
	switch {
	case m.GetVersion() != batchVersion:
		return Batch{}, fmt.Errorf("its version is %d, and this reader knows %d: upgrade it", m.GetVersion(), batchVersion)
	case len(m.GetBoot()) != len(Boot{}):
		return Batch{}, fmt.Errorf("its boot has %d bytes", len(m.GetBoot()))
	case m.GetFirstSeq() == 0 || m.GetLastSeq() < m.GetFirstSeq() || m.GetGivenOut() < m.GetLastSeq():
		return Batch{}, fmt.Errorf("it is numbered %d to %d of %d", m.GetFirstSeq(), m.GetLastSeq(), m.GetGivenOut())
	case m.GetLastSeq()-m.GetFirstSeq() >= MaxBatchCount:
		return Batch{}, fmt.Errorf("it has %d records, more than %d", m.GetLastSeq()-m.GetFirstSeq()+1, MaxBatchCount)
	case m.GetRecordsSize() > MaxBatchRecords:
		return Batch{}, fmt.Errorf("its records have %d bytes, more than %d", m.GetRecordsSize(), MaxBatchRecords)
	}
	if err := ValidNode(m.GetNode()); err != nil {
		return Batch{}, err
	}
	raw, err := decompress(&m)
	if err != nil {
		return Batch{}, err
	}
	records, err := split(raw, m.GetLastSeq()-m.GetFirstSeq()+1)
	return Batch{
		Node: m.GetNode(), Boot: Boot(m.GetBoot()), FirstSeq: m.GetFirstSeq(), LastSeq: m.GetLastSeq(), GivenOut: m.GetGivenOut(),
		Records: records,
	}, err
}

func decompress(m *decisionv1.DecisionBatch) ([]byte, error) {
	raw := m.GetRecords()
	switch m.GetCompression() {
	case decisionv1.Compression_COMPRESSION_UNSPECIFIED:
	case decisionv1.Compression_COMPRESSION_ZSTD:
		dec, err := zstdReader()
		if err != nil {
			return nil, err
		}
		if raw, err = dec.DecodeAll(raw, make([]byte, 0, m.GetRecordsSize())); err != nil {
			return nil, err
		}
	default:
		return nil, fmt.Errorf("it is compressed in a way (%d) that this reader does not know: upgrade it", m.GetCompression())
	}
	if uint64(len(raw)) != m.GetRecordsSize() {
		return nil, fmt.Errorf("its records have %d bytes and not %d", len(raw), m.GetRecordsSize())
	}
	return raw, nil
}

// split finds the records; there must be n of them and nothing behind the last.
func split(raw []byte, n uint64) ([][]byte, error) {
	if n > uint64(len(raw)) { // each takes a byte at least
		return nil, fmt.Errorf("%d bytes are no %d records", len(raw), n)
	}
	records := make([][]byte, 0, n)
	for uint64(len(records)) < n {
		size, width := binary.Uvarint(raw)
		if width <= 0 || size > uint64(len(raw)-width) {
			return nil, fmt.Errorf("record %d of %d is cut off", len(records)+1, n)
		}
		raw = raw[width:]
		records = append(records, raw[:size:size])
		raw = raw[size:]
	}
	if len(raw) > 0 {
		return nil, fmt.Errorf("%d bytes stand behind the last record", len(raw))
	}
	return records, nil
}
