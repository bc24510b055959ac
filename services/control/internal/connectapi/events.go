package connectapi

import (
	"context"
	"sync/atomic"

	"connectrpc.com/connect"

	eventv1 "github.com/verdict-io/verdict/proto/gen/verdict/event/v1"
	"github.com/verdict-io/verdict/proto/gen/verdict/event/v1/eventv1connect"
	"github.com/verdict-io/verdict/services/control/internal/eventlog"
	"github.com/verdict-io/verdict/services/internal/rpc"
	"github.com/verdict-io/verdict/services/internal/stream"
	"github.com/verdict-io/verdict/services/policy"
)

// Bounds of what streams send at once, and of what a caller may have signed.
const (
	maxPageEvents = 256
	maxPageBytes  = 1 << 20
	maxChunk      = 256 << 10
	maxNonce      = 64
)

// Events implements EventService, for those who may see the events of all accounts.
type Events struct {
	log    *eventlog.Log
	signer *stream.Signer
	sealed atomic.Pointer[sealedState]
}

// sealedState is a state ready to be sent. Many nodes that start at once ask for the same one.
type sealedState struct {
	state    *policy.State
	data     []byte
	manifest *eventv1.SignedStateManifest
}

var _ eventv1connect.EventServiceHandler = (*Events)(nil)

// NewEvents serves a log, signing as signer.
func NewEvents(log *eventlog.Log, signer *stream.Signer) *Events {
	return &Events{log: log, signer: signer}
}

// Head implements EventService.
func (e *Events) Head(ctx context.Context, req *eventv1.HeadRequest) (*eventv1.HeadResponse, error) {
	if n := len(req.GetNonce()); n > maxNonce {
		return nil, policy.Invalid("length", "nonce", "nonce may have %d bytes; it has %d", maxNonce, n)
	}
	head, err := e.log.Head(ctx)
	if err != nil {
		return nil, err
	}
	signed, err := stream.SealHead(head, req.GetNonce(), e.signer)
	return &eventv1.HeadResponse{Head: signed}, err
}

// ReadEvents implements EventService.
func (e *Events) ReadEvents(ctx context.Context, req *eventv1.ReadEventsRequest, out *connect.ServerStream[eventv1.ReadEventsResponse]) error {
	head, err := e.log.Head(ctx)
	switch {
	case err != nil:
		return err
	case req.GetLogId() != "" && req.GetLogId() != head.LogID:
		return rpc.Errorf(connect.CodeFailedPrecondition, "another_log", "this is log %s, not %s", head.LogID, req.GetLogId())
	case req.GetAfterPosition() > head.Position:
		return rpc.Errorf(connect.CodeOutOfRange, "beyond_the_head", "the log ends at position %d, before %d", head.Position, req.GetAfterPosition())
	}
	page := pager{out: out}
	sent := uint64(0)
	for row, err := range e.log.Read(ctx, req.GetAfterPosition()) {
		if err != nil {
			return err
		}
		if err := page.add(row); err != nil {
			return err
		}
		if sent++; req.GetLimit() > 0 && sent >= req.GetLimit() && row.Commits {
			break
		}
	}
	return page.flush()
}

// pager sends events in pages of bounded size.
type pager struct {
	out    *connect.ServerStream[eventv1.ReadEventsResponse]
	events []*eventv1.PolicyEvent
	bytes  int
}

func (p *pager) add(row eventlog.Row) error {
	p.events = append(p.events, row.Event)
	p.bytes += len(row.Event.GetBody())
	if len(p.events) < maxPageEvents && p.bytes < maxPageBytes {
		return nil
	}
	return p.flush()
}

func (p *pager) flush() error {
	if len(p.events) == 0 {
		return nil
	}
	err := p.out.Send(&eventv1.ReadEventsResponse{Events: p.events})
	p.events, p.bytes = nil, 0
	return err
}

// ReadState implements EventService.
func (e *Events) ReadState(ctx context.Context, _ *eventv1.ReadStateRequest, out *connect.ServerStream[eventv1.ReadStateResponse]) error {
	sealed, err := e.seal(ctx)
	if err != nil {
		return err
	}
	if err := out.Send(&eventv1.ReadStateResponse{Part: &eventv1.ReadStateResponse_Manifest{Manifest: sealed.manifest}}); err != nil {
		return err
	}
	for data := sealed.data; len(data) > 0; {
		n := min(len(data), maxChunk)
		if err := out.Send(&eventv1.ReadStateResponse{Part: &eventv1.ReadStateResponse_Chunk{Chunk: data[:n]}}); err != nil {
			return err
		}
		data = data[n:]
	}
	return nil
}

// seal is the state at the head, sealed once for all who ask at the same revision.
func (e *Events) seal(ctx context.Context) (*sealedState, error) {
	s, err := e.log.State(ctx)
	if err != nil {
		return nil, err
	}
	if sealed := e.sealed.Load(); sealed != nil && sealed.state == s {
		return sealed, nil
	}
	data, manifest, err := stream.SealState(s, e.signer)
	if err != nil {
		return nil, err
	}
	sealed := &sealedState{state: s, data: data, manifest: manifest}
	e.sealed.Store(sealed)
	return sealed, nil
}
