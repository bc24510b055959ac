package process

import (
	"errors"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// settings has one of each type.
type settings struct {
	Common Common
	URL    string
	Secret string
	Mode   string
	Every  time.Duration
	Count  int
	On     bool
	Size   int64
}

func newSettings() (*settings, *Flags) {
	s, fs := new(settings), NewFlags("control", "appends policy events to the log")
	s.Common.Register(fs, "127.0.0.1:7401")
	fs.String(&s.URL, "postgres-url", "VERDICT_POSTGRES_URL", "postgres://u:hunter2@127.0.0.1:7432/db", "`URL` of the data base")
	fs.Secret(&s.Secret, "token", "", "s3cr3t", "token")
	fs.Choice(&s.Mode, "mode", "", "async", "how", "async", "sync")
	fs.Duration(&s.Every, "every", "", 5*time.Second, "how often")
	fs.Int(&s.Count, "count", "", 3, "how many")
	fs.Bool(&s.On, "on", "", false, "whether")
	fs.Bytes(&s.Size, "max-bytes", "", 4<<20, "how large")
	return s, fs
}

func TestDefaults(t *testing.T) {
	t.Parallel()
	s, fs := newSettings()
	if err := fs.Parse(nil, nil); err != nil {
		t.Fatal(err)
	}
	want := &settings{
		Common: Common{
			Addr: "127.0.0.1:7401", LogLevel: "info", LogFormat: "text", ShutdownTimeout: DefaultShutdownTimeout,
			Region: "us-east-1",
		},
		URL: "postgres://u:hunter2@127.0.0.1:7432/db", Secret: "s3cr3t", Mode: "async",
		Every: 5 * time.Second, Count: 3, Size: 4 << 20,
	}
	if diff := cmp.Diff(want, s); diff != "" {
		t.Error(diff)
	}
}

func TestFlagWinsOverEnvironmentWinsOverDefault(t *testing.T) {
	t.Parallel()
	environ := []string{
		"VERDICT_POSTGRES_URL=from-env", "VERDICT_CONTROL_TOKEN=t", "VERDICT_CONTROL_MODE=sync",
		"VERDICT_CONTROL_EVERY=1m", "VERDICT_CONTROL_COUNT=-7", "VERDICT_CONTROL_ON=true", "VERDICT_CONTROL_MAX_BYTES=1GiB",
		"VERDICT_CONTROL_ADDR=", // empty: not set
		"VERDICT_DECISION_WHATEVER=1", "PATH=/bin", "MALFORMED",
	}
	s, fs := newSettings()
	if err := fs.Parse([]string{"--postgres-url", "from-flag", "-count=8", "--on=false", "--max-bytes", "512KiB"}, environ); err != nil {
		t.Fatal(err)
	}
	if s.URL != "from-flag" || s.Count != 8 || s.On || s.Size != 512<<10 {
		t.Errorf("flags did not win: %+v", s)
	}
	if s.Secret != "t" || s.Mode != "sync" || s.Every != time.Minute {
		t.Errorf("environment did not win: %+v", s)
	}
	if s.Common.Addr != "127.0.0.1:7401" {
		t.Errorf("address %q", s.Common.Addr)
	}
	// What a flag replaces is not looked at.
	if _, fs := newSettings(); fs.Parse([]string{"--count=1"}, []string{"VERDICT_CONTROL_COUNT=x"}) != nil {
		t.Error("a variable was read although the flag was given")
	}
}

func TestWrongSettingsAreOneLineThatNamesTheSource(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		args []string
		env  string
		want []string
	}{
		{"unknown flag", []string{"--addrs", "x"}, "", []string{"unknown flag --addrs", "did you mean --addr?", "--help"}},
		{"far from any flag", []string{"--qqqqqqqq"}, "", []string{"unknown flag --qqqqqqqq; --help"}},
		{"unknown flag of one letter", []string{"-z"}, "", []string{"unknown flag --z; --help"}},
		{"argument", []string{"serve"}, "", []string{`unexpected argument "serve"`, "flags only"}},
		{"argument that is a flag", []string{"addr"}, "", []string{`unexpected argument "addr"`, "did you mean --addr?"}},
		{"unknown variable", nil, "VERDICT_CONTROL_ADR=x", []string{"VERDICT_CONTROL_ADR is not a setting", "did you mean VERDICT_CONTROL_ADDR?"}},
		{"number in flag", []string{"--count", "many"}, "", []string{`flag --count: "many" is not a whole number`}},
		{"number in variable", nil, "VERDICT_CONTROL_COUNT=many", []string{`environment variable VERDICT_CONTROL_COUNT: "many" is not a whole number`}},
		{"duration", []string{"--every=10"}, "", []string{`flag --every: "10" is not a duration`, "10s"}},
		{"negative duration", []string{"--every=-1s"}, "", []string{`"-1s" is not a duration`}},
		{"bool", []string{"--on=perhaps"}, "", []string{`flag --on: "perhaps" is neither`}},
		{"bool in variable", nil, "VERDICT_CONTROL_ON=perhaps", []string{`environment variable VERDICT_CONTROL_ON: "perhaps"`}},
		{"size", []string{"--max-bytes", "4 MB"}, "", []string{`flag --max-bytes: "4 MB" is not a size`, "4MiB"}},
		{"size too large", []string{"--max-bytes", "9999999999GiB"}, "", []string{"is not a size"}},
		{"negative size", []string{"--max-bytes", "-1"}, "", []string{"is not a size"}},
		{"choice", []string{"--mode", "asinc"}, "", []string{`flag --mode: "asinc" is none of async, sync`, "did you mean async?"}},
		{"level", nil, "VERDICT_CONTROL_LOG_LEVEL=loud", []string{"VERDICT_CONTROL_LOG_LEVEL", "debug, info, warn, error"}},
		{"account", []string{"--loopback-account", "1"}, "", []string{`flag --loopback-account: "1" is not an account`, "12 digits"}},
		{"account in variable", nil, "VERDICT_CONTROL_LOOPBACK_ACCOUNT=x", []string{"environment variable VERDICT_CONTROL_LOOPBACK_ACCOUNT"}},
		{"half a certificate", []string{"--tls-cert", "x"}, "", []string{"--tls-cert and --tls-key belong together"}},
		{"half a certificate in a variable", nil, "VERDICT_CONTROL_TLS_KEY=x", []string{"--tls-cert and --tls-key belong together"}},
		{"no region", []string{"--region="}, "", []string{"--region (environment VERDICT_REGION) must be set"}},
		{"value missing", []string{"--count"}, "", []string{"count"}},
		{"secret", []string{"--token", "hunter2"}, "", []string{"flag --token", "not shown"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, fs := newSettings()
			fs.Check("token", func(text string) error { return errors.New("bad " + text) })
			err := fs.Parse(tt.args, []string{tt.env})
			if _, ok := errors.AsType[*UsageError](err); !ok {
				t.Fatalf("error %v", err)
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q does not say %q", err, want)
				}
			}
			if strings.Contains(err.Error(), "\n") || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("%q", err)
			}
		})
	}
}

// Kubernetes describes a Service named verdict-control in variables with the prefix of our settings.
func TestVariablesOfKubernetesAreNotSettings(t *testing.T) {
	t.Parallel()
	_, fs := newSettings()
	err := fs.Parse(nil, []string{
		"VERDICT_CONTROL_SERVICE_HOST=10.0.0.1", "VERDICT_CONTROL_SERVICE_PORT=7401", "VERDICT_CONTROL_SERVICE_PORT_HTTP=7401",
		"VERDICT_CONTROL_PORT=tcp://10.0.0.1:7401", "VERDICT_CONTROL_PORT_7401_TCP=tcp://10.0.0.1:7401",
		"VERDICT_CONTROL_PORT_7401_TCP_PROTO=tcp", "VERDICT_CONTROL_PORT_7401_TCP_PORT=7401",
		"VERDICT_CONTROL_PORT_7401_TCP_ADDR=10.0.0.1",
	})
	if err != nil {
		t.Error(err)
	}
	if err := fs.Parse(nil, []string{"VERDICT_CONTROL_PORTS=1"}); err == nil {
		t.Error("any PORT is taken")
	}
}

func TestRequire(t *testing.T) {
	t.Parallel()
	parse := func(def string, args, environ []string) error {
		var url string
		fs := NewFlags("control", "x")
		fs.String(&url, "url", "VERDICT_URL", def, "where to go")
		fs.Require("url")
		return fs.Parse(args, environ)
	}
	if err := parse("", nil, nil); err == nil || !strings.Contains(err.Error(), "--url (environment VERDICT_URL) must be set: where to go") {
		t.Error(err)
	}
	if err := parse("x", []string{"--url="}, nil); err == nil {
		t.Error("empty on purpose is empty too")
	}
	for _, err := range []error{parse("x", nil, nil), parse("", []string{"--url=x"}, nil), parse("", nil, []string{"VERDICT_URL=x"})} {
		if err != nil {
			t.Error(err)
		}
	}
}

func TestHelp(t *testing.T) {
	t.Parallel()
	_, fs := newSettings()
	fs.Require("addr-file")
	err := fs.Parse([]string{"--help"}, nil)
	help, ok := errors.AsType[*HelpRequest](err)
	if !ok {
		t.Fatalf("error %v", err)
	}
	words := regexp.MustCompile(` +`).ReplaceAllString(help.Text, " ")
	for _, want := range []string{
		"control: appends policy events to the log\n",
		" --addr HOST:PORT VERDICT_CONTROL_ADDR 127.0.0.1:7401\n HOST:PORT to listen on",
		" --addr-file FILE VERDICT_CONTROL_ADDR_FILE (must be set)\n",
		" --log-format text|json VERDICT_CONTROL_LOG_FORMAT text\n",
		" --on VERDICT_CONTROL_ON false\n",
		" --max-bytes SIZE VERDICT_CONTROL_MAX_BYTES 4MiB\n",
		"postgres://u:xxxxx@127.0.0.1:7432/db\n",
		"(hidden)\n",
	} {
		if !strings.Contains(words, want) {
			t.Errorf("no %q in\n%s", want, help.Text)
		}
	}
	if strings.Contains(help.Text, "hunter2") || strings.Contains(help.Text, "s3cr3t") {
		t.Error("a secret in the help")
	}
	column := strings.Index(help.Text[strings.Index(help.Text, "  FLAG"):], "ENVIRONMENT")
	for line := range strings.Lines(help.Text) {
		if at := strings.Index(line, "VERDICT_"); strings.HasPrefix(line, "  --") && at != column {
			t.Errorf("the variable is in column %d, not %d: %s", at, column, line)
		}
	}
}

func TestSettingsMustDiffer(t *testing.T) {
	t.Parallel()
	for name, twice := range map[string]func(*Flags, *string){
		"flag":     func(fs *Flags, s *string) { fs.String(s, "addr", "OTHER", "", "x") },
		"variable": func(fs *Flags, s *string) { fs.String(s, "other", "VERDICT_CONTROL_ADDR", "", "x") },
		"check":    func(fs *Flags, _ *string) { fs.Check("nothing", nil) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s twice", name)
				}
			}()
			_, fs := newSettings()
			twice(fs, new(string))
		}()
	}
}

func TestBytes(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int64{"0": 0, "17": 17, "17B": 17, "3KiB": 3072, "1 MiB": 1 << 20, "8GiB": 8 << 30} {
		if got, ok := parseBytes(text); !ok || got != want {
			t.Errorf("%s is %d, %t", text, got, ok)
		}
	}
	for n, want := range map[int64]string{0: "0", 17: "17", 1025: "1025", 3072: "3KiB", 5 << 30: "5GiB"} {
		if got := formatBytes(n); got != want {
			t.Errorf("%d is shown as %s", n, got)
		}
	}
}
