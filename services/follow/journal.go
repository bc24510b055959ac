package follow

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/verdict-io/verdict/services/internal/dirlock"
	"github.com/verdict-io/verdict/services/policy"
)

const (
	fileName = "state.v1"
	// maxUnwritten is how many bytes of events wait for a slow disk before the file is begun anew from the state instead.
	maxUnwritten = 16 << 20
	// minCompact is how many bytes of events a file takes at least before it is begun anew.
	minCompact = 1 << 20
	// retryDisk is how long a disk that failed is left alone.
	retryDisk = 10 * time.Second
	// closeTimeout bounds the wait for the disk at the end.
	closeTimeout = 5 * time.Second
)

// journal keeps the state file, in a goroutine of its own: a disk that is slow, full or gone does not keep anyone from
// following. What it was not given in time it makes up for by beginning the file anew from the newest state.
type journal struct {
	dir    string
	logger *slog.Logger
	errors prometheus.Counter
	lock   *os.File
	wake   chan struct{} // holds a token while there may be something to write

	mu   sync.Mutex // guards next
	next batch

	// Owned by whoever writes: the goroutine of run, or the test.
	file    *os.File // open for appending; nil when the file has to be begun anew
	first   int64    // bytes up to the end of the state that the file begins with
	size    int64
	state   *policy.State // the newest that was handed over
	proof   proof
	retryAt time.Time // after a failure
	broken  bool      // the last write failed, which has been logged
}

// batch is what has not been written yet.
type batch struct {
	frames []byte        // events of whole commands
	state  *policy.State // after them; nil when there are none
	proof  proof         // zero for none
	anew   bool          // frames do not lead to state: begin the file anew
}

// openJournal takes the folder, making it if need be, and reads what the file holds. A damaged file is set aside as *.bad.
func openJournal(dir string, logger *slog.Logger, failures prometheus.Counter) (*journal, saved, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, saved{}, fmt.Errorf("state folder: %w", err)
	}
	held, err := dirlock.Lock(dir)
	if err != nil {
		return nil, saved{}, fmt.Errorf("the state: %w", err)
	}
	j := &journal{dir: dir, logger: logger, errors: failures, lock: held, wake: make(chan struct{}, 1)}
	s, err := j.load()
	if err != nil {
		logger.Warn("the state file is set aside; the state has to come from control", slog.String("file", j.path()), slog.Any("error", err))
		if err := os.Rename(j.path(), j.path()+".bad"); err != nil {
			logger.Warn("setting the state file aside", slog.Any("error", err))
		}
		return j, saved{}, nil
	}
	j.state, j.proof = s.state, s.proof
	return j, s, nil
}

func (j *journal) path() string { return filepath.Join(j.dir, fileName) }

// load reads the file and cuts off what does not count.
func (j *journal) load() (saved, error) {
	data, err := os.ReadFile(j.path())
	if errors.Is(err, fs.ErrNotExist) {
		return saved{}, nil
	}
	if err != nil {
		return saved{}, err
	}
	s, err := parse(data)
	if err != nil {
		return saved{}, err
	}
	if s.cut != nil {
		j.logger.Info("the end of the state file does not count", slog.Uint64("position", s.state.Position), slog.Any("error", s.cut))
	}
	file, err := os.OpenFile(j.path(), os.O_RDWR|os.O_APPEND, 0o600)
	if err == nil {
		err = file.Truncate(s.good)
	}
	if err != nil {
		j.fail(err) // what was read is good all the same
		return s, nil
	}
	j.file, j.first, j.size = file, s.first, s.good
	return s, nil
}

// add hands over the events that lead from the state before to s; no events say that s came otherwise. It does not block.
func (j *journal) add(s *policy.State, events [][]byte) {
	j.mu.Lock()
	defer j.mu.Unlock()
	b := &j.next
	b.state = s
	for _, event := range events {
		b.frames = appendFrame(b.frames, frameEvent, event)
	}
	if b.anew = b.anew || len(events) == 0 || len(b.frames) > maxUnwritten; b.anew {
		b.frames = nil
	}
	j.signal()
}

// prove hands over a proof of what was added last. It does not block.
func (j *journal) prove(p proof) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.next.proof = p
	j.signal()
}

func (j *journal) signal() {
	select {
	case j.wake <- struct{}{}:
	default:
	}
}

func (j *journal) take() batch {
	j.mu.Lock()
	defer j.mu.Unlock()
	b := j.next
	j.next = batch{}
	return b
}

// run writes until ctx ends, then what is left, and closes.
func (j *journal) run(ctx context.Context) {
	for ctx.Err() == nil {
		select {
		case <-j.wake:
		case <-ctx.Done():
		}
		j.write(j.take())
	}
	j.write(j.take()) // what came during the last write
	j.close()
}

func (j *journal) close() {
	if j.file != nil {
		_ = j.file.Close()
	}
	_ = j.lock.Close()
}

// write brings the file up to b. After a failure the file stays as it was, perhaps with a torn end, until it can be begun
// anew: nothing may come behind a torn end.
func (j *journal) write(b batch) {
	if b.state != nil {
		j.state = b.state
	}
	if b.proof != (proof{}) {
		j.proof = b.proof
	}
	if j.state == nil || time.Now().Before(j.retryAt) {
		return
	}
	var err error
	if b.anew || j.file == nil {
		err = j.begin()
	} else {
		err = j.append(b)
	}
	switch {
	case err != nil:
		j.fail(err)
	case j.broken:
		j.broken = false
		j.logger.Info("the state file is written again", slog.String("file", j.path()))
	}
}

// fail gives the file up until it can be begun anew.
func (j *journal) fail(err error) {
	j.errors.Inc()
	if !j.broken {
		j.logger.Warn("the state file cannot be written; without it a restart needs control", slog.String("file", j.path()), slog.Any("error", err))
	}
	if j.file != nil {
		_ = j.file.Close()
	}
	j.file, j.broken, j.retryAt = nil, true, time.Now().Add(retryDisk)
}

// append adds b with one write. It does not wait for the disk: what a crash of the machine takes from the end comes from control.
func (j *journal) append(b batch) error {
	frames := b.frames
	if b.proof != (proof{}) {
		frames = appendProof(frames, b.proof)
	}
	n, err := j.file.Write(frames)
	j.size += int64(n)
	if err != nil {
		return err
	}
	if events := j.size - j.first; events > max(j.first, minCompact) {
		return j.begin()
	}
	return nil
}

// begin writes the state into a file of its own, which takes the place of the old one once it is on the disk.
func (j *journal) begin() error {
	data, err := startFile(j.state)
	if err != nil {
		return err
	}
	first := int64(len(data))
	if j.proof != (proof{}) {
		data = appendProof(data, j.proof)
	}
	file, err := os.OpenFile(j.path()+".tmp", os.O_RDWR|os.O_CREATE|os.O_TRUNC|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(data)
	if err == nil {
		err = file.Sync()
	}
	if err == nil {
		err = os.Rename(file.Name(), j.path())
	}
	if err != nil {
		_ = file.Close()
		_ = os.Remove(file.Name())
		return err
	}
	if j.file != nil {
		_ = j.file.Close()
	}
	j.file, j.first, j.size = file, first, int64(len(data))
	return syncDir(j.dir)
}

// syncDir makes a rename in a folder last.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
