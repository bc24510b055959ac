package snapshot

import (
	"strconv"
	"strings"
)

// decimal is an exact decimal number: digits × 10^exponent. Digits neither begin nor end with 0; those of zero are "".
type decimal struct {
	negative bool
	digits   string
	exponent int
}

// maxExponent is beyond every exponent that matters, and so far from what an int holds that nothing can wrap.
const maxExponent = 1 << 30

// readDecimal reads a number of JSON.
func readDecimal(literal string) decimal {
	var d decimal
	mantissa := literal
	if i := strings.IndexAny(literal, "eE"); i >= 0 {
		mantissa = literal[:i]
		d.exponent = readExponent(literal[i+1:])
	}
	mantissa, d.negative = strings.CutPrefix(mantissa, "-")
	whole, fraction, _ := strings.Cut(mantissa, ".")
	digits := strings.TrimLeft(whole+fraction, "0")
	d.digits = strings.TrimRight(digits, "0")
	d.exponent += len(digits) - len(d.digits) - len(fraction)
	if d.digits == "" {
		return decimal{}
	}
	return d
}

// readExponent reads an exponent, however long it is.
func readExponent(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil || n > maxExponent || n < -maxExponent {
		if strings.HasPrefix(s, "-") {
			return -maxExponent
		}
		return maxExponent
	}
	return n
}

// integral reports whether there is nothing behind the point.
func (d decimal) integral() bool { return d.exponent >= 0 }

// scaled is d × 10^shift, cut towards zero; ok is false when that is no int64.
func (d decimal) scaled(shift int) (n int64, ok bool) {
	exponent := d.exponent + shift
	digits := d.digits
	switch {
	case len(digits)+exponent <= 0:
		return 0, true
	case len(digits)+exponent > 19:
		return 0, false
	case exponent >= 0:
		digits += strings.Repeat("0", exponent)
	default:
		digits = digits[:len(digits)+exponent]
	}
	if d.negative {
		digits = "-" + digits
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	return n, err == nil
}
