package e2e

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	controlv1 "github.com/verdict-io/verdict/proto/gen/verdict/control/v1"
	eventv1 "github.com/verdict-io/verdict/proto/gen/verdict/event/v1"
	"github.com/verdict-io/verdict/proto/gen/verdict/event/v1/eventv1connect"
	"github.com/verdict-io/verdict/services/decision"
	"github.com/verdict-io/verdict/services/follow"
	"github.com/verdict-io/verdict/services/policy"
)

// applied says that a node decides with a position, and how long after its event was made, by the same machine's clock.
type applied struct {
	position uint64
	after    time.Duration
}

// BenchmarkCommitToApplied measures how long a change of enforcement takes from before its commit to the snapshots of eight nodes,
// which share this process, with control as it is built.
func BenchmarkCommitToApplied(b *testing.B) {
	f := &fleet{site: newSite(b)}
	control := f.start(b, "control", anyAddr)
	f.loadExample(b, control)
	const nodes = 8
	seen := make(chan applied, 1000)
	for range nodes {
		f.startNode(b, control, seen)
	}
	gateways, err := control.controlClient().ListGateways(b.Context(), &controlv1.ListGatewaysRequest{})
	must(b, err)
	id := gateways.GetGateways()[0].GetGatewayId()
	var took []time.Duration
	change := func(i int) {
		mode := eventv1.EngineMode_ENGINE_MODE_LOG_ONLY
		if i%2 == 1 {
			mode = eventv1.EngineMode_ENGINE_MODE_ENFORCE
		}
		made, err := control.controlClient().UpdateGateway(b.Context(), &controlv1.UpdateGatewayRequest{GatewayId: id, Definition: &eventv1.GatewayDefinition{
			AuthorizerType:            eventv1.AuthorizerType_AUTHORIZER_TYPE_NONE,
			PolicyEngineConfiguration: &eventv1.GatewayPolicyEngineConfiguration{PolicyEngineId: f.engine, Mode: mode},
		}})
		must(b, err)
		position, err := strconv.ParseUint(made.GetRevision(), 10, 64)
		must(b, err)
		for there := 0; there < nodes; {
			if a := <-seen; a.position == position {
				took = append(took, a.after)
				there++
			}
		}
	}
	change(0) // once all nodes are there
	took = took[:0]
	for i := 1; b.Loop(); i++ {
		change(i)
	}
	slices.Sort(took)
	for _, percent := range []int{50, 99} {
		b.ReportMetric(float64(took[len(took)*percent/100].Microseconds())/1000, fmt.Sprintf("ms-p%d", percent))
	}
}

// startNode starts the part of a node that follows and makes snapshots.
func (f *fleet) startNode(b *testing.B, control *service, seen chan<- applied) {
	b.Helper()
	conn := f.followerConn(b)
	node := decision.NewNode(nil, prometheus.NewRegistry()) // it is never asked
	follower, err := follow.New(follow.Config{
		Conn: conn, Events: eventv1connect.NewEventServiceClient(http.DefaultClient, control.url), Keys: f.keyring(b),
		Dir: filepath.Join(b.TempDir(), "state"), Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
		Publish: func(state *policy.State, accounts []string) {
			node.Publish(state, accounts)
			seen <- applied{state.Position, time.Since(time.UnixMicro(state.RecordedAt))}
		},
	})
	must(b, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- follower.Run(ctx) }()
	b.Cleanup(func() {
		cancel()
		must(b, <-done)
		conn.Close()
	})
	must(b, follower.Wait(b.Context(), 1))
}
