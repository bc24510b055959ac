package wire_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	decisionv1 "github.com/verdict-io/verdict/proto/gen/verdict/decision/v1"
	"github.com/verdict-io/verdict/services/decision/internal/wire"
)

// random fills a message, every field of its type in its turn, so that a field that the encoders forget is found.
func random(r *rand.Rand, m protoreflect.Message, depth int) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		if r.IntN(4) == 0 || depth > 6 {
			continue
		}
		switch {
		case f.IsMap():
			for range r.IntN(20) {
				key := protoreflect.ValueOfString(word(r)).MapKey()
				value := m.Mutable(f).Map().NewValue()
				if f.MapValue().Message() != nil {
					random(r, value.Message(), depth+1)
				} else {
					value = scalar(r, f.MapValue())
				}
				m.Mutable(f).Map().Set(key, value)
			}
		case f.IsList():
			for range r.IntN(4) {
				value := m.Mutable(f).List().NewElement()
				if f.Message() != nil {
					random(r, value.Message(), depth+1)
				} else {
					value = scalar(r, f)
				}
				m.Mutable(f).List().Append(value)
			}
		case f.Message() != nil:
			random(r, m.Mutable(f).Message(), depth+1)
		default:
			m.Set(f, scalar(r, f))
		}
	}
}

func word(r *rand.Rand) string {
	return []string{"", "a", "role", "é😀", fmt.Sprint(r.Uint64()), string(bytes.Repeat([]byte("x"), r.IntN(300)))}[r.IntN(6)]
}

func scalar(r *rand.Rand, f protoreflect.FieldDescriptor) protoreflect.Value {
	n := []uint64{0, 1, 127, 128, 1 << 40, 1<<64 - 1}[r.IntN(6)]
	switch f.Kind() {
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(n%2 == 1)
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum(protoreflect.EnumNumber(r.IntN(3)))
	case protoreflect.Int64Kind:
		return protoreflect.ValueOfInt64(int64(n))
	case protoreflect.Uint64Kind:
		return protoreflect.ValueOfUint64(n)
	case protoreflect.DoubleKind:
		return protoreflect.ValueOfFloat64([]float64{0, -1.5, 1 << 53}[r.IntN(3)])
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes([]byte(word(r)))
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(word(r))
	default:
		panic("a kind of field that these messages did not have: " + f.Kind().String())
	}
}

// What is written is what the library writes, byte for byte, whatever is in the message.
func TestSameBytesAsTheLibrary(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 400 {
		detail, request := &decisionv1.DecisionDetail{}, &decisionv1.AuthorizeRequest{}
		random(r, detail.ProtoReflect(), 0)
		random(r, request.ProtoReflect(), 0)
		got, err := wire.AppendDetail([]byte("before"), detail)
		compare(t, detail, got, err)
		got, err = wire.AppendRequest([]byte("before"), request)
		compare(t, request, got, err)
	}
}

func compare(t *testing.T, m proto.Message, got []byte, err error) {
	t.Helper()
	want, oracle := proto.MarshalOptions{Deterministic: true}.MarshalAppend([]byte("before"), m)
	if oracle != nil {
		t.Fatal(oracle)
	}
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%v\n%v\n%x\n%x", m, err, got, want)
	}
}

func TestTextThatIsNotUTF8(t *testing.T) {
	if _, err := wire.AppendDetail(nil, &decisionv1.DecisionDetail{Reason: "\xff"}); !errors.Is(err, wire.ErrUTF8) {
		t.Error(err)
	}
	bad := &decisionv1.AuthorizeRequest{Principal: &decisionv1.Principal{Tags: map[string]string{"a": "\xff"}}}
	if _, err := wire.AppendRequest(nil, bad); !errors.Is(err, wire.ErrUTF8) {
		t.Error(err)
	}
}

// Whatever bytes a caller sends, fields of a later version among them: the digest is that of the library's form.
func FuzzAppendRequest(f *testing.F) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 20 {
		m := &decisionv1.AuthorizeRequest{}
		random(r, m.ProtoReflect(), 0)
		data, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte{0xa2, 0x06, 0x01, 'x', 0x0a, 0x04, 0xa2, 0x06, 0x01, 'y'}) // field 100, in the request and in the principal
	f.Fuzz(func(t *testing.T, data []byte) {
		var m decisionv1.AuthorizeRequest
		if proto.Unmarshal(data, &m) != nil {
			return
		}
		got, err := wire.AppendRequest([]byte("before"), &m)
		compare(t, &m, got, err)
	})
}
