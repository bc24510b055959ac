package stream

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/verdict-io/verdict/services/policy"
)

// Definitions are converted in two steps: checkDefinition looks once over the whole message and refuses what has no
// counterpart in the domain; after that each converter is a plain function that cannot fail. The other way a definition
// must have passed its Validate, which refuses everything that a message cannot express.
//
// A definition and the message it was converted from, or to, share lists and maps. Neither may be changed.

// maxNesting bounds the walk over a message: no definition with a schema of the permitted depth is nested deeper.
const maxNesting = policy.MaxSchemaDepth + 16

// checkDefinition refuses, with the path of the member: enum numbers without a name, unions without a member, numbers
// that are not JSON, and nesting that no valid definition has.
func checkDefinition(m protoreflect.Message, path string, depth int) error {
	if depth > maxNesting {
		return policy.Invalid("depth", path, "the request is nested more than %d deep", maxNesting)
	}
	for i := range m.Descriptor().Oneofs().Len() {
		union := m.Descriptor().Oneofs().Get(i)
		if !union.IsSynthetic() && m.WhichOneof(union) == nil {
			return policy.Invalid("union", path, "give exactly one of %s; none is given", fieldNames(union.Fields()))
		}
	}
	for i := range m.Descriptor().Fields().Len() {
		fd := m.Descriptor().Fields().Get(i)
		if !m.Has(fd) {
			continue
		}
		if err := checkField(fd, m.Get(fd), joinPath(path, fd.JSONName()), depth); err != nil {
			return err
		}
	}
	return nil
}

func checkField(fd protoreflect.FieldDescriptor, v protoreflect.Value, path string, depth int) error {
	switch {
	case fd.IsMap():
		for _, key := range sortedKeys(v.Map()) {
			if err := checkValue(fd.MapValue(), v.Map().Get(key), joinPath(path, key.String()), depth); err != nil {
				return err
			}
		}
		return nil
	case fd.IsList():
		for i := range v.List().Len() {
			if err := checkValue(fd, v.List().Get(i), fmt.Sprintf("%s[%d]", path, i), depth); err != nil {
				return err
			}
		}
		return nil
	}
	return checkValue(fd, v, path, depth)
}

func checkValue(fd protoreflect.FieldDescriptor, v protoreflect.Value, path string, depth int) error {
	switch fd.Kind() {
	case protoreflect.MessageKind:
		return checkDefinition(v.Message(), path, depth+1)
	case protoreflect.EnumKind:
		if fd.Enum().Values().ByNumber(v.Enum()) == nil {
			return policy.Invalid("enum", path, "%s has the number %d, which this version does not know", path, v.Enum())
		}
	case protoreflect.DoubleKind:
		if math.IsNaN(v.Float()) || math.IsInf(v.Float(), 0) {
			return policy.Invalid("json", path, "%s must be a JSON number; it is %v", path, v.Float())
		}
	}
	return nil
}

func joinPath(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// sortedKeys are the keys of a map from strings, in order, so that the same message is always refused for the same
// reason.
func sortedKeys(m protoreflect.Map) []protoreflect.MapKey {
	keys := make([]protoreflect.MapKey, 0, m.Len())
	for key := range m.Range {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, func(a, b protoreflect.MapKey) int { return cmp.Compare(a.String(), b.String()) })
	return keys
}

func fieldNames(fields protoreflect.FieldDescriptors) string {
	names := make([]string, fields.Len())
	for i := range names {
		names[i] = fields.Get(i).JSONName()
	}
	return strings.Join(names, ", ")
}

// protoEnum is any generated enum.
type protoEnum interface {
	~int32
	protoreflect.Enum
}

// The values of the enums of a definition are named as AgentCore spells them, behind the prefix that buf asks for; the
// domain has AgentCore's spelling as it is. So names translate, and no table can lack an entry.

// enumTo is the enum value of that name; UNSPECIFIED for none.
func enumTo[E protoEnum, T ~string](value T) E {
	var zero E
	values := zero.Descriptor().Values()
	if found := values.ByName(protoreflect.Name(enumPrefix(zero) + string(value))); value != "" && found != nil {
		return E(found.Number())
	}
	return zero
}

// enumFrom is the name of an enum value; "" for UNSPECIFIED.
func enumFrom[T ~string, E protoEnum](value E) T {
	found := value.Descriptor().Values().ByNumber(value.Number())
	if found == nil || found.Number() == 0 {
		return ""
	}
	return T(strings.TrimPrefix(string(found.Name()), enumPrefix(value)))
}

// enumPrefix is what all names of an enum begin with.
func enumPrefix(e protoreflect.Enum) string {
	return strings.TrimSuffix(string(e.Descriptor().Values().ByNumber(0).Name()), "UNSPECIFIED")
}

func enumsTo[E protoEnum, T ~string](values []T) []E { return convertAll(values, enumTo[E, T]) }

func enumsFrom[T ~string, E protoEnum](values []E) []T { return convertAll(values, enumFrom[T, E]) }

// convertAll is nil for an empty list: messages do not tell the two apart.
func convertAll[A, B any](in []A, convert func(A) B) []B {
	if len(in) == 0 {
		return nil
	}
	out := make([]B, len(in))
	for i, v := range in {
		out[i] = convert(v)
	}
	return out
}

// convertIf is nil for nil.
func convertIf[A, B any](in *A, convert func(*A) *B) *B {
	if in == nil {
		return nil
	}
	return convert(in)
}
