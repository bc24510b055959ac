package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	decisionv1 "github.com/verdict-io/verdict/proto/gen/verdict/decision/v1"
	"github.com/verdict-io/verdict/services/internal/stream"
)

// Row is a record and what its batch says of it.
type Row struct {
	Record   *decisionv1.DecisionRecord
	GivenOut uint64    // the last seq that the boot had given out when the batch was made
	Sequence uint64    // of the batch in the stream
	StoredAt time.Time // the stream's time of the batch
}

// Reject is what came on a stream and is no record.
type Reject struct {
	Sequence uint64
	StoredAt time.Time
	Reason   string
	Data     []byte
}

// Block is a stretch of a stream, all of one day (UTC). The same stretch is the same block, whoever cuts it.
type Block struct {
	Partition     int
	StreamID      string
	FirstSequence uint64
	Rows          []Row
	Rejects       []Reject
}

// Token names the block: what was inserted once under a token is not inserted again.
func (b Block) Token() string { return b.StreamID + "/" + strconv.FormatUint(b.FirstSequence, 10) }

// ErrBlock: the block can never be inserted, whatever ClickHouse does. It is a mistake of who cut it.
var ErrBlock = errors.New("not a block")

// Insert writes the block's rows as one part, and its rejects as another. nil means that ClickHouse has said that both are
// there; it also says so when they were there already. Any other error than ErrBlock means that either may be there, or may get
// there later: insert the same block again.
func (s *Store) Insert(ctx context.Context, b Block) error {
	if err := b.check(); err != nil {
		return err
	}
	if err := s.insert(ctx, &b, "decisions", names(columns), len(b.Rows), appendRows); err != nil {
		return err
	}
	return s.insert(ctx, &b, "rejects", rejectColumns, len(b.Rejects), appendRejects)
}

// check finds what would fail when half of the block is on its way.
func (b Block) check() error {
	for i, r := range b.Rows {
		if len(r.Record.GetBoot()) != len(stream.Boot{}) || r.Record.GetSeq() == 0 {
			return fmt.Errorf("%w: row %d has a boot of %d bytes and seq %d", ErrBlock, i, len(r.Record.GetBoot()), r.Record.GetSeq())
		}
		if day(r.StoredAt) != day(b.Rows[0].StoredAt) {
			return fmt.Errorf("%w: rows of two days", ErrBlock)
		}
	}
	for _, r := range b.Rejects {
		if day(r.StoredAt) != day(b.Rejects[0].StoredAt) {
			return fmt.Errorf("%w: rejects of two days", ErrBlock)
		}
	}
	return nil
}

func day(t time.Time) int64 { return t.Unix() / (24 * 60 * 60) }

// insert is one INSERT of one block of ClickHouse's, hence one part.
func (s *Store) insert(ctx context.Context, b *Block, table, columns string, n int, fill func(driver.Batch, *Block) error) error {
	if n == 0 {
		return nil
	}
	batch, err := s.begin(ctx, b, table, columns)
	if err != nil {
		return unavailable(err)
	}
	defer batch.Close() // of one that was not filled; it has no rows
	if err := fill(batch, b); err != nil {
		return fmt.Errorf("%w: %w", ErrBlock, err)
	}
	return unavailable(batch.Send())
}

// silence is how long ClickHouse waits for the rows of an INSERT. An INSERT that waits for rows cannot be killed.
const silence = 20 * time.Second

// begin tells ClickHouse that an INSERT comes. One that would be two parts, ClickHouse refuses.
func (s *Store) begin(ctx context.Context, b *Block, table, columns string) (driver.Batch, error) {
	ctx = clickhouse.Context(ctx, clickhouse.WithQueryID(s.insertPrefix(b.StreamID)+strconv.FormatUint(b.FirstSequence, 10)+"/"+table),
		clickhouse.WithSettings(clickhouse.Settings{
			"insert_deduplicate": 1, "insert_deduplication_token": b.Token(), "async_insert": 0, "max_partitions_per_insert_block": 1,
			"receive_timeout": int(silence.Seconds()),
		}))
	return s.conn.PrepareBatch(ctx, "INSERT INTO "+s.table(table)+" ("+columns+")")
}

// appendRows goes through the block in stretches that fit the processor's cache, column by column.
func appendRows(batch driver.Batch, b *Block) error {
	rows := make([]row, 0, 512)
	for stretch := range slices.Chunk(b.Rows, cap(rows)) {
		rows = rows[:len(stretch)]
		for i := range stretch {
			if err := flatten(&rows[i], b, &stretch[i]); err != nil {
				return err
			}
		}
		for i, c := range columns {
			if err := c.append(batch.Column(i), rows); err != nil {
				return fmt.Errorf("column %s: %w", c.name, err)
			}
		}
	}
	return nil
}

const rejectColumns = "stored_at, partition, stream_id, stream_sequence, reason, data"

func appendRejects(batch driver.Batch, b *Block) error {
	for _, r := range b.Rejects {
		if err := batch.Append(r.StoredAt.UTC(), uint16(b.Partition), b.StreamID, r.Sequence, r.Reason, string(r.Data)); err != nil {
			return err
		}
	}
	return nil
}

// insertPrefix begins the query ids of the INSERTs of a stream's blocks. ClickHouse runs no two queries of one id at a time.
func (s *Store) insertPrefix(streamID string) string {
	return "verdict/" + s.database + "/" + streamID + "/"
}

// EndInserts ends the INSERTs of a stream's blocks that run on the server, and returns when none runs any more. What the server
// has not heard of yet it cannot end. It takes as long as ClickHouse waits for rows (20 s) when the client of one hangs.
func (s *Store) EndInserts(ctx context.Context, streamID string) error {
	const ours = "WHERE startsWith(query_id, $1)"
	for poll := time.NewTicker(20 * time.Millisecond); ; {
		if err := s.conn.Exec(ctx, "KILL QUERY "+ours+" SYNC FORMAT Null", s.insertPrefix(streamID)); err != nil {
			return fmt.Errorf("ending inserts: %w", unavailable(err))
		}
		var running uint64
		if err := s.conn.QueryRow(ctx, "SELECT count() FROM system.processes "+ours, s.insertPrefix(streamID)).Scan(&running); err != nil {
			return fmt.Errorf("ending inserts: %w", unavailable(err))
		}
		if running == 0 {
			poll.Stop()
			return nil
		}
		select {
		case <-poll.C:
		case <-ctx.Done():
			poll.Stop()
			return fmt.Errorf("ending inserts: %d still run: %w", running, context.Cause(ctx))
		}
	}
}
