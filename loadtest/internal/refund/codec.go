package refund

import (
	"encoding/json"
	"fmt"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	decisionv1 "github.com/verdict-io/verdict/proto/gen/verdict/decision/v1"
)

// Codec is one way to write a request.
type Codec string

// The codecs: JSON with the context as JSON, JSON with the context as text, protobuf with the context as text.
const (
	JSON     Codec = "json"
	JSONText Codec = "json-text"
	Binary   Codec = "binary"
)

// Codecs are all there are.
var Codecs = []Codec{JSON, JSONText, Binary}

// ContentType is that of requests and answers.
func (c Codec) ContentType() string {
	if c == Binary {
		return "application/proto"
	}
	return "application/json"
}

// Decode reads an answer. Fields of a later version of the contract are passed over.
func (c Codec) Decode(answer []byte) (*decisionv1.AuthorizeResponse, error) {
	out := &decisionv1.AuthorizeResponse{}
	if c == Binary {
		return out, proto.Unmarshal(answer, out)
	}
	return out, protojson.UnmarshalOptions{DiscardUnknown: true}.Unmarshal(answer, out)
}

// encode writes a request; its context is what is in arguments.
func (c Codec) encode(request *decisionv1.AuthorizeRequest, arguments map[string]any) ([]byte, error) {
	if c == JSON {
		context, err := structpb.NewStruct(arguments)
		if err != nil {
			return nil, err
		}
		request.Context = context
		return protojson.Marshal(request)
	}
	text, err := json.Marshal(arguments)
	if err != nil {
		return nil, err
	}
	request.ContextJson = string(text)
	switch c {
	case JSONText:
		return protojson.Marshal(request)
	case Binary:
		return proto.Marshal(request)
	default:
		return nil, fmt.Errorf("there is no codec %q", c)
	}
}
