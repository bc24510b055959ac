// Package store turns blocks of a decision log into rows of ClickHouse, and questions into answers from them.
//
// It guarantees that a block is in the table once however often it is inserted, that a record comes out as it went in, and that
// an account's question is asked as the account's own ClickHouse user, which can read its own rows and nothing else, within
// limits. ClickHouse enforces the last, not this package: users, limits and row filters are in the users.xml that Users writes.
package store

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/verdict-io/verdict/services/internal/trust"
)

// Config is what a Store is made of.
type Config struct {
	// URL is clickhouse://host:port/database. With a Secret, its user is replaced by the one that each question needs.
	// With secure=true it is spoken to in TLS, and with tls_server_name=… under another name.
	URL string
	// Trust is for TLS.
	Trust *trust.Trust
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
	options, err := parse(cfg.URL, cfg.Trust)
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
func parse(url string, t *trust.Trust) (*clickhouse.Options, error) {
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
	if err := secure(options, t); err != nil {
		return nil, err
	}
	if options.Compression == nil {
		options.Compression = &clickhouse.Compression{Method: clickhouse.CompressionLZ4}
	}
	return options, nil
}

// secure has each connection made with the roots of its moment, and refuses to leave the machine without TLS that verifies.
func secure(options *clickhouse.Options, t *trust.Trust) error {
	host, _, err := net.SplitHostPort(options.Addr[0])
	if err != nil {
		host = options.Addr[0]
	}
	if options.TLS == nil || options.TLS.InsecureSkipVerify {
		if err := t.Plain(host, "say secure=true in the URL, without skip_verify, with the port that ClickHouse has for TLS"); err != nil {
			return fmt.Errorf("clickhouse url: %w", err)
		}
	}
	dialer := &net.Dialer{Timeout: options.DialTimeout}
	if options.TLS == nil {
		options.DialContext = func(ctx context.Context, addr string) (net.Conn, error) { return dialer.DialContext(ctx, "tcp", addr) }
		return nil
	}
	said := options.TLS
	options.DialContext = func(ctx context.Context, addr string) (net.Conn, error) {
		config := t.Client()
		config.ServerName, config.InsecureSkipVerify = said.ServerName, said.InsecureSkipVerify
		return (&tls.Dialer{NetDialer: dialer, Config: config}).DialContext(ctx, "tcp", addr)
	}
	return nil
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
