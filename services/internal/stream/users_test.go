package stream_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/verdict-io/verdict/services/internal/stream"
	"github.com/verdict-io/verdict/services/internal/testenv"
)

// secured is a NATS with users, and their keys.
type secured struct {
	*testenv.NATS

	dir    string
	keys   map[string]string // public
	config string
}

func newSecured(t *testing.T, nodes ...string) *secured {
	t.Helper()
	s := &secured{dir: t.TempDir()}
	s.config, s.keys = natsConfig(t, s.dir, nodes...)
	s.NATS = testenv.NewSecuredNATS(t, s.config)
	return s
}

// natsConfig is what the server reads for the keys of a folder.
func natsConfig(t *testing.T, dir string, nodes ...string) (config string, keys map[string]string) {
	t.Helper()
	users, err := stream.NATSUsers(nodes)
	if err != nil {
		t.Fatal(err)
	}
	if keys, err = stream.EnsureNATSKeys(dir, users); err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	err = stream.WriteNATSConfig(&text, stream.NATSConfig{Listen: "127.0.0.1:7422", StoreDir: t.TempDir(), Users: users, Keys: keys})
	if err != nil {
		t.Fatal(err)
	}
	return text.String(), keys
}

// user is a bare connection of a user.
func (s *secured) user(t *testing.T, name string) *nats.Conn {
	t.Helper()
	key, err := nats.NkeyOptionFromSeed(stream.NATSKeyFile(s.dir, name))
	if err != nil {
		t.Fatal(err)
	}
	quiet := nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {})
	conn, err := nats.Connect(s.URL(), key, quiet, nats.CustomInboxPrefix(stream.InboxPrefix(s.keys[name])))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	return conn
}

// published is nil when the server takes a message on a subject; else what it says. reply may be "".
func published(t *testing.T, conn *nats.Conn, subject, reply string) error {
	t.Helper()
	if err := conn.PublishMsg(&nats.Msg{Subject: subject, Reply: reply, Data: []byte("from a test")}); err != nil {
		t.Fatal(err)
	}
	return verdict(t, conn, `Publish to "`+subject+`"`)
}

func subscribed(t *testing.T, conn *nats.Conn, subject string) error {
	t.Helper()
	sub, err := conn.SubscribeSync(subject)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	return verdict(t, conn, `Subscription to "`+subject+`"`)
}

// verdict is what the server said to what was done just now. The answer to a ping comes behind it.
func verdict(t *testing.T, conn *nats.Conn, to string) error {
	t.Helper()
	if err := conn.FlushTimeout(10 * time.Second); err != nil {
		t.Fatal(err)
	}
	if err := conn.LastError(); err != nil && strings.Contains(err.Error(), to) {
		return err
	}
	return nil
}

var sayable = append([]string{
	"anything", "verdict.policy.000000000000.policy.p", "verdict.policy.-.log.l", "verdict.head", "verdict.live.000000000000.policy.p",
	"verdict.ingested.node-1", "verdict.ingested.node-2", "verdict.ingested.~", "verdict.ingested.x", "verdict.tick.0", "verdict.tick.63",
	"verdict.decision.0.node-1.boot", "verdict.decision.0.node-2.boot", "verdict.decision.0", "verdict.decision.0.node-1",
	"verdict.node.node-1", "verdict.node.node-2", "$JS.API.INFO", "$JS.API.STREAM.NAMES", "$JS.API.STREAM.LIST", "$JS.API.ACCOUNT.PURGE.x",
	"$JS.API.DIRECT.GET.VERDICT_POLICY", "$JS.ACK.DECISIONS_0.c.1.1.1.1.1", "$SYS.REQ.SERVER.PING",
}, calls()...)

var hearable = []string{
	">", "*", "verdict.>", "verdict.*.>", "verdict.policy.>", "verdict.live.>", "verdict.head", "verdict.ingested.node-1", "verdict.ingested.node-2",
	"verdict.ingested.~", "verdict.ingested.*", "verdict.tick.*", "verdict.decision.>", "verdict.decision.0.node-1.boot", "verdict.node.*",
	"$JS.>", "$SYS.>", "_INBOX.>", "_INBOX_*.>",
}

// calls are those of JetStream.
func calls() (subjects []string) {
	for _, stream := range []string{"VERDICT_POLICY", "DECISIONS_0"} {
		for _, call := range []string{"INFO", "CREATE", "UPDATE", "DELETE", "PURGE", "MSG.GET", "MSG.DELETE", "SNAPSHOT", "RESTORE"} {
			subjects = append(subjects, "$JS.API.STREAM."+call+"."+stream)
		}
		subjects = append(subjects, "$JS.API.CONSUMER.CREATE."+stream)
		for _, call := range []string{"CREATE", "DELETE", "MSG.NEXT", "INFO", "DURABLE.CREATE"} {
			subjects = append(subjects, "$JS.API.CONSUMER."+call+"."+stream+".c")
		}
	}
	return subjects
}

// may is what a user may say and hear of these subjects.
type may struct{ say, hear []string }

var (
	controlMay = may{
		say: []string{
			"verdict.policy.000000000000.policy.p", "verdict.policy.-.log.l", "verdict.head", "$JS.API.STREAM.INFO.VERDICT_POLICY", "$JS.API.STREAM.CREATE.VERDICT_POLICY",
			"$JS.API.STREAM.UPDATE.VERDICT_POLICY", "$JS.API.STREAM.DELETE.VERDICT_POLICY", "$JS.API.STREAM.MSG.GET.VERDICT_POLICY",
		},
		hear: []string{"verdict.node.*"},
	}
	// What stands here of VERDICT_POLICY is audit's own account's, which has none: TestAccountsApart.
	auditMay = may{say: []string{
		"verdict.ingested.node-1", "verdict.ingested.node-2", "verdict.ingested.~", "verdict.ingested.x", "verdict.tick.0", "verdict.tick.63",
		"$JS.API.STREAM.INFO.DECISIONS_0", "$JS.API.STREAM.CREATE.DECISIONS_0", "$JS.API.STREAM.UPDATE.DECISIONS_0", "$JS.API.STREAM.DELETE.DECISIONS_0",
		"$JS.API.STREAM.PURGE.DECISIONS_0", "$JS.API.STREAM.MSG.GET.DECISIONS_0",
		"$JS.API.CONSUMER.CREATE.DECISIONS_0.c", "$JS.API.CONSUMER.DELETE.DECISIONS_0.c", "$JS.API.CONSUMER.MSG.NEXT.DECISIONS_0.c",
		"$JS.API.STREAM.INFO.VERDICT_POLICY", "$JS.API.STREAM.CREATE.VERDICT_POLICY", "$JS.API.STREAM.UPDATE.VERDICT_POLICY", "$JS.API.STREAM.DELETE.VERDICT_POLICY",
		"$JS.API.STREAM.PURGE.VERDICT_POLICY", "$JS.API.STREAM.MSG.GET.VERDICT_POLICY",
		"$JS.API.CONSUMER.CREATE.VERDICT_POLICY.c", "$JS.API.CONSUMER.DELETE.VERDICT_POLICY.c", "$JS.API.CONSUMER.MSG.NEXT.VERDICT_POLICY.c",
	}}
	anyNodeMay = may{
		say:  []string{"verdict.decision.0.node-1.boot", "verdict.decision.0.node-2.boot", "verdict.node.node-1", "verdict.node.node-2"},
		hear: []string{"verdict.live.>", "verdict.head", "verdict.ingested.node-1", "verdict.ingested.node-2", "verdict.ingested.~", "verdict.ingested.*"},
	}
	node1May = may{
		say:  []string{"verdict.decision.0.node-1.boot", "verdict.node.node-1"},
		hear: []string{"verdict.live.>", "verdict.head", "verdict.ingested.node-1", "verdict.ingested.~"},
	}
	node2May = may{
		say:  []string{"verdict.decision.0.node-2.boot", "verdict.node.node-2"},
		hear: []string{"verdict.live.>", "verdict.head", "verdict.ingested.node-2", "verdict.ingested.~"},
	}
	followerMay = may{hear: []string{"verdict.live.>", "verdict.head"}}
)

// Promise 8: each service has a user with only its subjects, and its own inbox.
func TestNATSUsers(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		nodes []string
		users map[string]may
	}{
		{"four", nil, map[string]may{"control": controlMay, "audit": auditMay, "decision": anyNodeMay, "gateway": anyNodeMay}},
		{"a user for each node", []string{"node-1", "node-2"}, map[string]may{
			"control": controlMay, "audit": auditMay, "node-node-1": node1May, "node-node-2": node2May, "gateway": followerMay,
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newSecured(t, c.nodes...)
			if len(s.keys) != len(c.users) {
				t.Fatalf("users are %v", s.keys)
			}
			for name, may := range c.users {
				conn := s.user(t, name)
				for _, subject := range sayable {
					check(t, name, subject, slices.Contains(may.say, subject), published(t, conn, subject, ""))
				}
				for _, subject := range hearable {
					check(t, name, subject, slices.Contains(may.hear, subject), subscribed(t, conn, subject))
				}
				for other, key := range s.keys {
					inbox := stream.InboxPrefix(key)
					check(t, name, inbox+".x.*", other == name, subscribed(t, conn, inbox+".x.*"))
					check(t, name, inbox+".x.y", false, published(t, conn, inbox+".x.y", ""))
				}
			}
		})
	}
}

func check(t *testing.T, user, subject string, want bool, refused error) {
	t.Helper()
	if (refused == nil) != want {
		t.Errorf("%s and %s: it may is %v; the server says %v", user, subject, want, refused)
	}
}

func TestNATSUsersRefused(t *testing.T) {
	t.Parallel()
	for text, nodes := range map[string][]string{"name of a node": {"node-1", ">"}, "twice": {"a", "b", "a"}} {
		if _, err := stream.NATSUsers(nodes); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%v: %v", nodes, err)
		}
	}
	s := newSecured(t)
	for name, options := range map[string][]nats.Option{
		"nobody":       {nats.UserInfo("control", "control")},
		"a stranger":   {strange(t)},
		"without name": {},
	} {
		conn, err := nats.Connect(s.URL(), options...)
		if !errors.Is(err, nats.ErrAuthorization) {
			t.Errorf("%s: %v, %v", name, conn, err)
		}
	}
}

// strange is a key that no server knows.
func strange(t *testing.T) nats.Option {
	t.Helper()
	dir := t.TempDir()
	natsConfig(t, dir)
	key, err := nats.NkeyOptionFromSeed(stream.NATSKeyFile(dir, "control"))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// streams are the two streams as their services make them, with their own users.
func (s *secured) streams(t *testing.T, control, audit *nats.Conn) (policy, decisions jetstream.Stream) {
	t.Helper()
	policy, err := js(t, control).CreateStream(t.Context(), stream.PolicyStreamConfig("log", 1, 1, 1<<20))
	if err != nil {
		t.Fatal(err)
	}
	if decisions, err = js(t, audit).CreateStream(t.Context(), stream.DecisionStreamConfig(0, 1, 1<<20)); err != nil {
		t.Fatal(err)
	}
	return policy, decisions
}

func js(t *testing.T, conn *nats.Conn) jetstream.JetStream {
	t.Helper()
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

func messages(t *testing.T, s jetstream.Stream) uint64 {
	t.Helper()
	info, err := s.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return info.State.Msgs
}

// What one account lets another have gets there, with its answer.
func TestAccountsShare(t *testing.T) {
	t.Parallel()
	s := newSecured(t, "node-1")
	control, audit, node, gateway := s.user(t, "control"), s.user(t, "audit"), s.user(t, "node-node-1"), s.user(t, "gateway")
	_, decisions := s.streams(t, control, audit)
	for _, c := range []struct {
		from    *nats.Conn
		subject string
		to      *nats.Conn
		as      string
	}{
		{control, "verdict.policy.000000000000.policy.p", node, "verdict.live.000000000000.policy.p"},
		{control, "verdict.policy.000000000000.policy.q", gateway, "verdict.live.000000000000.policy.q"},
		{control, "verdict.head", node, "verdict.head"},
		{control, "verdict.head", gateway, "verdict.head"},
		{audit, "verdict.ingested.node-1", node, "verdict.ingested.node-1"},
		{audit, "verdict.ingested.~", node, "verdict.ingested.~"},
		{node, "verdict.node.node-1", control, "verdict.node.*"},
	} {
		sub, err := c.to.SubscribeSync(c.as)
		if err != nil {
			t.Fatal(err)
		}
		if err := verdict(t, c.to, c.as); err != nil {
			t.Fatal(err)
		}
		if err := published(t, c.from, c.subject, ""); err != nil {
			t.Fatal(err)
		}
		if msg, err := sub.NextMsg(10 * time.Second); err != nil || string(msg.Data) != "from a test" {
			t.Errorf("%s did not come as %s: %v, %v", c.subject, c.as, msg, err)
		}
	}
	ack, err := js(t, node).Publish(t.Context(), "verdict.decision.0.node-1.boot", []byte("batch"))
	if err != nil || ack.Stream != "DECISIONS_0" || messages(t, decisions) != 1 {
		t.Errorf("the acknowledgement of a batch: %v, %v", ack, err)
	}
	if _, err := js(t, node).Publish(t.Context(), "verdict.decision.9.node-1.boot", nil); !errors.Is(err, jetstream.ErrNoStreamResponse) {
		t.Errorf("a batch for a stream that is not there: %v; want that at once", err)
	}
}

// On three servers, whichever of them a node is connected to, and whichever leads a stream.
func TestAccountsShareInCluster(t *testing.T) {
	t.Parallel()
	s := &secured{dir: t.TempDir()}
	s.config, s.keys = natsConfig(t, s.dir, "node-1")
	cluster := testenv.NewSecuredCluster(t, 3, s.config)
	s.NATS = cluster.Nodes[0]
	control, audit := s.user(t, "control"), s.user(t, "audit")
	if _, err := js(t, control).CreateStream(t.Context(), stream.PolicyStreamConfig("log", 1, 3, 1<<20)); err != nil {
		t.Fatal(err)
	}
	if _, err := js(t, audit).CreateStream(t.Context(), stream.DecisionStreamConfig(0, 3, 1<<20)); err != nil {
		t.Fatal(err)
	}
	for i, server := range cluster.Nodes {
		s.NATS = server
		node := s.user(t, "node-node-1")
		live, err := node.SubscribeSync(stream.LiveAll)
		if err != nil {
			t.Fatal(err)
		}
		testenv.Eventually(t, fmt.Sprintf("a batch by way of server %d", i), func() error {
			_, err := js(t, node).Publish(t.Context(), "verdict.decision.0.node-1.boot", []byte("batch"))
			return err
		})
		testenv.Eventually(t, fmt.Sprintf("an event by way of server %d", i), func() error {
			if _, err := js(t, control).Publish(t.Context(), "verdict.policy.000000000000.policy.p", nil); err != nil {
				return err
			}
			_, err := live.NextMsg(time.Second) // the interest may not have got around yet
			return err
		})
	}
}

// A client chooses where an answer goes. It goes nowhere outside its account, so that nobody writes to another's stream that way.
func TestAccountsApart(t *testing.T) {
	t.Parallel()
	s := newSecured(t, "node-1")
	control, audit, node := s.user(t, "control"), s.user(t, "audit"), s.user(t, "node-node-1")
	policy, decisions := s.streams(t, control, audit)
	if _, err := js(t, control).Publish(t.Context(), "verdict.policy.-.log.l", nil); err != nil {
		t.Fatal(err)
	}
	// A node: the acknowledgement of its decision.
	for _, reply := range []string{"verdict.policy.000000000000.policy.p", "verdict.decision.0.node-2.boot", "verdict.tick.0"} {
		if err := published(t, node, "verdict.decision.0.node-1.boot", reply); err != nil {
			t.Fatal(err)
		}
	}
	// Audit: a message of its own stream, whose text it chose.
	consumer, err := js(t, audit).CreateConsumer(t.Context(), "DECISIONS_0", jetstream.ConsumerConfig{AckPolicy: jetstream.AckNonePolicy})
	if err != nil {
		t.Fatal(err)
	}
	for _, subject := range []string{"$JS.API.CONSUMER.MSG.NEXT.DECISIONS_0." + consumer.CachedInfo().Name, "$JS.API.STREAM.INFO.DECISIONS_0"} {
		if err := published(t, audit, subject, "verdict.policy.000000000000.policy.p"); err != nil {
			t.Fatal(err)
		}
	}
	// Whatever was to come of it comes before the next answers of these streams.
	for range 3 {
		if err := node.FlushTimeout(10 * time.Second); err != nil {
			t.Fatal(err)
		}
	}
	testenv.Eventually(t, "the node's batches", func() error {
		if n := messages(t, decisions); n != 3 {
			return fmt.Errorf("%d messages", n)
		}
		return nil
	})
	if _, err := js(t, control).Publish(t.Context(), "verdict.policy.-.log.l", nil, jetstream.WithExpectLastSequence(1)); err != nil {
		t.Errorf("somebody else wrote to the stream of policy events: %v", err)
	}
	if n := messages(t, policy); n != 2 {
		t.Errorf("%d policy events; control published 2", n)
	}
	info, err := decisions.Info(t.Context(), jetstream.WithSubjectFilter(">"))
	if err != nil {
		t.Fatal(err)
	}
	if want := map[string]uint64{"verdict.decision.0.node-1.boot": 3}; !maps.Equal(info.State.Subjects, want) {
		t.Errorf("decisions are %v, want %v", info.State.Subjects, want)
	}
	if err := js(t, audit).DeleteStream(t.Context(), stream.PolicyStream); !errors.Is(err, jetstream.ErrStreamNotFound) {
		t.Errorf("audit deletes the stream of policy events: %v", err)
	}
}

// What the audit service hears that publishes policy; the note shows it.
func TestAuditPublishesNoPolicy(t *testing.T) {
	t.Parallel()
	s := newSecured(t)
	err := published(t, s.user(t, "audit"), "verdict.policy.000000000000.policy.forbid_all-0123456789", "")
	if !errors.Is(err, nats.ErrPermissionViolation) {
		t.Fatal(err)
	}
	t.Log(err)
}
