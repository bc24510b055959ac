package control

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/proto"

	"github.com/verdict-io/verdict/services/control/internal/eventlog"
	"github.com/verdict-io/verdict/services/internal/stream"
	"github.com/verdict-io/verdict/services/internal/trust"
)

// FsckConfig says what to check.
type FsckConfig struct {
	PostgresURL string
	NATSURL     string // "" leaves the stream out
	Trust       *trust.Trust
	Keys        stream.Keyring
}

// FsckReport is what was found to be right.
type FsckReport struct {
	LogID       string
	Position    uint64 // the last of the log
	Accounts    int
	StreamFirst uint64 // what of the log is on the stream; both 0 when there is no stream, or it is empty
	StreamLast  uint64
}

// Fsck walks the log and compares the stream with it. An error that is ErrBad names the first bad position; any other means
// that the check could not be made.
func Fsck(ctx context.Context, cfg FsckConfig) (FsckReport, error) {
	var report FsckReport
	copied, err := openCopy(ctx, cfg)
	if err != nil {
		return report, err
	}
	defer copied.close()
	state, err := eventlog.Walk(ctx, cfg.PostgresURL, cfg.Trust, cfg.Keys, func(row eventlog.Row) error { return copied.compare(ctx, row) })
	if state != nil {
		report.LogID, report.Position = state.LogID, state.Position
		for range state.Accounts() {
			report.Accounts++
		}
	}
	report.StreamFirst, report.StreamLast = copied.first, copied.last
	switch {
	case errors.Is(err, eventlog.ErrUnavailable), errors.Is(err, errStreamUnavailable), ctx.Err() != nil:
		return report, err
	case err != nil:
		return report, fmt.Errorf("%w: %w", ErrBad, err)
	case copied.end > state.Position:
		return report, fmt.Errorf("%w: position %d: the stream has had positions up to %d, the log ends at %d: it went back", ErrBad, state.Position+1, copied.end, state.Position)
	}
	return report, nil
}

// ErrBad: something in the log or on the stream is not as it must be.
var ErrBad = errors.New("bad")

var errStreamUnavailable = errors.New("the stream cannot be read")

// copyOf is the stream, as far as it claims to hold the log. It was looked at before the log is walked, so that events that
// are committed meanwhile do not seem to be missing from the log.
type copyOf struct {
	conn        *nats.Conn
	stream      jetstream.Stream
	first, last uint64 // of what it holds; both 0 when it is empty
	end         uint64 // the last number it has given out, which an empty stream has too
}

func openCopy(ctx context.Context, cfg FsckConfig) (*copyOf, error) {
	c := &copyOf{}
	if cfg.NATSURL == "" {
		return c, nil
	}
	var err error
	if c.conn, err = stream.Dial(stream.Connection{URL: cfg.NATSURL, Name: "verdict-fsck", Trust: cfg.Trust}); err != nil {
		return nil, fmt.Errorf("%w: %w", errStreamUnavailable, err)
	}
	js, err := jetstream.New(c.conn)
	if err == nil {
		c.stream, err = js.Stream(ctx, stream.PolicyStream)
	}
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return c, nil
	}
	if err != nil {
		c.close()
		return nil, fmt.Errorf("%w: %w", errStreamUnavailable, err)
	}
	info := c.stream.CachedInfo()
	c.end = info.State.LastSeq
	if info.State.Msgs > 0 {
		c.first, c.last = info.State.FirstSeq, info.State.LastSeq
	}
	return c, nil
}

func (c *copyOf) close() {
	if c.conn != nil {
		c.conn.Close()
	}
}

// compare compares an event of the log with the message of its number. A message below the first is gone by rule; the stream
// holds a tail.
func (c *copyOf) compare(ctx context.Context, row eventlog.Row) error {
	if row.Position < c.first || row.Position > c.last {
		return nil
	}
	msg, err := c.stream.GetMsg(ctx, row.Position)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		info, infoErr := c.stream.Info(ctx)
		if infoErr == nil && info.State.FirstSeq > row.Position {
			c.first = info.State.FirstSeq // the tail moved on meanwhile
			return nil
		}
		return fmt.Errorf("message %d is missing from the stream", row.Position)
	}
	if err != nil {
		return fmt.Errorf("%w: message %d: %w", errStreamUnavailable, row.Position, err)
	}
	want, err := proto.Marshal(row.Event)
	if err != nil {
		return err
	}
	if !bytes.Equal(msg.Data, want) {
		return fmt.Errorf("message %d of the stream is not the event of the log", row.Position)
	}
	return nil
}
