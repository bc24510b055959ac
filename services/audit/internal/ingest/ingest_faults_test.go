//go:build faults

package ingest

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/verdict-io/verdict/services/audit/internal/store"
	"github.com/verdict-io/verdict/services/internal/stream"
	"github.com/verdict-io/verdict/services/internal/testenv"
)

// enough is records whose INSERT is held back by a proxy, so that it is an INSERT and nothing else. Where all of them are to be in
// one block, they are one batch: two could be of two seconds.
const enough = 2000

// landed is nil when the table has that many rows.
func (b *bench) landed(ctx context.Context, want uint64) error {
	var rows uint64
	err := b.db.QueryRowContext(ctx, "SELECT count() FROM decisions").Scan(&rows)
	if err != nil || rows != want {
		return fmt.Errorf("%d rows, want %d: %w", rows, want, err)
	}
	return nil
}

func fails(i *Ingester) error {
	if i.Status() == nil {
		return errors.New("it says that all is well")
	}
	return nil
}

// proxied is an ingester whose ClickHouse is behind a proxy.
func (b *bench) proxied(t *testing.T, most time.Duration) (*Ingester, *proxy) {
	t.Helper()
	p := newProxy(t, b.click.URL)
	return b.ingester(t, func(c *Config) { c.Store, c.InsertTimeout = b.openStore(t, p.url), most }), p
}

// An INSERT that the client gives up lands later: the same block is sent again, and is there once.
func TestInsertLandsLate(t *testing.T) {
	b := newBench(t)
	i, p := b.proxied(t, 300*time.Millisecond)
	start(t, i)
	n := b.newNode(t, "n", 1, enough)
	b.settle(t, n)
	p.hold()
	n.decide(enough)
	testenv.Eventually(t, "rows that nobody confirmed", func() error { return b.landed(t.Context(), enough+1) })
	testenv.Eventually(t, "the ingester's doubt", func() error { return fails(i) })
	if n.done() == nil {
		t.Error("what ClickHouse did not confirm was confirmed")
	}
	p.release()
	n.decide(10)
	b.settle(t, n)
	testenv.Eventually(t, "the status", i.Status)
}

// An INSERT that never arrives: the same block is sent again.
func TestInsertLost(t *testing.T) {
	b := newBench(t)
	i, p := b.proxied(t, 300*time.Millisecond)
	start(t, i)
	n := b.newNode(t, "n", 1, 500)
	b.settle(t, n)
	p.swallow()
	n.decide(enough)
	testenv.Eventually(t, "the ingester's doubt", func() error { return fails(i) })
	if err := b.landed(t.Context(), 1); err != nil {
		t.Error(err)
	}
	p.release()
	b.settle(t, n)
}

// An ingester dies after its INSERT has landed and before it saved that. In the block a batch came too early, before its boot's
// first: it must not be taken for one that fits, by what the table has.
func TestDiesBeforeSaving(t *testing.T) {
	tries := 0
	testenv.Eventually(t, "both batches in one second, which is one block", func() error {
		tries++
		var err error
		t.Run(strconv.Itoa(tries), func(t *testing.T) { err = diesBeforeSaving(t) })
		return err
	})
}

// diesBeforeSaving fails when the two batches fell into different seconds; then nothing has been tried.
func diesBeforeSaving(t *testing.T) error {
	b := newBench(t)
	i, p := b.proxied(t, time.Minute)
	stop := start(t, i)
	testenv.Eventually(t, "the start", i.Status)
	p.hold()
	early := newSilentNode(t, b.nats.Connect(t), "n", 1, enough)
	early.decide(enough + 50)
	js, _ := b.stream(t)
	var batches [][]byte
	for _, first := range []uint64{enough + 1, 1} {
		data, err := early.batch(first, min(first+enough-1, early.made), early.made, false)
		if err != nil {
			t.Fatal(err)
		}
		batches = append(batches, data)
	}
	testenv.Eventually(t, "the beginning of a second", func() error {
		if ms := time.Now().Nanosecond() / 1e6; ms > 300 {
			return fmt.Errorf("%d ms of it are over", ms)
		}
		return nil
	})
	var seconds []int64
	for _, data := range batches {
		ack, err := js.Publish(t.Context(), stream.DecisionSubject(0, "n", early.boot), data)
		if err != nil {
			t.Fatal(err)
		}
		s, err := js.Stream(t.Context(), ack.Stream)
		if err != nil {
			t.Fatal(err)
		}
		msg, err := s.GetMsg(t.Context(), ack.Sequence)
		if err != nil {
			t.Fatal(err)
		}
		seconds = append(seconds, msg.Time.Unix())
	}
	if seconds[0] != seconds[1] {
		stop()
		return fmt.Errorf("seconds %d", seconds)
	}
	testenv.Eventually(t, "rows that nobody confirmed", func() error { return b.landed(t.Context(), enough) })
	stop()
	start(t, b.ingester(t, nil))
	early.start(t)
	b.settle(t, early)
	return nil
}

// Ingesters that die again and again at any moment, two at once, under load.
func TestIngestersDie(t *testing.T) {
	b := newBench(t)
	nodes := []*node{b.newNode(t, "x", 1, 50), b.newNode(t, "y", 2, 333), b.newNode(t, "z", 3, 1)}
	load := time.NewTicker(5 * time.Millisecond)
	defer load.Stop()
	dice := rand.New(rand.NewPCG(3, 4))
	for range 6 {
		first, second := b.ingester(t, nil), b.ingester(t, nil)
		stopFirst, stopSecond := start(t, first), start(t, second)
		testenv.Eventually(t, "the first", first.Status)
		testenv.Eventually(t, "the second", second.Status)
		for range 100 + dice.IntN(200) {
			<-load.C
			nodes[dice.IntN(3)].decide(dice.IntN(60))
		}
		stopFirst()
		stopSecond()
	}
	nodes[0].close()
	start(t, b.ingester(t, nil))
	start(t, b.ingester(t, nil))
	b.settle(t, nodes...)
}

// The stream is deleted after an INSERT has landed whose progress was not saved, and while other records are only in the stream:
// they are sent again, and those that landed are not taken twice.
func TestStreamDeleted(t *testing.T) {
	b := newBench(t)
	i, p := b.proxied(t, time.Second)
	start(t, i)
	x, y := b.newNode(t, "x", 1, enough), b.newNode(t, "y", 2, 20)
	b.settle(t, x, y)
	p.hold()
	x.decide(enough)
	testenv.Eventually(t, "rows that nobody confirmed", func() error { return b.landed(t.Context(), enough+2) })
	x.decide(100)
	y.decide(100)
	before := b.progress(t)
	js, _ := b.stream(t)
	testenv.Eventually(t, "batches that are only in the stream", func() error { return y.acknowledged(101) })
	if err := js.DeleteStream(t.Context(), stream.DecisionStream(0)); err != nil {
		t.Fatal(err)
	}
	b.nextEpoch(t, before)
	p.release()
	b.settle(t, x, y)
}

// nextEpoch waits until a stream has been made anew.
func (b *bench) nextEpoch(t *testing.T, before store.Progress) {
	t.Helper()
	testenv.Eventually(t, "the next epoch", func() error {
		if p := b.progress(t); p.Epoch <= before.Epoch || p.StreamID == before.StreamID {
			return fmt.Errorf("the progress is %+v", p)
		}
		return nil
	})
}

// The stream is deleted while an INSERT of it has reached ClickHouse in part; the rest arrives after the records have been sent
// again: it does not land.
func TestUnfinishedInsertEnded(t *testing.T) {
	b := newBench(t)
	i, p := b.proxied(t, time.Second)
	start(t, i)
	x := b.newNode(t, "x", 1, 500)
	b.settle(t, x)
	p.delay()
	x.decide(enough)
	testenv.Eventually(t, "the ingester's doubt", func() error { return fails(i) })
	before := b.progress(t)
	js, _ := b.stream(t)
	if err := js.DeleteStream(t.Context(), stream.DecisionStream(0)); err != nil {
		t.Fatal(err)
	}
	b.nextEpoch(t, before)
	p.release()
	b.settle(t, x)
	x.decide(10)
	b.settle(t, x)
}

// The stream is deleted and made anew by somebody else, several times in quick succession, under load and two ingesters.
func TestStreamReplaced(t *testing.T) {
	b := newBench(t)
	start(t, b.ingester(t, nil))
	start(t, b.ingester(t, nil))
	x, y := b.newNode(t, "x", 1, 100), b.newNode(t, "y", 2, 20)
	b.settle(t, x, y)
	js, _ := b.stream(t)
	for range 5 {
		x.decide(500)
		y.decide(200)
		testenv.Eventually(t, "batches in the stream", func() error { return y.acknowledged(y.records()) })
		for range 3 {
			if err := js.DeleteStream(t.Context(), stream.DecisionStream(0)); err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
				t.Fatal(err)
			}
			// An ingester may be faster, and the server may fail over the folder that it is still removing: then an ingester makes it.
			if _, err := js.CreateStream(t.Context(), stream.DecisionStreamConfig(0, 1, 1<<30)); err != nil {
				t.Log(err)
			}
		}
		x.decide(10)
	}
	x.close()
	b.settle(t, x, y)
}

// NATS comes back with an older copy of its store. The stream ends below the progress: it is made anew.
func TestStreamBelowProgress(t *testing.T) {
	b := newBench(t)
	i := b.ingester(t, nil)
	start(t, i)
	x := b.newNode(t, "x", 1, 100)
	x.decide(500)
	b.settle(t, x)
	b.nats.Stop()
	backup := b.nats.Backup(t)
	b.nats.Start(t)
	x.decide(3000)
	b.settle(t, x)
	before := b.progress(t)
	b.nats.Stop()
	b.nats.Restore(t, backup)
	x.decide(50)
	b.nats.Start(t)
	b.settle(t, x)
	if after := b.progress(t); after.Epoch != before.Epoch+1 {
		t.Errorf("the epoch was %d, and is %d", before.Epoch, after.Epoch)
	}
	testenv.Eventually(t, "the status", i.Status)
}

// NATS comes back with an older copy, which lacks batches that were acknowledged and not ingested: the node sees numbers that go
// back, and sends again.
func TestStreamLosesItsTail(t *testing.T) {
	b := newBench(t)
	i, p := b.proxied(t, 300*time.Millisecond)
	start(t, i)
	x := b.newNode(t, "x", 1, 100)
	x.decide(500)
	b.settle(t, x)
	p.cut()
	b.nats.Stop()
	backup := b.nats.Backup(t)
	b.nats.Start(t)
	x.decide(500)
	testenv.Eventually(t, "acknowledgements", func() error { return x.acknowledged(1001) })
	b.nats.Stop()
	b.nats.Restore(t, backup)
	b.nats.Start(t)
	x.decide(100)
	testenv.Eventually(t, "what the node sees", func() error {
		x.mu.Lock()
		defer x.mu.Unlock()
		if x.resent == 0 {
			return errors.New("it has not sent again")
		}
		return nil
	})
	p.release()
	b.settle(t, x)
}

// An ingester dies after its INSERT has landed and before it saved that, and then NATS comes back with an older copy, which lacks
// the messages of that block. Other messages get their sequences, and so must not get the block's token.
func TestStreamLosesWhatLanded(t *testing.T) {
	b := newBench(t)
	i, p := b.proxied(t, time.Minute)
	stop := start(t, i)
	x := b.newNode(t, "x", 1, enough)
	b.settle(t, x)
	b.nats.Stop()
	backup := b.nats.Backup(t)
	b.nats.Start(t)
	testenv.Eventually(t, "the ingester's return", i.Status)
	p.hold()
	x.decide(enough)
	testenv.Eventually(t, "rows that nobody confirmed", func() error { return b.landed(t.Context(), enough+1) })
	testenv.Eventually(t, "acknowledgements", func() error { return x.acknowledged(enough + 1) })
	stop()
	before := b.progress(t)
	b.nats.Stop()
	b.nats.Restore(t, backup)
	b.nats.Start(t)
	x.decide(10) // of which the acknowledgement goes back
	testenv.Eventually(t, "acknowledgements", func() error { return x.acknowledged(enough + 11) })
	start(t, b.ingester(t, nil))
	b.settle(t, x)
	if after := b.progress(t); after.Epoch != before.Epoch+1 {
		t.Errorf("the epoch was %d, and is %d", before.Epoch, after.Epoch)
	}
}

// NATS comes back with an older copy while an ingester has a block in its hands that has not landed. Other messages get its
// sequences, and another ingester their block into the table, with the same token: the first must not take that for its own.
func TestStreamLosesWhatIsInHand(t *testing.T) {
	b := newBench(t)
	i, p := b.proxied(t, 300*time.Millisecond)
	start(t, i)
	testenv.Eventually(t, "the start", i.Status)
	x := newSilentNode(t, b.nats.Connect(t), "x", 1, enough)
	x.decide(enough - 1)
	js, _ := b.stream(t)
	publish := func(last uint64) (sequence uint64) {
		data, err := x.batch(1, last, last, false)
		if err != nil {
			t.Fatal(err)
		}
		testenv.Eventually(t, "an acknowledgement", func() error {
			got, err := js.Publish(t.Context(), stream.DecisionSubject(0, "x", x.boot), data)
			if err == nil {
				sequence = got.Sequence
			}
			return err
		})
		return sequence
	}
	b.nats.Stop()
	backup := b.nats.Backup(t)
	b.nats.Start(t)
	p.swallow()
	first := publish(enough)
	testenv.Eventually(t, "the ingester's doubt", func() error {
		if err := i.Status(); err == nil || !strings.Contains(err.Error(), "inserting a block") {
			return fmt.Errorf("the status is %w", err)
		}
		return nil
	})
	b.nats.Stop()
	b.nats.Restore(t, backup)
	b.nats.Start(t)
	if again := publish(10); again != first {
		t.Fatalf("message %d is not in the place of %d", again, first)
	}
	other := b.ingester(t, nil)
	stop := start(t, other)
	testenv.Eventually(t, "another block in its place", func() error { return b.landed(t.Context(), 10) })
	testenv.Eventually(t, "progress", func() error {
		if b.progress(t).Sequence < first {
			return errors.New("it is not saved")
		}
		return nil
	})
	stop()
	p.release()
	testenv.Eventually(t, "the status", i.Status)
	x.start(t)
	b.settle(t, x)
}

// NATS and ClickHouse are away, one after the other and together.
func TestServersAway(t *testing.T) {
	b := newBench(t)
	i, p := b.proxied(t, time.Second)
	start(t, i)
	x := b.newNode(t, "x", 1, 100)
	b.settle(t, x)

	p.cut()
	x.decide(500)
	testenv.Eventually(t, "the ingester without ClickHouse", func() error { return fails(i) })
	p.release()
	b.settle(t, x)
	testenv.Eventually(t, "the status", i.Status)

	b.nats.Stop()
	x.decide(500)
	testenv.Eventually(t, "the ingester without NATS", func() error { return fails(i) })
	b.nats.Start(t)
	b.settle(t, x)
	testenv.Eventually(t, "the status", i.Status)

	p.cut()
	x.decide(500)
	testenv.Eventually(t, "the ingester without ClickHouse", func() error { return fails(i) })
	b.nats.Stop()
	p.release()
	b.nats.Start(t)
	b.settle(t, x)
	testenv.Eventually(t, "the status", i.Status)
}

// The leader of a stream on three servers is stopped under load.
func TestLeaderStopped(t *testing.T) {
	b := newBench(t)
	cluster := testenv.NewCluster(t, 3)
	i := b.ingester(t, func(c *Config) { c.Conn, c.Replicas = cluster.Connect(t), 3 })
	start(t, i)
	testenv.Within(t, time.Minute, "the start", i.Status)
	x := newNodeOn(t, cluster.Connect(t), "x", 1, 100)
	b.settle(t, x)
	for range 2 {
		testenv.Within(t, time.Minute, "all three hold the stream", func() error { return cluster.Current(stream.DecisionStream(0)) })
		var leader *testenv.NATS
		testenv.Within(t, time.Minute, "a leader", func() error {
			if leader = cluster.Leader(stream.DecisionStream(0)); leader == nil {
				return errors.New("there is none")
			}
			return nil
		})
		x.decide(2000)
		leader.Stop()
		x.decide(2000)
		b.settle(t, x)
		leader.Start(t)
	}
	if p := b.progress(t); p.Epoch != 1 {
		t.Errorf("an election made the stream anew: epoch %d", p.Epoch)
	}
}

// ClickHouse is killed in the middle of an INSERT, again and again: what it had not committed is inserted again, and what it had
// is not there twice.
func TestClickHouseKilled(t *testing.T) {
	server := startClickHouse(t)
	b := newBench(t)
	i, p := b.proxied(t, 5*time.Second)
	start(t, i)
	x := b.newNode(t, "x", 1, 500)
	b.settle(t, x)
	for _, within := range []int64{4 << 10, 12 << 10, insertBytes} { // bytes of the INSERT that have reached the server
		killed := make(chan struct{})
		p.after(within, func() { server.kill(t); close(killed) })
		x.decide(20_000)
		testenv.Eventually(t, "an INSERT of that size", func() error {
			select {
			case <-killed:
				return nil
			default:
				return errors.New("there was none")
			}
		})
		b.settle(t, x)
	}
}

// clickHouse is a server of the test's own.
type clickHouse struct{ devservers int }

func startClickHouse(t *testing.T) clickHouse {
	t.Helper()
	program, err := filepath.Abs("../../../../.bin/devservers")
	if err != nil {
		t.Fatal(err)
	}
	command := exec.Command(program, "--ports", "free", "--only", "clickhouse", "--", "sh", "-c", "echo $"+testenv.ClickHouseVariable+"; read end")
	for _, pair := range os.Environ() {
		if !strings.HasPrefix(pair, "VERDICT_") {
			command.Env = append(command.Env, pair)
		}
	}
	command.Stderr = t.Output()
	stdin, err := command.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatalf("%v: run `make dev-build`", err)
	}
	t.Cleanup(func() { stdin.Close(); _ = command.Wait() })
	url, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatalf("devservers: %v", err)
	}
	t.Setenv(testenv.ClickHouseVariable, strings.TrimSpace(url))
	t.Setenv(testenv.ClickHouseSecretVariable, "")
	return clickHouse{devservers: command.Process.Pid}
}

// kill ends the server; devservers starts it again.
func (c clickHouse) kill(t *testing.T) {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Error(err)
		return
	}
	parents, servers := map[string]string{}, []string{}
	for _, stat := range stats {
		text, err := os.ReadFile(stat)
		line, _ := os.ReadFile(filepath.Join(filepath.Dir(stat), "cmdline"))
		fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
		if err != nil || len(fields) < 2 {
			continue // it has ended
		}
		pid := filepath.Base(filepath.Dir(stat))
		parents[pid] = fields[1]
		if strings.Contains(string(line), "clickhouse-child") {
			servers = append(servers, pid)
		}
	}
	for _, server := range servers {
		for pid := server; pid != ""; pid = parents[pid] {
			if pid == strconv.Itoa(c.devservers) {
				number, _ := strconv.Atoi(server)
				if err := syscall.Kill(number, syscall.SIGKILL); err != nil {
					t.Error(err)
				}
				return
			}
		}
	}
	t.Error("there is no ClickHouse to kill")
}
