package connectapi

import (
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/verdict-io/verdict/services/audit/internal/store"
)

// maxValues is how many values a row may hold, those within arrays and maps each counted. A byte of a result takes a hundred here:
// arrays of small numbers that ClickHouse sends within its limits would not fit the memory.
const maxValues = 1 << 18

// row is values of a result as JSON can carry them: integers of 64 bits and more, decimals and what is no number (NaN) as
// strings, times as RFC 3339 in UTC, arrays as lists, tuples as lists or structs, maps as structs, NULL as null. Text that is not
// UTF-8 has its wrong bytes replaced. false when there are too many.
func row(values []any, columns []store.Column) (*structpb.ListValue, bool) {
	c, list := &converter{left: maxValues}, &structpb.ListValue{}
	for i, v := range values {
		list.Values = append(list.Values, c.value(v, columns[i].Type))
	}
	return list, c.left >= 0
}

// converter converts one row; left goes below zero when it has too many values, the rest of which become null.
type converter struct{ left int }

func (c *converter) value(v any, columnType string) *structpb.Value {
	if c.left--; c.left < 0 {
		return structpb.NewNullValue()
	}
	switch v := v.(type) {
	case nil:
		return structpb.NewNullValue()
	case time.Time:
		return structpb.NewStringValue(timeText(v, columnType))
	case clickhouse.Variant: // Dynamic too
		return c.value(v.Any(), v.Type())
	}
	r := reflect.ValueOf(v)
	if r.Kind() == reflect.Pointer {
		if r.IsNil() {
			return structpb.NewNullValue()
		}
		if t, ok := v.(*time.Time); ok {
			return structpb.NewStringValue(timeText(*t, columnType))
		}
	}
	if s, ok := v.(fmt.Stringer); ok { // UUIDs, addresses, decimals, big integers, intervals
		return structpb.NewStringValue(utf8(s.String()))
	}
	return c.valueOf(r, columnType)
}

// valueOf is value for what has no type of its own in Go.
func (c *converter) valueOf(r reflect.Value, columnType string) *structpb.Value {
	switch r.Kind() {
	case reflect.Pointer, reflect.Interface:
		return c.value(r.Elem().Interface(), columnType)
	case reflect.Bool:
		return structpb.NewBoolValue(r.Bool())
	case reflect.String:
		return structpb.NewStringValue(utf8(r.String()))
	case reflect.Int8, reflect.Int16, reflect.Int32:
		return structpb.NewNumberValue(float64(r.Int()))
	case reflect.Uint8, reflect.Uint16, reflect.Uint32:
		return structpb.NewNumberValue(float64(r.Uint()))
	case reflect.Int, reflect.Int64:
		return structpb.NewStringValue(strconv.FormatInt(r.Int(), 10))
	case reflect.Uint, reflect.Uint64:
		return structpb.NewStringValue(strconv.FormatUint(r.Uint(), 10))
	case reflect.Float32, reflect.Float64:
		return number(r.Float())
	case reflect.Slice, reflect.Array:
		list := &structpb.ListValue{}
		for i := 0; i < r.Len() && c.left >= 0; i++ {
			list.Values = append(list.Values, c.value(r.Index(i).Interface(), columnType))
		}
		return structpb.NewListValue(list)
	case reflect.Map:
		fields := &structpb.Struct{Fields: map[string]*structpb.Value{}}
		for it := r.MapRange(); it.Next() && c.left >= 0; {
			fields.Fields[keyText(it.Key().Interface(), columnType)] = c.value(it.Value().Interface(), columnType)
		}
		return structpb.NewStructValue(fields)
	default:
		return structpb.NewStringValue(utf8(fmt.Sprint(r.Interface())))
	}
}

func number(f float64) *structpb.Value {
	switch {
	case math.IsNaN(f):
		return structpb.NewStringValue("NaN")
	case math.IsInf(f, 1):
		return structpb.NewStringValue("Infinity")
	case math.IsInf(f, -1):
		return structpb.NewStringValue("-Infinity")
	}
	return structpb.NewNumberValue(f)
}

// timeText is a time, or a day where the type of the column knows nothing finer.
func timeText(t time.Time, columnType string) string {
	if strings.Contains(columnType, "Date") && !strings.Contains(columnType, "DateTime") {
		return t.Format(time.DateOnly)
	}
	return t.UTC().Format(time.RFC3339Nano)
}

// keyText is a key of a map.
func keyText(key any, columnType string) string {
	if t, ok := key.(time.Time); ok {
		return timeText(t, columnType)
	}
	return utf8(fmt.Sprint(key))
}

func utf8(text string) string { return strings.ToValidUTF8(text, "\uFFFD") }
