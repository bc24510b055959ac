package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/prometheus/client_golang/prometheus"

	controlv1 "github.com/verdict-io/verdict/proto/gen/verdict/control/v1"
	eventv1 "github.com/verdict-io/verdict/proto/gen/verdict/event/v1"
	"github.com/verdict-io/verdict/proto/gen/verdict/event/v1/eventv1connect"
	"github.com/verdict-io/verdict/services/follow"
	"github.com/verdict-io/verdict/services/internal/stream"
	"github.com/verdict-io/verdict/services/internal/testenv"
	"github.com/verdict-io/verdict/services/policy"
)

// address is where control is now, for clients that stay.
type address struct{ url atomic.Pointer[url.URL] }

func (a *address) set(t *testing.T, d *daemon) {
	t.Helper()
	u, err := url.Parse(d.url)
	if err != nil {
		t.Fatal(err)
	}
	a.url.Store(u)
}

// RoundTrip sends a request there.
func (a *address) RoundTrip(req *http.Request) (*http.Response, error) {
	req = req.Clone(req.Context())
	req.URL.Host, req.Host = a.url.Load().Host, ""
	return http.DefaultTransport.RoundTrip(req)
}

func (a *address) events() eventv1connect.EventServiceClient {
	return eventv1connect.NewEventServiceClient(&http.Client{Transport: a}, "http://control", connect.WithReadMaxBytes(8<<20))
}

// keyring is what followers of the site trust.
func (s *site) keyring(t testing.TB) stream.Keyring {
	t.Helper()
	keys, err := stream.ReadKeyring(s.setting(t, "VERDICT_TRUSTED_KEYS"))
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// follower is a follower that runs.
type follower struct {
	*follow.Follower
	dir  string
	stop func() // as a service ends, with its file written
	torn atomic.Bool
}

// follow starts a follower; a folder keeps its state file.
func (s *site) follow(t *testing.T, control *address, dir string) *follower {
	t.Helper()
	conn := s.followerConn(t)
	f := &follower{dir: dir}
	var last uint64
	var err error
	f.Follower, err = follow.New(follow.Config{
		Conn: conn, Events: control.events(), Keys: s.keyring(t), Dir: dir, Logger: testenv.Logger(t), Registerer: prometheus.NewRegistry(),
		Publish: func(state *policy.State, _ []string) {
			if !state.Whole || state.Position <= last {
				f.torn.Store(true)
			}
			last = state.Position
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	f.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run returns %v", err)
		}
		conn.Close()
		if f.torn.Load() {
			t.Error("a state was published that is not whole, or not newer")
		}
	})
	t.Cleanup(f.stop)
	return f
}

// head is control's, checked.
func (s *site) head(t testing.TB, control *address) stream.Head {
	t.Helper()
	var head stream.Head
	testenv.Eventually(t, "control's head", func() error {
		resp, err := control.events().Head(t.Context(), &eventv1.HeadRequest{Nonce: []byte("n")})
		if err != nil {
			return err
		}
		head, err = stream.OpenHead(resp.GetHead(), []byte("n"), s.keyring(t))
		return err
	})
	return head
}

// follows is nil when the followers stand at the log's head, are fresh, and say that all is well.
func follows(head stream.Head, followers ...*follower) error {
	for i, f := range followers {
		state := f.State()
		if state == nil || state.Position != head.Position || state.Hash != head.Hash || state.LogID != head.LogID {
			return fmt.Errorf("follower %d is at %+v, the log at %d: %w", i, state, head.Position, f.Status())
		}
		if d, proven := f.Staleness(); !proven || d > 10*time.Second || f.Status() != nil {
			return fmt.Errorf("follower %d is %v old (%v): %w", i, d, proven, f.Status())
		}
	}
	return nil
}

// engines makes n engines and deletes them: four events each.
func (d *daemon) engines(ctx context.Context, prefix string, n int) error {
	for i := range n {
		made, err := d.CreatePolicyEngine(ctx, &controlv1.CreatePolicyEngineRequest{Name: fmt.Sprintf("%s%d", prefix, i)})
		if err != nil {
			return err
		}
		id := made.GetPolicyEngine().GetPolicyEngineId()
		if _, err := d.DeletePolicyEngine(ctx, &controlv1.DeletePolicyEngineRequest{PolicyEngineId: id}); err != nil {
			return err
		}
	}
	return nil
}

// Promises 4 and 5 with a real control: a follower without anything gets the state, then what happens, live; a write's
// revision is here soon after; it restarts from its file, with control and NATS away, and goes on when they are back.
func TestFollow(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	d := s.control(t)
	control := &address{}
	control.set(t, d)
	if err := d.engines(t.Context(), "before", 3); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "state")
	f := s.follow(t, control, dir)
	testenv.Eventually(t, "the state", func() error { return follows(s.head(t, control), f) })

	if err := d.engines(t.Context(), "live", 20); err != nil {
		t.Fatal(err)
	}
	head := s.head(t, control)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := f.Wait(ctx, head.Position); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, "the live events", func() error { return follows(head, f) })

	f.stop()
	_ = d.cmd.Process.Kill()
	<-d.done
	s.nats.Stop()
	f = s.follow(t, control, dir)
	if state := f.State(); state == nil || state.Position != head.Position || state.Hash != head.Hash {
		t.Fatalf("from its file it is at %+v, want %d", state, head.Position)
	}
	if _, proven := f.Staleness(); !proven {
		t.Error("the file does not say how old the state is")
	}
	testenv.Eventually(t, "a word that control is away", func() error {
		if f.Status() == nil {
			return errors.New("none")
		}
		return nil
	})
	s.nats.Start(t)
	d = s.control(t)
	control.set(t, d)
	if err := d.engines(t.Context(), "after", 3); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, "what came after", func() error { return follows(s.head(t, control), f) })
}
