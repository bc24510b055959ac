package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	controlv1 "github.com/verdict-io/verdict/proto/gen/verdict/control/v1"
	"github.com/verdict-io/verdict/services/internal/stream"
	"github.com/verdict-io/verdict/services/internal/testenv"
)

// bare is a connection with nothing but a user's key.
func (s *site) bare(t *testing.T, user string) *nats.Conn {
	t.Helper()
	public, err := stream.ReadNATSKey(s.natsKey(user))
	must(t, err)
	key, err := nats.NkeyOptionFromSeed(s.natsKey(user))
	must(t, err)
	quiet := nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {})
	conn, err := nats.Connect(s.nats.URL(), key, nats.CustomInboxPrefix(stream.InboxPrefix(public)), quiet)
	must(t, err)
	t.Cleanup(conn.Close)
	return conn
}

// What the tool prints, as an operator gets it: a file that nats-server reads, and that is the same the next time.
func TestNATSConfig(t *testing.T) {
	t.Parallel()
	s := &site{}
	dir := t.TempDir()
	printed := func(args ...string) string {
		out, code := s.verdict(t, append([]string{"nats-config", "--nats-keys", filepath.Join(dir, "keys")}, args...)...)
		if code != 0 {
			t.Fatal(out)
		}
		return out
	}
	first := printed("--listen", "127.0.0.1:4299", "--store-dir", filepath.Join(dir, "store"))
	seed, err := os.ReadFile(filepath.Join(dir, "keys", "control.nk"))
	must(t, err)
	if again := printed("--listen", "127.0.0.1:4299", "--store-dir", filepath.Join(dir, "store")); again != first {
		t.Errorf("printed again it is\n%s\nafter\n%s", again, first)
	}
	if strings.Contains(first, strings.TrimSpace(string(seed))) {
		t.Error("a seed is printed")
	}
	file := filepath.Join(dir, "nats.conf")
	must(t, os.WriteFile(file, []byte(first), 0o600))
	opts, err := server.ProcessConfigFile(file)
	must(t, err)
	if opts.Host != "127.0.0.1" || opts.Port != 4299 || opts.StoreDir != filepath.Join(dir, "store") || len(opts.Nkeys) != 4 {
		t.Errorf("nats-server reads %s:%d, %s and %d users", opts.Host, opts.Port, opts.StoreDir, len(opts.Nkeys))
	}
	opts.Port, opts.NoSigs, opts.NoLog = server.RANDOM_PORT, true, true
	running, err := server.NewServer(opts)
	must(t, err)
	running.Start()
	defer running.WaitForShutdown()
	defer running.Shutdown()
	if !running.ReadyForConnections(20 * time.Second) {
		t.Error("nats-server does not run with it")
	}
	if split := printed("--nodes", "node-1,node-2"); strings.Count(split, "{ nkey: ") != 5 || !strings.Contains(split, `"verdict.decision.*.node-1.*"`) {
		t.Errorf("with a user for each node:\n%s", split)
	}
	for _, bad := range [][]string{{"--nodes", "a,,b"}, {"--nodes", "a,*"}, {"--listen", "7422"}, {"--nats-keys", ""}} {
		if out, code := s.verdict(t, append([]string{"nats-config"}, bad...)...); code != 2 {
			t.Errorf("%v: exits %d: %s", bad, code, out)
		}
	}
}

// The gateway is to come, and its user is there: it follows policies and, if it decides by itself, sends its decisions.
func TestGatewaysNATSUser(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	control := f.start(t, "control", anyAddr)
	f.start(t, "audit", anyAddr)
	gateway := f.bare(t, "gateway")
	live, err := gateway.SubscribeSync(stream.LiveAll)
	must(t, err)
	must(t, gateway.Flush())
	_, err = control.controlClient().CreatePolicyEngine(t.Context(), &controlv1.CreatePolicyEngineRequest{Name: "E"})
	must(t, err)
	msg, err := live.NextMsg(20 * time.Second)
	if err != nil || !strings.HasPrefix(msg.Subject, "verdict.live.") {
		t.Fatalf("a policy event: %v, %v", msg, err)
	}
	js, err := jetstream.New(gateway)
	must(t, err)
	testenv.Eventually(t, "a batch of decisions is taken", func() error {
		_, err := js.Publish(t.Context(), stream.DecisionSubject(0, "gw-1", stream.Boot{1}), []byte("a batch"))
		return err
	})
	if err := gateway.LastError(); err != nil {
		t.Error(err)
	}
	for user, subject := range map[string]string{
		"audit": "verdict.policy.000000000000.policy.p", "gateway": "verdict.ingested.node-1", "decision": "$JS.API.STREAM.DELETE.VERDICT_POLICY",
	} {
		conn := f.bare(t, user)
		must(t, conn.Publish(subject, nil))
		must(t, conn.Flush())
		if err := conn.LastError(); !errors.Is(err, nats.ErrPermissionViolation) {
			t.Errorf("%s publishes on %s: %v", user, subject, err)
		}
	}
}

// A service that NATS does not take, or does not let do its work, says so and what to do, and goes on with what needs no NATS.
func TestWrongNATSKey(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	stranger := filepath.Join(t.TempDir(), "keys")
	if out, code := f.verdict(t, "nats-config", "--nats-keys", stranger); code != 0 {
		t.Fatal(out)
	}
	for _, c := range []struct {
		name, key  string
		conditions []string
		says       string
	}{
		{"control", "", []string{"nats", "relay"}, "set --nats-key"},
		{"audit", "", []string{"nats", "ingest"}, "set --nats-key"},
		{"decision", "", []string{"nats"}, "set --nats-key"},
		{"control", filepath.Join(stranger, "control.nk"), []string{"nats", "relay"}, "refuses the key (--nats-key)"},
		{"audit", filepath.Join(stranger, "audit.nk"), []string{"nats", "ingest"}, "refuses the key (--nats-key)"},
		{"decision", filepath.Join(stranger, "decision.nk"), []string{"nats"}, "refuses the key (--nats-key)"},
		{"control", f.natsKey("audit"), []string{"nats"}, "the key (--nats-key) is another service's"},
		{"audit", f.natsKey("decision"), []string{"nats"}, "the key (--nats-key) is another service's"},
		{"decision", f.natsKey("control"), []string{"nats"}, "the key (--nats-key) is another service's"},
	} {
		t.Run(c.name+" "+c.says, func(t *testing.T) {
			t.Parallel()
			s := f.start(t, c.name, anyAddr, "VERDICT_"+strings.ToUpper(c.name)+"_NATS_KEY="+c.key, "VERDICT_DECISION_DIR="+t.TempDir())
			testenv.Eventually(t, "it says why", func() error {
				_, text := s.get(t, "/readyz")
				for _, condition := range c.conditions {
					if !saysOf(text, condition, c.says) {
						return fmt.Errorf("%s: %s", condition, text)
					}
				}
				return nil
			})
			if c.name == "decision" {
				s.kill() // it would wait for records to be sent
			} else if code := s.end(t); code != 0 {
				t.Errorf("it exits %d", code)
			}
			if !strings.Contains(s.log.String(), c.says) {
				t.Errorf("it does not log %q:\n%s", c.says, s.log)
			}
		})
	}
	out, code := f.verdict(t, "fsck", "--nats-key", filepath.Join(stranger, "control.nk"))
	if code != 1 || !strings.Contains(out, "refuses the key (--nats-key)") {
		t.Errorf("fsck exits %d: %s", code, out)
	}
}

// saysOf reports whether /readyz has a line that a condition does not hold, with a text.
func saysOf(readyz, condition, text string) bool {
	for line := range strings.Lines(readyz) {
		if strings.Contains(line, `"condition":"`+condition+`","ok":false,"required":false`) && strings.Contains(line, text) {
			return true
		}
	}
	return false
}
