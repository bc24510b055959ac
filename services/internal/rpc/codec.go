package rpc

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
)

// The names under which Connect looks for the codec of application/json, without and with its charset.
const (
	codecJSON     = "json"
	codecJSONUTF8 = "json; charset=utf-8"
)

// codec is strict JSON in place of Connect's. Reading, it refuses unknown fields and enum values, repeated names,
// anything behind the message, and nesting beyond maxDepth, and says where. Writing, it gives every field its name
// from the contract's JSON, zero values and empty lists included, so that a reader without the contract (curl, jq)
// sees what there is; absent messages, optionals and oneofs stay absent. Equal messages are equal bytes.
type codec struct {
	name     string
	maxDepth int
}

var _ connect.Codec = codec{}

// marshalOptions: the decision for EmitDefaultValues is in the comment of codec. EmitUnpopulated would add null for
// every absent message, which says nothing.
var marshalOptions = protojson.MarshalOptions{EmitDefaultValues: true}

// Name is part of connect.Codec.
func (c codec) Name() string { return c.name }

// IsBinary tells Connect that the bytes are text.
func (c codec) IsBinary() bool { return false }

// Marshal is part of connect.Codec.
func (c codec) Marshal(message any) ([]byte, error) { return c.MarshalAppend(nil, message) }

// MarshalStable tells Connect that equal messages are equal bytes.
func (c codec) MarshalStable(message any) ([]byte, error) { return c.MarshalAppend(nil, message) }

// MarshalAppend lets Connect reuse its buffers.
func (c codec) MarshalAppend(dst []byte, message any) ([]byte, error) {
	m, ok := message.(proto.Message)
	if !ok {
		return nil, fmt.Errorf("%T is not a protobuf message", message)
	}
	out, err := marshalOptions.MarshalAppend(dst, m)
	if err != nil {
		return nil, fmt.Errorf("marshal %s: %w", m.ProtoReflect().Descriptor().FullName(), err)
	}
	if spaced() {
		out = append(out[:len(dst)], squeeze(out[len(dst):])...)
	}
	return out, nil
}

// spaced says whether protojson puts spaces behind commas. It decides by a hash of the program, so that nobody relies
// on its output; what is not so in one build is in the next.
var spaced = sync.OnceValue(func() bool {
	out, err := protojson.Marshal(&structpb.ListValue{Values: []*structpb.Value{structpb.NewBoolValue(true), structpb.NewBoolValue(true)}})
	return err != nil || string(out) != "[true,true]"
})

// squeeze drops the spaces of a JSON text that are outside of strings, in place.
func squeeze(text []byte) []byte {
	out := text[:0]
	inString, escaped := false, false
	for _, b := range text {
		switch {
		case escaped:
			escaped = false
		case inString && b == '\\':
			escaped = true
		case b == '"':
			inString = !inString
		case b == ' ' && !inString:
			continue
		}
		out = append(out, b)
	}
	return out
}

// Unmarshal is part of connect.Codec.
func (c codec) Unmarshal(data []byte, message any) error {
	m, ok := message.(proto.Message)
	if !ok {
		return fmt.Errorf("%T is not a protobuf message", message)
	}
	if len(data) == 0 {
		return errors.New("the body is empty: send a JSON object, {} at least")
	}
	err := protojson.UnmarshalOptions{RecursionLimit: c.maxDepth}.Unmarshal(data, m)
	if err != nil {
		return c.explain(err)
	}
	return nil
}

// position is how protojson's texts begin.
var position = regexp.MustCompile(`^(syntax error )?\(line ([0-9]+):([0-9]+)\): `)

// explain is an error of protojson in a text for the caller: of bounded length, the position in words, and without
// the prefix whose space protojson varies from build to build.
func (c codec) explain(err error) error {
	text := err.Error()
	if rest, ok := strings.CutPrefix(text, "proto:"); ok {
		text = strings.TrimLeft(rest, " \u00a0")
	}
	if strings.Contains(text, "exceeded max recursion depth") {
		return fmt.Errorf("the JSON is nested deeper than the %d levels that are allowed", c.maxDepth)
	}
	if m := position.FindStringSubmatch(text); m != nil {
		kind := ""
		if m[1] != "" {
			kind = "syntax error: "
		}
		text = "line " + m[2] + ", column " + m[3] + ": " + kind + text[len(m[0]):]
	}
	return errors.New(clip(text))
}
