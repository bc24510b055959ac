package decisionlog

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"
)

// keep does what Record should not wait for, until Close: the next segment, more numbers, and every now and then what was written
// onto the disk.
func (w *Writer) keep() {
	defer close(w.kept)
	tick := time.NewTicker(w.cfg.Sync)
	defer tick.Stop()
	w.tend()
	for {
		select {
		case <-w.stop:
			return
		case <-w.nudge:
		case <-tick.C:
			w.report(w.syncAll())
		}
		w.tend()
	}
}

// nudgeKeeper has the keeper look what there is to do.
func (w *Writer) nudgeKeeper() {
	select {
	case w.nudge <- struct{}{}:
	default:
	}
}

// tend makes the next segment and reserves numbers where they run short.
func (w *Writer) tend() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.spare == nil && !w.making && !w.closed {
		_ = w.makeSpare() // which Record and Status tell
	}
	if w.reserved-w.own.last <= reserveBlock/2 {
		w.reserveAhead()
	}
}

// makeSpare makes the next segment. Called with mu, which it gives up meanwhile.
func (w *Writer) makeSpare() error {
	if w.used+w.cfg.SegmentBytes > w.cfg.SpoolBytes {
		return w.fullErr()
	}
	w.making = true
	w.used += w.cfg.SegmentBytes
	number := w.own.made + 1
	w.mu.Unlock()
	s, err := w.own.createSegment(int(w.cfg.SegmentBytes), number)
	w.mu.Lock()
	w.making = false
	w.finished.Broadcast()
	before := w.makeErr
	if w.makeErr = err; err == nil {
		w.spare = s
		return nil
	}
	w.used -= w.cfg.SegmentBytes
	w.makeErr = fmt.Errorf("%w: the disk takes no more: %w", ErrFull, err)
	if before == nil {
		w.cfg.Logger.Error("a segment of the decision log cannot be made", slog.Any("error", err))
	}
	return w.makeErr
}

// reserveAhead is reserve without anybody waiting for the disk. Called with mu, which it gives up meanwhile.
func (w *Writer) reserveAhead() {
	var err error
	func() {
		defer faultAsError(&err)()
		upTo := w.reserved + reserveBlock
		storeWord(w.own.page.data, wordReserved, upTo)
		w.mu.Unlock()
		err = w.own.page.sync(0, headerSize)
		w.mu.Lock()
		if err == nil {
			w.reserved = max(w.reserved, upTo)
		}
	}()
	if err != nil { // Record tries again when it comes to the last of the numbers
		w.cfg.Logger.Error("numbers of decisions cannot be reserved", slog.Any("error", err))
	}
}

// syncAll brings to the disk what was written since the last time.
func (w *Writer) syncAll() error {
	w.mu.Lock()
	segments := slices.Clone(w.own.segments)
	ends := make([]int, len(segments))
	for i, s := range segments {
		ends[i] = s.end
	}
	w.mu.Unlock()
	errs := []error{w.own.page.sync(0, headerSize)}
	for i, s := range segments {
		err := s.sync(s.synced, ends[i])
		if err == nil {
			s.synced = ends[i]
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// report keeps whether the disk takes what is written, and logs when that changes.
func (w *Writer) report(err error) {
	w.mu.Lock()
	before := w.syncErr
	w.syncErr = err
	w.mu.Unlock()
	switch {
	case err != nil && before == nil:
		w.cfg.Logger.Error("the decision log is not brought to the disk: it outlives the process, but not the machine", slog.Any("error", err))
	case err == nil && before != nil:
		w.cfg.Logger.Info("the decision log is brought to the disk again")
	}
}
