package decisionlog

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"math"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/verdict-io/verdict/services/internal/stream"
)

// A segment is frames, one behind the other, and then zeros:
//
//	8 bytes   length of the record and, above it, its CRC-32C: one word in the machine's byte order, written last
//	n bytes   DecisionRecord, serialized
//	0 to 7    zeros, up to a multiple of 8
const (
	frameHead = 8
	// closeRoom is left at the end of each segment, so that a full spool can still be closed.
	closeRoom = 256
	// maxFrame is the longest record that a frame may hold.
	maxFrame = 500 << 10
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// segment is a file of frames. The fields below the file are guarded by Writer.mu once the boot is running.
type segment struct {
	*mapped
	size int64 // of the file

	first, last uint64 // numbers of the records within; 0 while there is none
	end         int    // behind the last frame
	synced      int    // what is known to be on the disk; the keeper's
}

// room reports whether a record of n bytes fits, with keep bytes to spare.
func (s *segment) room(n, keep int) bool { return s.end+frameSize(n)+keep <= len(s.data) }

// frameSize is what a record of n bytes takes.
func frameSize(n int) int { return frameHead + (n+7)&^7 }

// write puts a record behind the last: the parts of it one after the other. The frame's first word is written last, so that a
// record is there whole or not at all whenever the process dies.
func (s *segment) write(seq uint64, parts ...[]byte) {
	at := s.end + frameHead
	for _, part := range parts {
		at += copy(s.data[at:], part)
	}
	record := s.data[s.end+frameHead : at]
	storeWord(s.data, s.end, uint64(crc32.Checksum(record, castagnoli))<<32|uint64(len(record)))
	s.end += frameSize(len(record))
	s.last = seq
	if s.first == 0 {
		s.first = seq
	}
}

// readFrame is the record at an offset, which shares data's memory; nil when there is none that holds.
func readFrame(data []byte, at int) []byte {
	if at+frameHead > len(data) {
		return nil
	}
	head := binary.NativeEndian.Uint64(data[at:])
	size, sum := head&math.MaxUint32, uint32(head>>32)
	if size == 0 || size > maxFrame || size > uint64(len(data)-at-frameHead) {
		return nil
	}
	record := data[at+frameHead : at+frameHead+int(size)]
	if crc32.Checksum(record, castagnoli) != sum {
		return nil
	}
	return record
}

// numberOf is the number of a record that begins with a boot's prefix; 0 when it does not, or is not numbered behind it.
func numberOf(record, prefix []byte) uint64 {
	rest, ok := bytes.CutPrefix(record, prefix)
	if !ok {
		return 0
	}
	field, kind, n := protowire.ConsumeTag(rest)
	if n < 0 || field != 4 || kind != protowire.VarintType {
		return 0
	}
	seq, n := protowire.ConsumeVarint(rest[n:])
	if n < 0 {
		return 0
	}
	return seq
}

// scan finds the records of a segment, in order and without a gap, up to the first that does not hold. next is the number that
// the first must have; 0 when it may have any.
func (s *segment) scan(prefix []byte, next uint64) (err error) {
	defer faultAsError(&err)()
	for {
		record := readFrame(s.data, s.end)
		seq := numberOf(record, prefix)
		if seq == 0 || next != 0 && seq != next {
			return nil
		}
		if s.first == 0 {
			s.first = seq
		}
		s.last, next = seq, seq+1
		s.end = min(s.end+frameSize(len(record)), len(s.data))
	}
}

// clean reports whether nothing but zeros is behind the last record.
func (s *segment) clean() (clean bool, err error) {
	defer faultAsError(&err)()
	zeros := make([]byte, 64<<10)
	for rest := s.data[s.end:]; len(rest) > 0; rest = rest[min(len(rest), len(zeros)):] {
		if n := min(len(rest), len(zeros)); !bytes.Equal(rest[:n], zeros[:n]) {
			return false, nil
		}
	}
	return true, nil
}

// prefixOf is what all records of a boot begin with: version, node and boot.
func prefixOf(node string, boot stream.Boot) []byte {
	p := protowire.AppendTag(nil, 1, protowire.VarintType)
	p = protowire.AppendVarint(p, recordVersion)
	p = protowire.AppendTag(p, 2, protowire.BytesType)
	p = protowire.AppendString(p, node)
	p = protowire.AppendTag(p, 3, protowire.BytesType)
	return protowire.AppendBytes(p, boot[:])
}

// appendSeq is the number, which stands behind the prefix.
func appendSeq(b []byte, seq uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, 4, protowire.VarintType), seq)
}
