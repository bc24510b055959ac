//go:build faults

package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/proto"

	"github.com/verdict-io/verdict/services/follow"
	"github.com/verdict-io/verdict/services/internal/stream"
	"github.com/verdict-io/verdict/services/internal/testenv"
	"github.com/verdict-io/verdict/services/policy"
)

// followed is a site with a control and three followers.
type followed struct {
	*site
	daemon    *daemon
	control   *address
	followers []*follower
	runs      int // of load
}

func newFollowed(t *testing.T) *followed {
	t.Helper()
	b := &followed{site: newSite(t), control: &address{}}
	b.daemon = b.site.control(t)
	b.control.set(t, b.daemon)
	for range 3 {
		b.followers = append(b.followers, b.follow(t, b.control, filepath.Join(t.TempDir(), "state")))
	}
	b.caughtUp(t, "the start")
	return b
}

func (b *followed) caughtUp(t *testing.T, after string) {
	t.Helper()
	testenv.Within(t, time.Minute, "after "+after, func() error { return follows(b.head(t, b.control), b.followers...) })
}

// load writes until it is told to stop. What fails is tried again: the fault may concern control.
func (b *followed) load(t *testing.T) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	b.runs++
	prefix, pace := fmt.Sprintf("load%d_", b.runs), time.NewTicker(5*time.Millisecond)
	d := b.daemon
	go func() {
		defer close(done)
		for i := 0; ctx.Err() == nil; i++ {
			<-pace.C
			_ = d.engines(ctx, fmt.Sprintf("%s%d_", prefix, i), 1)
		}
	}()
	stop = sync.OnceFunc(func() { cancel(); <-done; pace.Stop() })
	t.Cleanup(stop)
	return stop
}

// grows waits until the log has n more events.
func (b *followed) grows(t *testing.T, n uint64) {
	t.Helper()
	from := b.head(t, b.control).Position
	testenv.Within(t, 4*time.Minute, "the log grows", func() error {
		if at := b.head(t, b.control).Position; at < from+n {
			return fmt.Errorf("at %d, want %d", at, from+n)
		}
		return nil
	})
}

func (b *followed) jetstream(t *testing.T) jetstream.JetStream {
	t.Helper()
	js, err := jetstream.New(b.nats.Admin(t, stream.ControlAccount))
	if err != nil {
		t.Fatal(err)
	}
	return js
}

// recreate puts a stream of somebody else in the place of control's.
func (b *followed) recreate(t *testing.T, junk int) {
	t.Helper()
	js := b.jetstream(t)
	testenv.Eventually(t, "a stream of a stranger", func() error {
		if err := js.DeleteStream(t.Context(), stream.PolicyStream); err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
			return err
		}
		config := jetstream.StreamConfig{Name: stream.PolicyStream, Subjects: []string{stream.PolicyAll}, RePublish: &jetstream.RePublish{Source: stream.PolicyAll, Destination: stream.LiveAll}}
		_, err := js.CreateStream(t.Context(), config)
		return err
	})
	for range junk {
		_, _ = js.Publish(t.Context(), "verdict.policy.000000000000.engine.junk", []byte("junk")) // the relay may have taken the stream back
	}
}

// forge publishes what would be the next event, signed by somebody else.
func (b *followed) forge(t *testing.T) {
	t.Helper()
	forger, _ := testenv.NewKeys(t)
	s := b.followers[0].State()
	next := s.Next("000000000000", policy.EngineCreated{ID: "Forged-0123456789", Name: "Forged"}, s.RecordedAt+1)
	next.Commits = true
	event, err := stream.Seal(next, forger)
	if err != nil {
		t.Fatal(err)
	}
	data, err := proto.Marshal(event)
	if err != nil {
		t.Fatal(err)
	}
	conn := b.nats.Admin(t, stream.ControlAccount)
	for _, subject := range []string{"verdict.policy.000000000000.engine.Forged-0123456789", "verdict.live.000000000000.engine.Forged-0123456789"} {
		if err := conn.Publish(subject, data); err != nil {
			t.Fatal(err)
		}
	}
	if err := conn.Flush(); err != nil {
		t.Fatal(err)
	}
}

func (b *followed) purge(t *testing.T) {
	t.Helper()
	js := b.jetstream(t)
	testenv.Eventually(t, "a purge", func() error {
		s, err := js.Stream(t.Context(), stream.PolicyStream)
		if err != nil {
			return err
		}
		if err = s.Purge(t.Context()); err != nil && s.CachedInfo().Config.DenyPurge {
			return nil // the relay has put its own in the stranger's place
		}
		return err
	})
}

// Promise 4, the table of faults: under writes, whatever becomes of the stream, every follower ends at the log's head, with its
// hash, fresh, and has published whole states only, each newer than the one before.
func TestFollowersOutliveTheStream(t *testing.T) {
	t.Parallel()
	b := newFollowed(t)
	faults := []struct {
		name  string
		fault func(t *testing.T)
	}{
		{"the stream is deleted", func(t *testing.T) {
			if err := b.jetstream(t).DeleteStream(t.Context(), stream.PolicyStream); err != nil {
				t.Fatal(err)
			}
		}},
		{"the stream is a stranger's, with junk", func(t *testing.T) { b.recreate(t, 50) }},
		{"a forged message at the next position", b.forge},
		{"the stream is a stranger's, and purged", func(t *testing.T) { b.recreate(t, 5); b.purge(t) }},
		{"an operator recreates the stream", func(t *testing.T) {
			head := b.head(t, b.control)
			js := b.jetstream(t)
			_ = js.DeleteStream(t.Context(), stream.PolicyStream)
			_, _ = js.CreateStream(t.Context(), stream.PolicyStreamConfig(head.LogID, head.Position+1, 1, 1<<28)) // or the relay was faster
		}},
		{"NATS is down, and up", func(t *testing.T) {
			b.nats.Stop()
			b.grows(t, 40)
			b.followsWithoutNATS(t)
			b.nats.Start(t)
		}},
		{"NATS comes back with an older copy", func(t *testing.T) {
			b.nats.Stop()
			backup := b.nats.Backup(t)
			b.nats.Start(t)
			b.grows(t, 40)
			b.nats.Stop()
			b.nats.Restore(t, backup)
			b.nats.Start(t)
		}},
		{"control is killed, and started", func(t *testing.T) {
			_ = b.daemon.cmd.Process.Kill()
			<-b.daemon.done
			for _, f := range b.followers {
				testenv.Eventually(t, "a word that control is away", func() error {
					if f.Status() == nil {
						return errors.New("none")
					}
					return nil
				})
			}
			b.daemon = b.site.control(t)
			b.control.set(t, b.daemon)
		}},
	}
	for _, f := range faults {
		t.Run(f.name, func(t *testing.T) {
			stop := b.load(t)
			b.grows(t, 20)
			f.fault(t)
			stop()
			stop = b.load(t)
			b.grows(t, 20)
			stop()
			b.caughtUp(t, f.name)
		})
	}
}

func (b *followed) followsWithoutNATS(t *testing.T) {
	t.Helper()
	head := b.head(t, b.control)
	for _, f := range b.followers {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		if err := f.Wait(ctx, head.Position); err != nil {
			t.Errorf("without NATS: %v", err)
		}
		cancel()
	}
}

// A follower that starts when the stream holds only the tail, and one whose file is older than that.
func TestColdStartBehindTheStream(t *testing.T) {
	t.Parallel()
	b := newFollowed(t)
	b.followers[0].stop()
	if err := b.daemon.engines(t.Context(), "a", 20); err != nil {
		t.Fatal(err)
	}
	head := b.head(t, b.control)
	js := b.jetstream(t)
	if err := js.DeleteStream(t.Context(), stream.PolicyStream); err != nil {
		t.Fatal(err)
	}
	_, err := js.CreateStream(t.Context(), stream.PolicyStreamConfig(head.LogID, head.Position+1, 1, 1<<28))
	if err != nil && !errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
		t.Fatal(err)
	}
	stop := b.load(t)
	b.followers[0] = b.follow(t, b.control, b.followers[0].dir)
	b.followers = append(b.followers, b.follow(t, b.control, ""))
	b.grows(t, 100)
	stop()
	b.caughtUp(t, "a cold start")
}

// Promise 3: the log comes back from an older copy and goes on otherwise, in a control that was told to write without looking.
// Followers keep the newer state and say so, one that restarts too; nothing claims to be fresh.
func TestLogRestored(t *testing.T) {
	t.Parallel()
	b := newFollowed(t)
	if err := b.daemon.engines(t.Context(), "kept", 5); err != nil {
		t.Fatal(err)
	}
	backup := b.Backup(t)
	if err := b.daemon.engines(t.Context(), "lost", 5); err != nil { // 20 events
		t.Fatal(err)
	}
	b.caughtUp(t, "the events that will be lost")
	newest := b.head(t, b.control)
	b.Restore(t, backup)
	testenv.Within(t, time.Minute, "control refuses", func() error {
		switch err := b.daemon.engines(t.Context(), "refused", 1); {
		case err == nil:
			t.Fatal("control wrote into a log that went back")
			return nil
		case connect.CodeOf(err) != connect.CodeFailedPrecondition:
			return err
		}
		return nil
	})
	b.keepWentBack(t, newest)

	// Somebody forces it: the log goes on, past where the followers are, with a NATS that knows nothing.
	_ = b.daemon.cmd.Process.Kill()
	<-b.daemon.done
	forced := &site{Database: b.Database, nats: b.newNATS(t), keys: b.keys, environ: slices.Clone(b.environ)}
	forced.environ = append(forced.environ, "VERDICT_NATS_URL="+forced.nats.URL())
	d := forced.control(t)
	b.control.set(t, d)
	if err := d.engines(t.Context(), "other", 8); err != nil { // 32 events
		t.Fatal(err)
	}
	b.followers[0].stop()
	b.followers[0] = b.follow(t, b.control, b.followers[0].dir)
	b.keepWentBack(t, newest)
	fresh := b.follow(t, b.control, "")
	testenv.Eventually(t, "a new follower follows the new log", func() error { return follows(b.head(t, b.control), fresh) })
}

// keepWentBack wants all followers to keep a state, to say that the log went back, and to grow old.
func (b *followed) keepWentBack(t *testing.T, newest stream.Head) {
	t.Helper()
	for i, f := range b.followers {
		testenv.Within(t, time.Minute, fmt.Sprintf("follower %d says so", i), func() error {
			if err := f.Status(); !errors.Is(err, follow.ErrWentBack) {
				return fmt.Errorf("status: %w", err)
			}
			return nil
		})
		before, _ := f.Staleness()
		testenv.Within(t, time.Minute, fmt.Sprintf("follower %d grows old", i), func() error {
			if now, _ := f.Staleness(); now < before+2*time.Second {
				return fmt.Errorf("%v, it was %v", now, before)
			}
			return nil
		})
		if s := f.State(); s.Position != newest.Position || s.Hash != newest.Hash {
			t.Errorf("follower %d is at %d, want it to stay at %d", i, s.Position, newest.Position)
		}
	}
}

// The disk fails under a running follower: it follows on, and from what the disk has a later life goes on.
func TestFolderFails(t *testing.T) {
	t.Parallel()
	b := newFollowed(t)
	f := b.followers[0]
	if err := os.Rename(f.dir, f.dir+".gone"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(f.dir, nil, 0o600); err != nil { // no folder can be made in its place
		t.Fatal(err)
	}
	stop := b.load(t)
	b.grows(t, 2000) // the file is begun anew in the folder, which is not there
	stop()
	b.caughtUp(t, "the loss of a folder")
	f.stop()
	if err := errors.Join(os.Remove(f.dir), os.Rename(f.dir+".gone", f.dir)); err != nil {
		t.Fatal(err)
	}
	b.followers[0] = b.follow(t, b.control, f.dir)
	b.caughtUp(t, "its return")
}

// Promise 4, "it serves, says stale, never skips": control hangs without ending a connection. What comes live still applies.
func TestControlHangs(t *testing.T) {
	t.Parallel()
	b := newFollowed(t)
	relaying := b.daemon // has the lease of the relay, and goes on
	b.daemon = b.site.control(t)
	b.control.set(t, b.daemon)
	b.caughtUp(t, "a change of control")
	if err := b.daemon.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if err := relaying.engines(t.Context(), "live", 5); err != nil {
		t.Fatal(err)
	}
	elsewhere := &address{}
	elsewhere.set(t, relaying)
	head := b.head(t, elsewhere)
	for _, f := range b.followers {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		if err := f.Wait(ctx, head.Position); err != nil {
			t.Error(err)
		}
		cancel()
		testenv.Eventually(t, "a word that control hangs", func() error {
			if f.Status() == nil {
				return errors.New("none")
			}
			return nil
		})
	}
	if err := b.daemon.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	b.caughtUp(t, "the pause of control")
}
