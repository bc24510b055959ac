package relay

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/proto"

	eventv1 "github.com/verdict-io/verdict/proto/gen/verdict/event/v1"
	"github.com/verdict-io/verdict/services/control/internal/eventlog"
	"github.com/verdict-io/verdict/services/internal/stream"
)

// errMissing: there is no stream, or one that must go. Whoever leads makes a new one.
var errMissing = errors.New("the stream has to be made anew")

// errMoved: the log has grown during the look; the next one tells.
var errMoved = errors.New("the log moved while the stream was looked at")

// errUnadjusted: the servers refuse the size or the replicas that the stream should have. It is relayed to all the same.
var errUnadjusted = errors.New("the stream cannot be adjusted")

func unfit(format string, args ...any) error {
	return fmt.Errorf("%w: %s", errMissing, fmt.Sprintf(format, args...))
}

func stopped(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrStopped, fmt.Sprintf(format, args...))
}

// look finds the position at which the stream ends: one whose event is the log's. Otherwise it returns errMissing,
// ErrStopped, or why it could not tell. The log refuses writes from a look that ends with ErrStopped until one that tells
// otherwise. It reads the stream before the log: what is on the stream was committed before, so
// a log that lacks it went back.
func (r *Relay) look(ctx context.Context) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*timeout)
	defer cancel()
	last, err := r.see(ctx)
	if errors.Is(err, errMissing) {
		if hidden := r.inspect(ctx); hidden != nil {
			err = hidden
		}
	}
	if errors.Is(err, eventlog.ErrWentBack) {
		err = fmt.Errorf("%w: %w. %s", ErrStopped, err, advice)
	}
	switch {
	case err == nil, errors.Is(err, errMissing):
		r.cfg.Log.Refuse(nil)
	case errors.Is(err, ErrStopped):
		r.cfg.Log.Refuse(err)
	}
	return last, err
}

// see is look by what stands at the end of the stream alone.
func (r *Relay) see(ctx context.Context) (uint64, error) {
	if err := stream.Connected(r.cfg.Conn); err != nil {
		return 0, fmt.Errorf("%w; what is committed is published when it is there", err)
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

// headOf is the log's head, if the stream is not another log's: two deployments that share a NATS by mistake must not take
// the stream from each other, whoever signed what is on it.
func (r *Relay) headOf(ctx context.Context, info *jetstream.StreamInfo) (stream.Head, error) {
	head, err := r.cfg.Log.Head(ctx)
	if id := stream.LogIDOf(info); err == nil && id != "" && id != head.LogID {
		return head, stopped("the stream is that of log %s, and the database holds %s: one of the two addresses is wrong, or the log was begun anew. %s", id, named(head.LogID), advice)
	}
	return head, err
}

func named(logID string) string {
	if logID == "" {
		return "no log yet"
	}
	return "log " + logID
}

// judgeEmpty judges a stream that lost its messages, or never had any. Its numbers still count: they cannot go back.
func (r *Relay) judgeEmpty(ctx context.Context, info *jetstream.StreamInfo) (uint64, error) {
	head, err := r.headOf(ctx, info)
	if err != nil {
		return 0, err
	}
	last := info.State.LastSeq
	switch {
	case stream.LogIDOf(info) == "":
		return 0, unfit("it is empty and was not made by a relay")
	case last > head.Position:
		return 0, stopped("the log ends at position %d, and the stream, now empty, once had position %d: the log went back. %s", head.Position, last, advice)
	}
	return last, r.fits(info, head.LogID)
}

// Deleting the stream would let the log go on and use numbers a second time, so that is not advised.
const advice = "Writes are refused until the log has been restored from a copy that holds what the stream holds."

// judge judges a stream by its last message. One that is the log's event of its number needs no signature: a relay of another
// version, or with newer keys, may have put it there.
func (r *Relay) judge(ctx context.Context, info *jetstream.StreamInfo, last *jetstream.RawStreamMsg) (uint64, error) {
	head, err := r.headOf(ctx, info)
	if err != nil {
		return 0, err
	}
	switch ours, err := r.compare(ctx, head, last); {
	case err != nil:
		return 0, err
	case !ours:
		return 0, unfit("message %d is not an event that control signed", last.Sequence)
	}
	return last.Sequence, r.fits(info, head.LogID)
}

// compare reports whether a message is the log's event of its number. A message that control signed and that is not is
// ErrStopped; whatever else is there is junk, and merely false.
func (r *Relay) compare(ctx context.Context, head stream.Head, msg *jetstream.RawStreamMsg) (bool, error) {
	if msg.Sequence <= head.Position {
		own, err := r.cfg.Log.Row(ctx, msg.Sequence)
		if err != nil {
			return false, err
		}
		want, err := proto.Marshal(own.Event)
		if err != nil {
			return false, err
		}
		if bytes.Equal(msg.Data, want) && msg.Subject == stream.Subject(own.Account, own.Stream) {
			return true, nil
		}
	}
	var event eventv1.PolicyEvent
	if proto.Unmarshal(msg.Data, &event) != nil {
		return false, nil //nolint:nilerr // junk is an answer, not a failure
	}
	logID, position, err := stream.Identify(&event, r.cfg.Keys)
	switch {
	case err != nil || position != msg.Sequence:
		return false, nil //nolint:nilerr // junk is an answer, not a failure
	case logID != head.LogID:
		return false, stopped("the stream holds log %s, and the database holds %s: one of the two addresses is wrong, or the log was begun anew. %s", logID, named(head.LogID), advice)
	case position > head.Position:
		// The head was read before the message, which may have been committed and published in between.
		if now, err := r.cfg.Log.Head(ctx); err != nil || now.Position > head.Position {
			return false, cmp.Or(err, errMoved)
		}
		return false, stopped("the log ends at position %d, and the stream has position %d: the log went back. %s", head.Position, position, advice)
	}
	own, err := r.cfg.Log.Row(ctx, position)
	if err != nil || bytes.Equal(own.Event.GetHash(), event.GetHash()) {
		return false, err // the log's event, on another subject, or signed with another key: not as a relay would send it
	}
	return false, stopped("position %d of the log is not what was published: the log went back and went on differently. %s", position, advice)
}

// fits refuses a stream that somebody else made, though what it holds may be genuine: followers rely on its settings.
func (r *Relay) fits(info *jetstream.StreamInfo, logID string) error {
	want := stream.PolicyStreamConfig(logID, 0, r.cfg.Replicas, r.cfg.MaxBytes)
	have := info.Config
	republishes := have.RePublish != nil && have.RePublish.Source == want.RePublish.Source &&
		have.RePublish.Destination == want.RePublish.Destination && !have.RePublish.HeadersOnly
	unlimited := have.MaxMsgs <= 0 && have.MaxMsgsPerSubject <= 0 && have.MaxAge == 0 && have.MaxMsgSize <= 0
	plain := have.Mirror == nil && len(have.Sources) == 0 && have.SubjectTransform == nil && !have.NoAck && !have.Sealed
	if stream.LogIDOf(info) != logID || !slices.Equal(have.Subjects, want.Subjects) || !republishes || !unlimited || !plain ||
		!have.DenyDelete || !have.DenyPurge || have.AllowDirect || have.Retention != want.Retention || have.Discard != want.Discard {
		return unfit("somebody else made it")
	}
	return nil
}

// adjust gives a stream that fits the size and the number of replicas that this relay was told.
func (r *Relay) adjust(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 3*timeout)
	defer cancel()
	s, err := r.js.Stream(ctx, stream.PolicyStream)
	if err != nil {
		return err
	}
	config := s.CachedInfo().Config
	if config.Replicas == r.cfg.Replicas && config.MaxBytes == r.cfg.MaxBytes {
		return nil
	}
	config.Replicas, config.MaxBytes = r.cfg.Replicas, r.cfg.MaxBytes
	if _, err := r.js.UpdateStream(ctx, config); err != nil {
		return fmt.Errorf("%w to %d replicas and %d bytes: %w", errUnadjusted, config.Replicas, config.MaxBytes, err)
	}
	return nil
}

// inspect looks through the end of a stream that has to be made anew. Junk on top must not hide that the log went back: what
// it lacks may be nowhere else.
func (r *Relay) inspect(ctx context.Context) error {
	s, err := r.js.Stream(ctx, stream.PolicyStream)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	head, err := r.cfg.Log.Head(ctx)
	if err != nil {
		return err
	}
	const most = 256
	state := s.CachedInfo().State
	sequences := []uint64{head.Position + 1}
	for seq := state.LastSeq; seq >= state.FirstSeq && seq > 0 && state.LastSeq-seq < most; seq-- {
		sequences = append(sequences, seq)
	}
	for _, seq := range sequences {
		msg, err := s.GetMsg(ctx, seq)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		if ours, err := r.compare(ctx, head, msg); err != nil || ours {
			return err // what is below one of ours was published before it
		}
	}
	return nil
}

// create deletes the stream if there is one, which look has just found unfit, makes it anew, and returns the position before its first. The server may bring
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
	for range 10 {
		err := r.tryCreate(ctx, head.LogID, first)
		if err == nil {
			return first - 1, nil
		}
		if !errors.Is(err, errHaunted) { // it may exist all the same, and be another's by now: look again
			return 0, fmt.Errorf("making the stream anew: %w", err)
		}
		pause(ctx, 50*time.Millisecond)
	}
	return 0, fmt.Errorf("making the stream anew: %w", errHaunted)
}

// errHaunted: the server brought back messages of a stream that was deleted.
var errHaunted = errors.New("the server brought back old messages")

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
		return fmt.Errorf("%w, %d up to %d", errHaunted, info.State.Msgs, info.State.LastSeq)
	}
	return nil
}
