package decisionlog

import (
	"errors"
	"log/slog"
	"maps"
	"os"
	"slices"

	"github.com/nats-io/nats.go"
	"google.golang.org/protobuf/proto"

	decisionv1 "github.com/verdict-io/verdict/proto/gen/verdict/decision/v1"
	"github.com/verdict-io/verdict/services/internal/stream"
)

// Why records are sent again: three rules, and there is no other.
const (
	// causeStreamChanged: audit names another stream than before, so whatever was in the old one and is not confirmed is lost.
	causeStreamChanged = "stream_changed"
	// causeNotTaken: audit is done with the stream beyond a batch, and has not taken it: the stream lost it, or one before it.
	causeNotTaken = "not_taken"
	// causeStreamLost: an acknowledgement is not above the one before.
	causeStreamLost = "stream_lost"
)

// Why what audit says is not listened to.
const (
	ignoredUndecodable = "undecodable"
	ignoredStranger    = "stranger" // about a node, a partition or a boot that is not ours, or not any more
	ignoredBeyond      = "beyond"   // confirms what was never sent
)

// hear takes what audit says.
func (s *sender) hear(msg *nats.Msg) {
	var in decisionv1.Ingested
	if err := proto.Unmarshal(msg.Data, &in); err != nil || in.GetStreamId() == "" {
		s.ignore(ignoredUndecodable)
		return
	}
	if in.GetNode() == stream.AllNodes {
		s.heardOfStream(&in)
		return
	}
	var concerned []*boot
	for _, b := range s.boots {
		if b.node == in.GetNode() && uint32(b.partition) == in.GetPartition() {
			concerned = append(concerned, b)
		}
	}
	if len(concerned) == 0 {
		s.ignore(ignoredStranger)
		return
	}
	marks := s.believe(in.GetBoots(), concerned)
	for b, seq := range marks {
		s.confirm(b, seq)
	}
	s.judge(&in, concerned)
	for _, b := range concerned {
		s.letGo(b)
	}
}

// believe is what can be true of what is said about these boots.
func (s *sender) believe(said []*decisionv1.BootProgress, concerned []*boot) map[*boot]uint64 {
	marks, liars := map[*boot]uint64{}, map[*boot]bool{}
	for _, progress := range said {
		i := slices.IndexFunc(concerned, func(b *boot) bool { return string(b.boot[:]) == string(progress.GetBoot()) })
		if i < 0 {
			s.ignore(ignoredStranger)
			continue
		}
		b, seq := concerned[i], progress.GetSeq()
		marks[b] = max(marks[b], seq)
		if seq <= b.sent {
			continue
		}
		s.ignore(ignoredBeyond)
		liars[b] = true
		s.w.cfg.Logger.Error("audit confirms decisions that were never sent to it, so what it says of this boot is not believed and nothing is deleted. "+
			"If the spool is an older copy, move the boot's folder away", slog.String("boot", b.boot.String()), slog.Uint64("confirmed", seq), slog.Uint64("sent", b.sent))
	}
	maps.DeleteFunc(marks, func(b *boot, _ uint64) bool { return liars[b] })
	return marks
}

func (s *sender) ignore(cause string) { s.w.metrics.ignored.WithLabelValues(cause).Inc() }

// confirm notes that everything of a boot up to seq is in ClickHouse.
func (s *sender) confirm(b *boot, seq uint64) {
	if seq <= b.confirmed {
		return
	}
	s.w.mu.Lock()
	b.confirmed = seq
	b.next = max(b.next, seq+1)
	s.w.mu.Unlock()
	b.acked = slices.DeleteFunc(b.acked, func(a acked) bool { return a.last <= seq })
}

// judge finds out whether something that was acknowledged is lost.
func (s *sender) judge(in *decisionv1.Ingested, concerned []*boot) {
	if s.heardOfStream(in) {
		return
	}
	for _, b := range concerned {
		if len(b.acked) > 0 && b.acked[0].sequence <= in.GetLastSequence() {
			s.rewind(b, causeNotTaken)
		}
	}
}

// heardOfStream notes which stream a partition has, and has everything sent again that is not confirmed when it is another than
// before. The first one heard of counts as another: what was acknowledged earlier may have been so by one that is gone.
func (s *sender) heardOfStream(in *decisionv1.Ingested) (another bool) {
	p := s.partitions[int(in.GetPartition())]
	switch {
	case p == nil:
		s.ignore(ignoredStranger)
		return false
	case p.id == in.GetStreamId():
		return false
	case p.id != "":
		p.lastAck = 0
	}
	p.id = in.GetStreamId()
	s.rewindAll(int(in.GetPartition()), causeStreamChanged)
	return true
}

func (s *sender) rewindAll(partition int, cause string) {
	for _, b := range s.boots {
		if b.partition == partition {
			s.rewind(b, cause)
		}
	}
}

// rewind has a boot sent again from the first record that is not confirmed.
func (s *sender) rewind(b *boot, cause string) {
	if f := s.flight; f != nil && f.boot == b {
		f.void = true
	}
	b.acked = nil
	if b.next == b.confirmed+1 {
		return
	}
	s.w.metrics.resends.WithLabelValues(cause).Inc()
	s.w.cfg.Logger.Warn("decisions are sent again", slog.String("cause", cause), slog.String("boot", b.boot.String()),
		slog.Uint64("first", b.confirmed+1), slog.Uint64("last", b.next-1))
	s.setNext(b, b.confirmed+1)
}

// letGo deletes what is confirmed: segments, and a boot that has ended with its folder.
func (s *sender) letGo(b *boot) {
	s.w.mu.Lock()
	ended := b != s.w.own || b.closed
	var gone []*segment
	for len(b.segments) > 1 && b.segments[0].last <= b.confirmed {
		gone = append(gone, b.segments[0])
		s.w.used -= b.segments[0].size
		b.segments = slices.Delete(b.segments, 0, 1)
	}
	finished := ended && b.confirmed >= b.last
	if finished {
		s.w.used -= headerSize + b.bytes()
		s.boots = slices.DeleteFunc(s.boots, func(other *boot) bool { return other == b })
	}
	s.w.mu.Unlock()
	var err error
	for _, segment := range gone {
		err = errors.Join(err, segment.close(), os.Remove(segment.path))
	}
	if finished {
		err = errors.Join(err, b.remove())
	}
	if err != nil {
		s.w.cfg.Logger.Error("what audit has confirmed cannot be deleted from the spool", slog.Any("error", err))
	}
	if len(gone) > 0 || finished {
		s.w.nudgeKeeper()
	}
}
