// Package dev runs all of Verdict on one machine, with the refund example in it, for whoever wants to see it work: NATS in this
// process, the services as processes of their own, on a Postgres and a ClickHouse that are there already.
//
// It guarantees that what it started ends with it, however it ends, and that a second run finds the data of the first.
package dev

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/verdict-io/verdict/services/internal/identity"
	"github.com/verdict-io/verdict/services/internal/trust"
)

// Config is what a run is told.
type Config struct {
	Dir          string // of everything that stays
	ControlAddr  string
	DecisionAddr string
	AuditAddr    string
	GatewayAddr  string
	ExampleAddr  string // of the issuer and the functions of the example
	NATSAddr     string // of the NATS that is started here, unless NATSURL names one
	NATSURL      string
	Environ      []string // for the services; it names Postgres and ClickHouse
	Out          io.Writer
	Progress     io.Writer // what it is doing, and why a service ended
}

// startTimeout bounds everything up to the moment that it serves.
const startTimeout = 90 * time.Second

// run is a run under way.
type run struct {
	Config

	nats     *server.Server // nil when there is another
	control  *child
	decision *child
	audit    *child
	gateway  *child
	around   *surroundings
}

// Run starts everything, shows the example, and serves until ctx ends.
func Run(ctx context.Context, cfg Config) error {
	r := &run{Config: cfg}
	defer r.stop()
	starting, cancel := context.WithTimeoutCause(ctx, startTimeout, errSlow)
	defer cancel()
	urls, err := r.start(starting)
	if err == nil {
		err = r.show(starting, urls)
	}
	if err == nil {
		err = r.serve(ctx)
	}
	if ctx.Err() != nil {
		return nil // it was the user who ended it
	}
	r.explain(err)
	return err
}

var errSlow = fmt.Errorf("it took more than %v to start", startTimeout)

// say tells what it is doing.
func (r *run) say(format string, args ...any) {
	fmt.Fprintf(r.Progress, "verdict dev: "+format+"\n", args...)
}

// explain shows the end of the log that an error is about, which the error, being one line, only names.
func (r *run) explain(err error) {
	if logged, ok := errors.AsType[*loggedError](err); ok {
		r.say("the end of %s:\n%s\n", logged.log, tail(logged.log))
	}
}

// urls are where the services answer.
type urls struct{ control, decision, audit, gateway string }

func (r *run) start(ctx context.Context) (urls, error) {
	var u urls
	err := r.checkPorts(ctx)
	if err == nil {
		err = os.MkdirAll(r.Dir, 0o700)
	}
	if err == nil {
		err = r.writeCallers()
	}
	if err == nil {
		err = r.startNATS()
	}
	if err == nil {
		err = r.migrate(ctx)
	}
	if err != nil {
		return u, err
	}
	if r.around, err = startSurroundings(ctx, r.Dir, r.ExampleAddr); err != nil {
		return u, fmt.Errorf("example: %w", err)
	}
	if r.control, u.control, err = r.service(ctx, "control", r.ControlAddr, "VERDICT_POSTGRES_URL="+controlsURL(lookup(r.Environ, "VERDICT_POSTGRES_URL")),
		"VERDICT_GATEWAY_URL=http://"+r.GatewayAddr); err != nil {
		return u, err
	}
	if r.audit, u.audit, err = r.service(ctx, "audit", r.AuditAddr, "VERDICT_CLICKHOUSE_URL="+auditsURL(lookup(r.Environ, "VERDICT_CLICKHOUSE_URL"))); err != nil {
		return u, err
	}
	if r.decision, u.decision, err = r.service(ctx, "decision", r.DecisionAddr, "VERDICT_CONTROL_URL="+u.control, "VERDICT_NODE=dev",
		"VERDICT_DECISION_DIR="+filepath.Join(r.Dir, "decision")); err != nil {
		return u, err
	}
	r.gateway, u.gateway, err = r.service(ctx, "gateway", r.GatewayAddr, "VERDICT_CONTROL_URL="+u.control, "VERDICT_GATEWAY_DECISION="+u.decision,
		"VERDICT_GATEWAY_DIR="+filepath.Join(r.Dir, "gateway"), "VERDICT_GATEWAY_EGRESS_LOOPBACK=true", "VERDICT_GATEWAY_LAMBDA_ENDPOINT="+r.around.url)
	return u, err
}

// devCallers is who may call beside those on this machine: whoever signs with the access key dev and its secret dev, in all roles
// but that of a node, which would see the log of all accounts.
const devCallers = `{"accessKeys": [{"accessKeyId": "dev", "secretAccessKey": "dev", "account": "` + identity.DefaultAccount + `", "id": "dev",
  "roles": ["viewer", "author", "enforcer", "gateway", "agent", "auditor", "admin"]}]}
`

// writeCallers has the services know the access key, and still take requests from this machine without one.
func (r *run) writeCallers() error {
	if lookup(r.Environ, "VERDICT_CALLERS") != "" {
		return nil
	}
	for _, addr := range []string{r.ControlAddr, r.DecisionAddr, r.AuditAddr, r.GatewayAddr} {
		if host, port, err := net.SplitHostPort(addr); err == nil && (host != "" || port != "0") && !trust.Loopback(host) {
			return fmt.Errorf("%s can be reached from other machines, and everybody knows the access key dev: name your own callers with VERDICT_CALLERS", addr)
		}
	}
	file := filepath.Join(r.Dir, "callers.json")
	r.Environ = append(r.Environ, "VERDICT_CALLERS="+file)
	for _, service := range []string{"CONTROL", "DECISION", "AUDIT", "GATEWAY"} {
		r.Environ = append(r.Environ, "VERDICT_"+service+"_LOOPBACK_ACCOUNT="+identity.DefaultAccount)
	}
	return os.WriteFile(file, []byte(devCallers), 0o600)
}

func (r *run) startNATS() error {
	url := r.NATSURL
	if url == "" {
		var err error
		if r.nats, err = startNATS(r.Dir, r.NATSAddr); err != nil {
			return err
		}
		url = r.nats.ClientURL()
		r.Environ = append(r.Environ, natsEnviron(r.Dir)...)
	}
	r.Environ = append(r.Environ, "VERDICT_NATS_URL="+url)
	return nil
}

// errTaken: the services would say so too, each in its log and one after the other.
var errTaken = errors.New("end what listens there, or set another address")

// checkPorts finds every address that is taken, before anything has been started.
func (r *run) checkPorts(ctx context.Context) error {
	addrs := [][2]string{
		{"VERDICT_CONTROL_ADDR", r.ControlAddr},
		{"VERDICT_DECISION_ADDR", r.DecisionAddr},
		{"VERDICT_AUDIT_ADDR", r.AuditAddr},
		{"VERDICT_GATEWAY_ADDR", r.GatewayAddr},
		{"VERDICT_EXAMPLE_ADDR", r.ExampleAddr},
	}
	if r.NATSURL == "" {
		addrs = append(addrs, [2]string{"VERDICT_NATS_ADDR", r.NATSAddr})
	}
	var all error
	for _, a := range addrs {
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", a[1])
		if err != nil {
			all = errors.Join(all, fmt.Errorf("%w: %w with %s", err, errTaken, a[0]))
			continue
		}
		_ = l.Close()
	}
	return all
}

// migrate makes the tables with the program's own verb.
func (r *run) migrate(ctx context.Context) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	r.say("migrating Postgres and ClickHouse")
	cmd := exec.CommandContext(ctx, self, "migrate") //nolint:gosec // this very program
	cmd.Env = slices.Concat(r.Environ, []string{
		"VERDICT_OWNER_URL=" + lookup(r.Environ, "VERDICT_POSTGRES_URL"),
		"VERDICT_CLICKHOUSE_OWNER_URL=" + auditsURL(lookup(r.Environ, "VERDICT_CLICKHOUSE_URL")),
	})
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("migrate: %w\n%s", err, out)
	}
	return nil
}

// service starts a service and waits until it is ready.
func (r *run) service(ctx context.Context, name, addr string, environ ...string) (*child, string, error) {
	r.say("starting %s", name)
	c, err := startChild(r.Dir, name, addr, slices.Concat(r.Environ, environ))
	if err != nil {
		return nil, "", err
	}
	url, err := c.ready(ctx)
	return c, url, err
}

// show loads the example, lists its tools and calls one twice, and finds both decisions with SQL.
func (r *run) show(ctx context.Context, u urls) error {
	r.say("loading the refund example")
	e, err := loadExample(ctx, u.control, r.around.url)
	if err != nil {
		return err
	}
	fmt.Fprintf(r.Out, "engine %s, attached to gateway %s\npolicy %s: refunds of less than %d\n\n",
		e.engine.GetPolicyEngineId(), e.gateway.GetGatewayArn(), e.policy.GetPolicyId(), limit)
	ids, err := r.useTools(ctx, e.url(u.gateway))
	if err != nil {
		return err
	}
	sql := rowsSQL(ids...)
	found, err := awaitRows(ctx, u.audit, sql, len(ids))
	if err != nil {
		return fmt.Errorf("query: %w", err)
	}
	fmt.Fprintf(r.Out, "\n%s\n\n", sql)
	if err := found.Print(r.Out); err != nil {
		return err
	}
	_, err = fmt.Fprintf(r.Out, "\ncontrol   %s\ndecision  %s\naudit     %s\ngateway   %s\nissuer    %s\n\nserving; README.md shows how to ask; Ctrl-C ends it, the data stays in %s\n",
		u.control, u.decision, u.audit, e.url(u.gateway), r.around.url, r.Dir)
	return err
}

// useTools does what an agent does: it gets a token, lists the tools, and calls one of them, twice.
func (r *run) useTools(ctx context.Context, gatewayURL string) (decisionIDs []string, err error) {
	a, names, err := awaitAgent(ctx, r.around.url, gatewayURL)
	if err != nil {
		return nil, err
	}
	defer a.close()
	fmt.Fprintf(r.Out, "tools of the agent: %s\n", names)
	for _, amount := range []int{500, 2000} {
		text, id, err := a.refund(ctx, amount)
		if err != nil {
			return nil, fmt.Errorf("tools/call: %w", err)
		}
		fmt.Fprintf(r.Out, "refund of %4d: %s\n", amount, text)
		decisionIDs = append(decisionIDs, id)
	}
	return decisionIDs, nil
}

// serve waits for the end, or for a service to end that should not.
func (r *run) serve(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-r.control.ended:
		return r.control.failure()
	case <-r.decision.ended:
		return r.decision.failure()
	case <-r.audit.ended:
		return r.audit.failure()
	case <-r.gateway.ended:
		return r.gateway.failure()
	case err := <-r.around.failed:
		return fmt.Errorf("example: %w", err)
	}
}

// stop ends what was started: who asks before who answers, and NATS last.
func (r *run) stop() {
	for _, c := range []*child{r.gateway, r.decision, r.control, r.audit} {
		if c != nil {
			c.stop()
		}
	}
	if r.around != nil {
		r.around.stop()
	}
	if r.nats != nil {
		r.nats.Shutdown()
		r.nats.WaitForShutdown()
	}
}

var errNoVariable = errors.New("is not set; `make dev` sets it, or name a server of your own")

// Check refuses an environment that names no servers.
func Check(environ []string) error {
	for _, name := range []string{"VERDICT_POSTGRES_URL", "VERDICT_CLICKHOUSE_URL", "VERDICT_SIGNING_KEY", "VERDICT_TRUSTED_KEYS", "VERDICT_CLICKHOUSE_SECRET"} {
		if lookup(environ, name) == "" {
			return fmt.Errorf("%s %w", name, errNoVariable)
		}
	}
	return nil
}
