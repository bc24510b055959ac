package stream

import (
	"fmt"
	"slices"
)

// Accounts on NATS, not to be confused with those of Verdict. A client chooses the subject that an answer is published on, and the
// server does not ask whether the client may publish there: the acknowledgement of a decision, or a message read from a stream, can
// be sent to any subject of the client's account. So streams that others must not write to are in accounts of their own.
const (
	ControlAccount = "VERDICT_CONTROL" // of control, with the stream of policy events
	AuditAccount   = "VERDICT_AUDIT"   // of audit, with the streams of decisions
	NodesAccount   = "VERDICT_NODES"   // of decision nodes and gateways, without streams
)

// NATSUser is a user of NATS and all that it may do. Besides it may hear its own inbox: InboxPrefix of its key.
type NATSUser struct {
	Name      string // of its key file, without .nk
	Account   string
	Publish   []string
	Subscribe []string
}

// NATSUsers are the users of the services. Without nodes there is one for all decision nodes, and one for gateways, which may decide
// under any name too. With nodes each of these names has a user of its own, who can speak for no other, and a gateway only follows
// policies, unless it decides under one of the names, with that key.
func NATSUsers(nodes []string) ([]NATSUser, error) {
	users := []NATSUser{controlUser(), auditUser()}
	if len(nodes) == 0 {
		return append(users, nodeUser("decision", "*"), nodeUser("gateway", "*")), nil
	}
	for i, node := range nodes {
		if err := ValidNode(node); err != nil {
			return nil, err
		}
		if slices.Contains(nodes[:i], node) {
			return nil, fmt.Errorf("node %s is there twice", node)
		}
		users = append(users, nodeUser("node-"+node, node))
	}
	return append(users, NATSUser{Name: "gateway", Account: NodesAccount, Subscribe: []string{LiveAll, HeadSubject}}), nil
}

// controlUser publishes policy, and owns the one stream that it goes onto.
func controlUser() NATSUser {
	u := NATSUser{Name: "control", Account: ControlAccount, Publish: []string{PolicyAll, HeadSubject}, Subscribe: []string{NodeAll}}
	for _, call := range []string{"INFO", "CREATE", "UPDATE", "DELETE", "MSG.GET"} {
		u.Publish = append(u.Publish, "$JS.API.STREAM."+call+"."+PolicyStream)
	}
	return u
}

// auditUser tells nodes what is in ClickHouse, and owns the streams of its account, whose number is a setting: each is DECISIONS_<p>.
func auditUser() NATSUser {
	u := NATSUser{Name: "audit", Account: AuditAccount, Publish: []string{IngestedAll, tickPrefix + "*"}}
	for _, call := range []string{"INFO", "CREATE", "UPDATE", "DELETE", "PURGE", "MSG.GET"} {
		u.Publish = append(u.Publish, "$JS.API.STREAM."+call+".*")
	}
	for _, call := range []string{"CREATE", "DELETE", "MSG.NEXT"} {
		u.Publish = append(u.Publish, "$JS.API.CONSUMER."+call+".*.*")
	}
	return u
}

// nodeUser follows policies and publishes what a node decides; "*" is any node.
func nodeUser(name, node string) NATSUser {
	heard := []string{LiveAll, HeadSubject, IngestedSubject(node)}
	if node != "*" {
		heard = append(heard, IngestedSubject(AllNodes))
	}
	return NATSUser{
		Name: name, Account: NodesAccount, Publish: []string{decisionPrefix + "*." + node + ".*", NodeSubject(node)}, Subscribe: heard,
	}
}

// share is a subject of an account that another one has too: as messages that come from it, or, if it takes them, as messages that
// go there and whose acknowledgement comes back.
type share struct {
	of, with, subject string
	takes             bool
}

var shares = []share{
	{of: ControlAccount, with: NodesAccount, subject: LiveAll},
	{of: ControlAccount, with: NodesAccount, subject: HeadSubject},
	{of: AuditAccount, with: NodesAccount, subject: IngestedAll},
	{of: AuditAccount, with: NodesAccount, subject: decisionPrefix + "*.*.*", takes: true},
	{of: NodesAccount, with: ControlAccount, subject: NodeAll},
}

// InboxPrefix is what the inboxes of whoever has a key begin with; public is its public half. Answers come there, and no other user
// may listen.
func InboxPrefix(public string) string { return "_INBOX_" + public }
