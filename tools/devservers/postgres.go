package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

const (
	startTries   = 3 // with free ports: another process may take the port between its choice and its use
	startTimeout = 60 * time.Second
	dataFD       = 3
)

// postgres is one Postgres server with its data in the place's folder "postgres".
type postgres struct {
	family  *family
	place   *place
	ports   *ports
	bin     string
	process *process
	lost    chan error
}

func newPostgres(family *family, place *place, ports *ports) *postgres {
	return &postgres{family: family, place: place, ports: ports, lost: make(chan error, 1)}
}

func (p *postgres) failed() <-chan error { return p.lost }

func (p *postgres) start(ctx context.Context) ([]string, error) {
	pack, err := packOf(postgresPacks, "Postgres", postgresURL)
	if err != nil {
		return nil, err
	}
	dir, err := pack.locate()
	if err != nil {
		return nil, err
	}
	if serverUser() != nil {
		if err := reachable(dir); err != nil {
			return nil, err
		}
	}
	p.bin = filepath.Join(dir, "native", "bin")
	if err := p.initialise(ctx); err != nil {
		return nil, err
	}
	if err := p.certify(); err != nil {
		return nil, err
	}
	ca, err := filepath.Abs(p.place.path(caCert)) // the command may look for it from another folder
	if err != nil {
		return nil, err
	}
	for try := 1; ; try++ {
		port, err := p.ports.choose(postgresPort)
		if err != nil {
			return nil, err
		}
		err = p.serve(ctx, port)
		if err == nil {
			return []string{
				fmt.Sprintf("%s=%s", postgresURL, postgresAddress(port)),
				fmt.Sprintf("%s=%s", postgresCA, ca),
			}, nil
		}
		if !p.ports.free || try == startTries || portFree(port) || ctx.Err() != nil {
			return nil, err
		}
	}
}

func postgresAddress(port int) string {
	return fmt.Sprintf("postgres://postgres@127.0.0.1:%d/postgres?sslmode=disable", port)
}

// initialise makes the data folder when there is none. It gets its name when it is complete: an initdb that was killed
// leaves nothing that looks like data.
func (p *postgres) initialise(ctx context.Context) error {
	data, fresh := p.place.path("postgres"), p.place.path("postgres.new")
	info, err := os.Stat(data)
	if err == nil {
		return checkOwner(data, info)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.RemoveAll(fresh); err != nil {
		return err
	}
	if err := os.Mkdir(fresh, 0o700); err != nil {
		return err
	}
	if user := serverUser(); user != nil {
		if err := os.Chown(fresh, int(user.Uid), int(user.Gid)); err != nil {
			return err
		}
	}
	args := []string{"-U", "postgres", "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C"}
	process, err := p.run("initdb", fresh, args...)
	if err != nil {
		return err
	}
	select {
	case <-process.done:
	case <-ctx.Done():
		process.stop(syscall.SIGKILL, 0)
		return context.Cause(ctx)
	}
	if process.err != nil {
		return fmt.Errorf("initdb: %w\n%s", process.err, lastLines(p.place.path("postgres.log")))
	}
	return os.Rename(fresh, data)
}

// checkOwner says in words what Postgres would refuse: data of another user.
func checkOwner(data string, info fs.FileInfo) error {
	uid := uint32(os.Getuid())
	if user := serverUser(); user != nil {
		uid = user.Uid
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); ok && stat.Uid != uid {
		return fmt.Errorf("%s belongs to uid %d, Postgres would run as uid %d: start devservers as the user who did before, "+
			"or name other --data", data, stat.Uid, uid)
	}
	return nil
}

// run starts a program of the package on a data folder, with its output in the log. For another user than this
// process's the folder is passed as an open file: that user need not be able to reach it.
func (p *postgres) run(program, data string, args ...string) (*process, error) {
	log, err := os.OpenFile(p.place.path("postgres.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	attr := &syscall.SysProcAttr{Setpgid: true, Credential: serverUser()}
	cmd := exec.Command(filepath.Join(p.bin, program))
	if attr.Credential != nil && runtime.GOOS == "linux" {
		folder, err := os.Open(data)
		if err != nil {
			return nil, err
		}
		defer folder.Close()
		cmd.ExtraFiles = []*os.File{folder}
		data = "/proc/self/fd/" + strconv.Itoa(dataFD)
	}
	cmd.Args = append(cmd.Args, append([]string{"-D", data}, args...)...)
	cmd.Dir = "/" // this process's folder may be closed to the user
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C", "TZ=UTC"}
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = dieWithParent(attr)
	return p.family.start(cmd)
}

func (p *postgres) serve(ctx context.Context, port int) error {
	args := []string{
		"-p", strconv.Itoa(port),
		"-c", "listen_addresses=127.0.0.1",
		"-c", "unix_socket_directories=", // its path would be too long below a deep folder
		"-c", "max_connections=200",
		"-c", "ssl=on", "-c", "ssl_ca_file=" + clientRoot, // for those who ask for it
	}
	if p.place.temporary {
		args = append(args, "-c", "fsync=off", "-c", "full_page_writes=off", "-c", "synchronous_commit=off")
	}
	process, err := p.run("postgres", p.place.path("postgres"), args...)
	if err != nil {
		return err
	}
	p.process = process
	err = waitReady(ctx, process, func(ctx context.Context) error {
		conn, err := pgconn.Connect(ctx, postgresAddress(port))
		if err != nil {
			return err
		}
		return conn.Close(ctx)
	})
	if err != nil {
		p.stop(hastyGrace)
		return fmt.Errorf("postgres: %w\n%s", err, lastLines(p.place.path("postgres.log")))
	}
	go p.watch(process)
	return nil
}

// watch reports a server that ends before it is stopped. After stop nobody reads lost.
func (p *postgres) watch(process *process) {
	<-process.done
	p.lost <- fmt.Errorf("postgres ended by itself (%v)\n%s", process.state, lastLines(p.place.path("postgres.log")))
}

// stop shuts down in order; temporary data needs no order.
func (p *postgres) stop(grace time.Duration) {
	if p.process == nil {
		return
	}
	fast, immediate := syscall.SIGINT, syscall.SIGQUIT
	if p.place.temporary {
		fast = immediate
	}
	p.process.stop(fast, grace)
}
