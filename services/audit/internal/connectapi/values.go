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
)

// value is a value of a result as JSON can carry it: integers of 64 bits and more, decimals and what is no number (NaN) as
// strings, times as RFC 3339 in UTC, arrays as lists, tuples as lists or structs, maps as structs, NULL as null. Text that is not
// UTF-8 has its wrong bytes replaced.
func value(v any, columnType string) *structpb.Value {
	switch v := v.(type) {
	case nil:
		return structpb.NewNullValue()
	case time.Time:
		return structpb.NewStringValue(timeText(v, columnType))
	case clickhouse.Variant: // Dynamic too
		return value(v.Any(), v.Type())
	case *clickhouse.JSON:
		return value(v.NestedMap(), columnType)
	case clickhouse.JSON:
		return value(v.NestedMap(), columnType)
	}
	r := reflect.ValueOf(v)
	if r.Kind() == reflect.Pointer && r.IsNil() {
		return structpb.NewNullValue()
	}
	if s, ok := v.(fmt.Stringer); ok { // UUIDs, addresses, decimals, big integers, intervals
		return structpb.NewStringValue(utf8(s.String()))
	}
	return valueOf(r, columnType)
}

// valueOf is value for what has no type of its own in Go.
func valueOf(r reflect.Value, columnType string) *structpb.Value {
	switch r.Kind() {
	case reflect.Pointer, reflect.Interface:
		return value(r.Elem().Interface(), columnType)
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
		for i := range r.Len() {
			list.Values = append(list.Values, value(r.Index(i).Interface(), columnType))
		}
		return structpb.NewListValue(list)
	case reflect.Map:
		fields := &structpb.Struct{Fields: map[string]*structpb.Value{}}
		for it := r.MapRange(); it.Next(); {
			fields.Fields[utf8(fmt.Sprint(it.Key().Interface()))] = value(it.Value().Interface(), columnType)
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

func utf8(text string) string { return strings.ToValidUTF8(text, "\uFFFD") }
