// Package store turns blocks of a decision log into rows of ClickHouse, and questions into answers from them.
//
// It guarantees that a block is in the table once however often it is inserted, that a record comes out as it went in, and that
// an account's question is asked as the account's own ClickHouse user, which can read its own rows and nothing else, within
// limits. ClickHouse enforces the last, not this package: users, limits and row filters are in the users.xml that Users writes.
package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

// Config is what a Store is made of.
type Config struct {
	// URL is clickhouse://host:port/database. With a Secret, its user is replaced by the one that each question needs.
	URL string
	// Secret is what the passwords of users are made from; without it everything runs as the user of the URL, and accounts
	// cannot ask.
	Secret []byte
	// Accounts have a user in ClickHouse.
	Accounts []string
}

// Store asks one ClickHouse. It is safe for concurrent use.
type Store struct {
	cfg      Config
	options  clickhouse.Options
	database string
	conn     driver.Conn
}

// Open reads the settings. It connects when somebody asks.
func Open(cfg Config) (*Store, error) {
	options, err := parse(cfg.URL)
	if err != nil {
		return nil, err
	}
	s := &Store{cfg: cfg, options: *options, database: options.Auth.Database}
	s.options.Auth.Database = "" // names are written in full, since to ask for a database that is not there is a failed login
	if len(cfg.Secret) > 0 {
		s.options.Auth.Username, s.options.Auth.Password = AuditUser, Password(cfg.Secret, AuditUser)
	}
	s.conn, err = clickhouse.Open(&s.options)
	if err != nil {
		return nil, fmt.Errorf("clickhouse url: %w", err)
	}
	return s, nil
}

// parse reads a URL; what it does not say is set here.
func parse(url string) (*clickhouse.Options, error) {
	options, err := clickhouse.ParseDSN(url)
	if err != nil {
		return nil, errors.New("clickhouse url: it must look like clickhouse://127.0.0.1:7440/verdict")
	}
	if options.Protocol != clickhouse.Native {
		return nil, errors.New("clickhouse url: the native protocol is needed, clickhouse://host:port/database")
	}
	if options.Auth.Database == "" {
		return nil, errors.New("clickhouse url: it names no database, as in clickhouse://127.0.0.1:7440/verdict")
	}
	if len(options.Addr) != 1 {
		return nil, errors.New("clickhouse url: it names several servers, of which each would keep a part of the decisions; name one")
	}
	options.DialTimeout = 5 * time.Second
	if options.Compression == nil {
		options.Compression = &clickhouse.Compression{Method: clickhouse.CompressionLZ4}
	}
	return options, nil
}

// Close ends the connections.
func (s *Store) Close() error { return s.conn.Close() }

// Ping is nil when ClickHouse answers.
func (s *Store) Ping(ctx context.Context) error { return unavailable(s.conn.Ping(ctx)) }

func (s *Store) table(name string) string { return quote(s.database) + "." + quote(name) }

// quote is an identifier in SQL.
func quote(name string) string {
	return "`" + strings.NewReplacer("\\", "\\\\", "`", "\\`").Replace(name) + "`"
}
