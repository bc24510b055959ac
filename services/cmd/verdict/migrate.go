package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/verdict-io/verdict/services/audit"
	"github.com/verdict-io/verdict/services/control"
	"github.com/verdict-io/verdict/services/internal/process"
	"github.com/verdict-io/verdict/services/internal/trust"
)

// migrate brings the databases that it is given up to this version, as their owner.
func migrate(ctx context.Context, args, environ []string) error {
	var owner, passwordFile, clickhouse string
	fs := process.NewFlags("migrate", "makes the tables of this version: in Postgres, with the role verdict_control that control connects as; in ClickHouse")
	fs.Secret(&owner, "owner-url", "VERDICT_OWNER_URL", "", "`URL` of the database in Postgres, as a user who may create schemas and roles")
	fs.String(&passwordFile, "control-password-file", "", "", "`FILE` that holds the password to give to the role verdict_control; without it the password stays as it is")
	fs.Secret(&clickhouse, "clickhouse-url", "VERDICT_CLICKHOUSE_OWNER_URL", "", "`URL` of the database in ClickHouse, clickhouse://HOST:PORT/verdict, as a user who may create databases and tables")
	var files trust.Files
	fs.RegisterTLS(&files)
	if err := fs.Parse(args, environ); err != nil {
		return err
	}
	if owner == "" && clickhouse == "" {
		return process.Usagef("--owner-url (Postgres) or --clickhouse-url must be set, or both")
	}
	t, err := trust.Open(files)
	if err != nil {
		return err
	}
	if owner != "" {
		password, err := readPassword(passwordFile)
		if err != nil {
			return err
		}
		applied, err := control.Migrate(ctx, owner, password, t)
		if err := report("postgres", applied, err); err != nil {
			return err
		}
	}
	if clickhouse == "" {
		return nil
	}
	applied, err := audit.Migrate(ctx, clickhouse, t)
	return report("clickhouse", applied, err)
}

func report(database string, applied []int64, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", database, err)
	}
	if len(applied) == 0 {
		fmt.Printf("%s: the database is up to date\n", database)
	}
	for _, version := range applied {
		fmt.Printf("%s: applied migration %d\n", database, version)
	}
	return nil
}

func readPassword(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	data, err := os.ReadFile(path)
	password := strings.TrimRight(string(data), "\r\n")
	if err == nil && password == "" {
		err = fmt.Errorf("%s is empty", path)
	}
	return password, err
}
