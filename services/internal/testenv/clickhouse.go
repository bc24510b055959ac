package testenv

import (
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
)

// What names the ClickHouse that tests make their databases in: its URL, as a user who may do that, and the file with the
// secret that the passwords of its other users were made from (see `verdict clickhouse-users`).
const (
	ClickHouseVariable       = "VERDICT_CLICKHOUSE_URL"
	ClickHouseSecretVariable = "VERDICT_CLICKHOUSE_SECRET"
)

// ClickHouseDatabases is how many databases the users of the tests' ClickHouse may read, verdict_test_00 and so on: the users
// are read once, when the server starts, so a test takes one of these.
const ClickHouseDatabases = 16

// ClickHouseDatabase is the name of the nth database.
func ClickHouseDatabase(n int) string { return fmt.Sprintf("verdict_test_%02d", n) }

// ClickHouse is a database of the test's own.
type ClickHouse struct {
	URL        string // as a user who may do everything
	Database   string // its name
	SecretFile string // "" when the server's users have no secret
}

// NewClickHouse makes a database, which is dropped when the test ends. migrate brings an empty one up to date.
func NewClickHouse(t testing.TB, migrate func(ctx context.Context, ownerURL string) error) ClickHouse {
	t.Helper()
	base := os.Getenv(ClickHouseVariable)
	if base == "" {
		t.Fatalf("%s is not set: run the tests with `make test`, or `.bin/devservers --ports free --only clickhouse -- go test ./…`", ClickHouseVariable)
	}
	admin := openClickHouse(t, base)
	defer admin.Close()
	c := ClickHouse{SecretFile: os.Getenv(ClickHouseSecretVariable)}
	Within(t, 5*time.Minute, "a free database in ClickHouse", func() (err error) {
		c.Database, err = claimClickHouse(t, admin)
		return err
	})
	t.Cleanup(func() { dropClickHouse(t, base, c.Database) })
	u, err := url.Parse(base)
	if err != nil {
		t.Fatalf("%s: %v", ClickHouseVariable, err)
	}
	u.Path = "/" + c.Database
	c.URL = u.String()
	if err := migrate(t.Context(), c.URL); err != nil {
		t.Fatalf("migrating: %v", err)
	}
	return c
}

func openClickHouse(t testing.TB, base string) *sql.DB {
	t.Helper()
	options, err := clickhouse.ParseDSN(base)
	if err != nil {
		t.Fatalf("%s: %v", ClickHouseVariable, err)
	}
	return clickhouse.OpenDB(options)
}

// claimClickHouse makes the first database that no living test process has. Processes take turns by a lock on a file; whose a
// database is stands in its comment.
func claimClickHouse(t testing.TB, admin *sql.DB) (string, error) {
	t.Helper()
	lock, err := os.OpenFile(filepath.Join(os.TempDir(), "verdict-test-clickhouse.lock"), os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	taken := ownersOfClickHouse(t, admin)
	for n := range ClickHouseDatabases {
		name := ClickHouseDatabase(n)
		if pid, ok := taken[name]; ok {
			if alive(pid) {
				continue
			}
			execClickHouse(t, admin, "DROP DATABASE IF EXISTS "+name+" SYNC")
		}
		execClickHouse(t, admin, "CREATE DATABASE IF NOT EXISTS "+name+" COMMENT '"+strconv.Itoa(os.Getpid())+"'")
		return name, nil
	}
	return "", fmt.Errorf("all %d are taken", ClickHouseDatabases)
}

// ownersOfClickHouse is the process of each database that is there.
func ownersOfClickHouse(t testing.TB, admin *sql.DB) (owners map[string]int) {
	t.Helper()
	Eventually(t, ClickHouseVariable, func() (err error) {
		owners, err = readOwners(t.Context(), admin)
		return err
	})
	return owners
}

func readOwners(ctx context.Context, admin *sql.DB) (map[string]int, error) {
	rows, err := admin.QueryContext(ctx, "SELECT name, comment FROM system.databases")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	owners := map[string]int{}
	for rows.Next() {
		var name, comment string
		if err := rows.Scan(&name, &comment); err != nil {
			return nil, err
		}
		owners[name], _ = strconv.Atoi(comment) // 0, nobody, for what was made by hand
	}
	return owners, rows.Err()
}

// alive says whether a process of this machine runs.
func alive(pid int) bool { return pid > 0 && syscall.Kill(pid, 0) != syscall.ESRCH }

// execClickHouse tries again: the development server ends when a client dies at the wrong moment, as clients of other tests do, and
// is started again. The statement must be one that may be repeated.
func execClickHouse(t testing.TB, admin *sql.DB, statement string) {
	t.Helper()
	Eventually(t, statement, func() error {
		_, err := admin.ExecContext(t.Context(), statement)
		return err
	})
}

// dropClickHouse waits for a server that a test has killed to be back.
func dropClickHouse(t testing.TB, base, name string) {
	t.Helper()
	admin := openClickHouse(t, base)
	defer admin.Close()
	Eventually(t, "dropping "+name, func() error {
		_, err := admin.ExecContext(context.Background(), "DROP DATABASE IF EXISTS "+name+" SYNC")
		return err
	})
}
