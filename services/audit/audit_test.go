package audit

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	auditv1 "github.com/verdict-io/verdict/proto/gen/verdict/audit/v1"
	"github.com/verdict-io/verdict/proto/gen/verdict/audit/v1/auditv1connect"
	decisionv1 "github.com/verdict-io/verdict/proto/gen/verdict/decision/v1"
	"github.com/verdict-io/verdict/services/internal/process"
	"github.com/verdict-io/verdict/services/internal/stream"
	"github.com/verdict-io/verdict/services/internal/testenv"
)

const (
	accountA = "111111111111"
	accountB = "222222222222"
)

// bench is a ClickHouse and a NATS, on which a test runs as many audits as it wants.
type bench struct {
	testenv.ClickHouse
	nats *testenv.NATS
}

func newBench(t *testing.T, migrate bool) *bench {
	t.Helper()
	b := &bench{nats: testenv.NewNATS(t)}
	b.ClickHouse = testenv.NewClickHouse(t, func(ctx context.Context, ownerURL string) error {
		if !migrate {
			return nil
		}
		_, err := Migrate(ctx, ownerURL, nil)
		return err
	})
	if b.SecretFile == "" {
		t.Fatalf("%s is not set: accounts need users in ClickHouse; run the tests with `make test`", testenv.ClickHouseSecretVariable)
	}
	return b
}

// client calls an audit as an account.
type client struct {
	auditv1connect.AuditServiceClient
	url string
}

func (b *bench) start(t *testing.T, account string) *client {
	t.Helper()
	s, err := New(t.Context(), Config{
		Common:        process.Common{Addr: "127.0.0.1:0", LogLevel: "error", LoopbackAccount: account},
		ClickHouseURL: b.URL, ClickHouseSecret: b.SecretFile, Accounts: accountA + "," + accountB, NATSURL: b.nats.URL(),
		Partitions: 1, StreamReplicas: 1, StreamMaxBytes: 1 << 30, InsertTimeout: 10 * time.Second, MaxBody: 1 << 20,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("audit ended with %v", err)
		}
	})
	url := "http://" + s.Addr()
	return &client{auditv1connect.NewAuditServiceClient(http.DefaultClient, url), url}
}

// decided is a decision of an account.
func decided(boot stream.Boot, seq uint64, account string) *decisionv1.DecisionRecord {
	return &decisionv1.DecisionRecord{
		Version: 1, Node: "node-1", Boot: boot[:], Seq: seq, RecordedAtUs: time.Now().UnixMicro(),
		What: &decisionv1.DecisionRecord_Decision{Decision: &decisionv1.DecisionDetail{
			Account: account, PolicyEngineId: "E-1", Decision: decisionv1.Decision_DECISION_ALLOW, Proceed: true,
			Principal: &decisionv1.Principal{Type: "AgentCore::OAuthUser", Id: "u-1", Tags: map[string]string{"role": "r"}},
		}},
	}
}

// publish sends records of one boot as its node does.
func (b *bench) publish(t *testing.T, boot stream.Boot, records ...*decisionv1.DecisionRecord) {
	t.Helper()
	batch := stream.Batch{Node: "node-1", Boot: boot, FirstSeq: records[0].GetSeq(), LastSeq: records[len(records)-1].GetSeq()}
	batch.GivenOut = batch.LastSeq
	for _, r := range records {
		data, err := proto.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		batch.Records = append(batch.Records, data)
	}
	data, err := stream.EncodeBatch(batch)
	if err != nil {
		t.Fatal(err)
	}
	js, err := jetstream.New(b.nats.Connect(t))
	if err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, "the stream", func() error {
		_, err := js.Publish(t.Context(), stream.DecisionSubject(0, "node-1", boot), data)
		return err
	})
}

// query returns the messages of an answer.
func (c *client) query(ctx context.Context, sql string) (messages []*auditv1.QueryResponse, err error) {
	rows, err := c.Query(ctx, &auditv1.QueryRequest{Sql: sql})
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Receive() {
		messages = append(messages, proto.CloneOf(rows.Msg()))
	}
	return messages, rows.Err()
}

// What a node sends is in the table a moment later, and the account that it is about finds it, and nobody else.
func TestFromStreamToAnswer(t *testing.T) {
	t.Parallel()
	b := newBench(t, true)
	a, other := b.start(t, accountA), b.start(t, accountB)
	boot := stream.Boot{1}
	opened := &decisionv1.DecisionRecord{Version: 1, Node: "node-1", Boot: boot[:], Seq: 1, What: &decisionv1.DecisionRecord_Opened{Opened: &decisionv1.BootOpened{Build: "v1"}}}
	records := []*decisionv1.DecisionRecord{opened, decided(boot, 2, accountA), decided(boot, 3, accountB)}
	b.publish(t, boot, records...)
	id := &auditv1.GetDecisionRequest{DecisionId: stream.DecisionID{Boot: boot, Seq: 2}.String()}
	var got *auditv1.GetDecisionResponse
	testenv.Eventually(t, "the decision", func() (err error) {
		got, err = a.GetDecision(t.Context(), id)
		return err
	})
	if diff := cmp.Diff(records[1], got.GetRecord(), protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
	if _, err := other.GetDecision(t.Context(), id); connect.CodeOf(err) != connect.CodeNotFound {
		t.Errorf("another account: %v", err)
	}
	rows, err := a.query(t.Context(), "SELECT decision_id, decision, principal_tags['role'] FROM decisions")
	if err != nil || len(rows) != 2 || len(rows[1].GetRows()) != 1 {
		t.Fatalf("%v, %v", rows, err)
	}
	if diff := cmp.Diff([]any{id.GetDecisionId(), "ALLOW", "r"}, rows[1].GetRows()[0].AsSlice()); diff != "" {
		t.Error(diff)
	}
	complete, err := a.Completeness(t.Context(), &auditv1.CompletenessRequest{})
	want := &auditv1.CompletenessResponse{Boots: []*auditv1.BootCompleteness{{
		Node: "node-1", Boot: boot[:], Status: auditv1.CompletenessStatus_COMPLETENESS_STATUS_OPEN, Recorded: 3, GivenOut: 3,
	}}}
	if diff := cmp.Diff(want, complete, protocmp.Transform()); diff != "" || err != nil {
		t.Error(diff, err)
	}
}

// Every type of ClickHouse arrives as JSON can carry it.
func TestQueryValues(t *testing.T) {
	t.Parallel()
	c := newBench(t, true).start(t, accountA)
	for _, test := range []struct{ sql, kind, want string }{
		{"toUInt8(255)", "UInt8", `255`},
		{"toInt32(-2147483648)", "Int32", `-2147483648`},
		{"toUInt64(18446744073709551615)", "UInt64", `"18446744073709551615"`},
		{"toInt64(-1)", "Int64", `"-1"`},
		{"toInt128('170141183460469231731687303715884105727')", "Int128", `"170141183460469231731687303715884105727"`},
		{"toUInt256('1')", "UInt256", `"1"`},
		{"toDecimal64(1.5, 4)", "Decimal(18, 4)", `"1.5"`},
		{"toFloat64(0.5)", "Float64", `0.5`},
		{"toFloat64(nan)", "Float64", `"NaN"`},
		{"toFloat32(-inf)", "Float32", `"-Infinity"`},
		{"true", "Bool", `true`},
		{"'text'", "String", `"text"`},
		{"unhex('41ff')", "String", `"A` + "\uFFFD" + `"`},
		{"toFixedString('ab', 3)", "FixedString(3)", `"ab\u0000"`},
		{"toLowCardinality('x')", "LowCardinality(String)", `"x"`},
		{"CAST('b', 'Enum8(\\'a\\' = 1, \\'b\\' = 2)')", "Enum8('a' = 1, 'b' = 2)", `"b"`},
		{"NULL", "Nullable(Nothing)", `null`},
		{"CAST(NULL, 'Nullable(UInt64)')", "Nullable(UInt64)", `null`},
		{"CAST(7, 'Nullable(UInt64)')", "Nullable(UInt64)", `"7"`},
		{"toDateTime64('2026-11-20 13:14:15.161718', 6, 'UTC')", "DateTime64(6, 'UTC')", `"2026-11-20T13:14:15.161718Z"`},
		{"toDateTime('2026-11-20 13:14:15', 'Asia/Tokyo')", "DateTime('Asia/Tokyo')", `"2026-11-20T04:14:15Z"`},
		{"toDate('2026-11-20')", "Date", `"2026-11-20"`},
		{"[toDate('2026-11-20')]", "Array(Date)", `["2026-11-20"]`},
		{"[[1, 2], []]", "Array(Array(UInt8))", `[[1,2],[]]`},
		{"[toUInt64(1), NULL]", "Array(Nullable(UInt64))", `["1",null]`},
		{"map('a', toUInt64(1))", "Map(String, UInt64)", `{"a":"1"}`},
		{"tuple(1, 'a')", "Tuple(UInt8, String)", `[1,"a"]`},
		{"CAST(tuple(1, 'a'), 'Tuple(n UInt8, s String)')", "Tuple(n UInt8, s String)", `{"n":1,"s":"a"}`},
		{"toUUID('00000000-0000-0000-0000-000000000001')", "UUID", `"00000000-0000-0000-0000-000000000001"`},
		{"toIPv4('127.0.0.1')", "IPv4", `"127.0.0.1"`},
		{"CAST('{\"a\": 1}', 'JSON')", "JSON", `"{\"a\":1}"`},
		{"CAST('{\"a\": 1, \"b\": 2}', 'JSON(max_dynamic_paths=0)')", "JSON(max_dynamic_paths=0)", `"{\"a\":1,\"b\":2}"`},
		{"CAST('2026-11-20 13:14:15.5', 'Nullable(DateTime64(3, \\'UTC\\'))')", "Nullable(DateTime64(3, 'UTC'))", `"2026-11-20T13:14:15.5Z"`},
		{"CAST('2026-11-20', 'Nullable(Date)')", "Nullable(Date)", `"2026-11-20"`},
		{"map(toDate('2026-11-20'), 1)", "Map(Date, UInt8)", `{"2026-11-20":1}`},
	} {
		messages, err := c.query(t.Context(), "SELECT "+test.sql+" AS v")
		if err != nil || len(messages) != 2 || len(messages[1].GetRows()) != 1 {
			t.Errorf("%s: %v, %v", test.sql, messages, err)
			continue
		}
		if diff := cmp.Diff([]*auditv1.Column{{Name: "v", Type: test.kind}}, messages[0].GetColumns(), protocmp.Transform()); diff != "" {
			t.Errorf("%s: %s", test.sql, diff)
		}
		data, err := protojson.Marshal(messages[1].GetRows()[0].GetValues()[0])
		var got, want any
		if err != nil || json.Unmarshal(data, &got) != nil || json.Unmarshal([]byte(test.want), &want) != nil || !cmp.Equal(got, want) {
			t.Errorf("%s: %s, %v; want %s", test.sql, data, err, test.want)
		}
	}
}

// The columns come first, also without rows, and many rows come in several messages.
func TestQueryStreams(t *testing.T) {
	t.Parallel()
	c := newBench(t, true).start(t, accountA)
	none, err := c.query(t.Context(), "SELECT 1 AS a, 2 AS b WHERE 0")
	if err != nil || len(none) != 1 || len(none[0].GetColumns()) != 2 {
		t.Errorf("no rows: %v, %v", none, err)
	}
	messages, err := c.query(t.Context(), "SELECT number, repeat('x', 1000) FROM numbers(5000)")
	if err != nil {
		t.Fatal(err)
	}
	rows := 0
	for i, m := range messages {
		rows += len(m.GetRows())
		if size := proto.Size(m); size > 2*256<<10 || (len(m.GetColumns()) > 0) != (i == 0) {
			t.Errorf("message %d has %d bytes and columns %v", i, size, m.GetColumns())
		}
	}
	if rows != 5000 || len(messages) < 10 {
		t.Errorf("%d rows in %d messages, want 5000 in many", rows, len(messages))
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	b := newBench(t, true)
	c := b.start(t, accountA)
	for _, test := range []struct {
		sql  string
		code connect.Code
		says string
	}{
		{"SELEC 1", connect.CodeInvalidArgument, "Syntax error"},
		{"SELECT x FROM decisions", connect.CodeInvalidArgument, "x"},
		{"SELECT * FROM ingest_progress", connect.CodePermissionDenied, "Not enough privileges"},
		{"DROP TABLE decisions", connect.CodePermissionDenied, "only SELECT"},
		{"SELECT 1 SETTINGS max_threads = 1", connect.CodePermissionDenied, "SETTINGS"},
		{"SELECT file('/etc/passwd')", connect.CodePermissionDenied, "file"},
		{"SELECT number FROM numbers(200000)", connect.CodeResourceExhausted, "LIMIT"},
		{"SELECT range(300000)", connect.CodeResourceExhausted, "shorter arrays"},
		{"SELECT map('a', [range(300000)])", connect.CodeResourceExhausted, "shorter arrays"},
		{"SELECT groupArray(number) FROM numbers(1000000000)", connect.CodeResourceExhausted, "shorter time"},
		{"SELECT '" + strings.Repeat("x", 300<<10) + "'", connect.CodeInvalidArgument, "bytes"},
		{"SELECT '" + strings.Repeat("x", 10<<20) + "'", connect.CodeResourceExhausted, ""},
	} {
		_, err := c.query(t.Context(), test.sql)
		if connect.CodeOf(err) != test.code || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%.60s: %v; want %v with %q", test.sql, err, test.code, test.says)
		}
	}
	deadline, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
	defer cancel()
	if _, err := c.query(deadline, "SELECT count() FROM numbers(1000000000000) WHERE NOT ignore(sipHash64(number))"); connect.CodeOf(err) != connect.CodeDeadlineExceeded {
		t.Errorf("a deadline: %v", err)
	}
	if _, err := c.GetDecision(t.Context(), &auditv1.GetDecisionRequest{DecisionId: "x' OR '1"}); connect.CodeOf(err) != connect.CodeInvalidArgument {
		t.Errorf("no id: %v", err)
	}
	if _, err := c.Completeness(t.Context(), &auditv1.CompletenessRequest{FromUs: 2, ToUs: 1}); connect.CodeOf(err) != connect.CodeInvalidArgument {
		t.Errorf("an end before the beginning: %v", err)
	}
	tail, err := c.Tail(t.Context(), &auditv1.TailRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if tail.Receive() || connect.CodeOf(tail.Err()) != connect.CodeUnimplemented {
		t.Errorf("tail: %v", tail.Err())
	}
	stranger := b.start(t, "333333333333")
	if _, err := stranger.query(t.Context(), "SELECT 1"); connect.CodeOf(err) != connect.CodeFailedPrecondition || !strings.Contains(err.Error(), "--accounts") {
		t.Errorf("an account that ClickHouse does not know: %v", err)
	}
}

// readyz says what is missing, and audit starts without its neighbours.
func TestReady(t *testing.T) {
	t.Parallel()
	b := newBench(t, false)
	c := b.start(t, accountA)
	ready := func(status int, says ...string) error {
		resp, err := http.Get(c.url + "/readyz")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			return err
		}
		if resp.StatusCode != status {
			return errors.New(string(body))
		}
		return testenv.Contains(string(body), says...)
	}
	if err := ready(http.StatusServiceUnavailable, "verdict migrate --clickhouse-url", `"condition":"clickhouse","ok":true`); err != nil {
		t.Error(err)
	}
	if _, err := c.query(t.Context(), "SELECT 1"); connect.CodeOf(err) != connect.CodeUnavailable || !strings.Contains(err.Error(), "migrate") {
		t.Errorf("without tables: %v", err)
	}
	if _, err := Migrate(t.Context(), b.URL, nil); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, "readiness", func() error {
		return ready(http.StatusOK, `"condition":"nats","ok":true`, `"condition":"ingest","ok":true`)
	})
	b.nats.Stop()
	testenv.Eventually(t, "the news that NATS is gone", func() error { return ready(http.StatusOK, `"condition":"nats","ok":false`) })
	if _, err := c.query(t.Context(), "SELECT 1"); err != nil {
		t.Errorf("without NATS: %v", err)
	}
}

func TestClickHouseAway(t *testing.T) {
	t.Parallel()
	b := newBench(t, true)
	b.URL = "clickhouse://127.0.0.1:1/" + b.Database
	c := b.start(t, accountA)
	_, err := c.query(t.Context(), "SELECT 1")
	_, err2 := c.GetDecision(t.Context(), &auditv1.GetDecisionRequest{DecisionId: stream.DecisionID{}.String()})
	_, err3 := c.Completeness(t.Context(), &auditv1.CompletenessRequest{})
	for _, err := range []error{err, err2, err3} {
		if connect.CodeOf(err) != connect.CodeUnavailable || !strings.Contains(err.Error(), "ClickHouse does not answer") {
			t.Errorf("%v", err)
		}
	}
}

func TestSettingsAreRefused(t *testing.T) {
	t.Parallel()
	short := t.TempDir() + "/secret"
	if err := os.WriteFile(short, []byte("short\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		args []string
		says string
	}{
		{nil, "--clickhouse-url"},
		{[]string{"--clickhouse-url", "clickhouse://127.0.0.1:1"}, "names no database"},
		{[]string{"--clickhouse-url", "clickhouse://127.0.0.1:1,127.0.0.1:2/verdict"}, "several servers"},
		{[]string{"--clickhouse-url", "http://127.0.0.1:1/verdict"}, "native protocol"},
		{[]string{"--clickhouse-url", "::"}, "clickhouse://"},
		{[]string{"--clickhouse-url", "clickhouse://127.0.0.1:1/verdict", "--accounts", "1"}, "12 digits"},
		{[]string{"--clickhouse-url", "clickhouse://127.0.0.1:1/verdict", "--partitions", "0"}, "1 to 64"},
		{[]string{"--clickhouse-url", "clickhouse://127.0.0.1:1/verdict", "--clickhouse-secret", short}, "the least"},
		{[]string{"--clickhouse-url", "clickhouse://127.0.0.1:1/verdict", "--clickhouse-secret", short + "x"}, "no such file"},
		{[]string{"--clickhouse-url", "clickhouse://127.0.0.1:1/verdict", "--stream-max-bytes", "1KiB"}, "at least"},
	} {
		err := Main(t.Context(), append(test.args, "--addr", "127.0.0.1:0"), nil)
		if err == nil || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%v: %v; want %q", test.args, err, test.says)
		}
	}
}
