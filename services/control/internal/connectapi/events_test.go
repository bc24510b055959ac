package connectapi

import (
	"errors"
	"testing"

	"connectrpc.com/connect"

	eventv1 "github.com/verdict-io/verdict/proto/gen/verdict/event/v1"
	"github.com/verdict-io/verdict/services/internal/identity"
	"github.com/verdict-io/verdict/services/internal/rpc"
)

// The log holds the events of all accounts: whoever is not a node gets none of it.
func TestEventsNeedRole(t *testing.T) {
	t.Parallel()
	e := NewEvents(nil, nil) // a refused caller gets to neither
	ctx := identity.NewContext(t.Context(), identity.Caller{Account: "000000000000", Roles: []string{"author"}})
	_, head := e.Head(ctx, &eventv1.HeadRequest{})
	for name, err := range map[string]error{
		"Head": head, "ReadEvents": e.ReadEvents(ctx, &eventv1.ReadEventsRequest{}, nil), "ReadState": e.ReadState(ctx, &eventv1.ReadStateRequest{}, nil),
	} {
		if refused, ok := errors.AsType[*rpc.Error](err); !ok || refused.Code != connect.CodePermissionDenied {
			t.Errorf("%s: %v", name, err)
		}
	}
}
