package testenv

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// NATS is a server in the test's process.
type NATS struct {
	Server *server.Server
	opts   *server.Options
	config string // what `verdict nats-config` printed; "" for a server that takes anybody
}

// NewNATS starts a server with JetStream on a port and a folder of its own.
func NewNATS(t testing.TB) *NATS {
	t.Helper()
	return NewNATSWith(t, func(*server.Options) {})
}

// NewNATSWith is NewNATS with settings changed before it starts.
func NewNATSWith(t testing.TB, change func(*server.Options)) *NATS {
	t.Helper()
	n := &NATS{opts: options(filepath.Join(t.TempDir(), "nats"))}
	change(n.opts)
	n.Start(t)
	t.Cleanup(n.Stop)
	return n
}

// NewSecuredNATS is NewNATS with what `verdict nats-config` printed. Besides its users each account has an admin; see Admin.
func NewSecuredNATS(t testing.TB, config string) *NATS {
	t.Helper()
	n := &NATS{opts: options(filepath.Join(t.TempDir(), "nats")), config: config}
	n.Start(t)
	t.Cleanup(n.Stop)
	return n
}

// Reconfigure has a running server read another configuration, as after a SIGHUP.
func (n *NATS) Reconfigure(t testing.TB, config string) {
	t.Helper()
	n.config = config
	if err := n.Server.ReloadOptions(n.secured(t)); err != nil {
		t.Fatal(err)
	}
}

// secured is the options with what the configuration says. A server changes what it is given, so each gets its own.
func (n *NATS) secured(t testing.TB) *server.Options {
	t.Helper()
	if n.config == "" {
		return n.opts
	}
	opts := &server.Options{}
	if err := opts.ProcessConfigString(n.config); err != nil {
		t.Fatalf("nats-server does not take the configuration: %v", err)
	}
	opts.Host, opts.Port, opts.StoreDir, opts.NoSigs, opts.NoLog = n.opts.Host, n.opts.Port, n.opts.StoreDir, true, true
	opts.ServerName, opts.Cluster, opts.Routes = n.opts.ServerName, n.opts.Cluster, n.opts.Routes
	for _, account := range opts.Accounts {
		opts.Users = append(opts.Users, &server.User{Username: account.Name, Password: adminPassword, Account: account})
	}
	return opts
}

const adminPassword = "admin"

// Admin is a connection that may do everything in an account of a secured server. It ends with the test.
func (n *NATS) Admin(t testing.TB, account string) *nats.Conn {
	t.Helper()
	return connect(t, n.URL(), nats.UserInfo(account, adminPassword))
}

func options(store string) *server.Options {
	return &server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: store, NoSigs: true, NoLog: true}
}

// Start starts the server again after Stop, on the same port and folder.
func (n *NATS) Start(t testing.TB) {
	t.Helper()
	s, err := server.NewServer(n.secured(t))
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	if !s.ReadyForConnections(20 * time.Second) {
		t.Fatal("NATS did not start")
	}
	n.Server = s
	if addr, ok := s.Addr().(*net.TCPAddr); ok {
		n.opts.Port = addr.Port
	}
}

// Stop ends the server; what it had stored stays. Its clients see a connection that breaks.
func (n *NATS) Stop() {
	n.Server.Shutdown()
	n.Server.WaitForShutdown()
}

// Backup copies what the server has stored; it must be stopped.
func (n *NATS) Backup(t testing.TB) (dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "backup")
	if err := os.CopyFS(dir, os.DirFS(n.opts.StoreDir)); err != nil {
		t.Fatal(err)
	}
	return dir
}

// Restore puts a backup in the place of what the server has stored; it must be stopped.
func (n *NATS) Restore(t testing.TB, dir string) {
	t.Helper()
	if err := os.RemoveAll(n.opts.StoreDir); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(n.opts.StoreDir, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
}

// URL is the server's address.
func (n *NATS) URL() string { return n.Server.ClientURL() }

// Connect is a connection that ends with the test.
func (n *NATS) Connect(t testing.TB) *nats.Conn {
	t.Helper()
	return connect(t, n.URL())
}

func connect(t testing.TB, url string, options ...nats.Option) *nats.Conn {
	t.Helper()
	options = append(options, nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond), nats.Name(t.Name()))
	conn, err := nats.Connect(url, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	return conn
}

// Cluster is several servers in the test's process that replicate streams.
type Cluster struct{ Nodes []*NATS }

// NewCluster starts n servers that know each other, and waits until they can make streams.
func NewCluster(t testing.TB, n int) *Cluster {
	t.Helper()
	return newCluster(t, n, "")
}

// NewSecuredCluster is NewCluster with what `verdict nats-config` printed; see NewSecuredNATS.
func NewSecuredCluster(t testing.TB, n int, config string) *Cluster {
	t.Helper()
	return newCluster(t, n, config)
}

func newCluster(t testing.TB, n int, config string) *Cluster {
	t.Helper()
	ports := freePorts(t, n)
	var routes []*url.URL
	for _, port := range ports {
		routes = append(routes, &url.URL{Scheme: "nats", Host: fmt.Sprintf("127.0.0.1:%d", port)})
	}
	c := &Cluster{}
	for i := range n {
		opts := options(filepath.Join(t.TempDir(), fmt.Sprintf("nats%d", i)))
		opts.ServerName = fmt.Sprintf("node%d", i)
		opts.Cluster = server.ClusterOpts{Name: "test", Host: "127.0.0.1", Port: ports[i]}
		opts.Routes = routes
		node := &NATS{opts: opts, config: config}
		node.Start(t)
		t.Cleanup(node.Stop)
		c.Nodes = append(c.Nodes, node)
	}
	Eventually(t, "the cluster", func() error {
		for _, node := range c.Nodes {
			if node.Server.JetStreamIsLeader() && len(node.Server.JetStreamClusterPeers()) == n {
				return nil
			}
		}
		return fmt.Errorf("no leader that knows all %d servers", n)
	})
	return c
}

// freePorts finds ports that were free a moment ago.
func freePorts(t testing.TB, n int) []int {
	t.Helper()
	var ports []int
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports
}

// URL is the addresses of all servers.
func (c *Cluster) URL() string {
	var urls []string
	for _, n := range c.Nodes {
		urls = append(urls, fmt.Sprintf("nats://127.0.0.1:%d", n.opts.Port))
	}
	return strings.Join(urls, ",")
}

// Connect is a connection to any of the servers, which ends with the test.
func (c *Cluster) Connect(t testing.TB) *nats.Conn {
	t.Helper()
	return connect(t, c.URL())
}

// Current is nil when every server has all of a stream.
func (c *Cluster) Current(stream string) error {
	for i, n := range c.Nodes {
		if !n.Server.JetStreamIsStreamCurrent(server.DEFAULT_GLOBAL_ACCOUNT, stream) {
			return fmt.Errorf("server %d is behind", i)
		}
	}
	return nil
}

// Leader is the server that leads a stream; nil when there is none at the moment.
func (c *Cluster) Leader(stream string) *NATS {
	for _, n := range c.Nodes {
		if n.Server.Running() && n.Server.JetStreamIsStreamLeader(server.DEFAULT_GLOBAL_ACCOUNT, stream) {
			return n
		}
	}
	return nil
}
