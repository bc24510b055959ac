package eventlog

import (
	"context"
	"crypto/tls"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/verdict-io/verdict/services/internal/trust"
)

const useVerifyFull = "say sslmode=verify-full in the URL"

// checkPlain refuses a URL that would let the driver talk to another machine without TLS, or with whoever answers: that is what
// every sslmode but verify-full does at least when somebody on the way wants it to.
func checkPlain(c *pgx.ConnConfig, t *trust.Trust) error {
	if !verifies(c.TLSConfig) {
		if err := t.Plain(c.Host, useVerifyFull); err != nil {
			return err
		}
	}
	for _, f := range c.Fallbacks {
		if !verifies(f.TLSConfig) {
			if err := t.Plain(f.Host, useVerifyFull); err != nil {
				return err
			}
		}
	}
	return nil
}

func verifies(c *tls.Config) bool { return c != nil && !c.InsecureSkipVerify }

// secure gives the settings of one connection what the URL left open: roots, and a certificate to show.
func secure(c *pgx.ConnConfig, t *trust.Trust) {
	complete(c.TLSConfig, t)
	for _, f := range c.Fallbacks {
		complete(f.TLSConfig, t)
	}
}

func complete(c *tls.Config, t *trust.Trust) {
	if c == nil {
		return
	}
	ours := t.Client()
	c.MinVersion = max(c.MinVersion, ours.MinVersion)
	if c.RootCAs == nil {
		c.RootCAs = ours.RootCAs
	}
	if len(c.Certificates) == 0 {
		c.GetClientCertificate = ours.GetClientCertificate
	}
}

// single is for a connection outside the pool.
func (l *Log) single() *pgx.ConnConfig {
	config := l.pool.Config().ConnConfig
	secure(config, l.cfg.Trust)
	return config
}

// parse is for a connection that is made now.
func parse(url string, t *trust.Trust) (*pgx.ConnConfig, error) {
	config, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, err
	}
	if err := checkPlain(config, t); err != nil {
		return nil, err
	}
	secure(config, t)
	return config, nil
}

// connect is a connection of its own.
func connect(ctx context.Context, url string, t *trust.Trust) (*pgx.Conn, error) {
	config, err := parse(url, t)
	if err != nil {
		return nil, fmt.Errorf("%w: postgres url: %w", ErrUnavailable, err)
	}
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return conn, nil
}
