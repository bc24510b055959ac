package dirlock_test

import (
	"errors"
	"testing"

	"github.com/verdict-io/verdict/services/internal/dirlock"
)

func TestLock(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	held, err := dirlock.Lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := dirlock.Lock(dir); !errors.Is(err, dirlock.ErrLocked) {
		t.Errorf("a second lock: %v", err)
	}
	if err := held.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := dirlock.Lock(dir)
	if err != nil {
		t.Fatalf("after it was given back: %v", err)
	}
	_ = again.Close()
	if _, err := dirlock.Lock(dir + "/not there"); err == nil || errors.Is(err, dirlock.ErrLocked) {
		t.Errorf("a folder that is not there: %v", err)
	}
}
