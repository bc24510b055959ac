package trust

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"time"
)

// held is what the files of one setting held when they were last found good.
type held[T any] struct {
	what  string   // as messages call it
	names []string // of the files
	parse func(contents ...[]byte) (*T, error)
	fresh func(*T) error // what reload asks for besides, nil for nothing more

	value atomic.Pointer[T]
	sum   [sha256.Size]byte // of the contents behind value; for open and reload
}

func (h *held[T]) now() *T { return h.value.Load() }

func (h *held[T]) name() string { return h.what }

func (h *held[T]) open() error {
	value, sum, err := h.read()
	if err != nil {
		return err
	}
	h.value.Store(value)
	h.sum = sum
	return nil
}

// reload replaces the value when the files are good and say something else.
func (h *held[T]) reload() (changed bool, err error) {
	value, sum, err := h.read()
	if err != nil || sum == h.sum {
		return false, err
	}
	if h.fresh != nil {
		if err := h.fresh(value); err != nil {
			return false, fmt.Errorf("%s %s: %w", h.what, h.names[0], err)
		}
	}
	h.value.Store(value)
	h.sum = sum
	return true, nil
}

func (h *held[T]) read() (*T, [sha256.Size]byte, error) {
	contents := make([][]byte, len(h.names))
	var sums []byte
	for i, name := range h.names {
		content, err := os.ReadFile(name)
		if err != nil {
			return nil, [sha256.Size]byte{}, fmt.Errorf("%s: %w", h.what, err)
		}
		contents[i] = content
		sum := sha256.Sum256(content)
		sums = append(sums, sum[:]...)
	}
	value, err := h.parse(contents...)
	if err != nil {
		return nil, [sha256.Size]byte{}, fmt.Errorf("%s %s: %w", h.what, strings.Join(h.names, " with key "), err)
	}
	return value, sha256.Sum256(sums), nil
}

// parsePair is the certificate of the first content with the key of the second.
func parsePair(contents ...[]byte) (*tls.Certificate, error) {
	if block, _ := pem.Decode(contents[1]); block != nil && (block.Type == "ENCRYPTED PRIVATE KEY" || block.Headers["DEK-Info"] != "") {
		return nil, errors.New("the key is protected by a passphrase, which nobody could type when the service starts: store it without one, readable for the service alone")
	}
	pair, err := tls.X509KeyPair(contents[0], contents[1])
	if err != nil {
		return nil, errors.New(strings.TrimPrefix(err.Error(), "tls: "))
	}
	return &pair, nil
}

// parsePool is the certificates of a PEM file, which may hold comments between them, and nothing else.
func parsePool(contents ...[]byte) (*x509.CertPool, error) {
	pool := x509.NewCertPool()
	rest := contents[0]
	for n := 1; ; n++ {
		var block *pem.Block
		block, rest = pem.Decode(rest)
		switch {
		case block == nil && n == 1:
			return nil, errors.New("it holds no certificate in PEM")
		case block == nil && bytes.Contains(rest, []byte("-----BEGIN")):
			return nil, fmt.Errorf("what begins behind block %d is cut off or damaged", n-1)
		case block == nil:
			return pool, nil
		case block.Type != "CERTIFICATE":
			return nil, fmt.Errorf("block %d is a %s; only certificates belong here", n, block.Type)
		}
		root, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("block %d: %s", n, strings.TrimPrefix(err.Error(), "x509: "))
		}
		pool.AddCert(root)
	}
}

// valid is nil while a certificate is within its time.
func valid(c *tls.Certificate) error {
	now := time.Now()
	switch {
	case now.After(c.Leaf.NotAfter):
		return fmt.Errorf("it has expired, on %s: put a new one there and send SIGHUP", c.Leaf.NotAfter.UTC().Format(time.RFC3339))
	case now.Before(c.Leaf.NotBefore):
		return fmt.Errorf("it is not valid before %s: look at the clock of this machine", c.Leaf.NotBefore.UTC().Format(time.RFC3339))
	}
	return nil
}
