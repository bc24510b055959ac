package store

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/database"

	"github.com/verdict-io/verdict/services/internal/trust"
)

//go:embed migrations/*.sql
var embedded embed.FS

const versionTable = "goose_db_version"

// Migrate brings the database at ownerURL up to this version: the database and its tables. Several may run at once, since every
// statement may be repeated; code of the version before goes on running. It returns the versions applied, none when the database
// was up to date.
func Migrate(ctx context.Context, ownerURL string, t *trust.Trust) ([]int64, error) {
	options, err := parse(ownerURL, t)
	if err != nil {
		return nil, err
	}
	name := options.Auth.Database
	options.Auth.Database = ""
	admin := clickhouse.OpenDB(options)
	defer admin.Close()
	if _, err := admin.ExecContext(ctx, "CREATE DATABASE IF NOT EXISTS "+quote(name)); err != nil {
		return nil, fmt.Errorf("migrate: %w", err)
	}
	options.Auth.Database = name
	db := clickhouse.OpenDB(options)
	defer db.Close()
	files, err := fs.Sub(embedded, "migrations")
	if err != nil {
		return nil, err
	}
	versions, err := database.NewStore(goose.DialectClickHouse, versionTable)
	if err != nil {
		return nil, err
	}
	provider, err := goose.NewProvider("", db, files, goose.WithStore(versions))
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
	return applied, nil
}

// ErrNotMigrated: the database lacks tables of this version.
var ErrNotMigrated = errors.New("run `verdict migrate --clickhouse-url …`")

// CheckMigrated is nil when the database has all migrations of this version; more is fine, since migrations only add.
func (s *Store) CheckMigrated(ctx context.Context) error {
	var version int64
	err := s.conn.QueryRow(ctx, "SELECT max(version_id) FROM "+s.table(versionTable)+" WHERE is_applied = 1").Scan(&version)
	if code := codeOf(err); code == codeUnknownTable || code == codeUnknownDatabase {
		return fmt.Errorf("%w: the database has no tables yet", ErrNotMigrated)
	}
	if err != nil {
		return unavailable(err)
	}
	needed, err := latest()
	if err == nil && version < needed {
		err = fmt.Errorf("%w: the database is at migration %d, this version needs %d", ErrNotMigrated, version, needed)
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
