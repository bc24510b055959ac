package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/proto"

	eventv1 "github.com/verdict-io/verdict/proto/gen/verdict/event/v1"
	"github.com/verdict-io/verdict/services/internal/stream"
	"github.com/verdict-io/verdict/services/policy"
)

// errMissing: there is no stream, or one that must go. Whoever leads makes a new one.
var errMissing = errors.New("the stream has to be made anew")

var errAway = errors.New("NATS does not answer; what is committed is published when it does")

func unfit(format string, args ...any) error {
	return fmt.Errorf("%w: %s", errMissing, fmt.Sprintf(format, args...))
}

func stopped(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrStopped, fmt.Sprintf(format, args...))
}

// look finds the position at which the stream ends: one whose event is the log's. Otherwise it returns errMissing,
// ErrStopped, or why it could not tell. It reads the stream before the log: what is on the stream was committed before, so
// a log that lacks it went back.
func (r *Relay) look(ctx context.Context) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*timeout)
	defer cancel()
	if !r.cfg.Conn.IsConnected() {
		return 0, errAway
	}
	s, err := r.js.Stream(ctx, stream.PolicyStream)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return 0, unfit("there is none")
	}
	if err != nil {
		return 0, fmt.Errorf("looking at the stream: %w", err)
	}
	info := s.CachedInfo()
	if info.State.Msgs == 0 {
		return r.judgeEmpty(ctx, info)
	}
	last, err := s.GetMsg(ctx, info.State.LastSeq)
	switch {
	case errors.Is(err, jetstream.ErrMsgNotFound):
		// A replica that has just become the leader may lack it for a moment.
		if r.missing++; r.missing > 3 {
			return 0, unfit("message %d is gone", info.State.LastSeq)
		}
		return 0, fmt.Errorf("looking at the stream: %w", err)
	case err != nil:
		return 0, fmt.Errorf("looking at the stream: %w", err)
	}
	r.missing = 0
	return r.judge(ctx, info, last)
}

// judgeEmpty judges a stream that lost its messages, or never had any. Its numbers still count: they cannot go back.
func (r *Relay) judgeEmpty(ctx context.Context, info *jetstream.StreamInfo) (uint64, error) {
	head, err := r.cfg.Log.Head(ctx)
	if err != nil {
		return 0, err
	}
	last := info.State.LastSeq
	switch {
	case stream.LogIDOf(info) != head.LogID:
		return 0, unfit("it is empty and was not made for this log")
	case last > head.Position:
		return 0, stopped("the log ends at position %d, and the stream, now empty, once had position %d: the log went back. %s", head.Position, last, advice)
	}
	return last, r.fits(info, head.LogID)
}

// Deleting the stream would let the log go on and use numbers a second time, so that is not advised.
const advice = "Writes are refused until the log has been restored from a copy that holds what the stream holds."

// judge judges a stream by its last message.
func (r *Relay) judge(ctx context.Context, info *jetstream.StreamInfo, last *jetstream.RawStreamMsg) (uint64, error) {
	event, recorded, err := r.open(last)
	if err != nil {
		return 0, unfit("message %d is not an event that control signed: %v", last.Sequence, err)
	}
	head, err := r.cfg.Log.Head(ctx)
	if err != nil {
		return 0, err
	}
	if recorded.LogID != head.LogID {
		return 0, stopped("the stream holds log %s, the database log %s: one of the two addresses is wrong, or the log was begun anew. %s", recorded.LogID, head.LogID, advice)
	}
	if recorded.Position > head.Position {
		return 0, stopped("the log ends at position %d, and the stream has position %d: the log went back. %s", head.Position, recorded.Position, advice)
	}
	own, err := r.cfg.Log.Event(ctx, recorded.Position)
	if err != nil {
		return 0, err
	}
	if own == nil || string(own.GetHash()) != string(event.GetHash()) {
		return 0, stopped("position %d of the log is not what was published: the log went back and went on differently. %s", recorded.Position, advice)
	}
	return recorded.Position, r.fits(info, head.LogID)
}

// open checks that a message is what the relay would have sent as that message.
func (r *Relay) open(msg *jetstream.RawStreamMsg) (*eventv1.PolicyEvent, policy.Recorded, error) {
	var event eventv1.PolicyEvent
	if err := proto.Unmarshal(msg.Data, &event); err != nil {
		return nil, policy.Recorded{}, err
	}
	recorded, err := stream.Open(&event, r.cfg.Keys)
	if err != nil {
		return nil, policy.Recorded{}, err
	}
	if recorded.Position != msg.Sequence {
		return nil, policy.Recorded{}, fmt.Errorf("it is position %d", recorded.Position)
	}
	if want := stream.Subject(recorded.Account, recorded.Event.Ref()); msg.Subject != want {
		return nil, policy.Recorded{}, fmt.Errorf("its subject is %s, want %s", msg.Subject, want)
	}
	return &event, recorded, nil
}

// fits refuses a stream that somebody else made, though what it holds may be genuine: followers rely on its settings.
func (r *Relay) fits(info *jetstream.StreamInfo, logID string) error {
	want := stream.PolicyStreamConfig(logID, 0, r.cfg.Replicas, r.cfg.MaxBytes)
	have := info.Config
	republishes := have.RePublish != nil && have.RePublish.Source == want.RePublish.Source &&
		have.RePublish.Destination == want.RePublish.Destination && !have.RePublish.HeadersOnly
	if stream.LogIDOf(info) != logID || !slices.Equal(have.Subjects, want.Subjects) || !republishes ||
		!have.DenyDelete || !have.DenyPurge || have.Retention != want.Retention || have.Mirror != nil || len(have.Sources) > 0 {
		return unfit("somebody else made it")
	}
	return nil
}

// create deletes the stream if there is one, makes it anew, and returns the position before its first. The server may bring
// back messages of a stream that was deleted a moment ago, and says nothing of it, so what was made is read back.
func (r *Relay) create(ctx context.Context) (uint64, error) {
	head, err := r.cfg.Log.Head(ctx)
	if err != nil {
		return 0, err
	}
	first := uint64(1)
	if head.Position > r.cfg.Keep {
		first = head.Position - r.cfg.Keep + 1
	}
	r.metrics.rebuilds.Inc()
	r.cfg.Logger.WarnContext(ctx, "making the stream anew", slog.Uint64("first", first), slog.Uint64("head", head.Position))
	for attempt := range 10 {
		if err := r.tryCreate(ctx, head.LogID, first); err == nil {
			return first - 1, nil
		} else if attempt == 9 || ctx.Err() != nil {
			return 0, fmt.Errorf("making the stream anew: %w", err)
		}
		pause(ctx, 50*time.Millisecond)
	}
	return 0, context.Cause(ctx)
}

func (r *Relay) tryCreate(ctx context.Context, logID string, first uint64) error {
	ctx, cancel := context.WithTimeout(ctx, 3*timeout)
	defer cancel()
	if err := r.js.DeleteStream(ctx, stream.PolicyStream); err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
		return err
	}
	s, err := r.js.CreateStream(ctx, stream.PolicyStreamConfig(logID, first, r.cfg.Replicas, r.cfg.MaxBytes))
	if err != nil {
		return err
	}
	info, err := s.Info(ctx)
	if err != nil {
		return err
	}
	if info.State.Msgs != 0 || info.State.LastSeq != first-1 {
		return fmt.Errorf("the server brought back %d old messages up to %d", info.State.Msgs, info.State.LastSeq)
	}
	return nil
}
