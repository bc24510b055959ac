package main

import (
	"context"
	"io"
	"os"
	"strings"

	"github.com/verdict-io/verdict/services/cmd/verdict/internal/query"
	"github.com/verdict-io/verdict/services/internal/process"
)

// runQuery asks audit with SQL.
func runQuery(ctx context.Context, args, environ []string) error {
	var audit remote
	var sql, format string
	fs := process.NewFlags("query", "asks audit with SQL: verdict query --sql 'SELECT … FROM decisions …'; without --sql it reads the text from stdin")
	audit.register(fs, "audit", "audit-url", "VERDICT_QUERY_URL", "http://127.0.0.1:7403")
	fs.String(&sql, "sql", "", "", "one `SELECT` in ClickHouse's SQL; the table is decisions")
	fs.Choice(&format, "format", "", "table", "aligned columns, or a JSON object a row", "table", "json")
	if err := fs.Parse(args, environ); err != nil {
		return err
	}
	if sql == "" {
		text, err := io.ReadAll(os.Stdin)
		if err != nil {
			return err
		}
		sql = string(text)
	}
	if strings.TrimSpace(sql) == "" {
		return process.Usagef("query needs SQL, in --sql or on stdin")
	}
	client, err := audit.client()
	if err != nil {
		return err
	}
	if format == "json" {
		return query.JSON(ctx, os.Stdout, client, audit.url, sql)
	}
	table, err := query.All(ctx, client, audit.url, sql)
	if err != nil {
		return err
	}
	return table.Print(os.Stdout)
}
