// Package stream is the form in which policy events and state travel: events, heads and states to signed bytes and back
// (with upcasters for old versions of payloads), the subjects that they travel on, the configuration of the streams, and who may
// publish and hear what (NATSUsers).
//
// It guarantees that what it opens was signed by a trusted key and hashes to what it says, that bytes once sealed are
// never encoded again, and that an event of a type that this build does not know is an error (ErrUnknownType), never
// skipped.
package stream

import (
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Names on NATS.
const (
	PolicyStream  = "VERDICT_POLICY"
	policyPrefix  = "verdict.policy."
	livePrefix    = "verdict.live."
	HeadSubject   = "verdict.head" // a SignedHead without nonce, as a hint
	PolicyAll     = policyPrefix + ">"
	LiveAll       = livePrefix + ">"
	metadataLogID = "verdict_log_id"
)

// Subject is what an event of a thing is published on: verdict.policy.<account>.<kind>.<id>.
// stream is the event's, "<kind>/<id>".
func Subject(account, stream string) string {
	return policyPrefix + account + "." + strings.Replace(stream, "/", ".", 1)
}

// PolicyStreamConfig is the stream that caches the tail of a log. Its sequence is the log's position; nothing but the
// relay writes to it. first is the first position that it is to hold. Direct reads are off, since a replica that lags
// would answer them: whoever looks at the last message must see the leader's.
func PolicyStreamConfig(logID string, first uint64, replicas int, maxBytes int64) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:         PolicyStream,
		Description:  "Policy events by position. A cache: the log is in Postgres, and the relay fills this again.",
		Subjects:     []string{PolicyAll},
		Retention:    jetstream.LimitsPolicy,
		Storage:      jetstream.FileStorage,
		Discard:      jetstream.DiscardOld,
		MaxBytes:     maxBytes,
		MaxConsumers: 1000,
		Replicas:     replicas,
		FirstSeq:     first,
		DenyDelete:   true,
		DenyPurge:    true,
		Duplicates:   time.Second, // no message carries an id: the expected sequence is the fence
		RePublish:    &jetstream.RePublish{Source: PolicyAll, Destination: LiveAll},
		Metadata:     map[string]string{metadataLogID: logID},
	}
}

// LogIDOf is the log that a stream was made for, "" when it was not made by the relay.
func LogIDOf(info *jetstream.StreamInfo) string { return info.Config.Metadata[metadataLogID] }
