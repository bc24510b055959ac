package stream

import (
	"fmt"
	"io"
	"strings"
	"text/template"
)

// NATSConfig is what a NATS server is to be told.
type NATSConfig struct {
	Listen   string // HOST:PORT
	StoreDir string
	Users    []NATSUser
	Keys     map[string]string // public, by the user's name
}

// WriteNATSConfig writes the file that nats-server reads with -c: users, what each may do, and which account has what. It holds
// public keys only.
func WriteNATSConfig(w io.Writer, c NATSConfig) error {
	view := serverView{Listen: c.Listen, StoreDir: c.StoreDir}
	for _, name := range []string{ControlAccount, AuditAccount, NodesAccount} {
		a := accountView{Name: name, JetStream: name != NodesAccount}
		for _, u := range c.Users {
			if u.Account != name {
				continue
			}
			key := c.Keys[u.Name]
			if key == "" {
				return fmt.Errorf("nats user %s has no key", u.Name)
			}
			a.Users = append(a.Users, userView{u.Name, key, list(u.Publish), list(append([]string{InboxPrefix(key) + ".>"}, u.Subscribe...))})
		}
		a.share()
		view.Accounts = append(view.Accounts, a)
	}
	return natsTemplate.Execute(w, view)
}

type serverView struct {
	Listen, StoreDir string
	Accounts         []accountView
}

type accountView struct {
	Name             string
	JetStream        bool
	Users            []userView
	Exports, Imports []string
}

type userView struct{ Name, Key, Publish, Subscribe string }

// share finds what the account exports and imports.
func (a *accountView) share() {
	for _, s := range shares {
		kind := "stream"
		if s.takes {
			kind = "service"
		}
		switch a.Name {
		case s.of:
			a.Exports = append(a.Exports, fmt.Sprintf("{ %s: %q, accounts: [%s] }", kind, s.subject, s.with))
		case s.with:
			a.Imports = append(a.Imports, fmt.Sprintf("{ %s: { account: %s, subject: %q } }", kind, s.of, s.subject))
		}
	}
}

// list is subjects as the configuration has them. An empty one would allow everything: "_" is a subject that nobody uses.
func list(subjects []string) string {
	if len(subjects) == 0 {
		subjects = []string{"_"}
	}
	quoted := make([]string, len(subjects))
	for i, s := range subjects {
		quoted[i] = fmt.Sprintf("%q", s)
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}

var natsTemplate = template.Must(template.New("nats").Parse(`# NATS for Verdict, printed by ` + "`verdict nats-config`" + `; run it with: nats-server -c FILE
# It holds public keys only. Each service gets the seed of its own user, with --nats-key: NAME.nk of the folder of keys.

listen: {{printf "%q" .Listen}}
jetstream { store_dir: {{printf "%q" .StoreDir}} }

# TLS: fill in before this server listens on anything but loopback. Services trust its certificate by their --tls-ca.
# tls { cert_file: "/etc/verdict/nats.pem", key_file: "/etc/verdict/nats-key.pem" }

# Three servers that keep streams together (--stream-replicas 3 of control and audit): the same on each, but for server_name.
# server_name: nats-1
# cluster {
#   name: verdict
#   listen: "0.0.0.0:6222"
#   routes: ["nats://nats-1:6222", "nats://nats-2:6222", "nats://nats-3:6222"]
#   tls { cert_file: "/etc/verdict/nats.pem", key_file: "/etc/verdict/nats-key.pem", ca_file: "/etc/verdict/ca.pem", verify: true }
# }

# An account has its own subjects and streams; what another may have of them is exported. Keep it so: the server sends answers to
# whatever subject of its account a user names, also to one that the user may not publish on.
accounts {
{{- range .Accounts}}
  {{.Name}} {
    {{- if .JetStream}}
    jetstream: enabled
    {{- end}}
    users: [
      {{- range .Users}}
      # {{.Name}}
      { nkey: {{.Key}}, permissions: {
        publish: { allow: {{.Publish}} }
        subscribe: { allow: {{.Subscribe}} }
      } }
      {{- end}}
    ]
    {{- with .Exports}}
    exports: [
      {{- range .}}
      {{.}}
      {{- end}}
    ]
    {{- end}}
    {{- with .Imports}}
    imports: [
      {{- range .}}
      {{.}}
      {{- end}}
    ]
    {{- end}}
  }
{{- end}}
}
`))
