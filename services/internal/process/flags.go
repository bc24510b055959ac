package process

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Flags are the settings of a service. Each is a flag with an environment variable behind it and a default behind
// that. Register them with the methods named after types, then Parse.
//
// In these methods, name is the flag's name without dashes; env the variable's, where "" stands for
// VERDICT_<SERVICE>_<NAME>; usage one line in which a word between backquotes is the value's name in the help.
// Registering a name or a variable twice panics.
type Flags struct {
	service  string
	summary  string
	set      *flag.FlagSet
	settings []*setting
	required []string
	together [][2]string
}

// setting is one of Flags, and the flag.Value through which package flag sets it.
type setting struct {
	name, env string
	value     string // what the help calls a value: DURATION
	usage     string
	def       string // as the help shows it
	isBool    bool
	secret    bool
	empty     bool // its value is ""
	parse     func(string) error
	check     func(string) error // may be nil
	bad       error              // what Set found, since package flag keeps only its text
}

// String is part of flag.Value. It is not used for the help.
func (s *setting) String() string { return "" }

// IsBoolFlag lets --name stand for --name=true.
func (s *setting) IsBoolFlag() bool { return s.isBool }

// Set is part of flag.Value.
func (s *setting) Set(text string) error {
	s.bad = s.parse(text)
	if s.bad == nil && s.check != nil {
		s.bad = s.check(text)
	}
	if s.bad != nil && s.secret {
		s.bad = errors.New("the value is not valid (it is not shown, being a secret)")
	}
	s.empty = text == ""
	return s.bad
}

// NewFlags are the settings of a service, say "control"; summary is the first line of its help.
func NewFlags(service, summary string) *Flags {
	set := flag.NewFlagSet(service, flag.ContinueOnError)
	set.SetOutput(io.Discard) // errors and help are returned, not printed
	set.Usage = func() {}
	return &Flags{service: service, summary: summary, set: set}
}

// prefix begins the variables that belong to this service alone.
func (f *Flags) prefix() string {
	return "VERDICT_" + strings.ToUpper(strings.ReplaceAll(f.service, "-", "_")) + "_"
}

func (f *Flags) add(s *setting) {
	if s.env == "" {
		s.env = f.prefix() + strings.ToUpper(strings.ReplaceAll(s.name, "-", "_"))
	}
	if slices.ContainsFunc(f.settings, func(o *setting) bool { return o.env == s.env }) {
		panic("two settings take " + s.env)
	}
	if before, rest, ok := strings.Cut(s.usage, "`"); ok {
		if name, after, ok := strings.Cut(rest, "`"); ok {
			s.value, s.usage = name, before+name+after
		}
	}
	s.empty = s.def == ""
	f.set.Var(s, s.name, s.usage)
	f.settings = append(f.settings, s)
}

// String is a text. In the help a password within a URL is masked.
func (f *Flags) String(dst *string, name, env, def, usage string) {
	*dst = def
	shown := def
	if u, err := url.Parse(def); err == nil && u.User != nil {
		shown = u.Redacted()
	}
	f.add(&setting{name: name, env: env, value: "TEXT", usage: usage, def: shown, parse: func(text string) error {
		*dst = text
		return nil
	}})
}

// Secret is a text that neither the help nor an error shows. A default that is a URL without a user is no secret.
func (f *Flags) Secret(dst *string, name, env, def, usage string) {
	f.String(dst, name, env, def, usage)
	s := f.settings[len(f.settings)-1]
	s.secret = true
	if u, err := url.Parse(def); def != "" && (err != nil || u.Host == "" || u.User != nil) {
		s.def = "(hidden)"
	}
}

// Choice is one of the texts in of.
func (f *Flags) Choice(dst *string, name, env, def, usage string, of ...string) {
	*dst = def
	f.add(&setting{name: name, env: env, value: strings.Join(of, "|"), usage: usage, def: def, parse: func(text string) error {
		if !slices.Contains(of, text) {
			return fmt.Errorf("%q is none of %s%s", clip(text), strings.Join(of, ", "), didYouMean(text, "", of))
		}
		*dst = text
		return nil
	}})
}

// Duration is a time as Go writes it, 1m30s, and not negative.
func (f *Flags) Duration(dst *time.Duration, name, env string, def time.Duration, usage string) {
	*dst = def
	f.add(&setting{name: name, env: env, value: "DURATION", usage: usage, def: def.String(), parse: func(text string) error {
		d, err := time.ParseDuration(text)
		if err != nil || d < 0 {
			return fmt.Errorf("%q is not a duration, such as 500ms, 10s or 5m", clip(text))
		}
		*dst = d
		return nil
	}})
}

// Int is a whole number.
func (f *Flags) Int(dst *int, name, env string, def int, usage string) {
	*dst = def
	f.add(&setting{name: name, env: env, value: "NUMBER", usage: usage, def: strconv.Itoa(def), parse: func(text string) error {
		n, err := strconv.Atoi(text)
		if err != nil {
			return fmt.Errorf("%q is not a whole number", clip(text))
		}
		*dst = n
		return nil
	}})
}

// Bool is true or false; the flag alone means true.
func (f *Flags) Bool(dst *bool, name, env string, def bool, usage string) {
	*dst = def
	f.add(&setting{name: name, env: env, isBool: true, usage: usage, def: strconv.FormatBool(def), parse: func(text string) error {
		b, err := strconv.ParseBool(text)
		if err != nil {
			return fmt.Errorf("%q is neither true nor false", clip(text))
		}
		*dst = b
		return nil
	}})
}

// Bytes is a size: a number of bytes, or of KiB, MiB or GiB. It is not negative.
func (f *Flags) Bytes(dst *int64, name, env string, def int64, usage string) {
	*dst = def
	f.add(&setting{name: name, env: env, value: "SIZE", usage: usage, def: formatBytes(def), parse: func(text string) error {
		n, ok := parseBytes(text)
		if !ok {
			return fmt.Errorf("%q is not a size, such as 65536, 512KiB, 4MiB or 2GiB", clip(text))
		}
		*dst = n
		return nil
	}})
}

// Check adds a condition to the setting of that name, for values from flag or environment; defaults are trusted.
func (f *Flags) Check(name string, check func(text string) error) {
	for _, s := range f.settings {
		if s.name == name {
			s.check = check
			return
		}
	}
	panic("no setting " + name)
}

// Between is a Check that a whole number is within bounds, both included.
func (f *Flags) Between(name string, least, most int) {
	f.Check(name, func(text string) error {
		if n, err := strconv.Atoi(text); err != nil || n < least || n > most {
			return fmt.Errorf("it must be %d to %d", least, most)
		}
		return nil
	})
}

// Require makes Parse refuse to go on while one of the named settings is empty.
func (f *Flags) Require(names ...string) { f.required = append(f.required, names...) }

// Together makes Parse refuse one of two settings without the other.
func (f *Flags) Together(one, other string) { f.together = append(f.together, [2]string{one, other}) }

// UsageError says in one line which flag or variable is wrong, and how.
type UsageError struct{ text string }

func (e *UsageError) Error() string { return e.text }

// Usagef is a *UsageError with a text for whoever typed the command.
func Usagef(format string, args ...any) error {
	return &UsageError{text: fmt.Sprintf(format, args...)}
}

// HelpRequest is the "error" of Parse when the arguments ask for help.
type HelpRequest struct {
	Text string // the help
}

func (e *HelpRequest) Error() string { return "help requested" }

// Parse gives every setting its value: from args, else from environ ("NAME=value"), else its default. An empty
// variable counts as not set. Anything not understood is a *UsageError; a *HelpRequest carries the help.
func (f *Flags) Parse(args, environ []string) error {
	if err := f.parseArgs(args); err != nil {
		return err
	}
	env := map[string]string{}
	for _, entry := range environ {
		if name, value, ok := strings.Cut(entry, "="); ok && value != "" {
			env[name] = value
		}
	}
	if err := f.unknownVariable(env); err != nil {
		return err
	}
	given := map[string]bool{}
	f.set.Visit(func(fl *flag.Flag) { given[fl.Name] = true })
	for _, s := range f.settings {
		value, ok := env[s.env]
		if !ok || given[s.name] {
			continue
		}
		if err := s.Set(value); err != nil {
			return Usagef("environment variable %s: %v", s.env, err)
		}
	}
	return f.missing()
}

func (f *Flags) parseArgs(args []string) error {
	err := f.set.Parse(args)
	if errors.Is(err, flag.ErrHelp) {
		return &HelpRequest{Text: f.Help()}
	}
	names := make([]string, 0, len(f.settings))
	for _, s := range f.settings {
		if s.bad != nil {
			return Usagef("flag --%s: %v", s.name, s.bad)
		}
		names = append(names, s.name)
	}
	if err != nil {
		// Package flag has no type for this error; its text is pinned by a test here.
		if name, ok := strings.CutPrefix(err.Error(), "flag provided but not defined: -"); ok {
			return Usagef("unknown flag --%s%s; --help lists all", clip(name), didYouMean(name, "--", names))
		}
		return Usagef("%v", err)
	}
	if rest := f.set.Args(); len(rest) > 0 {
		return Usagef("unexpected argument %q%s; %s takes flags only, --help lists them",
			clip(rest[0]), didYouMean(rest[0], "--", names), f.service)
	}
	return nil
}

// serviceLink matches, behind the prefix, the variables that Kubernetes sets in every pod for a Service named
// verdict-<service>. They are not meant as settings.
var serviceLink = regexp.MustCompile(`^(SERVICE_HOST|SERVICE_PORT(_.+)?|PORT(_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)$`)

func (f *Flags) unknownVariable(env map[string]string) error {
	known := make([]string, 0, len(f.settings))
	for _, s := range f.settings {
		known = append(known, s.env)
	}
	for _, name := range slices.Sorted(maps.Keys(env)) {
		rest, ours := strings.CutPrefix(name, f.prefix())
		if !ours || slices.Contains(known, name) || serviceLink.MatchString(rest) {
			continue
		}
		return Usagef("environment variable %s is not a setting of %s%s; --help lists all",
			clip(name), f.service, didYouMean(name, "", known))
	}
	return nil
}

func (f *Flags) missing() error {
	empty := map[string]bool{}
	for _, s := range f.settings {
		empty[s.name] = s.empty
		if slices.Contains(f.required, s.name) && s.empty {
			return Usagef("--%s (environment %s) must be set: %s", s.name, s.env, s.usage)
		}
	}
	for _, pair := range f.together {
		if empty[pair[0]] != empty[pair[1]] {
			return Usagef("--%s and --%s belong together: set both, or neither", pair[0], pair[1])
		}
	}
	return nil
}

var byteUnits = []struct {
	name string
	size int64
}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}, {"", 1}}

func parseBytes(text string) (int64, bool) {
	for _, unit := range byteUnits {
		digits, ok := strings.CutSuffix(text, unit.name)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(digits), 10, 64)
		if err != nil || n < 0 || n > (1<<63-1)/unit.size {
			return 0, false
		}
		return n * unit.size, true
	}
	return 0, false
}

func formatBytes(n int64) string {
	for _, unit := range byteUnits {
		if n != 0 && n%unit.size == 0 && unit.size > 1 {
			return strconv.FormatInt(n/unit.size, 10) + unit.name
		}
	}
	return strconv.FormatInt(n, 10)
}
