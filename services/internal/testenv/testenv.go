// Package testenv gives each test real servers of its own: a database in the Postgres that VERDICT_POSTGRES_URL names, a
// NATS with JetStream in the test's process, keys. What it starts ends with the test. A server that is missing fails the
// test with one line that says how to run it.
package testenv

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/hex"
	"net"
	"net/url"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/verdict-io/verdict/services/internal/stream"
)

// PostgresVariable names the server that tests make their databases in, as a user who may do that.
const PostgresVariable = "VERDICT_POSTGRES_URL"

// Database is a database of the test's own.
type Database struct {
	OwnerURL string // as the user who made it
	URL      string // as user verdict_control
}

var template struct {
	sync.Mutex
	name string
}

// NewDatabase makes a database. migrate brings an empty one up to date; it runs once in a process, and further databases
// are copies of the first.
func NewDatabase(t testing.TB, migrate func(ctx context.Context, ownerURL string) error) Database {
	t.Helper()
	base := os.Getenv(PostgresVariable)
	if base == "" {
		t.Fatalf("%s is not set: run the tests with `make test`, or `.bin/devservers --ports free --only postgres -- go test ./…`", PostgresVariable)
	}
	ctx := t.Context()
	admin, err := pgx.Connect(ctx, base)
	if err != nil {
		t.Fatalf("%s: %v", PostgresVariable, err)
	}
	defer admin.Close(ctx)
	from := makeTemplate(t, admin, base, migrate)
	name := "test_" + randomName(t)
	exec(t, admin, "CREATE DATABASE "+name+" TEMPLATE "+from)
	t.Cleanup(func() { drop(t, base, name) })
	return Database{OwnerURL: withDatabase(t, base, name, ""), URL: withDatabase(t, base, name, "verdict_control")}
}

// makeTemplate makes the database that others are copied from; it stays for the process.
func makeTemplate(t testing.TB, admin *pgx.Conn, base string, migrate func(context.Context, string) error) string {
	t.Helper()
	template.Lock()
	defer template.Unlock()
	if template.name != "" {
		return template.name
	}
	name := "template_" + randomName(t)
	exec(t, admin, "CREATE DATABASE "+name)
	if err := migrate(t.Context(), withDatabase(t, base, name, "")); err != nil {
		t.Fatalf("migrating: %v", err)
	}
	template.name = name
	return name
}

func exec(t testing.TB, conn *pgx.Conn, statement string) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), statement); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

func drop(t testing.TB, base, name string) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	admin, err := pgx.Connect(ctx, base)
	if err != nil {
		t.Errorf("dropping %s: %v", name, err)
		return
	}
	defer admin.Close(ctx)
	if _, err := admin.Exec(ctx, "DROP DATABASE "+name+" WITH (FORCE)"); err != nil {
		t.Errorf("dropping %s: %v", name, err)
	}
}

func withDatabase(t testing.TB, base, name, user string) string {
	t.Helper()
	u, err := url.Parse(base)
	if err != nil {
		t.Fatalf("%s: %v", PostgresVariable, err)
	}
	u.Path = "/" + name
	if user != "" {
		u.User = url.User(user)
	}
	return u.String()
}

func randomName(t testing.TB) string {
	t.Helper()
	var b [6]byte
	if _, err := rand.Read(b[:]); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(b[:])
}

// NewKeys makes a signing key and the keyring that trusts it.
func NewKeys(t testing.TB) (*stream.Signer, stream.Keyring) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return stream.NewSigner(private), stream.NewKeyring(public)
}

// NATS is a server in the test's process.
type NATS struct {
	Server *server.Server
	opts   *server.Options
}

// NewNATS starts a server with JetStream on a port and a folder of its own.
func NewNATS(t testing.TB) *NATS {
	t.Helper()
	n := &NATS{opts: &server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true,
	}}
	n.Start(t)
	t.Cleanup(n.Stop)
	return n
}

// Start starts the server again after Stop, on the same port and folder.
func (n *NATS) Start(t testing.TB) {
	t.Helper()
	s, err := server.NewServer(n.opts)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	if !s.ReadyForConnections(10 * time.Second) {
		t.Fatal("NATS did not start")
	}
	n.Server = s
	if addr, ok := s.Addr().(*net.TCPAddr); ok {
		n.opts.Port = addr.Port
	}
}

// Stop ends the server as a crash would seem to its clients; what it had stored stays.
func (n *NATS) Stop() {
	n.Server.Shutdown()
	n.Server.WaitForShutdown()
}

// StoreDir is where the server keeps its streams.
func (n *NATS) StoreDir() string { return n.opts.StoreDir }

// URL is the server's address.
func (n *NATS) URL() string { return n.Server.ClientURL() }

// Connect is a connection that ends with the test.
func (n *NATS) Connect(t testing.TB) *nats.Conn {
	t.Helper()
	conn, err := nats.Connect(n.URL(), nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond), nats.Name(t.Name()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	return conn
}
