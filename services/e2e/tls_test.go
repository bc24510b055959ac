package e2e

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/verdict-io/verdict/services/internal/testenv"
)

// secure has the fleet do everything in TLS with certificates on both sides: the CA of Postgres issues them, NATS and ClickHouse let
// in nobody without one.
func (f *fleet) secure(t *testing.T) *testenv.CA {
	t.Helper()
	ca := testenv.PostgresCA(t)
	cert, key := ca.Issue(t, "127.0.0.1")
	config := &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{testenv.Pair(t, cert, key)},
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ca.Pool(),
	}
	printed, code := f.verdict(t, "nats-config", "--nats-keys", f.keys)
	if code != 0 {
		t.Fatal(printed)
	}
	n := testenv.NewSecuredNATS(t, fmt.Sprintf("%s\ntls { cert_file: %q, key_file: %q, ca_file: %q, verify: true }\n", printed, cert, key, ca.File))
	clickhouse, err := url.Parse(f.clickhouse.URL)
	must(t, err)
	clickhouse.Host, clickhouse.RawQuery = testenv.NewTLSProxy(t, clickhouse.Host, config).Addr(), "secure=true"
	f.environ = append(f.environ, "VERDICT_TLS_CA="+ca.File, "VERDICT_TLS_CLIENT_CA="+ca.File,
		"VERDICT_POSTGRES_URL="+strings.Replace(f.URL, "sslmode=disable", "sslmode=verify-full", 1),
		"VERDICT_NATS_URL="+strings.Replace(n.URL(), "nats://", "tls://", 1), "VERDICT_CLICKHOUSE_URL="+clickhouse.String())
	callers := filepath.Join(t.TempDir(), "callers.json")
	must(t, os.WriteFile(callers, []byte(`{"certificates": [
		{"subject": "decision", "account": "000000000000", "id": "node-1", "roles": ["node"]},
		{"subject": "query", "account": "000000000000", "id": "ann", "roles": ["auditor"]}]}`), 0o600))
	f.environ = append(f.environ, "VERDICT_CALLERS="+callers)
	for _, name := range []string{"CONTROL", "DECISION", "AUDIT"} { // the test itself calls without a certificate
		f.environ = append(f.environ, "VERDICT_"+name+"_LOOPBACK_ACCOUNT=000000000000")
	}
	for _, name := range []string{"control", "decision", "audit", "query", "fsck", "migrate"} {
		cert, key := ca.Issue(t, name, "127.0.0.1")
		prefix := "VERDICT_" + strings.ToUpper(name) + "_TLS_"
		f.environ = append(f.environ, prefix+"CERT="+cert, prefix+"KEY="+key)
	}
	return ca
}

// startTLS is start for a service that speaks TLS.
func (f *fleet) startTLS(t *testing.T, ca *testenv.CA, name string, environ ...string) *service {
	t.Helper()
	s := f.start(t, name, anyAddr, environ...)
	s.url = strings.Replace(s.url, "http://", "https://", 1)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: ca.Pool()}, ForceAttemptHTTP2: true}
	s.client = &http.Client{Transport: transport}
	t.Cleanup(transport.CloseIdleConnections)
	return s
}

// A refund decided, recorded and found, with TLS between all: callers, services, Postgres, NATS, ClickHouse and the tool. At SIGHUP a
// service shows its new certificate, and the others go on.
func TestRefundInTLS(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	ca := f.secure(t)
	control := f.startTLS(t, ca, "control")
	audit := f.startTLS(t, ca, "audit")
	node := f.startTLS(t, ca, "decision", "VERDICT_CONTROL_URL="+control.url)
	revision := f.loadExample(t, control)
	allowed := f.wantRefund(t, node, 500, true, revision)
	f.wantRows(t, audit, []string{allowed.GetDecisionId()})
	for name, s := range map[string]*service{"control": control, "audit": audit, "decision": node} {
		testenv.Eventually(t, name, func() error {
			if status, text := s.get(t, "/readyz"); status != http.StatusOK || strings.Contains(text, `"ok":false`) {
				return errors.New(text)
			}
			return nil
		})
	}
	f.environ = append(f.environ, "VERDICT_QUERY_URL="+audit.url)
	if out, code := f.verdict(t, "query", "--sql", "SELECT decision FROM decisions"); code != 0 || out != "decision\nALLOW\n" {
		t.Errorf("query exits %d: %s", code, out)
	}
	if out, code := f.verdict(t, "fsck"); code != 0 {
		t.Errorf("fsck exits %d: %s", code, out)
	}
	owner := strings.Replace(f.OwnerURL, "sslmode=disable", "sslmode=verify-full", 1)
	if out, code := f.verdict(t, "migrate", "--owner-url", owner, "--clickhouse-url", f.setting(t, "VERDICT_CLICKHOUSE_URL")); code != 0 {
		t.Errorf("migrate exits %d: %s", code, out)
	}

	cert, key := ca.Issue(t, "the next", "127.0.0.1")
	for variable, from := range map[string]string{"VERDICT_CONTROL_TLS_CERT": cert, "VERDICT_CONTROL_TLS_KEY": key} {
		must(t, os.Rename(from, f.setting(t, variable)))
	}
	for _, s := range []*service{control, audit, node} {
		must(t, s.cmd.Process.Signal(syscall.SIGHUP))
	}
	testenv.Eventually(t, "the new certificate", func() error {
		conn, err := tls.Dial("tcp", strings.TrimPrefix(control.url, "https://"), &tls.Config{RootCAs: ca.Pool()})
		if err != nil {
			return err
		}
		defer conn.Close()
		if name := conn.ConnectionState().PeerCertificates[0].Subject.CommonName; name != "the next" {
			return fmt.Errorf("it shows %s", name)
		}
		return nil
	})
	f.wantRefund(t, node, 50, true, f.permit(t, control, "second_limit", 100))
	for name, s := range map[string]*service{"control": control, "audit": audit, "decision": node} {
		if code := s.end(t); code != 0 {
			t.Errorf("%s exits %d: %s", name, code, s.log)
		}
	}
}

// What is not safe is not begun, and the error says what to do.
func TestUnsafeStarts(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	ca := testenv.NewCA(t)
	cert, key := ca.Issue(t, "localhost")
	for _, tt := range []struct {
		name    string
		command []string
		code    int
		says    []string
	}{
		{"control", []string{"control", "--addr", "0.0.0.0:0"}, 1, []string{"refusing to listen", "--tls-cert FILE", "--callers FILE", "--insecure"}},
		{"audit", []string{"audit", "--addr", "0.0.0.0:0"}, 1, []string{"refusing to listen", "--tls-cert FILE", "--callers FILE", "--insecure"}},
		{"decision", []string{"decision", "--addr", "0.0.0.0:0"}, 1, []string{"refusing to listen", "--tls-cert FILE", "--callers FILE", "--insecure"}},
		{"TLS alone", []string{"decision", "--addr", "0.0.0.0:0", "--tls-cert", cert, "--tls-key", key}, 1, []string{"refusing to listen", "Add --callers FILE"}},
		{"half a certificate", []string{"control", "--tls-cert", cert}, 2, []string{"--tls-cert and --tls-key belong together"}},
		{"no such certificate", []string{"control", "--tls-cert", "/nowhere.pem", "--tls-key", key}, 1, []string{"/nowhere.pem"}},
		{"plain NATS", []string{"audit", "--nats-url", "nats://nats.example:4222"}, 1, []string{"nats url", "nats.example", "tls://"}},
		{"plain ClickHouse", []string{"audit", "--clickhouse-url", "clickhouse://ch.example:9000/verdict"}, 1, []string{"clickhouse url", "ch.example", "secure=true"}},
		{"plain Postgres", []string{"control", "--postgres-url", "postgres://u@db.example/verdict"}, 1, []string{"postgres url", "db.example", "sslmode=verify-full"}},
		{"plain control", []string{"decision", "--control-url", "http://control.example:7401"}, 1, []string{"control url", "control.example", "https://"}},
		{"query", []string{"verdict", "query", "--sql", "SELECT 1", "--audit-url", "http://audit.example:7403"}, 1, []string{"audit url", "audit.example", "https://"}},
		{"fsck, Postgres", []string{"verdict", "fsck", "--postgres-url", "postgres://u@db.example/verdict"}, 1, []string{"db.example", "sslmode=verify-full"}},
		{"fsck, NATS", []string{"verdict", "fsck", "--nats-url", "nats://nats.example"}, 1, []string{"nats.example", "tls://"}},
		{"migrate, Postgres", []string{"verdict", "migrate", "--owner-url", "postgres://u@db.example/verdict"}, 1, []string{"db.example", "sslmode=verify-full"}},
		{"migrate, ClickHouse", []string{"verdict", "migrate", "--clickhouse-url", "clickhouse://ch.example:9000/verdict"}, 1, []string{"ch.example", "secure=true"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			cmd := exec.CommandContext(t.Context(), filepath.Join(bin, tt.command[0]), tt.command[1:]...)
			var out bytes.Buffer
			cmd.Env, cmd.Stdout, cmd.Stderr = slices.Concat(f.environ, []string{"VERDICT_DECISION_DIR=" + t.TempDir()}), &out, &out
			_ = cmd.Run() // its status is looked at
			last := out.String()
			if i := strings.LastIndex(last, "error: "); i >= 0 {
				last = last[i:]
			}
			if code := cmd.ProcessState.ExitCode(); code != tt.code {
				t.Errorf("exits %d: %s", code, out.String())
			}
			if err := testenv.Contains(last, tt.says...); err != nil {
				t.Error(err)
			}
		})
	}
}
