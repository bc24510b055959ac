package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"

	"github.com/verdict-io/verdict/services/internal/stream"
)

// Mark is how far one boot has got.
type Mark struct {
	Node string
	Boot stream.Boot
	Seq  uint64
}

// Progress is where a partition's ingester goes on: after Sequence of the stream StreamID. Epoch counts the streams that the
// partition has had.
type Progress struct {
	Partition int
	Epoch     uint64
	StreamID  string
	Sequence  uint64
	Marks     []Mark // of boots without a closing record
}

// Progress is what was saved last, the newest by epoch and then sequence; zero when nothing was.
func (s *Store) Progress(ctx context.Context, partition int) (Progress, error) {
	var nodes, boots []string
	var seqs []uint64
	var p Progress
	err := s.conn.QueryRow(ctx, "SELECT epoch, stream_id, sequence, nodes, boots, seqs FROM "+s.table("ingest_progress")+
		" WHERE partition = $1 ORDER BY epoch DESC, sequence DESC, saved_at DESC LIMIT 1", partition).
		Scan(&p.Epoch, &p.StreamID, &p.Sequence, &nodes, &boots, &seqs)
	if errors.Is(err, sql.ErrNoRows) {
		return Progress{}, nil
	}
	if err != nil {
		return Progress{}, fmt.Errorf("ingest progress: %w", unavailable(err))
	}
	p.Partition = partition
	for i, text := range boots {
		boot, err := stream.ParseBoot(text)
		if err != nil {
			return Progress{}, fmt.Errorf("ingest progress: %w", err)
		}
		p.Marks = append(p.Marks, Mark{Node: nodes[i], Boot: boot, Seq: seqs[i]})
	}
	return p, nil
}

// SaveProgress keeps p. An error means that it may be saved or not.
func (s *Store) SaveProgress(ctx context.Context, p Progress) error {
	nodes, boots, seqs := []string{}, []string{}, []uint64{}
	for _, m := range p.Marks {
		nodes, boots, seqs = append(nodes, m.Node), append(boots, m.Boot.String()), append(seqs, m.Seq)
	}
	ctx = clickhouse.Context(ctx, clickhouse.WithSettings(clickhouse.Settings{"async_insert": 0}))
	batch, err := s.conn.PrepareBatch(ctx, "INSERT INTO "+s.table("ingest_progress")+" (partition, epoch, stream_id, sequence, nodes, boots, seqs)")
	if err != nil {
		return fmt.Errorf("ingest progress: %w", unavailable(err))
	}
	defer batch.Close()
	if err := batch.Append(uint16(p.Partition), p.Epoch, p.StreamID, p.Sequence, nodes, boots, seqs); err != nil {
		return fmt.Errorf("ingest progress: %w", err)
	}
	if err := batch.Send(); err != nil {
		return fmt.Errorf("ingest progress: %w", unavailable(err))
	}
	return nil
}

// LastSeq is the highest seq of a boot in the table, 0 when it has none. Rows that came from the stream streamID at sequence
// before or later do not count. It is only right when no INSERT of the others can be under way.
func (s *Store) LastSeq(ctx context.Context, boot stream.Boot, streamID string, before uint64) (uint64, error) {
	var last uint64
	err := s.conn.QueryRow(ctx, "SELECT max(seq) FROM "+s.table("decisions")+" WHERE boot = $1 AND NOT (stream_id = $2 AND stream_sequence >= $3)",
		boot.String(), streamID, before).Scan(&last)
	if err != nil {
		return 0, fmt.Errorf("last seq of boot %s: %w", boot, unavailable(err))
	}
	return last, nil
}

// Landed is the last message of a stream behind sequence after of which a record is in the table, and the stream's time of it; 0
// when there is none.
func (s *Store) Landed(ctx context.Context, streamID string, after uint64) (sequence uint64, storedAt time.Time, err error) {
	err = s.conn.QueryRow(ctx, "SELECT stream_sequence, stored_at FROM "+s.table("decisions")+
		" WHERE stream_id = $1 AND stream_sequence > $2 ORDER BY stream_sequence DESC LIMIT 1", streamID, after).Scan(&sequence, &storedAt)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, time.Time{}, nil
	}
	if err != nil {
		return 0, time.Time{}, fmt.Errorf("what landed of stream %s: %w", streamID, unavailable(err))
	}
	return sequence, storedAt, nil
}

func names(columns []column) string {
	var out []byte
	for i, c := range slices.All(columns) {
		if i > 0 {
			out = append(out, ", "...)
		}
		out = append(out, c.name...)
	}
	return string(out)
}
