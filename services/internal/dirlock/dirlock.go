// Package dirlock gives a folder to one process at a time.
package dirlock

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// ErrLocked: another process has the folder.
var ErrLocked = errors.New("another process has it: each needs a folder of its own")

// Lock takes a folder, in which it makes a file of the name "lock". Closing the result, or the end of the process, gives the folder
// back. It does not wait.
func Lock(dir string) (*os.File, error) {
	file, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if err == nil {
		return file, nil
	}
	_ = file.Close()
	if errors.Is(err, syscall.EWOULDBLOCK) {
		err = ErrLocked
	}
	return nil, fmt.Errorf("folder %s: %w", dir, err)
}
