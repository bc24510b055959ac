package testenv

import (
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/verdict-io/verdict/services/internal/stream"
)

// Eventually fails the test when holds does not become nil within 20 s. It is for what other processes do in their own
// time and have no signal for.
func Eventually(t testing.TB, what string, holds func() error) {
	t.Helper()
	Within(t, 20*time.Second, what, holds)
}

// Within is Eventually for what may take longer, as an election on a busy machine.
func Within(t testing.TB, most time.Duration, what string, holds func() error) {
	t.Helper()
	poll := time.NewTicker(5 * time.Millisecond)
	defer poll.Stop()
	deadline := time.After(most)
	for {
		err := holds()
		if err == nil {
			return
		}
		select {
		case <-poll.C:
		case <-deadline:
			t.Fatalf("%s: %v", what, err)
		}
	}
}

// KeyFiles are the files that a service is given.
type KeyFiles struct{ Signing, Trusted string }

// NewKeyFiles makes a key, as files and as the keyring that trusts it.
func NewKeyFiles(t testing.TB) (KeyFiles, stream.Keyring) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := stream.EncodeSigner(private)
	if err != nil {
		t.Fatal(err)
	}
	keys := stream.NewKeyring(public)
	trusted, err := keys.Encode()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	files := KeyFiles{Signing: filepath.Join(dir, "signing-key.pem"), Trusted: filepath.Join(dir, "trusted-keys.json")}
	for path, data := range map[string][]byte{files.Signing: secret, files.Trusted: trusted} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return files, keys
}

// Contains is nil when text has all of these in it.
func Contains(text string, all ...string) error {
	for _, want := range all {
		if !strings.Contains(text, want) {
			return fmt.Errorf("no %q in:\n%s", want, text)
		}
	}
	return nil
}
