package eventlog

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/verdict-io/verdict/services/internal/testenv"
	"github.com/verdict-io/verdict/services/policy"
)

// Promise 1: the connection breaks at the commit, before the server has it or after. The answer is true, or says that nobody
// knows, and the same request with the same client token, on another replica, finds out.
func TestCommitCut(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		done, away bool
		want       error
	}{
		"not done":                       {false, false, ErrUnavailable},
		"done":                           {true, false, nil},
		"not done, and Postgres is away": {false, true, ErrUnknown},
		"done, and Postgres is away":     {true, true, ErrUnknown},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			other := b.open(t)
			cut := newCutter(t, b.URL, test.done, test.away)
			config := b.config(t)
			config.PostgresURL = cut.url
			l, err := Open(t.Context(), config)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(l.Close)
			cut.armed.Store(true)
			request := createEngine("one")
			request.Cause = cause(strings.Repeat("a", 36))
			results, err := l.Append(t.Context(), request)
			if !errors.Is(err, test.want) || (err == nil && results[0].Revision != 3) {
				t.Errorf("got %+v, %v, want %v", results, err, test.want)
			}
			if cut.armed.Load() {
				t.Error("nothing was cut")
			}
			again := mustAppend(t, other, request)[0]
			if again.Replayed != test.done || again.Revision != 3 {
				t.Errorf("the same request again: replayed %v at %d, want %v at 3", again.Replayed, again.Revision, test.done)
			}
		})
	}
}

// cutter stands between a log and Postgres. Once armed, it cuts the connection on which the next commit is sent.
type cutter struct {
	url   string // of the database, through the cutter
	to    string // the host and port of the server
	done  bool   // whether the server still gets the commit, and carries it out
	away  bool   // whether all other connections are cut too, and new ones refused
	armed atomic.Bool

	listener net.Listener
	mu       sync.Mutex
	conns    []net.Conn // guarded by mu
}

func newCutter(t *testing.T, database string, done, away bool) *cutter {
	t.Helper()
	u, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	c := &cutter{to: u.Host, done: done, away: away}
	if c.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	u.Host = c.listener.Addr().String()
	c.url = u.String()
	go func() {
		for {
			client, err := c.listener.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", c.to)
			if err != nil {
				_ = client.Close()
				continue
			}
			c.mu.Lock()
			c.conns = append(c.conns, client, server)
			c.mu.Unlock()
			go func() { _, _ = io.Copy(client, server); _ = client.Close() }()
			go c.forward(client, server)
		}
	}()
	t.Cleanup(c.close)
	return c
}

// commit is the message of the protocol.
var commit = []byte("Q\x00\x00\x00\x0bcommit\x00")

// cancel begins the request on a connection of its own with which the driver asks that a statement whose connection broke be
// cancelled.
var cancel = []byte("\x00\x00\x00\x10\x04\xd2\x16\x2e")

// forward is what the client says. While the server carries the last commit out, the client is gone already; its request to
// cancel the commit does not arrive, since it could come in time.
func (c *cutter) forward(client, server net.Conn) {
	defer server.Close()
	buffer := make([]byte, 64<<10)
	for {
		n, err := client.Read(buffer)
		if err != nil || bytes.HasPrefix(buffer[:n], cancel) {
			return
		}
		if !bytes.Contains(buffer[:n], commit) || !c.armed.CompareAndSwap(true, false) {
			if _, err := server.Write(buffer[:n]); err != nil {
				return
			}
			continue
		}
		if c.away {
			_ = c.listener.Close()
		}
		_ = client.Close()
		if c.done {
			_, _ = server.Write(buffer[:n])
		}
		if c.away {
			c.close()
		}
		return
	}
}

func (c *cutter) close() {
	_ = c.listener.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range c.conns {
		_ = conn.Close()
	}
}

// Promise 1: a command is decided under the lock, on what its last holder committed: here a name that was free when the
// command came, and is taken when its turn comes.
func TestDecidedUnderLock(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	l := b.open(t)
	_, commit := uncommitted(t, b.open(t), createEngine("one"))
	var results []Result
	appended := make(chan error, 1)
	go func() {
		var err error
		results, err = l.Append(t.Context(), createEngine("one"))
		appended <- err
	}()
	waitsForLock(t, l, appended)
	commit()
	if err := <-appended; err != nil || !errors.Is(results[0].Err, policy.ErrExists) {
		t.Errorf("got %+v, %v, want %v", results, err, policy.ErrExists)
	}
}

// The old transaction may be about to commit still: whoever settles what became of it waits for its end.
func TestSettleWaits(t *testing.T) {
	t.Parallel()
	l := newBench(t).open(t)
	slow, commit := uncommitted(t, l, createEngine("slow"))
	settled := make(chan error, 1)
	go func() { settled <- slow.settle(t.Context(), errors.New("connection reset")) }()
	waitsForLock(t, l, settled)
	commit()
	if err := <-settled; err != nil {
		t.Errorf("the commit happened, and settling it gave %v", err)
	}
}

// uncommitted is a transaction that has the lock and has inserted its rows.
func uncommitted(t *testing.T, l *Log, requests ...Request) (under *transaction, commit func()) {
	t.Helper()
	tx, err := l.write.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tx.Rollback(context.Background()) }) // after a commit it does nothing
	under = &transaction{log: l}
	for _, step := range []func() error{
		func() error { return under.lock(t.Context(), tx) },
		func() error { return under.decideAll(t.Context(), tx, requests) },
		func() error { return under.insert(t.Context(), tx) },
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	return under, func() {
		t.Helper()
		if err := tx.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// waitsForLock waits until somebody waits for the lock; over is for who does not.
func waitsForLock(t *testing.T, l *Log, over <-chan error) {
	t.Helper()
	testenv.Eventually(t, "waiting for the lock", func() error {
		select {
		case err := <-over:
			t.Fatalf("it did not wait: %v", err)
		default:
		}
		var waiting int
		err := l.pool.QueryRow(t.Context(), `SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
			AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`).Scan(&waiting)
		if err == nil && waiting == 0 {
			err = errors.New("nobody waits")
		}
		return err
	})
}
