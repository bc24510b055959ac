package control

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	controlv1 "github.com/verdict-io/verdict/proto/gen/verdict/control/v1"
	"github.com/verdict-io/verdict/services/control/internal/eventlog"
	"github.com/verdict-io/verdict/services/internal/stream"
	"github.com/verdict-io/verdict/services/internal/testenv"
	"github.com/verdict-io/verdict/services/policy"
)

// appendOne carries out a command as the service itself, past the API.
func appendOne(t *testing.T, s *Service, c policy.Command) {
	t.Helper()
	results, err := s.log.Append(t.Context(), eventlog.Request{Account: "000000000000", Command: c})
	must(t, err)
	must(t, results[0].Err)
}

func (b *bench) fsck(t *testing.T) (FsckReport, error) {
	t.Helper()
	return Fsck(t.Context(), FsckConfig{PostgresURL: b.URL, NATSURL: b.nats.URL(), Keys: b.keys})
}

// history makes a log of 5 engines, 11 events, and waits until the stream has them; then control is gone.
func (b *bench) history(t *testing.T) {
	t.Helper()
	r := b.start(t)
	for i := range 5 {
		_, err := r.CreatePolicyEngine(t.Context(), &controlv1.CreatePolicyEngineRequest{Name: fmt.Sprintf("E%d", i)})
		must(t, err)
	}
	testenv.Eventually(t, "the stream", func() error {
		report, err := b.fsck(t)
		if err == nil && report.StreamLast != 11 {
			err = fmt.Errorf("%+v", report)
		}
		return err
	})
	must(t, r.stop())
}

func TestFsckGood(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.history(t)
	report, err := b.fsck(t)
	if err != nil || report.Position != 11 || report.StreamFirst != 1 || report.StreamLast != 11 || report.Accounts != 1 || report.LogID == "" {
		t.Errorf("%+v, %v", report, err)
	}
	if _, err := Fsck(t.Context(), FsckConfig{PostgresURL: b.URL, Keys: b.keys}); err != nil {
		t.Errorf("without a stream: %v", err)
	}
	b.nats.Stop()
	if _, err := b.fsck(t); err == nil || errors.Is(err, ErrBad) {
		t.Errorf("with NATS away: %v, want an error that is not about the log", err)
	}
}

// Every kind of change, made by somebody who can switch the triggers off, is found at its position.
func TestFsckBad(t *testing.T) {
	t.Parallel()
	const fixedHash = "sha256('verdict-event/1\n'::bytea || body)"
	tests := map[string]struct {
		statement, says string
	}{
		"a body":             {"UPDATE verdict.events SET body = set_byte(body, 60, get_byte(body, 60) # 1) WHERE position = 6", "position 6: hash does not hold"},
		"a body and hash":    {"UPDATE verdict.events SET body = set_byte(body, 60, get_byte(body, 60) # 1) WHERE position = 6; UPDATE verdict.events SET hash = " + fixedHash + " WHERE position = 6", "position 6: signature does not hold"},
		"a hash":             {"UPDATE verdict.events SET hash = set_byte(hash, 0, get_byte(hash, 0) # 1) WHERE position = 6", "position 6: "},
		"a signature":        {"UPDATE verdict.events SET signature = set_byte(signature, 0, get_byte(signature, 0) # 1) WHERE position = 6", "position 6: signature does not hold"},
		"a key id":           {"UPDATE verdict.events SET key_id = 'nobody' WHERE position = 6", "position 6: signature does not hold"},
		"a column":           {"UPDATE verdict.events SET account = '111111111111' WHERE position = 6", "position 6: column account"},
		"a client token":     {"UPDATE verdict.events SET client_token = 'x' WHERE position = 7", "position 7: column client_token"},
		"a gap":              {"DELETE FROM verdict.events WHERE position = 6", "position 6: missing"},
		"a command, gone":    {"DELETE FROM verdict.events WHERE position IN (6, 7)", "position 6: missing"},
		"half a last one":    {"DELETE FROM verdict.events WHERE position = 11", "position 10: "},
		"the tail":           {"DELETE FROM verdict.events WHERE position > 7", "position 8: the stream has had positions up to 11"},
		"two, exchanged":     {"UPDATE verdict.events a SET body = b.body, hash = b.hash, signature = b.signature FROM verdict.events b WHERE (a.position, b.position) IN ((6, 8), (8, 6))", "position 6: "},
		"everything is gone": {"DELETE FROM verdict.events", "position 1: "},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			b.history(t)
			b.owner(t, append([]string{"SET session_replication_role = replica"}, strings.Split(test.statement, "; ")...)...)
			if _, err := b.fsck(t); !errors.Is(err, ErrBad) || !strings.Contains(err.Error(), test.says) {
				t.Errorf("fsck: %v, want %q", err, test.says)
			}
		})
	}
}

func TestFsckStream(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.history(t)
	js, err := jetstream.New(b.nats.Connect(t))
	must(t, err)
	old, err := js.Stream(t.Context(), stream.PolicyStream)
	must(t, err)
	config := old.CachedInfo().Config
	config.Name, config.Metadata = "OTHER", nil
	var data [][]byte
	for p := uint64(1); p <= 11; p++ {
		msg, err := old.GetMsg(t.Context(), p)
		must(t, err)
		data = append(data, msg.Data)
	}
	must(t, js.DeleteStream(t.Context(), stream.PolicyStream))
	if report, err := b.fsck(t); err != nil || report.StreamLast != 0 {
		t.Errorf("without a stream: %+v, %v", report, err)
	}
	b.emptied(t, js)
	data[6] = data[5]
	for _, d := range data {
		_, err := js.Publish(t.Context(), "verdict.policy.x", d)
		must(t, err)
	}
	if _, err := b.fsck(t); !errors.Is(err, ErrBad) || !strings.Contains(err.Error(), "position 7: message 7 of the stream is not the event of the log") {
		t.Errorf("fsck: %v", err)
	}
}

// emptied has the stream hold nothing, after numbers that the log does not have; and then begin at 1 again.
func (b *bench) emptied(t *testing.T, js jetstream.JetStream) {
	t.Helper()
	recreate := func(first uint64) {
		testenv.Eventually(t, "an empty stream", func() error {
			_ = js.DeleteStream(t.Context(), stream.PolicyStream)
			s, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: stream.PolicyStream, Subjects: []string{"verdict.policy.>"}, FirstSeq: first})
			if err == nil && s.CachedInfo().State.Msgs > 0 {
				err = errors.New("the old messages are back")
			}
			return err
		})
	}
	recreate(21)
	if _, err := b.fsck(t); !errors.Is(err, ErrBad) || !strings.Contains(err.Error(), "position 12: the stream has had positions up to 20") {
		t.Errorf("with an emptied stream: %v", err)
	}
	recreate(1)
}
