package ingest

import "time"

// A block ends after the message with which it has so many records, or bytes. Other numbers cut a stream differently, which
// ingesters that work on the same stream must not do: these stay as they are.
const (
	blockRows  = 50_000
	blockBytes = 64 << 20
)

// block is messages that follow each other, the unit of what is inserted.
type block struct {
	first, last uint64
	ends        time.Time // the server's timestamp of the last
	second      time.Time // the second of the server's timestamps
	rows, bytes int
	batches     []*batch
}

// cutter cuts a stream into blocks. What it returns depends on the messages alone, in whatever pieces they are read, and a
// cutter that begins at the first message of a block cuts as the one before it did.
type cutter struct{ open *block }

// add takes the next message and returns the blocks that end by it, in their order: the one before it, the one with it.
func (c *cutter) add(m message) (closed []*block) {
	second := m.storedAt.UTC().Truncate(time.Second)
	if c.open != nil && !c.open.second.Equal(second) {
		closed = append(closed, c.open)
		c.open = nil
	}
	if c.open == nil {
		c.open = &block{first: m.sequence, second: second}
	}
	b := c.open
	b.last, b.ends = m.sequence, m.storedAt
	b.bytes += m.size
	if m.batch != nil {
		b.rows += m.batch.rows()
		b.batches = append(b.batches, m.batch)
	}
	if b.rows >= blockRows || b.bytes >= blockBytes {
		closed = append(closed, b)
		c.open = nil
	}
	return closed
}

// waits reports whether records wait for their block to end.
func (c *cutter) waits() bool { return c.open != nil && len(c.open.batches) > 0 }
