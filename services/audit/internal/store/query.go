package store

import (
	"context"
	"errors"
	"fmt"
	"net"
	"reflect"
	"slices"
	"sync/atomic"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

// Kinds of a QueryError, and ErrNoUser.
var (
	ErrSQL    = errors.New("the SQL is wrong")
	ErrDenied = errors.New("the SQL asks for what it may not")
	ErrLimit  = errors.New("the SQL needs too much")
	ErrTime   = errors.New("the SQL takes too long")

	// ErrNoUser: audit has not been told of the account, and ClickHouse may not know it either.
	ErrNoUser = errors.New("the account has no user in ClickHouse")
)

// QueryError is what is wrong with an account's SQL, in words for whoever wrote it.
type QueryError struct {
	Kind    error
	Message string
}

func (e *QueryError) Error() string { return e.Message }

// Unwrap is the kind.
func (e *QueryError) Unwrap() error { return e.Kind }

// Column is one of a result.
type Column struct {
	Name string
	Type string // ClickHouse's
}

// Query runs a SELECT as the account's own ClickHouse user. It calls head once, also when there are no rows, and then row for
// each row; an error of theirs ends the query and is returned. A row holds what the client library makes of ClickHouse's types;
// it is the callee's. When ctx ends, so does the query on the server.
func (s *Store) Query(ctx context.Context, account, sql string, head func([]Column) error, row func([]any) error) error {
	got, conn, err := s.connOf(ctx, account)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := s.inspect(ctx, sql); err != nil {
		return err
	}
	// The client would tell the server of a deadline by a setting, and the user may not change settings.
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, cancel)()
	err = read(running, conn, sql, head, row)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case got.tooMuch.Load():
		return &QueryError{Kind: ErrLimit, Message: fmt.Sprintf("the result has more than %d MiB; ask for fewer rows or columns", maxReceived>>20)}
	}
	return err
}

func read(ctx context.Context, conn driver.Conn, sql string, head func([]Column) error, row func([]any) error) error {
	rows, err := conn.Query(ctx, sql)
	if err != nil {
		return queryError(err)
	}
	defer rows.Close()
	types := rows.ColumnTypes()
	var columns []Column
	for _, t := range types {
		columns = append(columns, Column{Name: t.Name(), Type: t.DatabaseTypeName()})
	}
	if err := head(columns); err != nil {
		return err
	}
	for rows.Next() {
		values, err := scan(rows, types)
		if err != nil {
			return cannotBeSent(err)
		}
		if err := row(values); err != nil {
			return err
		}
	}
	return queryError(rows.Err())
}

// scan is the next row. The client library panics at some values that it does not know, as JSON within Dynamic.
func scan(rows driver.Rows, types []driver.ColumnType) (values []any, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = errors.New("its type is not known to the client library")
		}
	}()
	values = make([]any, len(types))
	for i, t := range types {
		kind := t.ScanType()
		if kind == reflect.TypeFor[clickhouse.JSON]() {
			kind = reflect.TypeFor[string]() // as which it comes, see the profile in users.go
		}
		values[i] = reflect.New(kind).Interface()
	}
	if err := rows.Scan(values...); err != nil {
		return nil, err
	}
	for i, v := range values {
		values[i] = reflect.ValueOf(v).Elem().Interface()
	}
	return values, nil
}

// maxReceived is how many bytes a query may send, as they travel. max_result_bytes of the user's profile counts a value that all
// rows share once, and ClickHouse then sends it a hundred thousand times.
const maxReceived = 128 << 20

// connOf is a connection of an account's user, for one query: nothing of a query is left to the next. An account that audit was
// not told of is not tried, nor a database that is not there: a login that fails ends the development server.
func (s *Store) connOf(ctx context.Context, account string) (*received, driver.Conn, error) {
	if !slices.Contains(s.cfg.Accounts, account) || len(s.cfg.Secret) == 0 {
		return nil, nil, fmt.Errorf("%w: %s", ErrNoUser, account)
	}
	if err := s.CheckMigrated(ctx); err != nil {
		return nil, nil, err
	}
	options := s.options
	user := AccountUser(account)
	options.Auth = clickhouse.Auth{Database: s.database, Username: user, Password: Password(s.cfg.Secret, user)}
	options.MaxOpenConns, options.MaxIdleConns = 1, 1
	options.Compression = nil // so that what is received is as much as it says
	got := &received{}
	options.DialContext = func(ctx context.Context, addr string) (_ net.Conn, err error) {
		got.Conn, err = s.options.DialContext(ctx, addr)
		return got, err
	}
	conn, err := clickhouse.Open(&options)
	return got, conn, err
}

// received counts what comes over a connection, and ends it when that is too much.
type received struct {
	net.Conn

	bytes   int64
	tooMuch atomic.Bool
}

var errTooMuch = errors.New("the result is too large")

func (r *received) Read(p []byte) (int, error) {
	if r.bytes >= maxReceived {
		r.tooMuch.Store(true)
		return 0, errTooMuch
	}
	n, err := r.Conn.Read(p)
	r.bytes += int64(n)
	return n, err
}
