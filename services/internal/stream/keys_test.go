package stream

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestKeyFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	encoded, err := EncodeSigner(key)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ReadSigner(write("signer.pem", encoded))
	if err != nil || !signer.Public().Equal(key.Public()) || signer.KeyID() != KeyID(signer.Public()) || len(signer.KeyID()) != 16 {
		t.Errorf("signer %v: %v", signer, err)
	}
	ring := NewKeyring(signer.Public(), goldenSigner.Public())
	if encoded, err = ring.Encode(); err != nil {
		t.Fatal(err)
	}
	got, err := ReadKeyring(write("ring.json", encoded))
	if diff := cmp.Diff(ring, got); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}

	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(other)
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		"":      "not a PEM file; make one with `verdict keygen`",
		"hello": "not a PEM file",
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("x")})): "signing key",
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})):         "want an Ed25519 key",
	} {
		if _, err := ReadSigner(write("bad.pem", []byte(text))); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want …%s…", text, err, want)
		}
	}
	for text, want := range map[string]string{
		"":              "trusted keys",
		"{}":            "no key in it",
		`{"a": 1}`:      "trusted keys",
		`{"a": "?"}`:    "a is not the base64 of 32 bytes",
		`{"a": "AAAA"}`: "a is not the base64 of 32 bytes",
		`{"` + strings.Repeat("0", 16) + `": "` + strings.Repeat("A", 43) + `="}`: "the key called 0000000000000000 is ",
	} {
		if _, err := ReadKeyring(write("bad.json", []byte(text))); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want …%s…", text, err, want)
		}
	}
	if _, err := ReadSigner(filepath.Join(dir, "none")); err == nil {
		t.Error("a file that is not there was read")
	}
	if _, err := ReadKeyring(filepath.Join(dir, "none")); err == nil {
		t.Error("a file that is not there was read")
	}
}
