// Package query asks audit with SQL and writes the answer for people, as a table, or for programs, as a JSON object a row.
package query

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"text/tabwriter"

	"google.golang.org/protobuf/types/known/structpb"

	auditv1 "github.com/verdict-io/verdict/proto/gen/verdict/audit/v1"
	"github.com/verdict-io/verdict/proto/gen/verdict/audit/v1/auditv1connect"
)

// Table is an answer.
type Table struct {
	Columns []*auditv1.Column
	Rows    []*structpb.ListValue
}

// All is the whole answer.
func All(ctx context.Context, client *http.Client, auditURL, sql string) (*Table, error) {
	t := &Table{}
	err := each(ctx, client, auditURL, sql, func(columns []*auditv1.Column, rows []*structpb.ListValue) error {
		t.Columns = columns
		t.Rows = append(t.Rows, rows...)
		return nil
	})
	return t, err
}

// each hands on the answer as it comes, with all columns each time.
func each(ctx context.Context, client *http.Client, auditURL, sql string, yield func([]*auditv1.Column, []*structpb.ListValue) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // an answer that is not read to its end ends on the server too
	stream, err := auditv1connect.NewAuditServiceClient(client, auditURL).Query(ctx, &auditv1.QueryRequest{Sql: sql})
	if err != nil {
		return err
	}
	defer stream.Close()
	var columns []*auditv1.Column
	for stream.Receive() {
		columns = append(columns, stream.Msg().GetColumns()...)
		if err := yield(columns, stream.Msg().GetRows()); err != nil {
			return err
		}
	}
	return stream.Err()
}

// Print writes the table with its columns aligned.
func (t *Table) Print(w io.Writer) error {
	out := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.TabIndent)
	line := make([]string, len(t.Columns))
	for i, c := range t.Columns {
		line[i] = c.GetName()
	}
	fmt.Fprintln(out, strings.Join(line, "\t"))
	for _, row := range t.Rows {
		for i, v := range row.GetValues() {
			line[i] = cell(v)
		}
		fmt.Fprintln(out, strings.Join(line, "\t"))
	}
	return out.Flush()
}

// cell is a value on one line: a text as it is, anything else as JSON.
func cell(v *structpb.Value) string {
	text, ok := v.AsInterface().(string)
	if !ok {
		data, err := json.Marshal(v.AsInterface())
		if err != nil {
			return err.Error()
		}
		text = string(data)
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f { // what would move a terminal's cursor
			return ' '
		}
		return r
	}, text)
}

// JSON writes each row as an object on a line of its own, as it comes.
func JSON(ctx context.Context, w io.Writer, client *http.Client, auditURL, sql string) error {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	return each(ctx, client, auditURL, sql, func(columns []*auditv1.Column, rows []*structpb.ListValue) error {
		for _, row := range rows {
			object := make(map[string]any, len(columns))
			for i, v := range row.GetValues() {
				object[columns[i].GetName()] = v.AsInterface()
			}
			if err := encoder.Encode(object); err != nil {
				return err
			}
		}
		return nil
	})
}
