package testenv

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// CA issues certificates for a test.
type CA struct {
	File string // its own certificate, PEM

	cert   *x509.Certificate
	key    *ecdsa.PrivateKey
	dir    string
	serial atomic.Int64
}

// NewCA makes a CA with files in a folder of the test.
func NewCA(t testing.TB) *CA {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ca := &CA{dir: t.TempDir(), key: key}
	ca.File = filepath.Join(ca.dir, "ca.pem")
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "CA " + randomName(t) + " of " + t.Name()},
		NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageCertSign, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	if ca.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	writePEM(t, ca.File, "CERTIFICATE", der)
	return ca
}

// PostgresCAVariable names the root of the certificate of the tests' Postgres, which also issues certificates that this Postgres
// believes; its key is beside it.
const PostgresCAVariable = "VERDICT_POSTGRES_CA"

// PostgresCA is the CA of the tests' Postgres, whose names are localhost and 127.0.0.1.
func PostgresCA(t testing.TB) *CA {
	t.Helper()
	file := os.Getenv(PostgresCAVariable)
	if file == "" {
		t.Fatalf("%s is not set: run the tests with `make test`, or `.bin/devservers --ports free --only postgres -- go test ./…`", PostgresCAVariable)
	}
	pair := Pair(t, file, strings.TrimSuffix(file, ".pem")+".key")
	key, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
	if !ok {
		t.Fatalf("%s: a %T", file, pair.PrivateKey)
	}
	ca := &CA{File: file, cert: pair.Leaf, key: key, dir: t.TempDir()}
	ca.serial.Store(time.Now().UnixNano()) // other tests use it too
	return ca
}

// Pool believes this CA alone.
func (ca *CA) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	return pool
}

// Issue makes a certificate that serves as a server's and as a client's, valid for a day. The first name is its common name, and
// all of them are what it is for: DNS names, IP addresses, URIs.
func (ca *CA) Issue(t testing.TB, names ...string) (certFile, keyFile string) {
	t.Helper()
	return ca.IssueUntil(t, time.Now().Add(24*time.Hour), names...)
}

// IssueUntil is Issue with another end, which may be past.
func (ca *CA) IssueUntil(t testing.TB, end time.Time, names ...string) (certFile, keyFile string) {
	t.Helper()
	serial := 1 + ca.serial.Add(1)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: names[0]},
		NotBefore: end.Add(-48 * time.Hour), NotAfter: end,
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, name := range names {
		addName(t, template, name)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.cert, key.Public(), ca.key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certFile = filepath.Join(ca.dir, fmt.Sprintf("%d.pem", serial))
	keyFile = filepath.Join(ca.dir, fmt.Sprintf("%d.key", serial))
	writePEM(t, certFile, "CERTIFICATE", der)
	writePEM(t, keyFile, "PRIVATE KEY", pkcs8)
	return certFile, keyFile
}

func addName(t testing.TB, template *x509.Certificate, name string) {
	t.Helper()
	switch {
	case net.ParseIP(name) != nil:
		template.IPAddresses = append(template.IPAddresses, net.ParseIP(name))
	case strings.Contains(name, "://"):
		u, err := url.Parse(name)
		if err != nil {
			t.Fatal(err)
		}
		template.URIs = append(template.URIs, u)
	default:
		template.DNSNames = append(template.DNSNames, name)
	}
}

// Pair is a certificate that Issue made, read.
func Pair(t testing.TB, certFile, keyFile string) tls.Certificate {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

func writePEM(t testing.TB, file, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}
