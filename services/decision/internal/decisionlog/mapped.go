package decisionlog

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// mapped is a file in memory. What is written there outlives the process, and the machine once sync has returned.
type mapped struct {
	path string
	data []byte // nil after close, and for an empty file

	mu sync.Mutex // held while the disk works on data, which must not be unmapped then
}

// createMapped makes a file of size bytes and maps it. The zeros are written and not left to the file system: a sparse file on a
// full disk would kill the process at some later store to it. What is there when it fails is removed.
func createMapped(path string, size int) (m *mapped, err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() {
		f.Close()
		if err != nil {
			os.Remove(path) //nolint:errcheck // the error that matters is the one before
		}
	}()
	if err := fill(f, size); err != nil {
		return nil, err
	}
	if err := f.Sync(); err != nil {
		return nil, err
	}
	data, err := unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("mapping %s: %w", path, err)
	}
	return &mapped{path: path, data: data}, nil
}

func fill(f *os.File, size int) error {
	zeros := make([]byte, min(size, 1<<20))
	for size > 0 {
		n, err := f.Write(zeros[:min(size, len(zeros))])
		if err != nil {
			return err
		}
		size -= n
	}
	return nil
}

// openMapped maps a file to be read.
func openMapped(path string) (*mapped, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || info.Size() == 0 {
		return &mapped{path: path}, err
	}
	data, err := unix.Mmap(int(f.Fd()), 0, int(info.Size()), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("mapping %s: %w", path, err)
	}
	return &mapped{path: path, data: data}, nil
}

// sync brings the bytes from one offset up to another to the disk. A file that is closed meanwhile needs none.
func (m *mapped) sync(from, to int) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	from -= from % os.Getpagesize()
	if m.data == nil || from >= to {
		return nil
	}
	if err := unix.Msync(m.data[from:to], unix.MS_SYNC); err != nil {
		return fmt.Errorf("bringing %s to the disk: %w", m.path, err)
	}
	return nil
}

// close unmaps the file. Nobody may read data from then on.
func (m *mapped) close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.data == nil {
		return nil
	}
	data := m.data
	m.data = nil
	return unix.Munmap(data)
}

// word is 8 bytes of mapped memory, whose offset is a multiple of 8, to be read and written at once.
func word(data []byte, offset int) *uint64 {
	return (*uint64)(unsafe.Pointer(&data[offset : offset+8][0])) //nolint:gosec // mapped memory has no other type, and is aligned
}

func loadWord(data []byte, offset int) uint64     { return atomic.LoadUint64(word(data, offset)) }
func storeWord(data []byte, offset int, v uint64) { atomic.StoreUint64(word(data, offset), v) }

// errFault: the file under mapped memory is not there, because it was cut off, or the disk fails, or has no room for a page.
var errFault = errors.New("the disk does not give or take a page of the spool")

// faultAsError makes an error of a fault of mapped memory in the rest of the calling function, which would else kill the process:
//
//	defer faultAsError(&err)()
func faultAsError(err *error) func() {
	before := debug.SetPanicOnFault(true)
	return func() {
		debug.SetPanicOnFault(before)
		switch r := recover().(type) {
		case nil:
		case interface {
			runtime.Error
			Addr() uintptr
		}:
			*err = errFault
		default:
			panic(r) //nolint:forbidigo // it is somebody else's
		}
	}
}

// syncDir makes the names in a folder outlive the machine.
func syncDir(path string) error {
	d, err := os.Open(filepath.Clean(path))
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("bringing %s to the disk: %w", path, err)
	}
	return nil
}
