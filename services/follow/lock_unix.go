//go:build unix

package follow

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// lock takes a folder for this process; closing the file, or the end of the process, gives it back.
func lock(dir string) (*os.File, error) {
	file, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("state folder: %w", err)
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("state folder %s is another process's: give each a folder of its own: %w", dir, err)
	}
	return file, nil
}
