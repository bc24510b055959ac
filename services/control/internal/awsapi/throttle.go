package awsapi

import (
	"strings"
	"sync"

	"connectrpc.com/connect"
	"golang.org/x/time/rate"

	"github.com/verdict-io/verdict/services/internal/rpc"
)

// throttle holds what is left of each account's requests per second, for each operation.
type throttle struct {
	mu    sync.Mutex
	rates map[throttled]*rate.Limiter // guarded by mu
}

type throttled struct{ account, operation string }

func newThrottle() *throttle { return &throttle{rates: map[throttled]*rate.Limiter{}} }

// perSecond is how many requests a second AgentCore takes for an operation (docs: quotas of Policy); 0 is without limit.
func perSecond(op *operation) int {
	switch op.name {
	case "CreatePolicyEngine", "UpdatePolicyEngine", "DeletePolicyEngine", "StartPolicyGeneration":
		return 1
	}
	if strings.HasPrefix(op.path, "/policy-engine") {
		return 5
	}
	return 0
}

// take takes one request, or refuses it.
func (t *throttle) take(account string, op *operation) error {
	n := perSecond(op)
	if n == 0 {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	key := throttled{account, op.name}
	limiter := t.rates[key]
	if limiter == nil {
		limiter = rate.NewLimiter(rate.Limit(n), n)
		t.rates[key] = limiter
	}
	if limiter.Allow() {
		return nil
	}
	out := rpc.Errorf(connect.CodeResourceExhausted, "throttled", "rate exceeded: an account may ask %s %d times a second", op.name, n)
	out.Undone = true // SDKs send it again, and boto3 with the same signature when that is within the second
	return out
}
