package stream

import (
	"encoding/base32"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Names on NATS of what nodes tell about decisions, and of what audit tells nodes.
const (
	decisionPrefix = "verdict.decision."
	tickPrefix     = "verdict.tick."
	ingestedPrefix = "verdict.ingested."
	nodePrefix     = "verdict.node."

	NodeAll     = nodePrefix + "*"
	IngestedAll = ingestedPrefix + "*"
)

// MaxPartitions is how many streams decisions may be spread over. Each ends a block a second, and ClickHouse remembers the tokens of
// 10,000 blocks of the table: a block whose insert is not confirmed must be sent again before they are forgotten.
const MaxPartitions = 64

// MaxNode is the longest name of a node.
const MaxNode = 64

// Boot is one start of a node: random, so that no two starts share it whatever became of the disk.
type Boot [16]byte

// String is the boot as it stands in subjects and file names: 26 characters.
func (b Boot) String() string { return idEncoding.EncodeToString(b[:]) }

// ParseBoot is the inverse of String.
func ParseBoot(text string) (Boot, error) {
	raw, err := idEncoding.DecodeString(text)
	if err != nil || len(raw) != len(Boot{}) || idEncoding.EncodeToString(raw) != text {
		return Boot{}, fmt.Errorf("%q is no boot", clip(text))
	}
	return Boot(raw), nil
}

// DecisionID names one decision.
type DecisionID struct {
	Boot Boot
	Seq  uint64
}

// idEncoding is RFC 4648 base32 in lower case without padding.
var idEncoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// String is the id that callers get: base32 of the boot and of the number, big endian; 39 characters.
func (id DecisionID) String() string {
	var raw [24]byte
	copy(raw[:], id.Boot[:])
	binary.BigEndian.PutUint64(raw[16:], id.Seq)
	return idEncoding.EncodeToString(raw[:])
}

// ErrDecisionID: the text names no decision.
var ErrDecisionID = errors.New("not a decision id")

// ParseDecisionID is the inverse of String. There is one text for each id: another that would decode to the same bytes is refused.
func ParseDecisionID(text string) (DecisionID, error) {
	raw, err := idEncoding.DecodeString(text)
	if err != nil || len(raw) != 24 || idEncoding.EncodeToString(raw) != text {
		return DecisionID{}, fmt.Errorf("%w: it has 39 characters of a-z and 2-7, as in decisionId of an answer; not %q", ErrDecisionID, clip(text))
	}
	return DecisionID{Boot: Boot(raw[:16]), Seq: binary.BigEndian.Uint64(raw[16:])}, nil
}

// clip shortens what a caller sent for an error.
func clip(text string) string {
	const most = 64
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "…"
}

// ValidNode is nil for the name of a node: 1 to 64 characters of [A-Za-z0-9_-], since it is a token of NATS subjects.
func ValidNode(name string) error {
	ok := name != "" && len(name) <= MaxNode
	for _, c := range []byte(name) {
		ok = ok && (c == '-' || c == '_' || c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z')
	}
	if !ok {
		return fmt.Errorf("%q is no name of a node: it needs 1 to %d characters of [A-Za-z0-9_-]", clip(name), MaxNode)
	}
	return nil
}

// HostNode is a name for the node of this machine: that of the machine behind a prefix, as far as it can stand in a subject.
func HostNode(prefix string) string {
	name, err := os.Hostname()
	if err != nil || name == "" {
		name = "node"
	}
	out := []byte(prefix + name)
	for i := range out {
		if ValidNode(string(out[i:i+1])) != nil {
			out[i] = '-'
		}
	}
	return string(out[:min(len(out), MaxNode)])
}

// DecisionStream is the name of a partition's stream.
func DecisionStream(partition int) string { return "DECISIONS_" + strconv.Itoa(partition) }

// DecisionSubject is what a boot publishes its batches on.
func DecisionSubject(partition int, node string, boot Boot) string {
	return decisionPrefix + strconv.Itoa(partition) + "." + node + "." + boot.String()
}

// TickSubject is what ends the block of an idle partition.
func TickSubject(partition int) string { return tickPrefix + strconv.Itoa(partition) }

// AllNodes stands in place of a node's name, and is none, where audit tells everybody which stream a partition has now: also nodes
// of which it does not know, because all that they sent was lost with a stream.
const AllNodes = "~"

// IngestedSubject is where a node hears what of its decisions is in ClickHouse.
func IngestedSubject(node string) string { return ingestedPrefix + node }

// NodeSubject is what a node's report is published on.
func NodeSubject(node string) string { return nodePrefix + node }

// DecisionStreamConfig is the stream of a partition. It refuses what does not fit (the nodes keep it) and lets nothing go by
// itself: the ingester purges what it is done with.
func DecisionStreamConfig(partition, replicas int, maxBytes int64) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:        DecisionStream(partition),
		Description: "Batches of decision records on their way to ClickHouse. Nodes keep them until they are there.",
		Subjects:    []string{decisionPrefix + strconv.Itoa(partition) + ".>", TickSubject(partition)},
		Retention:   jetstream.LimitsPolicy,
		Storage:     jetstream.FileStorage,
		Discard:     jetstream.DiscardNew,
		MaxBytes:    maxBytes,
		Replicas:    replicas,
		DenyDelete:  true,
		Duplicates:  time.Second, // no message carries an id: the ingester drops by number what came twice
	}
}

// DecisionStreamID tells a stream from one of the same name that was made after it: its creation time.
func DecisionStreamID(info *jetstream.StreamInfo) string {
	return info.Created.UTC().Format("20060102T150405.000000000Z")
}
