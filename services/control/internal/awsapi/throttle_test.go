package awsapi

import (
	"errors"
	"slices"
	"testing"

	"github.com/verdict-io/verdict/services/internal/rpc"
)

func named(t *testing.T, name string) *operation {
	t.Helper()
	i := slices.IndexFunc(operations, func(op *operation) bool { return op.name == name })
	if i < 0 {
		t.Fatalf("no operation %s", name)
	}
	return operations[i]
}

// An account has its own requests a second for each operation: 1 to change engines, 5 for the rest of policy, any number of others.
func TestThrottle(t *testing.T) {
	throttle := newThrottle()
	for name, most := range map[string]int{
		"CreatePolicyEngine": 1, "UpdatePolicyEngine": 1, "DeletePolicyEngine": 1, "StartPolicyGeneration": 1,
		"GetPolicyEngine": 5, "CreatePolicy": 5, "ListPolicyEngineSummaries": 5, "CreateGateway": 0, "TagResource": 0,
	} {
		op := named(t, name)
		for _, account := range []string{"111111111111", "222222222222"} {
			taken := 0
			var err error
			for taken < 50 && err == nil {
				if err = throttle.take(account, op); err == nil {
					taken++
				}
			}
			refused := (*rpc.Error)(nil)
			if most == 0 && err != nil || most > 0 && (!errors.As(err, &refused) || classOf(refused) != throttling || taken < most || taken > most+1) {
				t.Errorf("%s for %s: %d taken, want %d: %v", name, account, taken, most, err)
			}
		}
	}
}
