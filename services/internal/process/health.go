package process

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/verdict-io/verdict/services/internal/trust"
)

// checkTimeout bounds a check of a condition, and so the answer of /readyz.
const checkTimeout = time.Second

// Health says whether a service can answer: a set of named conditions, each checked when somebody asks. A required
// condition that fails makes the service unready; any other only tells. It is safe for concurrent use.
type Health struct {
	mu         sync.Mutex // guards the fields below
	conditions []*condition
	draining   bool
}

// condition is one line of /readyz.
type condition struct {
	name     string
	required bool
	check    func(context.Context) error

	mu  sync.Mutex // guards now
	now *run       // the check that is under way, which all who ask meanwhile share; nil when none is
}

// run is one execution of a check.
type run struct {
	done chan struct{} // closed when err is final
	err  error
}

func newHealth() *Health { return &Health{} }

// Register adds a condition. Its check is nil-or-why-not, and the text of the error is shown to whoever asks; it runs
// under a context of one second, never twice at a time. A check that panics or does not answer counts as failed.
// The name "serving" is taken; registering a name twice panics.
func (h *Health) Register(name string, required bool, check func(context.Context) error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, c := range h.conditions {
		if c.name == name {
			panic("condition " + name + " registered twice")
		}
	}
	if name == servingCondition {
		panic("condition " + name + " is the process's own")
	}
	h.conditions = append(h.conditions, &condition{name: name, required: required, check: check})
}

// servingCondition is the condition that fails once the shutdown has begun.
const servingCondition = "serving"

// Drain makes the service unready for good.
func (h *Health) Drain() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.draining = true
}

// Status is a condition as it is now.
type Status struct {
	Condition string `json:"condition"`
	OK        bool   `json:"ok"`
	Required  bool   `json:"required"`
	Detail    string `json:"detail"`
}

// Check runs all checks side by side and returns within about a second: first whether the process is serving, then the
// conditions in the order of registration.
func (h *Health) Check(ctx context.Context) (statuses []Status, ready bool) {
	h.mu.Lock()
	conditions, draining := h.conditions, h.draining
	h.mu.Unlock()
	statuses = make([]Status, 1+len(conditions))
	statuses[0] = Status{Condition: servingCondition, OK: !draining, Required: true}
	if draining {
		statuses[0].Detail = "shutting down"
	}
	var wg sync.WaitGroup
	for i, c := range conditions {
		wg.Go(func() { statuses[1+i] = c.status(ctx) })
	}
	wg.Wait()
	ready = true
	for _, s := range statuses {
		ready = ready && (s.OK || !s.Required)
	}
	return statuses, ready
}

func (c *condition) status(ctx context.Context) Status {
	status := Status{Condition: c.name, Required: c.required}
	timer := time.NewTimer(checkTimeout + checkTimeout/10) // a check that heeds its context gets to say why it failed
	defer timer.Stop()
	r := c.join()
	select {
	case <-r.done:
		status.OK = r.err == nil
		if r.err != nil {
			status.Detail = r.err.Error()
		}
	case <-timer.C:
		status.Detail = "no answer within " + checkTimeout.String()
	case <-ctx.Done():
		status.Detail = "not waited for: " + context.Cause(ctx).Error()
	}
	return status
}

// join is the check under way, or a new one. One that hangs is thus one goroutine, not one for each question.
func (c *condition) join() *run {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.now != nil {
		return c.now
	}
	r := &run{done: make(chan struct{})}
	c.now = r
	go func() {
		r.err = c.runCheck()
		c.mu.Lock()
		c.now = nil
		c.mu.Unlock()
		close(r.done)
	}()
	return r
}

func (c *condition) runCheck() (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("the check panicked: %v", v)
		}
	}()
	ctx, cancel := context.WithTimeoutCause(context.Background(), checkTimeout,
		errors.New("no answer within "+checkTimeout.String()))
	defer cancel()
	err = c.check(ctx)
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// serveReady answers one JSON object a line: 200 if every required condition holds, else 503. Details name servers and files,
// and are left out where details is false.
func (h *Health) serveReady(w http.ResponseWriter, r *http.Request, details bool) {
	statuses, ready := h.Check(r.Context())
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.Header().Set("Cache-Control", "no-store")
	if !ready {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	lines := json.NewEncoder(w)
	for _, s := range statuses {
		if !details && s.Detail != "" {
			s.Detail = "told on this machine only"
		}
		_ = lines.Encode(s) // the prober is gone; nobody else waits for the rest
	}
}

// serveReady tells details to whoever is on this machine. A request that something in front has brought here comes from this
// machine too, and is known by its Host.
func (p *Process) serveReady(w http.ResponseWriter, r *http.Request) {
	p.Health.serveReady(w, r, trust.Loopback(hostOnly(r.RemoteAddr)) && trust.Loopback(hostOnly(r.Host)))
}

// hostOnly is a host:port, or a host, without the port and without the brackets of IPv6.
func hostOnly(addr string) string {
	if host, _, err := net.SplitHostPort(addr); err == nil {
		return host
	}
	return strings.TrimSuffix(strings.TrimPrefix(addr, "["), "]")
}

// serveAlive answers that the process runs.
func serveAlive(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write([]byte("ok\n"))
}

var conditionDesc = prometheus.NewDesc("verdict_condition",
	"1 while the condition of /readyz holds, else 0.", []string{"condition", "required"}, nil)

// Describe is part of prometheus.Collector.
func (h *Health) Describe(ch chan<- *prometheus.Desc) { ch <- conditionDesc }

// Collect is part of prometheus.Collector: the conditions, checked now.
func (h *Health) Collect(ch chan<- prometheus.Metric) {
	statuses, _ := h.Check(context.Background())
	for _, s := range statuses {
		holds := 0.0
		if s.OK {
			holds = 1
		}
		ch <- prometheus.MustNewConstMetric(conditionDesc, prometheus.GaugeValue, holds,
			s.Condition, strconv.FormatBool(s.Required))
	}
}
