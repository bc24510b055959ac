package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"os"

	"github.com/verdict-io/verdict/services/internal/process"
	"github.com/verdict-io/verdict/services/internal/stream"
)

// keygen makes a signing key and the list of trusted keys that holds it. It overwrites nothing: a key that is lost is a log
// that nobody can continue.
func keygen(_ context.Context, args, environ []string) error {
	var signing, trusted string
	fs := process.NewFlags("keygen", "makes an Ed25519 key for control to sign with")
	fs.String(&signing, "signing-key", "VERDICT_SIGNING_KEY", "signing-key.pem", "`FILE` for the private key; must not be there yet")
	fs.String(&trusted, "trusted-keys", "VERDICT_TRUSTED_KEYS", "trusted-keys.json", "`FILE` for the public key, which nodes need; must not be there yet")
	if err := fs.Parse(args, environ); err != nil {
		return err
	}
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	secret, err := stream.EncodeSigner(private)
	if err != nil {
		return err
	}
	ring, err := stream.NewKeyring(public).Encode()
	if err != nil {
		return err
	}
	if err := writeNew(signing, secret, 0o600); err != nil {
		return err
	}
	if err := writeNew(trusted, append(ring, '\n'), 0o644); err != nil {
		return err
	}
	fmt.Printf("key %s: %s signs, %s trusts it\n", stream.KeyID(public), signing, trusted)
	return nil
}

func writeNew(path string, data []byte, mode os.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if closed := f.Close(); err == nil {
		err = closed
	}
	return err
}
