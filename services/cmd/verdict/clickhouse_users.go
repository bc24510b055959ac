package main

import (
	"context"
	"os"
	"strings"

	"github.com/verdict-io/verdict/services/audit"
	"github.com/verdict-io/verdict/services/internal/identity"
	"github.com/verdict-io/verdict/services/internal/process"
)

// clickhouseUsers prints the users.xml that ClickHouse reads when it starts.
func clickhouseUsers(_ context.Context, args, environ []string) error {
	var accounts, databases, secretFile string
	fs := process.NewFlags("clickhouse-users", "prints users.xml for ClickHouse: its owner (without a password, from this machine only: for development), audit, and a user for each account, who reads the account's own rows")
	fs.String(&accounts, "accounts", "VERDICT_AUDIT_ACCOUNTS", identity.DefaultAccount, "12-digit `ACCOUNTS` behind commas, the same as audit's")
	fs.String(&databases, "databases", "", "verdict", "`DATABASES` behind commas that hold decisions")
	fs.String(&secretFile, "clickhouse-secret", "VERDICT_CLICKHOUSE_SECRET", "", "`FILE` with the secret that the passwords are made from, the same as audit's; `verdict keygen` makes one")
	fs.Require("accounts", "databases", "clickhouse-secret")
	if err := fs.Parse(args, environ); err != nil {
		return err
	}
	secret, err := audit.ReadSecret(secretFile)
	if err != nil {
		return err
	}
	return audit.WriteClickHouseUsers(os.Stdout, secret, strings.Split(accounts, ","), strings.Split(databases, ","))
}
