// Package testenv gives each test real servers of its own: a database in the Postgres that VERDICT_POSTGRES_URL names, a
// NATS with JetStream in the test's process, keys. What it starts ends with the test. A server that is missing fails the
// test with one line that says how to run it.
package testenv

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net/url"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

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

// Backup copies a database; nobody else may use it meanwhile, so its connections are cut off.
func (d Database) Backup(t testing.TB) (name string) {
	t.Helper()
	admin, live := d.admin(t)
	defer admin.Close(context.Background())
	name = live + "_backup"
	cutOff(t, admin, live)
	exec(t, admin, "CREATE DATABASE "+name+" TEMPLATE "+live)
	exec(t, admin, "ALTER DATABASE "+live+" ALLOW_CONNECTIONS true")
	t.Cleanup(func() { drop(t, os.Getenv(PostgresVariable), name) })
	return name
}

// Restore puts a backup in the place of the database, as a restore from an older copy does: under running clients, whose
// connections it cuts off.
func (d Database) Restore(t testing.TB, backup string) {
	t.Helper()
	admin, live := d.admin(t)
	defer admin.Close(context.Background())
	cutOff(t, admin, live)
	exec(t, admin, "DROP DATABASE "+live+" WITH (FORCE)")
	exec(t, admin, "CREATE DATABASE "+live+" TEMPLATE "+backup)
}

func (d Database) admin(t testing.TB) (conn *pgx.Conn, name string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), os.Getenv(PostgresVariable))
	if err != nil {
		t.Fatal(err)
	}
	config, err := pgx.ParseConfig(d.URL)
	if err != nil {
		t.Fatal(err)
	}
	return conn, config.Database
}

// cutOff ends the connections of a database and lets no new ones in.
func cutOff(t testing.TB, admin *pgx.Conn, name string) {
	t.Helper()
	exec(t, admin, "ALTER DATABASE "+name+" ALLOW_CONNECTIONS false")
	Eventually(t, "no connection to "+name, func() error {
		exec(t, admin, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '"+name+"'")
		var n int
		err := admin.QueryRow(t.Context(), "SELECT count(*) FROM pg_stat_activity WHERE datname = $1", name).Scan(&n)
		if err == nil && n > 0 {
			err = fmt.Errorf("%d connections", n)
		}
		return err
	})
}
