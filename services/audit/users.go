package audit

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"

	"github.com/verdict-io/verdict/services/audit/internal/store"
	"github.com/verdict-io/verdict/services/internal/trust"
)

// WriteClickHouseUsers writes the users.xml of a ClickHouse that keeps the decisions of these accounts in these databases.
func WriteClickHouseUsers(w io.Writer, secret []byte, accounts, databases []string) error {
	return store.WriteUsers(w, secret, accounts, databases)
}

// Migrate brings the database at ownerURL up to this version; see store.Migrate.
func Migrate(ctx context.Context, ownerURL string, t *trust.Trust) ([]int64, error) {
	return store.Migrate(ctx, ownerURL, t)
}

// ReadSecret reads the secret that the passwords of ClickHouse's users are made from.
func ReadSecret(path string) ([]byte, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("clickhouse secret: %w", err)
	}
	secret := bytes.TrimRight(text, "\r\n")
	if len(secret) < store.MinSecret {
		return nil, fmt.Errorf("clickhouse secret %s: it has %d characters, %d are the least; `verdict keygen` makes one", path, len(secret), store.MinSecret)
	}
	return secret, nil
}
