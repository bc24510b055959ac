package dev

import (
	"net/url"
	"strings"
)

// lookup is the value of a variable, the last one where it stands twice, as a process sees it.
func lookup(environ []string, name string) string {
	value := ""
	for _, pair := range environ {
		if v, ok := strings.CutPrefix(pair, name+"="); ok {
			value = v
		}
	}
	return value
}

// controlsURL is the database as the role that control connects as. A URL that names another user than that of a development
// server is somebody's decision and stays.
func controlsURL(ownerURL string) string {
	u, err := url.Parse(ownerURL)
	if err != nil || u.User == nil || u.User.Username() != "postgres" {
		return ownerURL
	}
	if _, has := u.User.Password(); has {
		return ownerURL
	}
	u.User = url.User("verdict_control")
	return u.String()
}

// auditsURL is ClickHouse with the database that audit has there. A URL that names another database than a server's own default
// is somebody's decision and stays.
func auditsURL(ownerURL string) string {
	u, err := url.Parse(ownerURL)
	if err != nil || u.Path != "" && u.Path != "/" && u.Path != "/default" {
		return ownerURL
	}
	u.Path = "/verdict"
	return u.String()
}
