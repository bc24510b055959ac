package main

import (
	"context"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	maxDeaths   = 5
	deathWindow = 30 * time.Second
)

// clickhouse is one ClickHouse server with its data in the place's folder "clickhouse". It is started again when it
// dies: stray bytes or a failed login on its native port abort it. Data on disk survives that.
type clickhouse struct {
	family *family
	place  *place
	ports  *ports
	users  string // users.xml, or "" for the default
	lib    string
	tcp    int
	http   int
	lost   chan error

	mu      sync.Mutex
	process *process // the present one
	stopped bool     // set once, by stop: no process is started from then on
}

func newClickhouse(family *family, place *place, ports *ports, users string) *clickhouse {
	return &clickhouse{family: family, place: place, ports: ports, users: users, lost: make(chan error, 1)}
}

func (c *clickhouse) failed() <-chan error { return c.lost }

func (c *clickhouse) start(ctx context.Context) ([]string, error) {
	pack, err := packOf(clickhousePacks, "ClickHouse", clickhouseURL)
	if err != nil {
		return nil, err
	}
	dir, err := pack.locate()
	if err != nil {
		return nil, err
	}
	c.lib = filepath.Join(dir, pack.marker)
	if err := c.configure(); err != nil {
		return nil, err
	}
	for try := 1; ; try++ {
		if err := c.choosePorts(); err != nil {
			return nil, err
		}
		process, err := c.serve(ctx)
		if err == nil {
			go c.keep(process)
			return []string{
				fmt.Sprintf("%s=clickhouse://127.0.0.1:%d/default", clickhouseURL, c.tcp),
				fmt.Sprintf("%s=http://127.0.0.1:%d", clickhouseHTTPURL, c.http),
			}, nil
		}
		portsKept := portFree(c.tcp) && portFree(c.http)
		if !c.ports.free || try == startTries || portsKept || ctx.Err() != nil {
			return nil, err
		}
	}
}

func (c *clickhouse) choosePorts() (err error) {
	if c.tcp, err = c.ports.choose(clickhousePort); err != nil {
		return err
	}
	c.http, err = c.ports.choose(clickhouseHTTPPort)
	return err
}

// defaultUsers lets everybody on this machine in as "default", which is what a server for development is for.
const defaultUsers = `<clickhouse>
  <profiles><default/></profiles>
  <quotas><default/></quotas>
  <users>
    <default>
      <password></password>
      <networks><ip>127.0.0.1</ip></networks>
      <profile>default</profile>
      <quota>default</quota>
    </default>
  </users>
</clickhouse>
`

// configure writes the configuration, which names the users' file.
func (c *clickhouse) configure() error {
	if err := os.MkdirAll(c.place.path("clickhouse"), 0o700); err != nil {
		return err
	}
	users := c.users
	if users == "" {
		users = c.place.path("users.xml")
		if err := os.WriteFile(users, []byte(defaultUsers), 0o600); err != nil {
			return err
		}
	}
	var escaped strings.Builder
	if err := xml.EscapeText(&escaped, []byte(users)); err != nil {
		return err
	}
	config := "<clickhouse>\n  <user_directories><users_xml><path>" + escaped.String() +
		"</path></users_xml></user_directories>\n</clickhouse>\n"
	return os.WriteFile(c.place.path("clickhouse.xml"), []byte(config), 0o600)
}

// serve starts one process and returns it when it answers.
func (c *clickhouse) serve(ctx context.Context) (*process, error) {
	process, err := c.launch()
	if err != nil {
		return nil, err
	}
	if err := waitReady(ctx, process, c.ping); err != nil {
		process.stop(syscall.SIGKILL, 0)
		return nil, fmt.Errorf("clickhouse: %w\n%s", err, lastLines(c.place.path("clickhouse.log")))
	}
	return process, nil
}

func (c *clickhouse) launch() (*process, error) {
	log, err := os.OpenFile(c.place.path("clickhouse.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd, err := selfCommand(clickhouseChildCmd, "--lib", c.lib,
		"--path", c.place.path("clickhouse"), "--config", c.place.path("clickhouse.xml"),
		"--tcp", strconv.Itoa(c.tcp), "--http", strconv.Itoa(c.http))
	if err != nil {
		return nil, err
	}
	cmd.Dir = c.place.path("clickhouse")
	cmd.Stdout, cmd.Stderr = log, log
	// A group of its own: SYSTEM SHUTDOWN signals the whole group.
	cmd.SysProcAttr = dieWithParent(&syscall.SysProcAttr{Setpgid: true})
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped {
		return nil, context.Canceled
	}
	c.process, err = c.family.start(cmd)
	return c.process, err
}

// ping asks over HTTP: the native port opens first, and a probe there could abort the server.
func (c *clickhouse) ping(ctx context.Context) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d/ping", c.http), nil)
	if err != nil {
		return err
	}
	response, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if string(body) != "Ok.\n" {
		return fmt.Errorf("/ping answers %q", body)
	}
	return nil
}

// keep starts the server again, on the same ports and data, each time it dies; not after stop, and not when it dies
// too often.
func (c *clickhouse) keep(process *process) {
	var deaths []time.Time
	for {
		if process != nil {
			<-process.done
		}
		if c.isStopped() {
			return
		}
		deaths = slices.DeleteFunc(append(deaths, time.Now()), func(t time.Time) bool { return time.Since(t) > deathWindow })
		if len(deaths) >= maxDeaths {
			c.lost <- fmt.Errorf("clickhouse died %d times within %v\n%s",
				maxDeaths, deathWindow, lastLines(c.place.path("clickhouse.log")))
			return
		}
		say("clickhouse ended (%s); starting it again on the same ports and data", ending(process))
		began := time.Now()
		next, err := c.serve(context.Background())
		process = next
		if err == nil {
			say("clickhouse is back after %v", time.Since(began).Round(10*time.Millisecond))
		}
	}
}

func ending(p *process) string {
	if p == nil {
		return "could not be started"
	}
	return p.state.String()
}

func (c *clickhouse) isStopped() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stopped
}

// stop kills it: there is no orderly way to end the library, and data on disk needs none.
func (c *clickhouse) stop(time.Duration) {
	c.mu.Lock()
	c.stopped = true
	process := c.process
	c.mu.Unlock()
	if process != nil {
		process.stop(syscall.SIGKILL, 0)
	}
}
