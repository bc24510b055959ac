package decisionlog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/verdict-io/verdict/services/internal/stream"
)

// The header of a boot is one page. Numbers are in the machine's byte order; magic and checksum say whether it is this one's.
//
//	0    magic, version, checksum of the 168 bytes from 16 on
//	16   partition, order, boot, node, machine boot
//	256  words that change: the last number given out, the last that is reserved, whether the boot has closed
const (
	headerSize    = 4096
	headerMagic   = 0x31474f4c44524456 // "VDRDLOG1" where bytes stand the usual way round
	headerVersion = 1

	headerFixed = 16 // where what the checksum covers begins
	headerEnd   = headerFixed + 168

	wordGivenOut = 256
	wordReserved = 264
	wordClosed   = 272

	machineBytes = 64
)

// errDamaged: the header is none.
var errDamaged = errors.New("damaged header")

// header is who a boot is. A boot that is left over stays with its partition whatever the settings say by now.
type header struct {
	boot      stream.Boot
	node      string
	partition int
	order     uint64 // boots of one spool count 1, 2, 3, … since clocks may go back
	machine   string // boot id of the machine, clipped; empty when it did not say
}

// encode writes the header into a page of zeros.
func (h header) encode(page []byte) {
	fixed := page[headerFixed:headerEnd]
	binary.NativeEndian.PutUint64(fixed, uint64(h.partition))
	binary.NativeEndian.PutUint64(fixed[8:], h.order)
	copy(fixed[16:], h.boot[:])
	copy(fixed[32:], h.node)
	copy(fixed[32+stream.MaxNode:][:machineBytes], h.machine)
	binary.NativeEndian.PutUint64(page, headerMagic)
	binary.NativeEndian.PutUint32(page[8:], headerVersion)
	binary.NativeEndian.PutUint32(page[12:], crc32.Checksum(fixed, castagnoli))
}

// decodeHeader is the inverse of encode. A header of another version is an error of its own: it is not damaged.
func decodeHeader(page []byte) (h header, err error) {
	defer faultAsError(&err)()
	if len(page) < wordClosed+8 || binary.NativeEndian.Uint64(page) != headerMagic {
		return h, fmt.Errorf("%w: it does not begin as one does", errDamaged)
	}
	if version := binary.NativeEndian.Uint32(page[8:]); version != headerVersion {
		return h, fmt.Errorf("version %d of the spool, and this program knows %d: let the program that wrote it send what is left, or move the folder away", version, headerVersion)
	}
	fixed := page[headerFixed:headerEnd]
	if crc32.Checksum(fixed, castagnoli) != binary.NativeEndian.Uint32(page[12:]) {
		return h, fmt.Errorf("%w: its checksum is wrong", errDamaged)
	}
	h = header{
		partition: int(binary.NativeEndian.Uint64(fixed)), order: binary.NativeEndian.Uint64(fixed[8:]), boot: stream.Boot(fixed[16:32]),
		node: text(fixed[32:][:stream.MaxNode]), machine: text(fixed[32+stream.MaxNode:][:machineBytes]),
	}
	if err := stream.ValidNode(h.node); err != nil || h.partition < 0 {
		return h, fmt.Errorf("%w: node %q, partition %d", errDamaged, h.node, h.partition)
	}
	return h, nil
}

// text is a string behind which zeros stand.
func text(b []byte) string { return string(bytes.TrimRight(b, "\x00")) }

// boundOf is the last number that a boot may have given out, when last is the last of its records that is there. While the machine
// runs, the word holds; when the machine died, anything up to what was reserved may have been given out, and the bound is
// not exact.
func boundOf(h header, page []byte, machine string, last uint64) (bound uint64, exact bool) {
	bound = max(last, loadWord(page, wordGivenOut))
	if loadWord(page, wordClosed) == 0 && (machine == "" || h.machine != machine) {
		return max(bound, loadWord(page, wordReserved)), false
	}
	return bound, true
}
