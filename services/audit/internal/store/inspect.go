package store

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/ClickHouse/clickhouse-go/v2"
)

// MaxSQL is the longest SQL that is taken, in bytes. It is also what ClickHouse takes by default.
const MaxSQL = 256 << 10

// inspect refuses what is no SELECT, and the few functions of ClickHouse that reach past users, grants and row filters (each was
// tried with an account's user):
//
//   - file('/etc/passwd') as a scalar function asks for no right. A server reads below its user_files only, the library of the
//     development server reads everything, other accounts' data and the secret of the passwords included.
//   - mergeTreeIndex and its kin show the primary keys of all accounts.
//   - eval runs what a string says, which nobody has inspected. It is experimental and off, but for the next.
//   - _part_offset and its kin, columns that every table has, count the rows of all accounts.
//   - SETTINGS of a subquery change settings that readonly=1 protects.
//
// It is ClickHouse that parses: the text is brought into ClickHouse's own form, in which names are written plainly and comments
// and clever quoting are gone.
func (s *Store) inspect(ctx context.Context, sql string) error {
	if len(sql) > MaxSQL {
		return &QueryError{Kind: ErrSQL, Message: fmt.Sprintf("the SQL has %d bytes, and %d are the most", len(sql), MaxSQL)}
	}
	ctx = clickhouse.Context(ctx, clickhouse.WithSettings(clickhouse.Settings{"max_query_size": 4 * MaxSQL}))
	var plain string
	if err := s.conn.QueryRow(ctx, "SELECT formatQuerySingleLine($1)", sql).Scan(&plain); err != nil {
		return queryError(err)
	}
	words := wordsOf(plain)
	if len(words) == 0 || !slices.Contains(statements, words[0]) {
		return &QueryError{Kind: ErrDenied, Message: "only SELECT is allowed, and DESCRIBE TABLE, which tells the columns"}
	}
	for _, w := range words {
		switch w = strings.ToLower(w); {
		case w == "settings" || w == "outfile":
			return &QueryError{Kind: ErrDenied, Message: strings.ToUpper(w) + " is not allowed"}
		case strings.HasPrefix(w, "_part") || strings.HasPrefix(w, "_block"):
			return &QueryError{Kind: ErrDenied, Message: fmt.Sprintf("the column %s is not allowed; if that is the name of something else, choose another", w)}
		case w == "file" || w == "eval" || strings.HasPrefix(w, "mergetree"):
			return &QueryError{Kind: ErrDenied, Message: fmt.Sprintf("the function %s is not allowed; if that is the name of something else, choose another", w)}
		}
	}
	return nil
}

// statements are what a query may begin with, once it is in ClickHouse's own form.
var statements = []string{"SELECT", "WITH", "DESCRIBE"}

// wordsOf are the words of SQL in ClickHouse's own form that are not in a string: keywords, names of functions, and names in quotes.
func wordsOf(sql string) []string {
	var words []string
	for i := 0; i < len(sql); {
		switch c := sql[i]; {
		case c == '\'':
			i = endOfQuoted(sql, i)
		case c == '`' || c == '"':
			end := endOfQuoted(sql, i)
			words = append(words, strings.Trim(sql[i:end], string(c)))
			i = end
		case isWord(c):
			end := i
			for end < len(sql) && isWord(sql[end]) {
				end++
			}
			words = append(words, sql[i:end])
			i = end
		default:
			i++
		}
	}
	return words
}

// endOfQuoted is the index behind the quoted text that begins at i.
func endOfQuoted(sql string, i int) int {
	quote := sql[i]
	for i++; i < len(sql) && sql[i] != quote; i++ {
		if sql[i] == '\\' {
			i++
		}
	}
	return min(i+1, len(sql))
}

func isWord(c byte) bool {
	return c == '_' || c == '$' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= 0x80
}
