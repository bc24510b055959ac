package connectapi

import (
	"testing"

	"connectrpc.com/connect"

	auditv1 "github.com/verdict-io/verdict/proto/gen/verdict/audit/v1"
	"github.com/verdict-io/verdict/services/internal/identity"
	"github.com/verdict-io/verdict/services/internal/rpc"
)

// How many decisions there are is not every account's business.
func TestCompletenessNeedsARole(t *testing.T) {
	ctx := identity.NewContext(t.Context(), identity.Caller{Account: identity.DefaultAccount, Roles: []string{"node"}})
	_, err := New(nil).Completeness(ctx, &auditv1.CompletenessRequest{})
	if refusal, ok := err.(*rpc.Error); !ok || refusal.Code != connect.CodePermissionDenied { //nolint:errorlint // as it is returned
		t.Errorf("%v", err)
	}
}
