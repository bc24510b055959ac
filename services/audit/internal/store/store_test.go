package store_test

import (
	"bytes"
	"context"
	"os"
	"testing"
	"time"

	decisionv1 "github.com/verdict-io/verdict/proto/gen/verdict/decision/v1"
	eventv1 "github.com/verdict-io/verdict/proto/gen/verdict/event/v1"
	"github.com/verdict-io/verdict/services/audit/internal/store"
	"github.com/verdict-io/verdict/services/internal/stream"
	"github.com/verdict-io/verdict/services/internal/testenv"
)

func migrate(ctx context.Context, ownerURL string) error {
	_, err := store.Migrate(ctx, ownerURL, nil)
	return err
}

const (
	accountA = "111111111111"
	accountB = "222222222222"
)

// newStore is a store on a database of the test's own.
func newStore(t testing.TB) *store.Store {
	t.Helper()
	return open(t, testenv.NewClickHouse(t, migrate))
}

func open(t testing.TB, ch testenv.ClickHouse) *store.Store {
	t.Helper()
	cfg := store.Config{URL: ch.URL, Accounts: []string{accountA, accountB}}
	if ch.SecretFile != "" {
		cfg.Secret = secretOf(t, ch)
	}
	s, err := store.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func secretOf(t testing.TB, ch testenv.ClickHouse) []byte {
	t.Helper()
	text, err := os.ReadFile(ch.SecretFile)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.TrimSpace(text)
}

var storedAt = time.Date(2026, 11, 20, 13, 14, 15, 161718000, time.UTC)

// decided is a record with something in every field.
func decided(boot stream.Boot, seq uint64, account string) *decisionv1.DecisionRecord {
	bound, strict, staleness := uint64(10_000), true, uint64(1234)
	return &decisionv1.DecisionRecord{
		Version: 1, Node: "node-1", Boot: boot[:], Seq: seq, RecordedAtUs: storedAt.UnixMicro() - 500,
		What: &decisionv1.DecisionRecord_Decision{Decision: &decisionv1.DecisionDetail{
			Account: account, GatewayArn: "arn:aws:bedrock-agentcore:us-east-1:" + account + ":gateway/refund-gw-a1b2c3d4e5",
			PolicyEngineId: "RefundEngine-abcdefghij", EngineSource: decisionv1.EngineSource_ENGINE_SOURCE_GATEWAY,
			Principal:   &decisionv1.Principal{Type: "AgentCore::OAuthUser", Id: "u-1", Tags: map[string]string{"role": "refund-agent", "scope": "a b"}},
			Action:      &decisionv1.Entity{Type: "AgentCore::Action", Id: "RefundTarget___process_refund"},
			Resource:    &decisionv1.Entity{Type: "AgentCore::Gateway", Id: "arn:aws:bedrock-agentcore:us-east-1:" + account + ":gateway/refund-gw-a1b2c3d4e5"},
			ContextJson: `{"input":{"orderId":"12345","amount":450},"system":{"now":{"__extn":{"fn":"datetime","arg":"2026-11-20T13:14:15Z"}}}}`, RequestDigest: []byte("0123456789abcdef0123456789abcdef"),
			NowUs: storedAt.UnixMicro() - 777, Decision: decisionv1.Decision_DECISION_DENY, Proceed: true, Mode: decisionv1.Mode_MODE_LOG_ONLY,
			DeterminingPolicies: []string{"refund_limit-x1y2z3w4v5", "z"},
			Errors:              []*decisionv1.PolicyError{{PolicyId: "p1", Message: "no such attribute"}, {PolicyId: "p2", Message: "типы"}},
			LogOnly:             &decisionv1.LogOnlyFindings{Matched: []string{"m"}, Flipping: []string{"f", "g"}, Mismatched: []string{"x"}, Incomplete: true},
			Reason:              "Policy evaluation denied due to policy refund_limit", ReasonCode: "forbid", Revision: 1 << 60, LogHash: []byte{0, 1, 2, 255},
			EvaluatorVersion: "cedar-go/1.9.0+1", Settings: &eventv1.Settings{
				StalenessBoundMs: &bound, OnStale: eventv1.OnStale_ON_STALE_DENY, StrictForbids: &strict,
				RedactedPaths: &eventv1.RedactedPaths{Paths: []string{"/context/input/ssn"}},
			},
			StalenessUs: &staleness, Stale: true, RedactedPaths: []string{"/context/input/ssn"}, Replayable: true, LatencyNs: 12345,
			RequestId: "req-1", TraceId: []byte("0123456789abcdef"), SpanId: []byte("01234567"),
		}},
	}
}

// block is records of one stretch of a stream.
func block(first uint64, records ...*decisionv1.DecisionRecord) store.Block {
	b := store.Block{StreamID: "20261120T131415.000000000Z", FirstSequence: first}
	for _, r := range records {
		b.Rows = append(b.Rows, store.Row{Record: r, GivenOut: r.GetSeq(), Sequence: first, StoredAt: storedAt})
	}
	return b
}
