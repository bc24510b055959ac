package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"

	"github.com/ebitengine/purego"
)

const clickhouseChildCmd = "clickhouse-child" // hidden: only the supervisor starts it

// serveForever opens both listeners, the native one first, and then sleeps for some hundred years.
const serveForever = `SYSTEM START LISTEN TCP; SYSTEM START LISTEN HTTP;
SELECT sleepEachRow(1) FROM numbers(4000000000)
SETTINGS function_sleep_max_microseconds_per_block = 2000000, max_block_size = 1 FORMAT Null`

// clickhouseChild is the process that is ClickHouse: it loads the library and serves until it is killed.
func clickhouseChild(args []string) int {
	var lib, path, config string
	var tcp, http int
	fs := newFlagSet(clickhouseChildCmd)
	fs.StringVar(&lib, "lib", "", "")
	fs.StringVar(&path, "path", "", "")
	fs.StringVar(&config, "config", "", "")
	fs.IntVar(&tcp, "tcp", 0, "")
	fs.IntVar(&http, "http", 0, "")
	if err := fs.Parse(args); err != nil {
		return usageError(err)
	}
	err := runLibrary(lib, []string{
		"clickhouse", "--config-file=" + config, "--path=" + path, "--listen_host=127.0.0.1",
		"--tcp_port=" + strconv.Itoa(tcp), "--http_port=" + strconv.Itoa(http), "--query=" + serveForever,
	})
	fmt.Fprintln(os.Stderr, "clickhouse:", err)
	return exitFailed
}

// runLibrary calls `clickhouse local` in the library. It returns when that has ended, always with an error.
func runLibrary(lib string, argv []string) error {
	handle, err := purego.Dlopen(lib, purego.RTLD_NOW|purego.RTLD_GLOBAL)
	if err != nil {
		return err
	}
	var setSignalHandlers func(enabled int32)
	var queryCmdline func(argc int32, argv **byte) uintptr
	var resultError func(result uintptr) string
	purego.RegisterLibFunc(&setSignalHandlers, handle, "chdb_set_signal_handlers_enabled")
	purego.RegisterLibFunc(&queryCmdline, handle, "chdb_query_cmdline")
	purego.RegisterLibFunc(&resultError, handle, "chdb_result_error")
	setSignalHandlers(0) // Go keeps its own
	pointers := make([]*byte, len(argv)+1)
	for i, arg := range argv {
		pointers[i] = &append([]byte(arg), 0)[0]
	}
	result := queryCmdline(int32(len(argv)), &pointers[0])
	runtime.KeepAlive(pointers)
	if result != 0 {
		if text := resultError(result); text != "" {
			return errors.New(text)
		}
	}
	return errors.New("the library returned")
}
