package eventlog

import (
	"crypto/x509"
	"errors"
	"net/url"
	"os"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/verdict-io/verdict/services/internal/testenv"
	"github.com/verdict-io/verdict/services/internal/trust"
)

// withTLS is a URL of the tests' Postgres with these parameters in the place of its own.
func withTLS(t *testing.T, base string, parameters url.Values) string {
	t.Helper()
	u, err := url.Parse(base)
	if err != nil {
		t.Fatal(err)
	}
	u.RawQuery = parameters.Encode()
	return u.String()
}

func copyFile(t *testing.T, to, from string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// The log over TLS, with the certificate of the service shown to Postgres; new connections believe what Reload has read.
func TestTLS(t *testing.T) {
	t.Parallel()
	ca := testenv.PostgresCA(t)
	db := testenv.NewDatabase(t, migrate)
	signer, keys := testenv.NewKeys(t)
	cert, key := ca.Issue(t, "control-1")
	roots := t.TempDir() + "/roots.pem"
	copyFile(t, roots, ca.File)
	tr, err := trust.Open(trust.Files{Cert: cert, Key: key, CA: roots})
	if err != nil {
		t.Fatal(err)
	}
	full := url.Values{"sslmode": {"verify-full"}}
	log, err := Open(t.Context(), Config{PostgresURL: withTLS(t, db.URL, full), Trust: tr, Signer: signer, Keys: keys})
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	var encrypted bool
	var client string
	err = log.pool.QueryRow(t.Context(), "SELECT ssl, coalesce(client_dn, '') FROM pg_stat_ssl WHERE pid = pg_backend_pid()").Scan(&encrypted, &client)
	if err != nil || !encrypted || client != "/CN=control-1" {
		t.Errorf("encrypted %t, as %q, %v", encrypted, client, err)
	}
	lease := func() error {
		l, err := log.TryLease(t.Context())
		if l != nil {
			l.Release(t.Context())
		}
		return err
	}
	copyFile(t, roots, testenv.NewCA(t).File)
	if _, err := tr.Reload(); err != nil {
		t.Fatal(err)
	}
	if err := lease(); !errors.As(err, new(x509.UnknownAuthorityError)) {
		t.Errorf("a server of another CA is believed: %v", err)
	}
	if err := log.Ping(t.Context()); err != nil {
		t.Errorf("an open connection ended: %v", err)
	}
	log.pool.Reset()
	if err := log.Ping(t.Context()); !errors.As(err, new(x509.UnknownAuthorityError)) {
		t.Errorf("the pool believes a server of another CA: %v", err)
	}
	copyFile(t, roots, ca.File)
	if _, err := tr.Reload(); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(lease(), log.Ping(t.Context())); err != nil {
		t.Error(err)
	}
	if _, err := Migrate(t.Context(), withTLS(t, db.OwnerURL, full), "", tr); err != nil {
		t.Error(err)
	}
	if _, err := Walk(t.Context(), withTLS(t, db.URL, full), tr, keys, func(Row) error { return nil }); err != nil {
		t.Error(err)
	}
}

// What the URL says of files holds, whatever --tls-ca says.
func TestFilesOfTheURLHold(t *testing.T) {
	t.Parallel()
	ca, other := testenv.PostgresCA(t), testenv.NewCA(t)
	db := testenv.NewDatabase(t, migrate)
	cert, key := ca.Issue(t, "of-the-url")
	ownCert, ownKey := ca.Issue(t, "of-the-service")
	for _, tt := range []struct {
		name, ca, rootcert string
		ok                 bool
	}{
		{"the URL's", other.File, ca.File, true},
		{"the service's", ca.File, "", true},
		{"the URL's is wrong", ca.File, other.File, false},
		{"the system's", "", "", false},
	} {
		tr, err := trust.Open(trust.Files{CA: tt.ca, Cert: ownCert, Key: ownKey})
		if err != nil {
			t.Fatal(err)
		}
		parameters := url.Values{"sslmode": {"verify-full"}, "sslcert": {cert}, "sslkey": {key}}
		if tt.rootcert != "" {
			parameters.Set("sslrootcert", tt.rootcert)
		}
		conn, err := connect(t.Context(), withTLS(t, db.URL, parameters), tr)
		if !tt.ok {
			if !errors.As(err, new(x509.UnknownAuthorityError)) {
				t.Errorf("%s: %v", tt.name, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		var client string
		err = conn.QueryRow(t.Context(), "SELECT client_dn FROM pg_stat_ssl WHERE pid = pg_backend_pid()").Scan(&client)
		if err != nil || client != "/CN=of-the-url" {
			t.Errorf("%s: shown as %q, %v", tt.name, client, err)
		}
		_ = conn.Close(t.Context())
	}
}

// Off this machine only verify-full will do: everything else believes whoever answers.
func TestPlainPostgresIsRefused(t *testing.T) {
	for _, name := range []string{"PGSSLMODE", "PGSSLROOTCERT"} {
		t.Setenv(name, "")
	}
	ca := testenv.NewCA(t)
	for text, ok := range map[string]bool{
		"postgres://u@db.example/d?sslmode=verify-full":                              true,
		"postgres://u@10.0.0.1/d?sslmode=verify-full":                                true,
		"postgres://u@127.0.0.1/d":                                                   true,
		"postgres://u@localhost/d?sslmode=disable":                                   true,
		"postgres://u@/d?host=/run/postgresql":                                       true,
		"postgres://u@db.example/d":                                                  false,
		"postgres://u@db.example/d?sslmode=disable":                                  false,
		"postgres://u@db.example/d?sslmode=allow":                                    false,
		"postgres://u@db.example/d?sslmode=prefer":                                   false,
		"postgres://u@db.example/d?sslmode=require":                                  false,
		"postgres://u@db.example/d?sslmode=require&sslrootcert=" + ca.File:           false,
		"postgres://u@db.example/d?sslmode=verify-ca&sslrootcert=" + ca.File:         false,
		"postgres://u@127.0.0.1,db.example/d":                                        false,
		"postgres://u@db1.example,db2.example/d?sslmode=verify-full":                 true,
		"host=db.example user=u dbname=d":                                            false,
		"host=db.example user=u dbname=d sslmode=verify-full":                        true,
		"postgres://u@db.example/d?sslmode=verify-full&sslrootcert=" + ca.File:       true,
		"postgres://u@127.0.0.1,db.example/d?sslmode=prefer&sslnegotiation=postgres": false,
	} {
		config, err := pgx.ParseConfig(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		err = checkPlain(config, nil)
		if (err == nil) != ok {
			t.Errorf("%s: %v", text, err)
		}
		if err != nil && testenv.Contains(err.Error(), "db.example", "sslmode=verify-full", "--insecure") != nil {
			t.Errorf("%s: %v", text, err)
		}
		insecure, openErr := trust.Open(trust.Files{Insecure: true})
		if openErr != nil {
			t.Fatal(openErr)
		}
		if err := checkPlain(config, insecure); err != nil || len(insecure.Allowed()) > 0 == ok {
			t.Errorf("%s: with --insecure: %v, allowed %v", text, err, insecure.Allowed())
		}
	}
	if _, err := Open(t.Context(), Config{PostgresURL: "postgres://u@db.example/d"}); err == nil || testenv.Contains(err.Error(), "postgres url", "refusing") != nil {
		t.Error(err)
	}
	if _, err := Migrate(t.Context(), "postgres://u@db.example/d", "", nil); err == nil || testenv.Contains(err.Error(), "owner url", "refusing") != nil {
		t.Error(err)
	}
	if _, err := Walk(t.Context(), "postgres://u@db.example/d", nil, nil, nil); err == nil || testenv.Contains(err.Error(), "postgres url", "refusing") != nil {
		t.Error(err)
	}
}
