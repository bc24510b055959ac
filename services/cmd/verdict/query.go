package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"

	"github.com/verdict-io/verdict/services/cmd/verdict/internal/query"
	"github.com/verdict-io/verdict/services/internal/identity"
	"github.com/verdict-io/verdict/services/internal/process"
	"github.com/verdict-io/verdict/services/internal/trust"
)

// runQuery asks audit with SQL.
func runQuery(ctx context.Context, args, environ []string) error {
	var url, sql, format, credentials, region string
	fs := process.NewFlags("query", "asks audit with SQL: verdict query --sql 'SELECT … FROM decisions …'; without --sql it reads the text from stdin")
	fs.String(&url, "audit-url", "VERDICT_QUERY_URL", "http://127.0.0.1:7403", "`URL` of audit")
	fs.String(&sql, "sql", "", "", "one `SELECT` in ClickHouse's SQL; the table is decisions")
	fs.Choice(&format, "format", "", "table", "aligned columns, or a JSON object a row", "table", "json")
	fs.String(&credentials, "credentials", "VERDICT_CREDENTIALS", "", "JSON `FILE` that makes you known to audit: {\"accessKeyId\", \"secretAccessKey\"} or {\"tokenFile\"}")
	fs.String(&region, "region", "VERDICT_REGION", process.DefaultRegion, "`REGION` to sign for")
	var files trust.Files
	fs.RegisterTLS(&files)
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
	t, err := trust.Open(files)
	if err != nil {
		return err
	}
	if err := t.URL(url); err != nil {
		return fmt.Errorf("audit url: %w", err)
	}
	transport, err := identity.Present(credentials, t.Transport(), region)
	if err != nil {
		return err
	}
	// Credentials do not go wherever an answer points.
	client := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	if format == "json" {
		return query.JSON(ctx, os.Stdout, client, url, sql)
	}
	table, err := query.All(ctx, client, url, sql)
	if err != nil {
		return err
	}
	return table.Print(os.Stdout)
}
