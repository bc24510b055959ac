package eventlog

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/database"
	"github.com/pressly/goose/v3/lock"

	"github.com/verdict-io/verdict/services/internal/trust"
)

// Role is the database role that control connects as: it may read and append, and does not own the log.
const Role = "verdict_control"

const versionTable = "verdict.goose_db_version"

//go:embed migrations/*.sql
var embedded embed.FS

// createRole: roles belong to the whole server, so it may be there already, or be made by somebody else meanwhile.
const createRole = `DO $$ BEGIN
	CREATE ROLE ` + Role + ` LOGIN;
EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
END $$`

// Migrate brings the database at ownerURL up to this version: the schema verdict, its tables, and the role that control
// connects as. password, when not empty, becomes the role's. Several may run at once; code of the version before goes on
// running. It returns the versions applied, none when the database was up to date.
func Migrate(ctx context.Context, ownerURL, password string, t *trust.Trust) ([]int64, error) {
	config, err := parse(ownerURL, t)
	if err != nil {
		return nil, fmt.Errorf("owner url: %w", err)
	}
	db := stdlib.OpenDB(*config)
	defer db.Close()
	if err := prepare(ctx, db, password); err != nil {
		return nil, err
	}
	provider, err := newProvider(db)
	if err != nil {
		return nil, err
	}
	results, err := provider.Up(ctx)
	if err != nil {
		return nil, fmt.Errorf("migrate: %w", err)
	}
	var applied []int64
	for _, r := range results {
		applied = append(applied, r.Source.Version)
	}
	// Each time: a role that was dropped and made again has none.
	for _, grant := range []string{"GRANT SELECT, INSERT ON verdict.events TO " + Role, "GRANT SELECT ON " + versionTable + " TO " + Role} {
		if err := tolerant(ctx, db, grant); err != nil {
			return applied, fmt.Errorf("migrate: %w", err)
		}
	}
	return applied, nil
}

func prepare(ctx context.Context, db *sql.DB, password string) error {
	statements := []string{createRole}
	if password != "" {
		statements = append(statements, "ALTER ROLE "+Role+" PASSWORD '"+strings.ReplaceAll(password, "'", "''")+"'")
	}
	statements = append(statements, "CREATE SCHEMA IF NOT EXISTS verdict", "GRANT USAGE ON SCHEMA verdict TO "+Role)
	for _, s := range statements {
		if err := tolerant(ctx, db, s); err != nil {
			return fmt.Errorf("migrate: %w", err)
		}
	}
	return nil
}

// tolerant repeats a statement that failed because somebody else did the same at the same moment: Postgres reports that
// as a unique violation or a concurrent update of its catalogue.
func tolerant(ctx context.Context, db *sql.DB, statement string) error {
	for range 20 {
		_, err := db.ExecContext(ctx, statement)
		if code := pgCode(err); code != "23505" && code != "XX000" {
			return err
		}
		select {
		case <-time.After(rand.N(100 * time.Millisecond)): //nolint:gosec // chance is only for the same two not to meet again
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return errors.New("somebody else changes the same things all the time: try again")
}

func newProvider(db *sql.DB) (*goose.Provider, error) {
	files, err := fs.Sub(embedded, "migrations")
	if err != nil {
		return nil, err
	}
	store, err := database.NewStore(goose.DialectPostgres, versionTable)
	if err != nil {
		return nil, err
	}
	locker, err := lock.NewPostgresSessionLocker()
	if err != nil {
		return nil, err
	}
	return goose.NewProvider("", db, files, goose.WithStore(store), goose.WithSessionLocker(locker))
}

// CheckMigrated is nil when the database has all migrations of this version; more is fine, since migrations only add.
func (l *Log) CheckMigrated(ctx context.Context) error {
	var version int64
	err := l.pool.QueryRow(ctx, "SELECT coalesce(max(version_id), 0) FROM "+versionTable+" WHERE is_applied").Scan(&version)
	if code := pgCode(err); code == "42P01" || code == "3F000" || code == "42501" {
		return errors.New("the database has no tables yet: run `verdict migrate --owner-url …`")
	}
	if err != nil {
		return err
	}
	needed, err := latest()
	if err == nil && version < needed {
		err = fmt.Errorf("the database is at migration %d, this version needs %d: run `verdict migrate --owner-url …`", version, needed)
	}
	return err
}

// latest is the newest migration of this version.
func latest() (int64, error) {
	files, err := fs.Glob(embedded, "migrations/*.sql") // sorted
	if err != nil || len(files) == 0 {
		return 0, fmt.Errorf("no migrations are built in: %w", err)
	}
	return goose.NumericComponent(files[len(files)-1])
}
