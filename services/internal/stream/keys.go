package stream

import (
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"

	"github.com/verdict-io/verdict/services/policy"
)

// ErrSignature: not signed by a trusted key, or not what was signed.
var ErrSignature = errors.New("signature does not hold")

// KeyID is the first 16 hexadecimal digits of the key's SHA-256.
func KeyID(key ed25519.PublicKey) string {
	sum := sha256.Sum256(key)
	return hex.EncodeToString(sum[:8])
}

// Signer signs as control.
type Signer struct {
	key ed25519.PrivateKey
	id  string
}

// NewSigner signs with key.
func NewSigner(key ed25519.PrivateKey) *Signer {
	return &Signer{key: key, id: KeyID(key.Public().(ed25519.PublicKey))}
}

// KeyID names the key.
func (s *Signer) KeyID() string { return s.id }

// Public is the key that checks what s signs.
func (s *Signer) Public() ed25519.PublicKey { return s.key.Public().(ed25519.PublicKey) }

// SignEvent signs the hash of an event's body. Seal does that too; by itself it is for what seals events otherwise, as tests
// of what later versions write.
func (s *Signer) SignEvent(hash policy.Hash) []byte { return s.sign(eventDomain, hash[:]) }

func (s *Signer) sign(domain string, message []byte) []byte {
	return ed25519.Sign(s.key, append([]byte(domain), message...))
}

// ReadSigner reads a PKCS #8 PEM file that holds an Ed25519 private key.
func ReadSigner(path string) (*Signer, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("signing key: %w", err)
	}
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, fmt.Errorf("signing key %s: not a PEM file; make one with `verdict keygen`", path)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("signing key %s: %w", path, err)
	}
	ed, ok := key.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("signing key %s: holds a %T, want an Ed25519 key", path, key)
	}
	return NewSigner(ed), nil
}

// EncodeSigner is what ReadSigner reads.
func EncodeSigner(key ed25519.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// Keyring is the public keys that are trusted to sign, by key id.
type Keyring map[string]ed25519.PublicKey

// NewKeyring trusts these keys.
func NewKeyring(keys ...ed25519.PublicKey) Keyring {
	ring := Keyring{}
	for _, key := range keys {
		ring[KeyID(key)] = key
	}
	return ring
}

// ReadKeyring reads a JSON file: an object of key id to base64 of the public key.
func ReadKeyring(path string) (Keyring, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("trusted keys: %w", err)
	}
	var encoded map[string]string
	if err := json.Unmarshal(data, &encoded); err != nil {
		return nil, fmt.Errorf("trusted keys %s: %w", path, err)
	}
	ring := Keyring{}
	for id, text := range encoded {
		key, err := base64.StdEncoding.DecodeString(text)
		if err != nil || len(key) != ed25519.PublicKeySize {
			return nil, fmt.Errorf("trusted keys %s: %s is not the base64 of %d bytes", path, id, ed25519.PublicKeySize)
		}
		if want := KeyID(key); id != want {
			return nil, fmt.Errorf("trusted keys %s: the key called %s is %s", path, id, want)
		}
		ring[id] = key
	}
	if len(ring) == 0 {
		return nil, fmt.Errorf("trusted keys %s: no key in it", path)
	}
	return ring, nil
}

// Encode is what ReadKeyring reads.
func (k Keyring) Encode() ([]byte, error) {
	encoded := map[string]string{}
	for id, key := range k {
		encoded[id] = base64.StdEncoding.EncodeToString(key)
	}
	return json.MarshalIndent(encoded, "", "  ")
}

func (k Keyring) verify(domain, keyID string, message, signature []byte) error {
	key, trusted := k[keyID]
	if !trusted {
		return fmt.Errorf("%w: key %q is not trusted", ErrSignature, keyID)
	}
	if !ed25519.Verify(key, append([]byte(domain), message...), signature) {
		return fmt.Errorf("%w: key %s did not sign this", ErrSignature, keyID)
	}
	return nil
}
