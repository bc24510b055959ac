package stream

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/nats-io/nkeys"
)

// NATSKeyFile is where a folder of keys has that of a user.
func NATSKeyFile(dir, user string) string { return filepath.Join(dir, user+".nk") }

// ReadNATSKey is the public half of the key that a file holds the seed of.
func ReadNATSKey(path string) (public string, err error) {
	seed, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("nats key: %w", err)
	}
	pair, err := nkeys.ParseDecoratedNKey(seed)
	if err != nil {
		return "", fmt.Errorf("nats key %s: it is no seed, which begins with SU; `verdict nats-config` makes one", path)
	}
	defer pair.Wipe()
	if public, err = pair.PublicKey(); err == nil && !nkeys.IsValidPublicUserKey(public) {
		err = fmt.Errorf("nats key %s: it is a key of something else than a user: its seed must begin with SU", path)
	}
	return public, err
}

// EnsureNATSKeys makes a folder, and in it the keys of users that are not there; it returns the public halves of all, by name.
func EnsureNATSKeys(dir string, users []NATSUser) (map[string]string, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("nats keys: %w", err)
	}
	keys := map[string]string{}
	for _, u := range users {
		public, err := ensureNATSKey(NATSKeyFile(dir, u.Name))
		if err != nil {
			return nil, err
		}
		keys[u.Name] = public
	}
	return keys, nil
}

// ensureNATSKey makes a key if the file is not there, and returns its public half. The file comes into being whole, readable by its
// owner alone, and is never overwritten, whoever else makes it at the same time.
func ensureNATSKey(path string) (public string, err error) {
	if public, err = ReadNATSKey(path); !errors.Is(err, fs.ErrNotExist) {
		return public, err
	}
	pair, err := nkeys.CreateUser()
	if err != nil {
		return "", err
	}
	defer pair.Wipe()
	seed, err := pair.Seed()
	if err != nil {
		return "", err
	}
	if err := placeNew(path, append(seed, '\n')); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", fmt.Errorf("nats key: %w", err)
	}
	return ReadNATSKey(path)
}

// placeNew writes a file beside path and links it there, which fails if there is one.
func placeNew(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*") // which nobody but its owner may read
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }()
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Link(f.Name(), path)
}
