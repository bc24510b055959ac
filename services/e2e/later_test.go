package e2e

import (
	"context"
	"net/http"
	"testing"

	"connectrpc.com/connect"
	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/proto"

	eventv1 "github.com/verdict-io/verdict/proto/gen/verdict/event/v1"
	"github.com/verdict-io/verdict/services/internal/stream"
	"github.com/verdict-io/verdict/services/internal/testenv"
)

// An event of a later version stops a node's follower. The node answers on with what it knows, is ready, and says what is the matter.
func TestEventOfALaterVersion(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	control := f.start(t, "control", anyAddr)
	node := f.start(t, "decision", anyAddr, "VERDICT_CONTROL_URL="+control.url)
	revision := f.loadExample(t, control)
	before := f.wantRefund(t, node, 500, true, revision)
	f.insertLater(t)
	testenv.Eventually(t, "what /readyz says", func() error {
		status, text := node.get(t, "/readyz")
		if status != http.StatusOK {
			t.Fatalf("the node is not ready: %s", text)
		}
		return testenv.Contains(text, `"condition":"follower","ok":false`, "upgrade", `"condition":"snapshot","ok":true`)
	})
	if after := f.wantRefund(t, node, 500, true, ""); after.GetRevision() != before.GetRevision() {
		t.Errorf("revision %s after %s", after.GetRevision(), before.GetRevision())
	}
	f.wantRefund(t, node, 2000, false, "")
	if _, err := f.refund(t.Context(), node, 500, "1000"); connect.CodeOf(err) != connect.CodeUnavailable {
		t.Errorf("a revision that the node cannot reach: %v", err)
	}
	_, metrics := node.get(t, "/metrics")
	if err := testenv.Contains(metrics, "verdict_follow_stopped 1", `verdict_decision_decisions_total{account="000000000000",decision="DECISION_DENY",mode="MODE_ENFORCE",reason="default_deny"} 1`); err != nil {
		t.Error(err)
	}
}

// insertLater appends to the log, signed as control signs, what a later version would.
func (f *fleet) insertLater(t *testing.T) {
	t.Helper()
	signer, err := stream.ReadSigner(f.setting(t, "VERDICT_SIGNING_KEY"))
	must(t, err)
	owner, err := pgx.Connect(t.Context(), f.OwnerURL)
	must(t, err)
	defer owner.Close(context.Background())
	var last []byte
	must(t, owner.QueryRow(t.Context(), "SELECT body FROM verdict.events ORDER BY position DESC LIMIT 1").Scan(&last))
	var body eventv1.EventBody
	must(t, proto.Unmarshal(last, &body))
	hash := stream.HashBody(last)
	body.Position, body.AccountPosition, body.PrevHash = body.GetPosition()+1, body.GetAccountPosition()+1, hash[:]
	body.StreamVersion, body.EventId, body.Type, body.Commits = body.GetStreamVersion()+1, "later", "policy.renamed", true
	data, err := proto.Marshal(&body)
	must(t, err)
	hash = stream.HashBody(data)
	_, err = owner.Exec(t.Context(), `INSERT INTO verdict.events (position, commits, account, account_position, stream, stream_version, body, hash, key_id, signature)
		VALUES ($1, true, $2, $3, $4, $5, $6, $7, $8, $9)`,
		body.GetPosition(), body.GetAccount(), body.GetAccountPosition(), body.GetStream(), body.GetStreamVersion(), data, hash[:], signer.KeyID(), signer.SignEvent(hash))
	must(t, err)
}
