package decisionlog

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/verdict-io/verdict/services/internal/stream"
)

// Folders and files of a spool. A folder of a boot comes into being under another name and goes away under another one, so that
// what a dead process leaves of either is known for what it is.
const (
	headerName    = "header"
	segmentSuffix = ".seg"

	suffixNew  = ".new"  // not yet a boot
	suffixGone = ".gone" // all of it is confirmed
	suffixBad  = ".bad"  // unreadable; kept for the operator
)

// boot is one start of the node and what of it is in the spool.
type boot struct {
	header
	dir    string
	prefix []byte  // of its records
	page   *mapped // its header; nil for an earlier boot

	// Guarded by Writer.mu in the running boot, fixed in an earlier one but for segments that go away.
	segments []*segment // those that still exist, in order
	made     int        // how many segments there have been
	last     uint64     // the last record that is there
	bound    uint64     // the last number that may have been given out
	exact    bool       // bound was given out; set when the boot was recovered
	closed   bool       // nothing comes any more, in order

	// Changed by the sender alone, under Writer.mu.
	next      uint64 // the first record that is to be sent
	confirmed uint64 // in ClickHouse, and all below it
	// Of the sender alone.
	sent  uint64  // no number above it can be confirmed, since it was never sent
	acked []acked // batches that are acknowledged and not confirmed, in order
	at    place   // where next is
	// While the disk does not give what is next, which holds up no other boot.
	retryAt time.Time
	err     error
}

// acked is a batch that the stream has acknowledged, as far as that matters: up to which number, at which sequence.
type acked struct{ last, sequence uint64 }

func (b *boot) bytes() (n int64) {
	for _, s := range b.segments {
		n += s.size
	}
	return n
}

func segmentName(n int) string { return fmt.Sprintf("%08d%s", n, segmentSuffix) }

// recovered is what Open finds in a spool.
type recovered struct {
	boots   []*boot // in the order of their starts
	damaged []error // what was put aside
	order   uint64  // of the newest boot
	// The newest boot that did not close, if there is one; its folder may be among the damaged.
	previous      stream.Boot
	previousBound uint64
	previousExact bool // previousBound is no more than was given out
}

// recover reads a spool. What cannot be read is put aside and never hinders the start; what cannot be opened, or is of a newer
// version, does.
func recoverSpool(dir, machine string) (recovered, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return recovered{}, err
	}
	var all []*boot
	var r recovered
	for _, e := range entries {
		name, suffix := e.Name(), filepath.Ext(e.Name())
		if _, err := stream.ParseBoot(strings.TrimSuffix(name, suffix)); err != nil || !e.IsDir() || suffix == suffixBad {
			continue // not a boot's, or put aside before
		}
		path := filepath.Join(dir, name)
		if suffix == suffixNew || suffix == suffixGone {
			if err := os.RemoveAll(path); err != nil {
				return r, err
			}
			continue
		}
		b, err := recoverBoot(path, machine)
		if errors.Is(err, errDamaged) || errors.Is(err, errFault) {
			r.damaged = append(r.damaged, fmt.Errorf("%s: %w", name, err))
			err = os.Rename(path, path+suffixBad)
		}
		if err != nil {
			return r, fmt.Errorf("recovering %s: %w", path, err)
		}
		if b != nil { // nil when it was put aside
			all = append(all, b)
		}
	}
	slices.SortFunc(all, func(a, b *boot) int { return cmp.Compare(a.order, b.order) })
	return r, r.sift(all)
}

// sift keeps the boots that hold records. One whose records are all lost is put aside, and still named by the next opening record.
func (r *recovered) sift(all []*boot) error {
	for _, b := range all {
		r.order = b.order
		if !b.closed {
			r.previous, r.previousBound, r.previousExact = b.boot, b.bound, b.exact
		}
		if b.last > 0 {
			r.boots = append(r.boots, b)
			continue
		}
		r.damaged = append(r.damaged, fmt.Errorf("%s: none of the %d records that it may have had can be read", b.boot, b.bound))
		if err := errors.Join(b.unmap(), os.Rename(b.dir, b.dir+suffixBad)); err != nil {
			return err
		}
	}
	return nil
}

// recoverBoot reads the folder of an earlier boot.
func recoverBoot(dir, machine string) (*boot, error) {
	page, err := openMapped(filepath.Join(dir, headerName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: there is none", errDamaged)
	}
	if err != nil {
		return nil, err
	}
	defer page.close() //nolint:errcheck // it was only read
	h, err := decodeHeader(page.data)
	if err == nil && h.boot.String() != filepath.Base(dir) {
		err = fmt.Errorf("%w: it is that of %s", errDamaged, h.boot)
	}
	if err != nil {
		return nil, err
	}
	b := &boot{header: h, dir: dir, prefix: prefixOf(h.node, h.boot)}
	if err := b.readSegments(); err != nil {
		return nil, errors.Join(err, b.unmap())
	}
	b.bound, b.exact = boundOf(h, page.data, machine, b.last)
	b.closed = loadWord(page.data, wordClosed) != 0 && b.last == b.bound // a machine may die with the end not yet on its disk
	b.sent = b.bound
	if len(b.segments) > 0 {
		b.next = max(1, b.segments[0].first)
		b.confirmed = b.next - 1 // only what was confirmed is not there any more
	}
	return b, nil
}

// readSegments maps the segments and finds their records, up to the first that does not hold. Room that was never used is given
// back.
func (b *boot) readSegments() error {
	entries, err := os.ReadDir(b.dir)
	if err != nil {
		return err
	}
	for _, e := range entries { // in the order of their names
		n, err := strconv.Atoi(strings.TrimSuffix(e.Name(), segmentSuffix))
		if err != nil || e.Name() != segmentName(n) {
			continue
		}
		if err := b.readSegment(filepath.Join(b.dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

func (b *boot) readSegment(path string) error {
	m, err := openMapped(path)
	if err != nil {
		return err
	}
	s := &segment{mapped: m, size: int64(len(m.data))}
	next := uint64(0) // the first may have any number: those below it were confirmed
	if b.made > 0 {
		next = b.last + 1
	}
	b.made++
	err = s.scan(b.prefix, next)
	clean, cerr := s.clean()
	if errors.Is(cmp.Or(err, cerr), errFault) {
		clean = false // what was read until then holds
	}
	b.last = max(b.last, s.last)
	if clean && s.first == 0 {
		return errors.Join(m.close(), os.Remove(path))
	}
	if clean && s.end < len(m.data) {
		if err := errors.Join(m.close(), os.Truncate(path, int64(s.end))); err != nil {
			return err
		}
		if s.mapped, err = openMapped(path); err != nil {
			return err
		}
		s.size = int64(s.end)
	}
	b.segments = append(b.segments, s)
	return nil
}

func (b *boot) unmap() error {
	var errs []error
	for _, s := range b.segments {
		errs = append(errs, s.close())
	}
	if b.page != nil {
		errs = append(errs, b.page.close())
	}
	return errors.Join(errs...)
}

// remove makes a boot go away of which everything is confirmed.
func (b *boot) remove() error {
	gone := b.dir + suffixGone
	if err := errors.Join(b.unmap(), os.Rename(b.dir, gone)); err != nil {
		return err
	}
	return os.RemoveAll(gone)
}

// createBoot makes the folder of a new boot: header, first segment and in it the opening record, all on the disk when it returns.
func createBoot(dir string, h header, opening func(*boot)) (*boot, error) {
	final := filepath.Join(dir, h.boot.String())
	b := &boot{header: h, dir: final + suffixNew, prefix: prefixOf(h.node, h.boot), next: 1}
	if err := os.Mkdir(b.dir, 0o700); err != nil {
		return nil, err
	}
	if err := b.populate(opening); err != nil {
		return nil, errors.Join(err, b.unmap(), os.RemoveAll(b.dir))
	}
	if err := errors.Join(os.Rename(b.dir, final), syncDir(dir)); err != nil {
		return nil, errors.Join(err, b.unmap())
	}
	b.dir = final
	b.page.path = filepath.Join(final, headerName)
	for _, s := range b.segments {
		s.path = filepath.Join(final, filepath.Base(s.path))
	}
	return b, nil
}

func (b *boot) populate(opening func(*boot)) (err error) {
	defer faultAsError(&err)()
	if b.page, err = createMapped(filepath.Join(b.dir, headerName), headerSize); err != nil {
		return err
	}
	b.encode(b.page.data)
	storeWord(b.page.data, wordReserved, reserveBlock)
	s, err := b.createSegment(firstSegment, b.made+1)
	if err != nil {
		return err
	}
	b.made++
	b.segments = append(b.segments, s)
	opening(b)
	return errors.Join(b.page.sync(0, headerSize), s.sync(0, s.end), syncDir(b.dir))
}

// createSegment makes a segment file full of zeros, whose name is on the disk.
func (b *boot) createSegment(size, n int) (*segment, error) {
	m, err := createMapped(filepath.Join(b.dir, segmentName(n)), size)
	if err != nil {
		return nil, err
	}
	if err := syncDir(b.dir); err != nil {
		return nil, errors.Join(err, m.close(), os.Remove(m.path))
	}
	return &segment{mapped: m, size: int64(size)}, nil
}
