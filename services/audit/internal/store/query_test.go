package store_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/verdict-io/verdict/services/audit/internal/store"
	"github.com/verdict-io/verdict/services/internal/stream"
	"github.com/verdict-io/verdict/services/internal/testenv"
)

// twoAccounts is a store that holds three decisions of account A and five of account B, rejects and progress.
func twoAccounts(t *testing.T) (*store.Store, testenv.ClickHouse) {
	t.Helper()
	ch := testenv.NewClickHouse(t, migrate)
	s := open(t, ch)
	if ch.SecretFile == "" {
		t.Fatalf("%s is not set: accounts need users in ClickHouse; run the tests with `make test`", testenv.ClickHouseSecretVariable)
	}
	b := block(1)
	for seq := range uint64(3) {
		b.Rows = append(b.Rows, block(1, decided(stream.Boot{1}, seq+1, accountA)).Rows...)
	}
	for seq := range uint64(5) {
		b.Rows = append(b.Rows, block(1, decided(stream.Boot{2}, seq+1, accountB)).Rows...)
	}
	b.Rejects = []store.Reject{{Sequence: 1, StoredAt: storedAt, Reason: "junk", Data: []byte{0xff}}}
	if err := s.Insert(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	if err := s.SaveProgress(t.Context(), store.Progress{Epoch: 1, StreamID: "s"}); err != nil {
		t.Fatal(err)
	}
	return s, ch
}

// ask is the answer to SQL, a line for each row.
func ask(ctx context.Context, s *store.Store, account, sql string) (string, error) {
	var lines []string
	err := s.Query(ctx, account, sql, func([]store.Column) error { return nil }, func(row []any) error {
		lines = append(lines, strings.TrimSuffix(fmt.Sprintln(row...), "\n"))
		return nil
	})
	return strings.Join(lines, "\n"), err
}

// connect is ClickHouse itself, as one of its users, without what Query does before.
func connect(t *testing.T, ch testenv.ClickHouse, user string) driver.Conn {
	t.Helper()
	options, err := clickhouse.ParseDSN(ch.URL)
	if err != nil {
		t.Fatal(err)
	}
	if user != "" {
		options.Auth.Username, options.Auth.Password = user, store.Password(secretOf(t, ch), user)
	}
	conn, err := clickhouse.Open(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// An account's own rows are all that its SQL can be about, however it is written.
func TestQuerySeesOwnRows(t *testing.T) {
	t.Parallel()
	s, ch := twoAccounts(t)
	for _, test := range []struct{ sql, want string }{
		{"SELECT count() FROM decisions", "3"},
		{"SELECT count() FROM " + ch.Database + ".decisions", "3"},
		{"SELECT count() FROM decisions WHERE account = '" + accountB + "'", "0"},
		{"SELECT DISTINCT account FROM decisions", accountA},
		{"SELECT count() FROM (SELECT * FROM decisions) AS d JOIN decisions AS e ON d.boot = e.boot", "9"},
		{"SELECT sum(given_out), max(given_out), min(stored_at) = max(stored_at) FROM decisions", "6 3 1"},
		{"SELECT count() FROM merge(currentDatabase(), '.*')", "3"},
		{"SELECT count() FROM merge('" + ch.Database + "', 'dec.*') WHERE _table = 'decisions'", "3"},
		{"SELECT count() FROM decisions WHERE throwIf(account != '" + accountA + "') = 0", "3"},
		{"SELECT count() FROM decisions PREWHERE throwIf(account != '" + accountA + "') = 0", "3"},
		{"WITH d AS (SELECT * FROM decisions) SELECT count() FROM d UNION ALL SELECT count() FROM decisions", "3\n3"},
		{"SELECT 1 WHERE exists(SELECT 1 FROM decisions WHERE account = '" + accountB + "')", ""},
		{"SELECT count() FROM viewIfPermitted(SELECT data FROM rejects ELSE null('data String'))", "0"},
		{"FROM decisions SELECT count()", "3"},
		{"SELECT currentUser()", "account_" + accountA},
		{"SELECT name, total_rows FROM system.tables", ""},
		{"SELECT name FROM system.columns", ""},
		{"SELECT data_path FROM system.databases", ""},
		{"SELECT 'file', '`file`', 'eval(x)' -- file(1)", "file `file` eval(x)"},
		{"SELECT number FROM numbers(2);", "0\n1"},
	} {
		got, err := ask(t.Context(), s, accountA, test.sql)
		if err != nil || got != test.want {
			t.Errorf("%s: %q, %v; want %q", test.sql, got, err, test.want)
		}
	}
	if got, err := ask(t.Context(), s, accountB, "SELECT count() FROM decisions"); err != nil || got != "5" {
		t.Errorf("account B: %q, %v; want 5", got, err)
	}
	if got, err := ask(t.Context(), s, accountA, "DESCRIBE TABLE decisions"); err != nil || !strings.Contains(got, "decision_id") {
		t.Errorf("describe: %q, %v", got, err)
	}
}

// forbidden are statements that ClickHouse itself refuses an account's user.
var forbidden = []string{
	"INSERT INTO decisions (account) SELECT 'x'",
	"INSERT INTO decisions (account) VALUES ('x')",
	"INSERT INTO FUNCTION file('/tmp/verdict-x', 'CSV', 'a String') SELECT 'x'",
	"CREATE TABLE x (a UInt8) ENGINE = Memory",
	"CREATE TEMPORARY TABLE x (a UInt8)",
	"CREATE VIEW x AS SELECT * FROM decisions",
	"CREATE FUNCTION f AS (x) -> x",
	"DROP TABLE decisions",
	"TRUNCATE TABLE decisions",
	"ALTER TABLE decisions DELETE WHERE 1",
	"ALTER TABLE decisions UPDATE reason = '' WHERE 1",
	"DELETE FROM decisions WHERE 1",
	"OPTIMIZE TABLE decisions",
	"RENAME TABLE decisions TO d",
	"KILL QUERY WHERE 1",
	"SYSTEM FLUSH LOGS",
	"SYSTEM SHUTDOWN",
	"BACKUP TABLE decisions TO Disk('x', 'y')",
	"GRANT SELECT ON *.* TO verdict_audit",
	"SET max_execution_time = 0",
	"SELECT 1 SETTINGS max_execution_time = 0",
	"SELECT count() FROM decisions SETTINGS max_result_rows = 0, readonly = 0",
	"SELECT 1 SETTINGS additional_table_filters = {'decisions': '1'}",
	"SELECT 1; SELECT 2",
	"SELECT * FROM rejects",
	"SELECT * FROM ingest_progress",
	"SELECT * FROM goose_db_version",
	"SELECT count() FROM merge(currentDatabase(), 'rejects')",
	"SELECT * FROM system.processes",
	"SELECT * FROM system.parts",
	"SELECT * FROM system.users",
	"SELECT * FROM system.row_policies",
	"SELECT * FROM system.server_settings",
	"SELECT * FROM system.stack_trace",
	"SELECT * FROM information_schema.tables",
	"SELECT * FROM file('/etc/passwd', 'LineAsString')",
	"SELECT * FROM url('http://127.0.0.1:1/x', 'CSV', 'a String')",
	"SELECT * FROM s3('http://127.0.0.1:1/bucket/x', 'CSV', 'a String')",
	"SELECT * FROM remote('127.0.0.1', currentDatabase(), 'rejects')",
	"SELECT * FROM executable('x.sh', 'CSV', 'a String')",
	"SELECT * FROM dictionary('x')",
	"SELECT * FROM mysql('127.0.0.1:1', 'a', 'b', 'c', 'd')",
	"SELECT * FROM postgresql('127.0.0.1:1', 'a', 'b', 'c', 'd')",
	"SELECT * FROM sqlite('/tmp/x', 'y')",
	"SELECT * FROM filesystem('/etc')",
	"SELECT * FROM icebergLocal('/tmp/x')",
	"SELECT * FROM loop(currentDatabase(), 'decisions') LIMIT 1",
	"SELECT * FROM format(CSV, 'a UInt8', '1')",
	"SELECT * FROM eval('SELECT 1')",
	"SELECT * FROM (EXPLAIN indexes = 1 SELECT * FROM decisions)",
	"SELECT dictGet('x', 'y', 1)",
	"SELECT catboostEvaluate('/etc/passwd', 1.0)",
}

// What ClickHouse refuses must not hang on what audit does before: each statement goes to ClickHouse as it is.
func TestClickHouseRefuses(t *testing.T) {
	t.Parallel()
	_, ch := twoAccounts(t)
	conn := connect(t, ch, store.AccountUser(accountA))
	for _, sql := range forbidden {
		rows, err := conn.Query(t.Context(), sql)
		if err == nil {
			for rows.Next() {
			}
			err = rows.Err()
			rows.Close()
		}
		if _, answered := errors.AsType[*clickhouse.Exception](err); !answered {
			t.Errorf("%s: %v; want ClickHouse's refusal", sql, err)
		}
	}
}

func TestQueryRefuses(t *testing.T) {
	t.Parallel()
	s, _ := twoAccounts(t)
	refused := func(sql string, kinds ...error) {
		_, err := ask(t.Context(), s, accountA, sql)
		q, ok := errors.AsType[*store.QueryError](err)
		if !ok || !slices.Contains(kinds, q.Kind) {
			t.Errorf("%.100q: %v; want a QueryError of %v", sql, err, kinds)
			return
		}
		for _, internal := range []string{"DB::Exception", "version 26", "Stack trace", "account_", accountB} {
			if strings.Contains(err.Error(), internal) {
				t.Errorf("%.100q: the answer tells %s: %v", sql, internal, err)
			}
		}
	}
	for _, sql := range forbidden {
		refused(sql, store.ErrDenied, store.ErrSQL)
	}
	for _, sql := range []string{ // ClickHouse would answer these
		"SELECT file('/etc/passwd')",
		"SELECT file /* */ ( '/etc/passwd' )",
		"SELECT `file`('/etc/passwd')",
		`SELECT "file"('/etc/passwd')`,
		"SELECT `f\\x69le`('/etc/passwd')",
		"SELECT arrayMap(file, ['/etc/passwd'])",
		"SELECT * APPLY file FROM (SELECT '/etc/passwd')",
		"SELECT COLUMNS('x') APPLY(x -> file(x)) FROM (SELECT '/etc/passwd' AS x)",
		"WITH (x -> file(x)) AS f SELECT f($$/etc/passwd$$)",
		"SELECT 1 WHERE file('/etc/passwd') != ''",
		"SELECT count() FROM decisions WHERE action_id IN (SELECT file('/etc/passwd'))",
		"DESCRIBE TABLE (SELECT file('/etc/passwd'))",
		"SELECT * FROM mergeTreeIndex(currentDatabase(), 'decisions')",
		"SELECT * FROM MERGETREEINDEX(currentDatabase(), 'decisions')",
		"SELECT * FROM mergeTreeAnalyzeIndexes(currentDatabase(), decisions)",
		"SELECT max(_part_offset) FROM decisions", // of account B it counts A's rows too
		"SELECT d.`_part_offset` FROM decisions AS d",
		"SELECT _PART FROM decisions",
		"SELECT any(_block_number) FROM decisions",
		"SELECT * FROM (SELECT 1 SETTINGS max_memory_usage = 0)",
		"SELECT * FROM (SELECT * FROM eval('SELECT 1') SETTINGS allow_experimental_eval_table_function = 1)",
		"(SELECT 1 SETTINGS max_memory_usage = 0) UNION ALL SELECT 1",
		"WITH a AS (SELECT 1 /**/settings\nmax_threads=99) SELECT * FROM a",
		"SELECT 1 INTO OUTFILE '/tmp/verdict-x'",
		"EXPLAIN ESTIMATE SELECT * FROM decisions",
		"EXPLAIN indexes = 1 SELECT * FROM decisions",
		"SHOW GRANTS",
		"SHOW CREATE TABLE decisions",
		"USE default",
		"SET ROLE DEFAULT",
	} {
		refused(sql, store.ErrDenied)
	}
	for _, sql := range []string{
		"", ";", "SELEC 1", "SELECT", "SELECT nothing FROM decisions", "SELECT * FROM nowhere", "SELECT 1 +", "SELECT '", "SELECT /*",
		"SELECT \x00", "SELECT '\xff' + 1", "SELECT (((((((", strings.Repeat("(", 100_000), "SELECT throwIf(1, 'x')",
		"SELECT " + strings.Repeat("1+", 120_000) + "1",
		"SELECT tuple()", "SELECT sumState(1)", "SELECT ('{\"x\":[{\"y\":1}]}'::JSON).x", // which the client library cannot read
		"SELECT '" + strings.Repeat("x", 10<<20) + "'",
	} {
		refused(sql, store.ErrSQL, store.ErrLimit)
	}
	for _, sql := range []string{
		"SELECT number FROM numbers(1000000)",
		"SELECT repeat('x', 1000000) FROM numbers(1000)",
		"SELECT groupArray(number) FROM numbers(1000000000)",
	} {
		refused(sql, store.ErrLimit)
	}
	if _, err := ask(t.Context(), s, "333333333333", "SELECT 1"); !errors.Is(err, store.ErrNoUser) {
		t.Errorf("an account that audit was not told of: %v", err)
	}
}

// Whatever tables there are or will be, an account sees its own rows of them or nothing. What ClickHouse shows everybody, and
// what says nothing of anybody, is listed.
func TestNoTableWithoutFilter(t *testing.T) {
	t.Parallel()
	_, ch := twoAccounts(t)
	harmless := []string{
		"aggregate_function_combinators", "collations", "contributors", "current_roles", "data_type_families", "database_engines",
		"dictionary_layouts", "disk_types", "enabled_roles", "formats", "functions", "licenses", "one", "privileges", "quota_usage",
		"settings", "table_engines", "table_functions", "time_zones",
	}
	owner, account := connect(t, ch, ""), connect(t, ch, store.AccountUser(accountA))
	rows, err := owner.Query(t.Context(), "SELECT database, name FROM system.tables WHERE database IN ('system', 'default', 'information_schema', 'INFORMATION_SCHEMA', $1)", ch.Database)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	seen := map[string]bool{}
	for rows.Next() {
		var database, name string
		if err := rows.Scan(&database, &name); err != nil {
			t.Fatal(err)
		}
		var visible, all uint64
		table := "`" + database + "`.`" + name + "`"
		if account.QueryRow(t.Context(), "SELECT count() FROM "+table).Scan(&visible) != nil || database == "system" && visible == 0 {
			continue
		}
		seen[database+"."+name] = true
		if database == "system" && slices.Contains(harmless, name) {
			continue
		}
		if err := owner.QueryRow(t.Context(), "SELECT count() FROM "+table).Scan(&all); err != nil {
			t.Fatal(err)
		}
		if visible >= all {
			t.Errorf("account %s reads all %d rows of %s: give it a row filter (users.go), and this test rows of two accounts", accountA, all, table)
		}
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	if !seen[ch.Database+".decisions"] || !seen["system.one"] {
		t.Errorf("the account reads %v; the test looked at the wrong place", seen)
	}
}

// A caller who goes away leaves no query behind.
func TestQueryEndsWithItsContext(t *testing.T) {
	t.Parallel()
	s, ch := twoAccounts(t)
	owner := connect(t, ch, "")
	running := func() (n uint64) {
		err := owner.QueryRow(t.Context(), "SELECT count() FROM system.processes WHERE user = $1 AND current_database = $2",
			store.AccountUser(accountA), ch.Database).Scan(&n)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() {
		_, err := ask(ctx, s, accountA, "SELECT count() FROM numbers(1000000000000) WHERE NOT ignore(sipHash64(number))")
		done <- err
	}()
	testenv.Eventually(t, "the query", func() error {
		if running() == 0 {
			return errors.New("does not run yet")
		}
		return nil
	})
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	testenv.Eventually(t, "the query's end on the server", func() error {
		if running() > 0 {
			return errors.New("it still runs")
		}
		return nil
	})
	if got, err := ask(t.Context(), s, accountA, "SELECT 1"); err != nil || got != "1" {
		t.Errorf("after it: %q, %v", got, err)
	}
}
