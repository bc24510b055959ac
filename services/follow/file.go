package follow

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"google.golang.org/protobuf/proto"

	eventv1 "github.com/verdict-io/verdict/proto/gen/verdict/event/v1"
	"github.com/verdict-io/verdict/services/internal/stream"
	"github.com/verdict-io/verdict/services/policy"
)

// The state file is a journal: fileMagic, a frame with a state, then frames with the events of whole commands, in order, and
// with proofs that the state up to there was fresh. A frame is its length, the CRC of its content, the CRC of these two, and
// the content, whose first byte is its kind. Numbers are little endian, CRCs are CRC-32C.
//
// It is only ever appended to, so that a process that is killed leaves a whole frame too few, or a part of one at the end. A frame
// whose header holds and whose content does not, or that is not the last, was damaged later.

const (
	fileMagic   = "verdict-follow/1\n" // the number is the format
	frameHeader = 12
	maxFrame    = maxState + 1
)

// Kinds of frames.
const (
	frameState = 1 // what stream.EncodeState makes
	frameEvent = 2 // a serialized PolicyEvent
	frameProof = 3 // proof.wall and proof.boot
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var (
	// errDamaged: the file is not what was written.
	errDamaged = errors.New("the state file is damaged")
	// errTorn: the last frame is not complete.
	errTorn = errors.New("the last frame is torn")
)

func damaged(format string, args ...any) error {
	return fmt.Errorf("%w: %s", errDamaged, fmt.Sprintf(format, args...))
}

// appendFrame appends a frame to b.
func appendFrame(b []byte, kind byte, content []byte) []byte {
	start := len(b)
	b = binary.LittleEndian.AppendUint32(b, uint32(1+len(content)))
	crc := crc32.Update(crc32.Checksum([]byte{kind}, castagnoli), castagnoli, content)
	b = binary.LittleEndian.AppendUint32(b, crc)
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(b[start:start+8], castagnoli))
	b = append(b, kind)
	return append(b, content...)
}

func appendProof(b []byte, p proof) []byte {
	var content [16]byte
	binary.LittleEndian.PutUint64(content[:8], uint64(p.wall))
	binary.LittleEndian.PutUint64(content[8:], uint64(p.boot))
	return appendFrame(b, frameProof, content[:])
}

// nextFrame takes the first frame off data. Its error is errTorn or errDamaged.
func nextFrame(data []byte) (kind byte, content, rest []byte, err error) {
	if len(data) < frameHeader {
		return 0, nil, nil, errTorn
	}
	n := binary.LittleEndian.Uint32(data)
	if crc32.Checksum(data[:8], castagnoli) != binary.LittleEndian.Uint32(data[8:]) || n == 0 || n > maxFrame {
		if len(bytes.Trim(data, "\x00")) == 0 {
			return 0, nil, nil, errTorn // the file grew before its content reached the disk
		}
		return 0, nil, nil, damaged("a frame begins with what is none")
	}
	body := data[frameHeader:]
	if uint64(len(body)) < uint64(n) {
		return 0, nil, nil, errTorn
	}
	if crc32.Checksum(body[:n], castagnoli) != binary.LittleEndian.Uint32(data[4:]) {
		return 0, nil, nil, damaged("a frame of %d bytes does not hold what was written", n)
	}
	return body[0], body[1:n], body[n:], nil
}

// saved is what a state file holds.
type saved struct {
	state  *policy.State // whole; nil for none
	proof  proof
	events int   // how many follow the first state
	first  int64 // bytes up to the end of the first state
	good   int64 // bytes up to the end of the last whole command, or of a proof after it
	cut    error // why what comes after good does not count; nil when nothing comes
}

// parse reads a state file. A torn end, and events of a later version, do not count; anything else that is wrong is errDamaged.
func parse(data []byte) (saved, error) {
	rest, ok := bytes.CutPrefix(data, []byte(fileMagic))
	if !ok {
		return saved{}, damaged("it does not begin with %q", fileMagic)
	}
	kind, content, rest, err := nextFrame(rest)
	if err != nil || kind != frameState {
		return saved{}, damaged("it does not begin with a state (frame %d, %v)", kind, err)
	}
	s := saved{first: int64(len(data) - len(rest))}
	if s.state, err = stream.DecodeState(content); err != nil {
		return saved{}, damaged("%v", err)
	}
	if s.state.Position == 0 {
		return saved{}, damaged("it holds a log that has not begun")
	}
	s.good = s.first
	tip := s.state
	for len(rest) > 0 {
		kind, content, rest, err = nextFrame(rest)
		if err == nil {
			tip, err = s.take(tip, kind, content)
		}
		if errors.Is(err, errTorn) || errors.Is(err, stream.ErrUnknownType) {
			s.cut = err
			return s, nil
		}
		if err != nil {
			return saved{}, err
		}
		if tip.Whole {
			s.state, s.good = tip, int64(len(data)-len(rest))
		}
	}
	if !tip.Whole {
		s.cut = errTorn
	}
	return s, nil
}

// take is tip after a frame.
func (s *saved) take(tip *policy.State, kind byte, content []byte) (*policy.State, error) {
	switch {
	case kind == frameEvent:
		var ev eventv1.PolicyEvent
		if err := proto.Unmarshal(content, &ev); err != nil {
			return nil, damaged("%v", err)
		}
		r, err := stream.Decode(&ev)
		if errors.Is(err, stream.ErrUnknownType) {
			return nil, err
		}
		if err == nil {
			tip, err = tip.Apply(r)
		}
		if err != nil {
			return nil, damaged("%v", err)
		}
		s.events++
		return tip, nil
	case kind == frameProof && len(content) == 16 && tip.Whole:
		s.proof = proof{wall: int64(binary.LittleEndian.Uint64(content)), boot: int64(binary.LittleEndian.Uint64(content[8:]))}
		return tip, nil
	}
	return nil, damaged("a frame of kind %d and %d bytes after position %d", kind, len(content), tip.Position)
}

// startFile is the beginning of a state file.
func startFile(s *policy.State) ([]byte, error) {
	content, err := stream.EncodeState(s)
	if err != nil {
		return nil, err
	}
	if len(content) > maxState {
		return nil, fmt.Errorf("a state of %d bytes is too large for a file", len(content))
	}
	return appendFrame([]byte(fileMagic), frameState, content), nil
}
