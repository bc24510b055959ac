package policy

import (
	"errors"
	"regexp"
	"strings"
	"testing"
)

// wantInvalid wants an *Error of kind ErrInvalid for a reason, about a field, with a text for the caller.
func wantInvalid(t *testing.T, err error, reason, field string) {
	t.Helper()
	e, ok := errors.AsType[*Error](err)
	if !ok {
		t.Fatalf("got %v, want an invalid %s (%s)", err, field, reason)
	}
	if !errors.Is(err, ErrInvalid) || e.Reason != reason || e.Field != field {
		t.Errorf("got %s (%s): %s; want %s (%s)", e.Field, e.Reason, e.Message, field, reason)
	}
	if e.Message == "" || len(e.Message) > 1000 {
		t.Errorf("message of %d bytes: %s", len(e.Message), e.Message)
	}
}

func TestCheckLengthCountsCharacters(t *testing.T) {
	for _, c := range []struct {
		value  string
		reason string
	}{
		{"", "length"},
		{"ä", ""},
		{"äöü", ""},
		{"äöüß", "length"},
		{"a\xff", "encoding"},
	} {
		err := checkLength("f", c.value, 1, 3)
		if c.reason == "" && err != nil {
			t.Errorf("%q: %v", c.value, err)
		} else if c.reason != "" {
			wantInvalid(t, err, c.reason, "f")
		}
	}
}

func TestCheckPatternSaysWhatToDo(t *testing.T) {
	re := regexp.MustCompile(`^[a-z]+$`)
	if err := checkPattern("name", "abc", re); err != nil {
		t.Error(err)
	}
	err := checkPattern("name", strings.Repeat("Ü", 70), re)
	wantInvalid(t, err, "pattern", "name")
	if want := `name must match ^[a-z]+$; it is "` + strings.Repeat("Ü", 64) + `"…`; err.Error() != want {
		t.Errorf("message %s, want %s", err, want)
	}
}

func TestQuoted(t *testing.T) {
	for in, want := range map[string]string{
		"":                      `""`,
		"a\nb":                  `"a\nb"`,
		strings.Repeat("x", 64): `"` + strings.Repeat("x", 64) + `"`,
		strings.Repeat("x", 65): `"` + strings.Repeat("x", 64) + `"…`,
	} {
		if got := quoted(in); got != want {
			t.Errorf("quoted(%q) = %s, want %s", in, got, want)
		}
	}
}

func TestAlternatives(t *testing.T) {
	for _, c := range []struct {
		values []string
		want   string
	}{
		{nil, ""},
		{[]string{"a"}, "a"},
		{[]string{"a", "b"}, "a or b"},
		{[]string{"a", "b", "c"}, "a, b or c"},
	} {
		if got := alternatives(c.values); got != c.want {
			t.Errorf("alternatives(%v) = %s, want %s", c.values, got, c.want)
		}
	}
}

func TestWithinPutsThePathTogether(t *testing.T) {
	inner := Invalid("length", "name", "x")
	if within("a", nil) != nil {
		t.Error("nil became a refusal")
	}
	wantInvalid(t, within("a.b[1]", inner), "length", "a.b[1].name")
	wantInvalid(t, within("", inner), "length", "name")
	wantInvalid(t, within("a", Invalid("union", "", "x")), "union", "a")
	if inner.Field != "name" {
		t.Errorf("the refusal itself was changed: %s", inner.Field)
	}
	other := errors.New("other")
	if !errors.Is(within("a", other), other) || !errors.Is(atField("a", other), other) {
		t.Error("an error that is no refusal was changed")
	}
}

func TestCheckCount(t *testing.T) {
	wantInvalid(t, checkCount("f", 0, 1, 2), "required", "f")
	wantInvalid(t, checkCount("f", 3, 1, 2), "count", "f")
	if err := errors.Join(checkCount("f", 1, 1, 2), checkCount("f", 2, 1, 2), checkCount("f", 0, 0, 2)); err != nil {
		t.Error(err)
	}
}

func TestCheckMapReportsFirstByKey(t *testing.T) {
	key, value := text{1, 3, nil}, text{0, 2, nil}
	if err := checkMap("m", map[string]string{"a": "", "b": "xy"}, key, value, 2); err != nil {
		t.Error(err)
	}
	for range 10 { // maps have no order, refusals have
		wantInvalid(t, checkMap("m", map[string]string{"a": "xyz", "b": "xyz", "c": "xyz"}, key, value, 3), "length", "m.a")
	}
	wantInvalid(t, checkMap("m", map[string]string{"long": ""}, key, value, 3), "length", "m")
	wantInvalid(t, checkMap("m", map[string]string{"": ""}, key, value, 3), "required", "m")
	wantInvalid(t, checkMap("m", map[string]string{"a": "", "b": ""}, key, value, 1), "count", "m")
}
