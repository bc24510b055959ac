package stream_test

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/verdict-io/verdict/services/internal/stream"
	"github.com/verdict-io/verdict/services/internal/testenv"
)

// journal is a log that a test reads while it is written.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

func (j *journal) has(all ...string) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return testenv.Contains(j.text.String(), all...)
}

func (j *journal) lines() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return strings.Count(j.text.String(), "\n")
}

func connected(t *testing.T, c stream.Connection) (*nats.Conn, *journal) {
	t.Helper()
	j := &journal{}
	c.Logger = slog.New(slog.NewTextHandler(j, nil))
	conn, err := stream.Connect(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	return conn, j
}

// says waits until Connected, or else Permitted, says a text; "" that all is well.
func says(t *testing.T, conn *nats.Conn, text string) {
	t.Helper()
	testenv.Eventually(t, "what it says", func() error {
		err := cmp.Or(stream.Connected(conn), stream.Permitted(conn))
		if (err == nil) != (text == "") || err != nil && !strings.Contains(err.Error(), text) {
			return fmt.Errorf("%w; want %q", err, text)
		}
		return nil
	})
}

// Whoever is refused says so, in the log too, and is connected once the server has been told of the key.
func TestConnectRefused(t *testing.T) {
	t.Parallel()
	s := newSecured(t)
	other := t.TempDir()
	natsConfig(t, other)
	for name, c := range map[string]struct {
		connection stream.Connection
		says       string
	}{
		"no key":    {stream.Connection{URL: s.URL()}, "set --nats-key"},
		"wrong key": {stream.Connection{URL: s.URL(), KeyFile: stream.NATSKeyFile(other, "control")}, "refuses the key (--nats-key)"},
		"no users":  {stream.Connection{URL: testenv.NewNATS(t).URL(), KeyFile: stream.NATSKeyFile(s.dir, "control")}, "knows no users"},
		"away":      {stream.Connection{URL: "nats://127.0.0.1:1", KeyFile: stream.NATSKeyFile(s.dir, "control")}, "NATS does not answer"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn, log := connected(t, c.connection)
			says(t, conn, c.says)
			if name != "away" {
				testenv.Eventually(t, "the log", func() error { return log.has(c.says) })
			}
			if conn, err := stream.Dial(c.connection); name != "away" && (err == nil || !strings.Contains(err.Error(), c.says)) {
				t.Errorf("a tool gets %v, %v", conn, err)
			}
		})
	}
}

// A server that forgets a key cuts its connections off; one that is told of it again has them back, however often it refused.
func TestConnectHeals(t *testing.T) {
	t.Parallel()
	s := newSecured(t)
	other := t.TempDir()
	strangers, _ := natsConfig(t, other)
	c := stream.Connection{URL: s.URL(), KeyFile: stream.NATSKeyFile(s.dir, "control")}
	conn, log := connected(t, c)
	late, _ := connected(t, stream.Connection{URL: s.URL(), KeyFile: stream.NATSKeyFile(other, "control")})
	says(t, conn, "")
	says(t, late, "refuses the key")
	s.Reconfigure(t, strangers)
	says(t, conn, "refuses the key")
	says(t, late, "")
	testenv.Eventually(t, "the log", func() error { return log.has("level=ERROR", "refuses the key") })
	// The library alone gives up for good when it is refused twice.
	before := s.tries(t)
	testenv.Eventually(t, "more than two refusals", func() error {
		if n := s.tries(t) - before; n < 3 {
			return fmt.Errorf("%d", n)
		}
		return nil
	})
	s.Reconfigure(t, s.config)
	says(t, conn, "")
	says(t, late, "refuses the key")
}

// tries is how many connections the server has seen.
func (s *secured) tries(t *testing.T) uint64 {
	t.Helper()
	v, err := s.Server.Varz(nil)
	if err != nil {
		t.Fatal(err)
	}
	return v.TotalConnections
}

// What a user may not do is logged with the subject, once in a while, and works once the server has been told better.
func TestConnectViolation(t *testing.T) {
	t.Parallel()
	s := newSecured(t, "node-1")
	better := strings.Replace(s.config, `"verdict.ingested.node-1"`, `"verdict.ingested.node-1", "verdict.ingested.node-2"`, 1)
	if better == s.config {
		t.Fatal("the configuration was not changed")
	}
	c := stream.Connection{URL: s.URL(), KeyFile: stream.NATSKeyFile(s.dir, "node-node-1")}
	conn, log := connected(t, c.Impatient(time.Second))
	sub, err := conn.SubscribeSync("verdict.ingested.node-2")
	if err != nil {
		t.Fatal(err)
	}
	says(t, conn, "verdict.ingested.node-2")
	testenv.Eventually(t, "the log", func() error {
		return log.has(`Subscription to \"verdict.ingested.node-2\"`, "--nats-key", "verdict nats-config")
	})
	s.Reconfigure(t, better)
	says(t, conn, "")
	if !sub.IsValid() {
		t.Error("the subscription was given up")
	}
	audit := s.user(t, "audit")
	testenv.Eventually(t, "what was refused comes", func() error {
		if err := audit.Publish("verdict.ingested.node-2", nil); err != nil {
			return err
		}
		_, err := sub.NextMsg(100 * time.Millisecond)
		return err
	})
	// Many refusals of one thing are one line.
	patient, quiet := connected(t, c)
	for range 100 {
		if err := published(t, patient, "verdict.policy.x.y.z", ""); err == nil {
			t.Fatal("a node published policy")
		}
	}
	testenv.Eventually(t, "the log", func() error { return quiet.has("verdict.policy.x.y.z") })
	if n := quiet.lines(); n != 1 {
		t.Errorf("%d lines", n)
	}
}

func TestConnectKeyFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	account, err := nkeys.CreateAccount()
	if err != nil {
		t.Fatal(err)
	}
	seed, err := account.Seed()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ data, says string }{
		"none":    {"", "no such file"},
		"junk":    {"password", "is no seed"},
		"account": {string(seed), "must begin with SU"},
	} {
		path := filepath.Join(dir, name)
		if c.data != "" {
			if err := os.WriteFile(path, []byte(c.data), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		_, err := stream.Connect(stream.Connection{URL: "nats://127.0.0.1:1", KeyFile: path})
		if err == nil || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), string(seed)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Keys are made once: not overwritten, not half written, nobody else's to read, whoever makes them at the same time.
func TestEnsureNATSKeys(t *testing.T) {
	t.Parallel()
	users, err := stream.NATSUsers(nil)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "new", "keys")
	var all [8]map[string]string
	var group sync.WaitGroup
	for i := range all {
		group.Go(func() {
			var err error
			if all[i], err = stream.EnsureNATSKeys(dir, users); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != len(users) {
		t.Fatalf("files are %v, %v", files, err)
	}
	for _, u := range users {
		info, err := os.Stat(stream.NATSKeyFile(dir, u.Name))
		if err != nil || info.Mode() != 0o600 {
			t.Errorf("%s: %v, %v", u.Name, info.Mode(), err)
		}
		for _, keys := range all {
			if keys[u.Name] != all[0][u.Name] || !nkeys.IsValidPublicUserKey(keys[u.Name]) {
				t.Errorf("%s is %s and %s", u.Name, keys[u.Name], all[0][u.Name])
			}
		}
	}
	path := stream.NATSKeyFile(dir, "audit")
	if err := os.WriteFile(path, []byte("not a seed"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = stream.EnsureNATSKeys(dir, users)
	if data, _ := os.ReadFile(path); err == nil || errors.Is(err, os.ErrNotExist) || string(data) != "not a seed" {
		t.Errorf("a file that is there already: %v, %s", err, data)
	}
}
