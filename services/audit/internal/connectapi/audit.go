// Package connectapi turns calls of AuditService into questions to the store, and rows into messages. It guarantees that the
// account asked for is the caller's.
package connectapi

import (
	"context"
	"errors"
	"fmt"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	auditv1 "github.com/verdict-io/verdict/proto/gen/verdict/audit/v1"
	"github.com/verdict-io/verdict/proto/gen/verdict/audit/v1/auditv1connect"
	"github.com/verdict-io/verdict/services/audit/internal/store"
	"github.com/verdict-io/verdict/services/internal/identity"
	"github.com/verdict-io/verdict/services/internal/rpc"
	"github.com/verdict-io/verdict/services/internal/stream"
)

// maxMessage is about how large a message of rows gets.
const maxMessage = 256 << 10

// Audit implements AuditService.
type Audit struct {
	store *store.Store
}

var _ auditv1connect.AuditServiceHandler = (*Audit)(nil)

// New answers from a store.
func New(s *store.Store) *Audit { return &Audit{store: s} }

// caller is who calls; the edge lets nobody in who is not known.
func caller(ctx context.Context) identity.Caller {
	c, _ := identity.FromContext(ctx)
	return c
}

// kinds are the codes of what is wrong with SQL.
var kinds = []struct {
	kind   error
	code   connect.Code
	reason string
}{
	{store.ErrSQL, connect.CodeInvalidArgument, "sql"},
	{store.ErrDenied, connect.CodePermissionDenied, "sql_denied"},
	{store.ErrLimit, connect.CodeResourceExhausted, "sql_limit"},
	{store.ErrTime, connect.CodeDeadlineExceeded, "sql_time"},
}

// Query implements AuditService.
func (a *Audit) Query(ctx context.Context, req *auditv1.QueryRequest, out *connect.ServerStream[auditv1.QueryResponse]) error {
	p := &page{out: out}
	err := a.store.Query(ctx, caller(ctx).Account, req.GetSql(), p.head, p.row)
	if err == nil {
		err = p.send()
	}
	if q, ok := errors.AsType[*store.QueryError](err); ok {
		for _, k := range kinds {
			if q.Kind == k.kind { //nolint:errorlint // the kinds are told apart, not searched for
				return &rpc.Error{Code: k.code, Reason: k.reason, Field: "sql", Message: q.Message, Cause: err}
			}
		}
	}
	return err
}

// page gathers rows into messages.
type page struct {
	out     *connect.ServerStream[auditv1.QueryResponse]
	columns []store.Column
	message *auditv1.QueryResponse
	size    int
}

// head begins the first message, which goes out even when there are no rows.
func (p *page) head(columns []store.Column) error {
	p.columns, p.message = columns, &auditv1.QueryResponse{}
	for _, c := range columns {
		p.message.Columns = append(p.message.Columns, &auditv1.Column{Name: utf8(c.Name), Type: c.Type})
	}
	return p.send()
}

func (p *page) row(values []any) error {
	list, ok := row(values, p.columns)
	if !ok {
		return &store.QueryError{Kind: store.ErrLimit, Message: fmt.Sprintf("a row of the result has more than %d values; ask for shorter arrays", maxValues)}
	}
	p.message.Rows = append(p.message.Rows, list)
	if p.size += proto.Size(list); p.size < maxMessage {
		return nil
	}
	return p.send()
}

func (p *page) send() error {
	message := p.message
	p.message, p.size = &auditv1.QueryResponse{}, 0
	if len(message.GetColumns()) == 0 && len(message.GetRows()) == 0 {
		return nil
	}
	return p.out.Send(message)
}

// GetDecision implements AuditService.
func (a *Audit) GetDecision(ctx context.Context, req *auditv1.GetDecisionRequest) (*auditv1.GetDecisionResponse, error) {
	id, err := stream.ParseDecisionID(req.GetDecisionId())
	if err != nil {
		return nil, &rpc.Error{Code: connect.CodeInvalidArgument, Reason: "decision_id", Field: "decisionId", Message: err.Error()}
	}
	record, err := a.store.Decision(ctx, caller(ctx).Account, id)
	return &auditv1.GetDecisionResponse{Record: record}, err
}

// Tail implements AuditService.
func (a *Audit) Tail(context.Context, *auditv1.TailRequest, *connect.ServerStream[auditv1.TailResponse]) error {
	return rpc.Errorf(connect.CodeUnimplemented, "tail", "there is no live tail yet: ask again and again with Query, by recorded_at")
}

var statuses = map[store.BootStatus]auditv1.CompletenessStatus{
	store.BootOpen:     auditv1.CompletenessStatus_COMPLETENESS_STATUS_OPEN,
	store.BootComplete: auditv1.CompletenessStatus_COMPLETENESS_STATUS_COMPLETE,
	store.BootLost:     auditv1.CompletenessStatus_COMPLETENESS_STATUS_LOST,
}

// Completeness implements AuditService. Boots belong to no account: it is for those who may see the counts of all.
func (a *Audit) Completeness(ctx context.Context, req *auditv1.CompletenessRequest) (*auditv1.CompletenessResponse, error) {
	from, to := timeOf(req.GetFromUs()), timeOf(req.GetToUs())
	if !to.IsZero() && to.Before(from) {
		return nil, &rpc.Error{Code: connect.CodeInvalidArgument, Reason: "range", Field: "toUs", Message: "toUs is before fromUs"}
	}
	boots, err := a.store.Completeness(ctx, from, to)
	if err != nil {
		return nil, err
	}
	resp := &auditv1.CompletenessResponse{}
	for _, b := range boots {
		resp.Boots = append(resp.Boots, &auditv1.BootCompleteness{
			Node: b.Node, Boot: b.Boot[:], Status: statuses[b.Status], Recorded: b.Rows, GivenOut: b.GivenOut, Missing: b.Missing,
		})
	}
	return resp, nil
}

// timeOf is the zero time for 0, which stands for the beginning and for now.
func timeOf(us int64) time.Time {
	if us == 0 {
		return time.Time{}
	}
	return time.UnixMicro(us)
}
