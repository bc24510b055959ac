package rpc_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/verdict-io/verdict/services/internal/identity"
	"github.com/verdict-io/verdict/services/internal/rpc"
	"github.com/verdict-io/verdict/services/policy"
)

var errForked = errors.New("the log went back")

func TestTableOfErrors(t *testing.T) {
	t.Parallel()
	callers, err := identity.NewLoopback("")
	if err != nil {
		t.Fatal(err)
	}
	edge := rpc.New(rpc.Config{Callers: callers, Access: everybody{}, Errors: []rpc.Rule{
		{Is: errForked, Code: connect.CodeUnavailable, Reason: "log_went_back"},
		{Is: io.ErrShortWrite, Code: connect.CodeAborted, Reason: "short", Message: "once more"},
		{Is: context.Canceled, Code: connect.CodeDataLoss, Reason: "rules come first"},
	}})
	domain := func(kind error) error {
		return fmt.Errorf("decide: %w", &policy.Error{
			Kind: kind, Reason: "r", Field: "f", Line: 1, Column: 2, Message: "m", Suggest: "s",
		})
	}
	refused := func(code connect.Code) rpc.Error {
		return rpc.Error{Code: code, Reason: "r", Field: "f", Line: 1, Column: 2, Message: "line 1, column 2: m", Suggest: "s"}
	}
	hidden := rpc.Error{Code: connect.CodeInternal, Reason: "internal", Message: "internal error, request id "}
	for name, tt := range map[string]struct {
		err  error
		want rpc.Error
	}{
		"invalid":            {domain(policy.ErrInvalid), refused(connect.CodeInvalidArgument)},
		"not found":          {domain(policy.ErrNotFound), refused(connect.CodeNotFound)},
		"exists":             {domain(policy.ErrExists), refused(connect.CodeAlreadyExists)},
		"conflict":           {domain(policy.ErrConflict), refused(connect.CodeFailedPrecondition)},
		"stale":              {domain(policy.ErrStale), refused(connect.CodeAborted)},
		"quota":              {domain(policy.ErrQuota), refused(connect.CodeResourceExhausted)},
		"denied":             {domain(policy.ErrDenied), refused(connect.CodePermissionDenied)},
		"kind of no kind":    {domain(errors.New("new kind")), hidden},
		"no kind":            {domain(nil), hidden},
		"bare kind":          {policy.ErrInvalid, hidden},
		"anything":           {errors.New("password is hunter2"), hidden},
		"sentinel":           {fmt.Errorf("append at 7: %w", errForked), rpc.Error{Code: connect.CodeUnavailable, Reason: "log_went_back", Message: "the log went back"}},
		"sentinel with text": {fmt.Errorf("x: %w", io.ErrShortWrite), rpc.Error{Code: connect.CodeAborted, Reason: "short", Message: "once more"}},
		"sentinel of context": {
			context.Canceled, rpc.Error{Code: connect.CodeDataLoss, Reason: "rules come first", Message: "context canceled"},
		},
		"deadline": {
			fmt.Errorf("select: %w", context.DeadlineExceeded),
			rpc.Error{Code: connect.CodeDeadlineExceeded, Reason: "deadline_exceeded", Message: "the answer was not ready within the deadline of the request"},
		},
		"own": {
			fmt.Errorf("x: %w", rpc.Errorf(connect.CodeUnavailable, "behind", "wait %d s", 3)),
			rpc.Error{Code: connect.CodeUnavailable, Reason: "behind", Message: "wait 3 s"},
		},
		"own wins over its cause": {
			&rpc.Error{Code: connect.CodeNotFound, Message: "gone", Cause: domain(policy.ErrInvalid)},
			rpc.Error{Code: connect.CodeNotFound, Reason: "not_found", Message: "gone"},
		},
		"Connect's refusal of a request": {
			connect.NewError(connect.CodeUnimplemented, errors.New("M is not implemented")),
			rpc.Error{Code: connect.CodeUnimplemented, Reason: "unimplemented", Message: "M is not implemented"},
		},
		"dial of another service": {
			connect.NewError(connect.CodeUnavailable, errors.New("dial 10.0.0.3: refused")),
			rpc.Error{Code: connect.CodeUnavailable, Reason: "unavailable", Message: "a service that this one needs does not answer, request id "},
		},
		"Connect's own failure":     {connect.NewError(connect.CodeUnknown, errors.New("secret")), hidden},
		"answer of another service": {connect.NewWireError(connect.CodeNotFound, errors.New("secret")), hidden},
	} {
		got := edge.Refusal(t.Context(), tt.err)
		if diff := cmp.Diff(tt.want, *got, cmpopts.IgnoreFields(rpc.Error{}, "Cause")); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		if !errors.Is(got, tt.err) {
			t.Errorf("%s: the cause is lost to the log", name)
		}
	}
	if got := rpc.New(rpc.Config{Callers: callers, Access: everybody{}}).Refusal(t.Context(), context.Canceled); got.Code != connect.CodeCanceled {
		t.Error(got)
	}
}

func TestOnlyTextForTheCallerLeaves(t *testing.T) {
	t.Parallel()
	f := (&fixture{echo: func(context.Context, *structpb.Struct) (*structpb.Struct, error) {
		return nil, fmt.Errorf("connect to postgres://u:hunter2@db: %w", io.ErrUnexpectedEOF)
	}}).start(t)
	got := f.post(t, echo, `{}`, header("x-request-id", "id-1"))
	if got.status != http.StatusInternalServerError || strings.Contains(got.body, "hunter2") ||
		!strings.Contains(got.body, "internal error, request id id-1") {
		t.Errorf("%d %s", got.status, got.body)
	}
	f.requests(t, echo, "internal", 1)
	lines := f.log.lines(t)
	if len(lines) != 1 || lines[0]["level"] != "ERROR" || !strings.Contains(fmt.Sprint(lines[0]["error"]), "unexpected EOF") {
		t.Error(lines)
	}
}

// REST handlers share the table: Refusal is what they translate, and what the log gets.
func TestRESTHandlersShareTheTable(t *testing.T) {
	t.Parallel()
	cfg := rpc.Config{}
	var edge *rpc.Edge
	f := &fixture{cfg: cfg, rest: func(w http.ResponseWriter, r *http.Request) {
		rpc.SetProcedure(r.Context(), "rest/Create")
		refusal := edge.Refusal(r.Context(), policy.Invalid("bad", "name", "name is bad"))
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, `{"message":"`+refusal.Message+`"}`)
	}}
	callers, err := identity.NewLoopback("")
	if err != nil {
		t.Fatal(err)
	}
	edge = rpc.New(rpc.Config{Callers: callers, Access: everybody{}})
	f.start(t)
	if got := f.post(t, "/rest/x", `{}`); got.body != `{"message":"name is bad"}` {
		t.Error(got.body)
	}
	f.requests(t, "rest/Create", "invalid_argument", 1)
	if lines := f.log.lines(t); len(lines) != 1 || lines[0]["reason"] != "bad" {
		t.Error(lines)
	}
}

// own is a REST API of its own form.
type own struct{}

func (own) Serves(r *http.Request) bool { return strings.HasPrefix(r.URL.Path, "/rest/") }

func (own) Refuse(w http.ResponseWriter, refusal *rpc.Error) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusTeapot)
	_, _ = io.WriteString(w, `{"own":"`+refusal.Message+`"}`)
}

// authors lets nobody do anything but read.
type authors struct{ everybody }

func (authors) Check(_ identity.Caller, action string) error {
	if action != "Get" {
		return errors.New(action + " takes another role")
	}
	return nil
}

// What is refused before a REST handler runs, and what it panics with, is answered in its API's form; the others in Connect's.
func TestRESTRefusesInItsOwnForm(t *testing.T) {
	t.Parallel()
	var edge *rpc.Edge
	f := &fixture{cfg: rpc.Config{REST: own{}, Access: authors{}}, rest: func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel, err := edge.Serve(r.Context(), strings.TrimPrefix(r.URL.Path, "/rest/"))
		defer cancel()
		if err != nil {
			own{}.Refuse(w, edge.Refusal(ctx, err))
			return
		}
		if _, bounded := ctx.Deadline(); !bounded {
			t.Error("no deadline")
		}
		panic("secret")
	}}
	callers, err := identity.NewLoopback("")
	if err != nil {
		t.Fatal(err)
	}
	edge = rpc.New(rpc.Config{Callers: callers, Access: authors{}})
	f.start(t)
	for path, want := range map[string]string{"/rest/Put": `{"own":"Put takes another role"}`, "/rest/Get": `{"own":"internal error, request id my-id"}`} {
		if got := f.post(t, path, `{}`, header("x-request-id", "my-id")); got.body != want || got.status != http.StatusTeapot {
			t.Errorf("%s: %d %s", path, got.status, got.body)
		}
	}
	foreign := header("Sec-Fetch-Site", "cross-site")
	if got := f.post(t, "/rest/Get", `{}`, foreign); got.status != http.StatusTeapot || !strings.Contains(got.body, `{"own":`) {
		t.Errorf("%d %s", got.status, got.body)
	}
	if got := f.post(t, echo, `{}`, foreign); got.status == http.StatusTeapot || strings.Contains(got.body, "own") {
		t.Errorf("%d %s", got.status, got.body)
	}
	f.requests(t, "Put", "permission_denied", 1)
	f.requests(t, "Get", "internal", 1)
}
