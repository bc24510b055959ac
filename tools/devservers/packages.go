package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
)

// pack is one pinned npm package. Integrity is npm's own checksum of it, so a fetch gets these bytes or fails.
type pack struct {
	name, version, integrity string
	marker                   string // the file a server is started from
}

const (
	postgresVersion   = "18.4.0-beta.17"
	clickhouseVersion = "26.7.3-stable.1"
)

// The packages of each platform, as GOOS/GOARCH. On Linux all of them need glibc.
var (
	postgresPacks = map[string]pack{
		"linux/amd64": postgresPack("linux-x64",
			"sha512-jVw/MdDtIX/vICH/DKIe6/mHpiCggdx6QVyza4vt/NbcZFsL0KhwglF6F1Koqx3gRBZ9XtN+vi63EsqSyqOSxA=="),
		"linux/arm64": postgresPack("linux-arm64",
			"sha512-TIzjtGnDGSD/LbdW0OWCEcbI+YVT0WKSfSr20TCkkP4UR8zeKe+QCZbO0/CM4hS9EWyZ4cDebjRvpRc3iMi6wg=="),
		"darwin/arm64": postgresPack("darwin-arm64",
			"sha512-Kg1ZMNFzkVIJs3g4V2UYEc5X005km9rGinxFBH8R1sOU2Rblvz4pt2Uf93Pu8Rk273Ue9HIdrbMPpgUqwjUi0Q=="),
		"darwin/amd64": postgresPack("darwin-x64",
			"sha512-4tShSYWMxUQTSWoQAdLnHISvRj6L9gTch9/31ASJPg6wgyN64LDRwMcOINEWybM7N0ropJ3nTYhFT3UX1bKY5Q=="),
	}
	clickhousePacks = map[string]pack{
		"linux/amd64": {
			name: "@chdb/lib-linux-x64-gnu", version: clickhouseVersion, marker: "libchdb.so",
			integrity: "sha512-XP97mMqnc5tZpKQywR8N7cLTsHNiTmHr30pC5mzo3jWmukjKn2IBa60c2B/gWUNcuFjOMjWoorQICCqBVj5wpw==",
		},
	}
)

// startable are the servers that a run starts when their variable is not set.
var startable = []struct {
	name, variable string
	packs          map[string]pack
}{
	{"Postgres", postgresURL, postgresPacks},
	{"ClickHouse", clickhouseURL, clickhousePacks},
}

func postgresPack(platform, integrity string) pack {
	return pack{"@embedded-postgres/" + platform, postgresVersion, integrity, "native/bin/postgres"}
}

var platform = runtime.GOOS + "/" + runtime.GOARCH

// noPackageError says that a server cannot be started on this platform, and what to do instead.
type noPackageError struct{ server, where, variable string }

func (e *noPackageError) Error() string {
	return fmt.Sprintf("there is no %s package for %s: set %s to a server of your own", e.server, e.where, e.variable)
}

// packOf returns the package of a server for this machine.
func packOf(packs map[string]pack, server, variable string) (pack, error) {
	p, ok := packs[platform]
	if !ok {
		return p, &noPackageError{server, platform, variable}
	}
	if runtime.GOOS == "linux" && !glibc() {
		return p, &noPackageError{server, platform + " without glibc", variable}
	}
	return p, nil
}

func glibc() bool {
	for _, pattern := range []string{"/lib64/ld-linux-*", "/lib/ld-linux-*", "/lib/*/ld-linux-*"} {
		if found, _ := filepath.Glob(pattern); len(found) > 0 {
			return true
		}
	}
	return false
}

// cacheDir is where packages are kept; see the package comment.
func cacheDir() (string, error) {
	if dir := os.Getenv("VERDICT_CACHE_DIR"); dir != "" {
		return filepath.Abs(dir)
	}
	if os.Getuid() == 0 {
		return "/var/cache/verdict/devservers", nil
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("no place for the servers' packages: set HOME or VERDICT_CACHE_DIR (%w)", err)
	}
	return filepath.Join(dir, "verdict", "devservers"), nil
}

// dir is a package's folder below a cache. The version is part of it: another version is another folder.
func (p pack) dir(cache string) string {
	name := strings.ReplaceAll(strings.TrimPrefix(p.name, "@"), "/", "-")
	return filepath.Join(cache, name+"-"+p.version)
}

func (p pack) fetched(cache string) bool {
	_, err := os.Stat(filepath.Join(p.dir(cache), p.marker))
	return err == nil
}

// locate returns the folder of a fetched package.
func (p pack) locate() (string, error) {
	cache, err := cacheDir()
	if err != nil {
		return "", err
	}
	if !p.fetched(cache) {
		return "", fmt.Errorf("%s %s is not in %s: run `make fetch`", p.name, p.version, cache)
	}
	return p.dir(cache), nil
}

// serverUser returns the user that Postgres runs as: nil is the user of this process, root's is nobody.
func serverUser() *syscall.Credential {
	if os.Getuid() != 0 {
		return nil
	}
	c := &syscall.Credential{Uid: 65534, Gid: 65534}
	if u, err := user.Lookup("nobody"); err == nil {
		uid, errUID := strconv.ParseUint(u.Uid, 10, 32)
		gid, errGID := strconv.ParseUint(u.Gid, 10, 32)
		if cmp.Or(errUID, errGID) == nil {
			c.Uid, c.Gid = uint32(uid), uint32(gid)
		}
	}
	return c
}

// reachable returns an error when dir is below a folder that not everybody may enter, as nobody has to.
func reachable(dir string) error {
	for d := dir; d != filepath.Dir(d); d = filepath.Dir(d) {
		info, err := os.Stat(d)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if info.Mode().Perm()&0o001 == 0 {
			return fmt.Errorf("%s cannot be used by root: Postgres runs as the user nobody, who may not enter %s; "+
				"set VERDICT_CACHE_DIR to another folder, or leave it unset", dir, d)
		}
	}
	return nil
}
