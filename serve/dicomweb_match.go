package serve

import (
	"fmt"
	"strings"

	"github.com/suyashkumar/dicom/pkg/tag"
)

// key is an attribute that a search matches by.
type key struct {
	tag     tag.Tag
	matches func(values []string) bool
}

// maxPattern bounds what is compared with every value: four times what a name may have (PS3.5 6.2).
const maxPattern = 4 * 64

// newKey makes the matching of PS3.4 C.2.2.2 for an attribute: single value, list of UIDs, universal, wild card and range. Codes
// may come as a list too.
func newKey(info tag.Info, want string) (key, error) {
	k := key{tag: info.Tag, matches: func([]string) bool { return true }}
	if want == "" {
		return k, nil
	}
	vr := info.VRs[0]
	if vr != "UI" && len(want) > maxPattern {
		return k, fmt.Errorf("it has more than %d bytes", maxPattern)
	}
	switch vr {
	case "DA", "TM":
		low, high, err := parseRange(vr, want)
		if err != nil {
			return k, err
		}
		k.matches = anyOf(func(have string) bool {
			have = digits(have)
			return have != "" && low <= pad(have, '0') && pad(have, '0') <= high
		})
	case "UI", "CS":
		list := strings.FieldsFunc(want, func(r rune) bool { return r == ',' || r == '\\' })
		k.matches = anyOf(func(have string) bool {
			for _, one := range list {
				if vr == "UI" && one == have || vr == "CS" && glob(one, have) {
					return true
				}
			}
			return false
		})
	case "PN": // literal, but for case and what follows the last component that is there
		want = foldName(want)
		k.matches = anyOf(func(have string) bool {
			if glob(want, foldName(have)) {
				return true
			}
			for group := range strings.SplitSeq(have, "=") {
				if glob(want, foldName(group)) {
					return true
				}
			}
			return false
		})
	default:
		k.matches = anyOf(func(have string) bool { return glob(want, have) })
	}
	return k, nil
}

func anyOf(match func(have string) bool) func(values []string) bool {
	return func(values []string) bool {
		for _, have := range values {
			if match(have) {
				return true
			}
		}
		return false
	}
}

func foldName(s string) string { return strings.ToLower(strings.TrimRight(s, "^ ")) }

// digits are those of a date or time; older files have periods in the one and colons in the other.
func digits(s string) string {
	return strings.Map(func(r rune) rune {
		if r < '0' || r > '9' {
			return -1
		}
		return r
	}, s)
}

// timeDigits are those of the longest time, HHMMSSFFFFFF.
const timeDigits = 12

// pad makes dates and times of any precision comparable.
func pad(s string, with rune) string {
	return s + strings.Repeat(string(with), max(0, timeDigits-len(s)))
}

// parseRange reads a date or a time, or two with a dash between, of which one may be missing. A time stands for all that begin
// with it: "10" is ten o'clock and what follows until eleven.
func parseRange(vr, want string) (low, high string, err error) {
	low, high, isRange := strings.Cut(want, "-")
	if !isRange {
		high = low
	}
	for _, end := range []string{low, high} {
		d := strings.NewReplacer(".", "", ":", "").Replace(end)
		if d != digits(d) || vr == "DA" && len(d) != 8 && d != "" || vr == "TM" && (len(d) > timeDigits || len(d) < 6 && len(d)%2 != 0) {
			return "", "", fmt.Errorf("it must be a value of VR %s or a range of two with a dash between", vr)
		}
	}
	if digits(low)+digits(high) == "" {
		return "", "", fmt.Errorf("it must be a value of VR %s or a range of two with a dash between", vr)
	}
	return pad(digits(low), '0'), pad(digits(high), '9'), nil
}

// glob says whether a text is like a pattern, in which * stands for any letters and ? for one. It takes time in proportion to the
// product of the two lengths at most.
func glob(pattern, text string) bool {
	p, t := []rune(pattern), []rune(text)
	star, from := -1, 0 // the last star, and where its letters began
	i := 0
	for j := 0; j < len(t); {
		switch {
		case i < len(p) && p[i] == '*':
			star, from = i, j
			i++
		case i < len(p) && (p[i] == '?' || p[i] == t[j]):
			i++
			j++
		case star >= 0: // one letter more for the star
			from++
			i, j = star+1, from
		default:
			return false
		}
	}
	for i < len(p) && p[i] == '*' {
		i++
	}
	return i == len(p)
}
