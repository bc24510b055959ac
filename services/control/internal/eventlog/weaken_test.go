package eventlog

import (
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/verdict-io/verdict/services/policy"
)

// by is a request of somebody in the test's account.
func by(id string, may bool, c policy.Command) Request {
	r := Request{Account: account, Cause: cause(""), Command: c, MayWeaken: may}
	r.Cause.Actor.ID = id
	return r
}

// strictOff weakens enforcement: the account has strict forbids by default.
var strictOff = policy.SetAccountSettings{Settings: policy.Settings{StrictForbids: new(false)}}

// What weakens enforcement is decided on under the lock: a setting of the same transaction counts, and what is refused leaves
// nothing behind.
func TestWeakeningUnderTheLock(t *testing.T) {
	t.Parallel()
	l := newBench(t).open(t)
	before := l.Known().Position
	results, err := l.Append(t.Context(), by("ann", false, strictOff))
	if err != nil || !errors.Is(results[0].Err, policy.ErrDenied) {
		t.Errorf("without the role: %v, %v", results, err)
	}
	if l.Known().Position != before {
		t.Error("a refused request left something behind")
	}
	mustAppend(t, l, by("ann", true, strictOff))
	strictOn := policy.SetAccountSettings{Settings: policy.Settings{StrictForbids: new(true)}, SecondPerson: new(true)}
	results, err = l.Append(t.Context(), by("ann", false, strictOn), by("ann", true, strictOff))
	if err != nil || results[0].Err != nil || !errors.Is(results[1].Err, policy.ErrConflict) {
		t.Errorf("a second person is asked for in the same transaction: %v, %v", results, err)
	}
}

// Whether a change is too old goes by the clock of the log.
func TestChangeExpires(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	var ahead atomic.Int64
	cfg := b.config(t)
	cfg.Now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	l, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	for _, id := range []string{"0000000001", "0000000002"} {
		mustAppend(t, l, by("ann", true, policy.ProposeChange{ID: id, Command: strictOff}))
	}
	ahead.Store(int64(policy.ChangeLifetime + time.Minute))
	results, err := l.Append(t.Context(), by("ben", true, policy.ApproveChange{ID: "0000000001"}))
	if err != nil {
		t.Fatal(err)
	}
	if refused, ok := errors.AsType[*policy.Error](results[0].Err); !ok || refused.Reason != "expired" {
		t.Errorf("a week later: %v", results[0].Err)
	}
	ahead.Store(int64(policy.ChangeLifetime - time.Minute))
	mustAppend(t, l, by("ben", true, policy.ApproveChange{ID: "0000000002"}))
}
