package ingest

import (
	"context"
	"log/slog"
	"maps"

	"google.golang.org/protobuf/proto"

	decisionv1 "github.com/verdict-io/verdict/proto/gen/verdict/decision/v1"
	"github.com/verdict-io/verdict/services/internal/stream"
)

// confirm tells the nodes of which batches came what of theirs is in the table.
func (p *partition) confirm(ctx context.Context, seen map[string]map[stream.Boot]uint64) {
	told := map[string]map[stream.Boot]uint64{}
	for node, boots := range seen {
		told[node] = maps.Clone(boots)
	}
	for _, m := range p.progress.Marks {
		if told[m.Node] != nil {
			told[m.Node][m.Boot] = m.Seq
		}
	}
	p.tell(ctx, told)
}

// confirmAll tells every node with a boot that is not over, and all nodes which stream it is about.
func (p *partition) confirmAll(ctx context.Context) {
	told := map[string]map[stream.Boot]uint64{stream.AllNodes: {}}
	for _, m := range p.progress.Marks {
		if told[m.Node] == nil {
			told[m.Node] = map[stream.Boot]uint64{}
		}
		told[m.Node][m.Boot] = m.Seq
	}
	p.tell(ctx, told)
}

// tell publishes to each node, once and without an answer: what gets lost is said again.
func (p *partition) tell(ctx context.Context, nodes map[string]map[stream.Boot]uint64) {
	for node, boots := range nodes {
		m := &decisionv1.Ingested{
			Node: node, StreamId: p.progress.StreamID, LastSequence: p.progress.Sequence, Partition: uint32(p.number),
		}
		for boot, seq := range boots {
			m.Boots = append(m.Boots, &decisionv1.BootProgress{Boot: boot[:], Seq: seq})
		}
		data, err := proto.Marshal(m)
		if err == nil {
			err = p.cfg.Conn.Publish(stream.IngestedSubject(node), data)
		}
		if err != nil {
			p.metrics.errors.WithLabelValues("confirm").Inc()
			p.logger.WarnContext(ctx, "confirming to a node", slog.String("node", node), slog.Any("error", err))
		}
	}
}
