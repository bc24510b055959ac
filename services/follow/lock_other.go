//go:build !unix

package follow

import (
	"fmt"
	"os"
	"path/filepath"
)

// lock takes a folder for this process. A system without flock refuses to open a file twice only where it does so by itself.
func lock(dir string) (*os.File, error) {
	file, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("state folder: %w", err)
	}
	return file, nil
}
