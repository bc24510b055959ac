package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	minDisk  = 3 << 30 // bytes: the packages take 0.6 GB, an unhurried day's data the rest
	fixed    = "fixed"
	okay     = "ok"
	warning  = "warn"
	failure  = "FAIL"
	dataHome = ".data" // where `make dev` keeps its data
)

// devPorts are all ports of `make dev`, by what listens on them.
var devPorts = []struct {
	port int
	name string
}{
	{7401, "control"},
	{7402, "decision"},
	{7403, "audit"},
	{7404, "gateway"},
	{7422, "NATS"},
	{postgresPort, "Postgres"},
	{clickhousePort, "ClickHouse"},
	{clickhouseHTTPPort, "ClickHouse HTTP"},
}

// finding is one line of the doctor: what was looked at, and what to do when it is not as it should be.
type finding struct{ level, what, cure string }

func (f finding) String() string {
	line := fmt.Sprintf("%-4s  %s", f.level, f.what)
	if f.cure != "" {
		line += ": " + f.cure
	}
	return line
}

// doctorCommand prints one line for each thing that `make dev` and `make test` need. Its status is 1 when one fails.
func doctorCommand(args []string) int {
	var data, ports string
	flags := newFlagSet("doctor")
	flags.StringVar(&data, "data", dataHome, "")
	flags.StringVar(&ports, "ports", fixed, "")
	if err := flags.Parse(args); err != nil {
		return usageError(err)
	}
	if flags.NArg() > 0 || ports != fixed && ports != "free" {
		return usageError(errors.New("devservers doctor [--ports fixed|free] [--data DIR]"))
	}
	status := 0
	for _, f := range examine(data, ports) {
		fmt.Println(f)
		if f.level == failure {
			status = exitFailed
		}
	}
	return status
}

func examine(data, ports string) []finding {
	findings := slices.Concat(checkTools(), checkPlatform(), checkCache(), checkFolder("data", data))
	if ports == fixed {
		findings = append(findings, checkPorts()...)
	}
	return findings
}

func checkTools() []finding {
	return []finding{
		checkTool("1.26", "install Go 1.26 or newer from https://go.dev/dl", "go", "version"),
		checkTool("20", "install Node.js 20 or newer", "node", "--version"),
		checkTool("", "install npm, it comes with Node.js", "npm", "--version"),
		checkTool("", "install GNU make", "make", "--version"),
		checkTool("", "install git", "git", "--version"),
	}
}

var versionPattern = regexp.MustCompile(`\d+\.\d+(\.\d+)*`)

// checkTool asks a program for its version, and compares it with the least that will do.
func checkTool(least, cure, name string, args ...string) finding {
	output, err := exec.Command(name, args...).Output()
	if errors.Is(err, exec.ErrNotFound) {
		return finding{failure, name + " is not on PATH", cure}
	}
	if err != nil {
		return finding{failure, fmt.Sprintf("%s %s: %v", name, strings.Join(args, " "), err), cure}
	}
	version := versionPattern.FindString(string(output))
	if slices.Compare(numbers(version), numbers(least)) < 0 {
		return finding{failure, fmt.Sprintf("%s is %s", name, version), cure}
	}
	return finding{okay, name + " " + version, ""}
}

// numbers turns "1.26.8" into 1, 26, 8.
func numbers(version string) []int {
	var all []int
	for part := range strings.SplitSeq(version, ".") {
		n, err := strconv.Atoi(part)
		if err != nil {
			break
		}
		all = append(all, n)
	}
	return all
}

// checkPlatform says which servers the machine can run by itself.
func checkPlatform() []finding {
	var findings []finding
	for _, s := range startable {
		_, err := packOf(s.packs, s.name, s.variable)
		noPackage, missing := errors.AsType[*noPackageError](err)
		switch {
		case os.Getenv(s.variable) != "":
			findings = append(findings, finding{okay, fmt.Sprintf("%s: %s names one", s.name, s.variable), ""})
		case missing:
			what := fmt.Sprintf("no %s package for %s", s.name, noPackage.where)
			findings = append(findings, finding{failure, what, "set " + s.variable + " to a server of your own"})
		default:
			findings = append(findings, finding{okay, s.name + " runs on " + platform, ""})
		}
	}
	return findings
}

func checkCache() []finding {
	cache, err := cacheDir()
	if err != nil {
		return []finding{{failure, err.Error(), ""}}
	}
	findings := checkFolder("cache", cache)
	if serverUser() != nil {
		if err := reachable(cache); err != nil {
			findings = append(findings, finding{failure, err.Error(), ""})
		}
	}
	for _, s := range startable {
		p, err := packOf(s.packs, s.name, s.variable)
		if err != nil || os.Getenv(s.variable) != "" {
			continue // checkPlatform has told, and nothing is needed
		}
		what := p.name + " " + p.version
		if p.fetched(cache) {
			findings = append(findings, finding{okay, what + " is fetched", ""})
		} else {
			findings = append(findings, finding{failure, what + " is not fetched", "run `make fetch`"})
		}
	}
	return findings
}

// checkFolder tries to write in a folder, or where it will be made, and looks at the room there.
func checkFolder(name, dir string) []finding {
	there := existing(dir)
	what := fmt.Sprintf("%s folder %s", name, dir)
	if err := unix.Access(there, unix.W_OK|unix.X_OK); err != nil {
		cure := "give yourself write access to " + there + ", or name another folder"
		return []finding{{failure, fmt.Sprintf("%s: %v", what, err), cure}}
	}
	var disk unix.Statfs_t
	if err := unix.Statfs(there, &disk); err != nil {
		return []finding{{warning, fmt.Sprintf("%s: %v", what, err), ""}}
	}
	free := disk.Bavail * uint64(disk.Bsize)
	what = fmt.Sprintf("%s can be written, %.1f GiB free", what, float64(free)/(1<<30))
	if free < minDisk {
		return []finding{{failure, what, "make room, at least 3 GiB"}}
	}
	return []finding{{okay, what, ""}}
}

// existing returns the first of dir and its parents that is there.
func existing(dir string) string {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return dir
	}
	for {
		if _, err := os.Stat(abs); err == nil || abs == filepath.Dir(abs) {
			return abs
		}
		abs = filepath.Dir(abs)
	}
}

func checkPorts() []finding {
	findings := make([]finding, 0, len(devPorts))
	for _, p := range devPorts {
		what := fmt.Sprintf("port %d (%s)", p.port, p.name)
		if portFree(p.port) {
			findings = append(findings, finding{okay, what + " is free", ""})
			continue
		}
		findings = append(findings, finding{failure, what + " is taken" + heldBy(p.port), "end that process"})
	}
	return findings
}
