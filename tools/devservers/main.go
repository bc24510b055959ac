// Command devservers turns a machine without Docker into one with a real Postgres 18.4 and a real ClickHouse 26.7
// for exactly as long as one command runs. It guarantees that
//
//   - the command finds both servers through VERDICT_POSTGRES_URL, VERDICT_CLICKHOUSE_URL and VERDICT_CLICKHOUSE_HTTP_URL;
//     a server whose URL is set already is not started, so the same command line works against servers of one's own;
//   - nothing outlives the run: servers and every descendant of the command end with the command, also when devservers,
//     or whoever started it, is killed with -9 (this is for Linux; see process_other.go for what holds elsewhere);
//   - a folder given by --data is used by one run at a time, and data without --data is gone after the run, at the
//     latest when the next run starts;
//   - only 127.0.0.1 is listened on, and nothing but `devservers fetch` uses the network.
//
// # Processes
//
// The process that the user starts is the front. It starts one supervisor, which starts the servers and the command.
// The two watch each other: when the front goes, the supervisor stops everything; when the supervisor goes, the front
// kills what is left. Only a kill -9 of both at the same moment leaves the grandchildren of the command behind, its
// direct children end then too. ClickHouse is a library, loaded by a process of its own that is started again when it
// dies, because stray bytes on its native port abort it.
//
// # Folders
//
// Packages are kept in $VERDICT_CACHE_DIR; without it, in /var/cache/verdict/devservers for root and in
// os.UserCacheDir()/verdict/devservers for others. Postgres refuses to run as root, so root runs it as the user nobody,
// who must be able to reach the packages: /root/.cache would not do. Data may be anywhere, below a folder closed to
// nobody too, since Postgres gets its data folder as an open file descriptor. Temporary data is in
// $TMPDIR/verdict-devservers-UID.
package main

import (
	"fmt"
	"io"
	"os"
)

const usage = `devservers runs a command with a Postgres and a ClickHouse that live as long as it does.

  devservers [flags] -- CMD ARGS…    run CMD; the exit status is that of CMD (128+N when signal N ended it)
  devservers fetch                   download the servers (once; about 200 MB; needs npm and node)
  devservers doctor [--ports fixed] [--data DIR]
                                     say what is missing on this machine, and its cure
  devservers reset --data DIR        remove the data of DIR

Flags of a run:
  --data DIR                keep the data in DIR between runs (default: temporary, removed at the end)
  --ports fixed|free        fixed: Postgres 7432, ClickHouse 7440 and HTTP 7441; free: any (default fixed)
  --only LIST               start only these: postgres, clickhouse (default both)
  --clickhouse-users FILE   users.xml of ClickHouse (default: user "default" without a password, from loopback only)

Set for CMD (a server whose URL is already set is not started):
  VERDICT_POSTGRES_URL          postgres://postgres@127.0.0.1:PORT/postgres?sslmode=disable
  VERDICT_POSTGRES_CA           FILE with the root of its certificate, for sslmode=verify-full; FILE with .key for .pem
                                issues certificates of clients
  VERDICT_CLICKHOUSE_URL        clickhouse://127.0.0.1:PORT/default
  VERDICT_CLICKHOUSE_HTTP_URL   http://127.0.0.1:PORT

Read:
  VERDICT_CACHE_DIR             where the downloaded servers are kept
`

func main() { os.Exit(dispatch(os.Args[1:])) }

func dispatch(args []string) int {
	commands := map[string]func([]string) int{
		"fetch":            fetchCommand,
		"doctor":           doctorCommand,
		"reset":            resetCommand,
		superviseCommand:   supervise,
		clickhouseChildCmd: clickhouseChild,
	}
	if len(args) == 0 {
		fmt.Fprint(os.Stderr, usage)
		return exitUsage
	}
	if isHelp(args[0]) {
		fmt.Fprint(os.Stdout, usage)
		return 0
	}
	if command, ok := commands[args[0]]; ok {
		return command(args[1:])
	}
	return front(args)
}

func isHelp(arg string) bool {
	return arg == "help" || arg == "-h" || arg == "-help" || arg == "--help"
}

// Exit statuses of devservers itself; any other is the status of the command.
const (
	exitFailed    = 1
	exitUsage     = 2
	exitNotFound  = 127
	exitSignalled = 128 // plus the signal's number
)

// say writes one line to standard error, where it cannot mix with what the command prints for others to read.
func say(format string, args ...any) { sayTo(os.Stderr, format, args...) }

func sayTo(w io.Writer, format string, args ...any) {
	fmt.Fprintf(w, "devservers: "+format+"\n", args...)
}
