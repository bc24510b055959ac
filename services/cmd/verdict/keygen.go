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

// keygen makes a signing key and the list of trusted keys that holds it, and the secret of ClickHouse's users when it is told
// where. It overwrites nothing: a key that is lost is a log that nobody can continue.
func keygen(_ context.Context, args, environ []string) error {
	var signing, trusted, secret string
	fs := process.NewFlags("keygen", "makes an Ed25519 key for control to sign with, and a secret for ClickHouse's users")
	fs.String(&signing, "signing-key", "VERDICT_SIGNING_KEY", "signing-key.pem", "`FILE` for the private key; must not be there yet")
	fs.String(&trusted, "trusted-keys", "VERDICT_TRUSTED_KEYS", "trusted-keys.json", "`FILE` for the public key, which nodes need; must not be there yet")
	fs.String(&secret, "clickhouse-secret", "VERDICT_CLICKHOUSE_SECRET", "", "`FILE` for the secret that the passwords of ClickHouse's users are made from; must not be there yet. With it, keys that are there already are left alone")
	if err := fs.Parse(args, environ); err != nil {
		return err
	}
	if secret == "" {
		return makeKey(signing, trusted)
	}
	if exists(secret) {
		return fmt.Errorf("%s is there already", secret)
	}
	if !exists(signing) || !exists(trusted) {
		if err := makeKey(signing, trusted); err != nil {
			return err
		}
	}
	if err := writeNew(secret, []byte(rand.Text()+rand.Text()+"\n"), 0o600); err != nil {
		return err
	}
	fmt.Printf("%s: the secret of ClickHouse's users, for audit and `verdict clickhouse-users`\n", secret)
	return nil
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func makeKey(signing, trusted string) error {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	key, err := stream.EncodeSigner(private)
	if err != nil {
		return err
	}
	ring, err := stream.NewKeyring(public).Encode()
	if err != nil {
		return err
	}
	if err := writeNew(signing, key, 0o600); err != nil {
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
