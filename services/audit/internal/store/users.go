package store

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"regexp"
	"text/template"

	"github.com/verdict-io/verdict/services/internal/identity"
)

// AuditUser is the ClickHouse user that inserts decisions and finds them.
const AuditUser = "verdict_audit"

// AccountUser is the ClickHouse user that an account's own SQL runs as.
func AccountUser(account string) string { return "account_" + account }

// MinSecret is the least length of a secret, in bytes.
const MinSecret = 32

// Password is the password of a ClickHouse user.
func Password(secret []byte, user string) string {
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(user))
	return hex.EncodeToString(mac.Sum(nil))
}

// tables are those of the migrations, and who may do what with them.
var tables = []struct {
	Name    string
	Audit   string // the rights of AuditUser
	account bool   // accounts read their own rows
}{
	{"decisions", "SELECT, INSERT", true},
	{"rejects", "SELECT, INSERT", false},
	{"ingest_progress", "SELECT, INSERT", false},
	{versionTable, "SELECT", false},
}

// databaseName is what needs no quotes, neither in SQL nor as an element of XML.
var databaseName = regexp.MustCompile(`^[a-z_][a-z0-9_]{0,63}$`)

// WriteUsers writes the users.xml of a ClickHouse whose databases hold decisions of these accounts: user default, who may do
// everything, from this machine only and without a password; AuditUser; and a user for each account, who may read the rows of
// the account in these databases, within limits.
func WriteUsers(w io.Writer, secret []byte, accounts, databases []string) error {
	if len(secret) < MinSecret {
		return fmt.Errorf("the secret has %d bytes, %d are the least", len(secret), MinSecret)
	}
	if len(accounts) == 0 || len(databases) == 0 {
		return errors.New("no accounts, or no databases")
	}
	for _, a := range accounts {
		if err := identity.ValidAccount(a); err != nil {
			return err
		}
	}
	for _, d := range databases {
		if !databaseName.MatchString(d) {
			return fmt.Errorf("%q is no name of a database: it needs 1 to 64 characters of [a-z0-9_], no digit first", d)
		}
	}
	return usersTemplate.Execute(w, map[string]any{
		"Accounts": accounts, "Databases": databases, "Tables": tables, "Audit": AuditUser, "Own": owned(), "Hidden": hidden,
		"Hash": func(user string) string {
			sum := sha256.Sum256([]byte(Password(secret, user)))
			return hex.EncodeToString(sum[:])
		},
		"User": AccountUser,
	})
}

// hidden are tables of database system that ClickHouse shows to everybody, and that say more of a table than its columns.
var hidden = []string{"tables", "columns", "databases", "completions"}

// owned are the tables of which accounts read their own rows.
func owned() []string {
	var out []string
	for _, t := range tables {
		if t.account {
			out = append(out, t.Name)
		}
	}
	return out
}

var usersTemplate = template.Must(template.New("users.xml").Parse(`<clickhouse>
  <!-- Written by "verdict clickhouse-users"; ClickHouse reads it when it starts. -->
  <profiles>
    <default/>
    <verdict_audit>
      <async_insert>0</async_insert>
    </verdict_audit>
    <!-- readonly 1: a query cannot change any of these. -->
    <verdict_account>
      <readonly>1</readonly>
      <allow_ddl>0</allow_ddl>
      <max_execution_time>30</max_execution_time>
      <timeout_overflow_mode>throw</timeout_overflow_mode>
      <max_threads>4</max_threads>
      <max_concurrent_queries_for_user>8</max_concurrent_queries_for_user>
      <max_memory_usage>1073741824</max_memory_usage>
      <max_memory_usage_for_user>2147483648</max_memory_usage_for_user>
      <max_temporary_data_on_disk_size_for_user>4294967296</max_temporary_data_on_disk_size_for_user>
      <max_query_size>262144</max_query_size>
      <max_result_rows>100000</max_result_rows>
      <max_result_bytes>104857600</max_result_bytes>
      <result_overflow_mode>throw</result_overflow_mode>
      <!-- As text: of JSON with many paths audit's client would read a part, and take the rest for the server's next words. -->
      <output_format_native_write_json_as_string>1</output_format_native_write_json_as_string>
    </verdict_account>
  </profiles>
  <quotas>
    <default/>
  </quotas>
  <users>
    <!-- The owner, without a password: for a server of one's own on this machine. Elsewhere, replace it. -->
    <default>
      <password></password>
      <networks>
        <ip>127.0.0.1</ip>
        <ip>::1</ip>
      </networks>
      <profile>default</profile>
      <quota>default</quota>
      <access_management>1</access_management>
    </default>
    <{{.Audit}}>
      <password_sha256_hex>{{call .Hash .Audit}}</password_sha256_hex>
      <networks>
        <ip>::/0</ip>
      </networks>
      <profile>verdict_audit</profile>
      <quota>default</quota>
      <grants>
        <query>GRANT SELECT ON system.processes</query>
        <query>GRANT KILL QUERY ON *.*</query>
{{- range $d := .Databases}}{{range $.Tables}}
        <query>GRANT {{.Audit}} ON {{$d}}.{{.Name}}</query>
{{- end}}{{end}}
      </grants>
    </{{.Audit}}>
{{- range $a := .Accounts}}
    <{{call $.User $a}}>
      <password_sha256_hex>{{call $.Hash (call $.User $a)}}</password_sha256_hex>
      <networks>
        <ip>::/0</ip>
      </networks>
      <profile>verdict_account</profile>
      <quota>default</quota>
      <grants>
{{- range $d := $.Databases}}{{range $.Own}}
        <query>GRANT SELECT ON {{$d}}.{{.}}</query>
{{- end}}{{end}}
      </grants>
      <databases>
{{- range $d := $.Databases}}
        <{{$d}}>
{{- range $.Own}}
          <{{.}}>
            <filter>account = '{{$a}}'</filter>
          </{{.}}>
{{- end}}
        </{{$d}}>
{{- end}}
        <!-- What else these tell of a table: its size, all accounts together, and where it is on the disk. -->
        <system>
{{- range $.Hidden}}
          <{{.}}>
            <filter>0</filter>
          </{{.}}>
{{- end}}
        </system>
      </databases>
    </{{call $.User $a}}>
{{- end}}
  </users>
</clickhouse>
`))
