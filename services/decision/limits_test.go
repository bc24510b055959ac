package decision

import (
	"context"
	"errors"
	"testing"
	"time"

	decisionv1 "github.com/verdict-io/verdict/proto/gen/verdict/decision/v1"
	eventv1 "github.com/verdict-io/verdict/proto/gen/verdict/event/v1"
	"github.com/verdict-io/verdict/services/internal/identity"
	"github.com/verdict-io/verdict/services/internal/stream"
	"github.com/verdict-io/verdict/services/policy"
)

// What cannot be read cannot be redacted, and so does not leave.
func TestContextThatIsNoJSONIsNotRecorded(t *testing.T) {
	d := &decisionv1.DecisionDetail{
		ContextJson: `{"input":{"pin":"123"`, Replayable: true,
		Settings: &eventv1.Settings{RedactedPaths: &eventv1.RedactedPaths{Paths: []string{"/context/input/pin"}}},
	}
	redact(d)
	if d.GetContextJson() != "" || d.GetReplayable() {
		t.Errorf("recorded %s, replayable: %v", d.GetContextJson(), d.GetReplayable())
	}
}

type nobody struct{}

func (nobody) Staleness() (time.Duration, bool)   { return 0, true }
func (nobody) Wait(context.Context, uint64) error { return nil }
func (nobody) Record(*decisionv1.DecisionDetail, time.Time) (stream.DecisionID, error) {
	return stream.DecisionID{}, nil
}

// A batch that nobody waits for any more is not decided to its end.
func TestBatchEndsWithItsCaller(t *testing.T) {
	n := NewNode(nobody{}, nil)
	n.Follow(nobody{})
	n.Publish(policy.Empty(), nil)
	ctx, cancel := context.WithCancel(identity.NewContext(t.Context(), identity.Caller{Account: "111111111111"}))
	cancel()
	_, err := n.BatchAuthorize(ctx, &decisionv1.BatchAuthorizeRequest{Requests: []*decisionv1.AuthorizeRequest{{}}})
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
