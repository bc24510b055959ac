package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// The files of a CA of the run's own, below the place, and what it makes for Postgres, below the data.
const (
	caCert     = "postgres-ca.pem"
	caKey      = "postgres-ca.key"
	serverCert = "server.crt"
	serverKey  = "server.key"
	clientRoot = "root.crt"
)

// certify gives Postgres a certificate, and roots for those of clients, anew at each start: so they never expire.
func (p *postgres) certify() error {
	ca := template(1, "devservers")
	ca.IsCA, ca.KeyUsage = true, x509.KeyUsageCertSign
	signer, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	caFiles := pair{cert: p.place.path(caCert), key: p.place.path(caKey)} // of this process's user, for the command
	if err := caFiles.write(ca, ca, signer, signer); err != nil {
		return err
	}
	server := template(2, "localhost")
	server.DNSNames, server.IPAddresses = []string{"localhost"}, []net.IP{net.IPv4(127, 0, 0, 1)}
	server.KeyUsage, server.ExtKeyUsage = x509.KeyUsageDigitalSignature, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	data := p.place.path("postgres")
	files := pair{cert: filepath.Join(data, serverCert), key: filepath.Join(data, serverKey), owner: serverUser()}
	if err := files.write(server, ca, key, signer); err != nil {
		return err
	}
	roots, err := os.ReadFile(caFiles.cert)
	if err != nil {
		return err
	}
	return replaceFile(filepath.Join(data, clientRoot), roots, serverUser())
}

func template(serial int64, name string) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name}, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0),
	}
}

// pair is where a certificate and its key are, and whose they are; nil is this process's user.
type pair struct {
	cert, key string
	owner     *syscall.Credential
}

func (f pair) write(certificate, parent *x509.Certificate, key, signer *ecdsa.PrivateKey) error {
	der, err := x509.CreateCertificate(rand.Reader, certificate, parent, key.Public(), signer)
	if err != nil {
		return err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := replaceFile(f.cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), f.owner); err != nil {
		return err
	}
	return replaceFile(f.key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}), f.owner)
}

// replaceFile makes a file that only its owner reads. It never writes into one that is there: that may be a link of another user.
func replaceFile(name string, data []byte, owner *syscall.Credential) error {
	if err := os.RemoveAll(name); err != nil {
		return err
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if owner != nil && err == nil {
		err = f.Chown(int(owner.Uid), int(owner.Gid))
	}
	return errors.Join(err, f.Close())
}
