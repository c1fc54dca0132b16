package dicomjson

import (
	"encoding/json"
	"math"
	"strings"

	parser "github.com/suyashkumar/dicom"
	"github.com/suyashkumar/dicom/pkg/tag"

	"github.com/mvmae/mvmae/dicom"
)

// FromHeader converts parsed elements.
func FromHeader(h dicom.Header) Dataset {
	d := make(Dataset, len(h))
	for _, e := range h {
		d.add(e)
	}
	return d
}

func (d Dataset) add(e *parser.Element) {
	if e.Tag.Element == 0 { // a group length, which F.2.2 leaves out
		return
	}
	vr := e.RawValueRepresentation
	if e.Value == nil {
		d.Set(e.Tag, vr)
		return
	}
	switch v := e.Value.GetValue().(type) {
	case []string:
		d.addText(e.Tag, vr, v)
	case []int:
		d.Set(e.Tag, vr, integers(vr, v)...)
	case []float64:
		d.Set(e.Tag, vr, floats(v)...)
	case []byte:
		d[Name(e.Tag)] = Attribute{VR: vr, InlineBinary: v}
	case []*parser.SequenceItemValue:
		items := make([]any, len(v))
		for i, item := range v {
			elems, _ := item.GetValue().([]*parser.Element)
			one := make(Dataset, len(elems))
			for _, e := range elems {
				one.add(e)
			}
			items[i] = one
		}
		d.Set(e.Tag, "SQ", items...)
	default:
		d.Set(e.Tag, vr)
	}
}

func (d Dataset) addText(t tag.Tag, vr string, values []string) {
	switch {
	case vr == "LT" || vr == "ST" || vr == "UT" || vr == "UR": // of one value, whatever is in it
		values = []string{strings.Join(values, `\`)}
	case vr == "OD" || vr == "OF" || vr == "OL": // the parser took their bytes for text: they are lost
		return
	}
	texts := make([]any, len(values))
	for i, v := range values {
		texts[i] = WithoutEscapes(v)
	}
	d.Set(t, vr, texts...)
}

// integers are the values of a binary element. An attribute tag (AT) is two numbers and one value.
func integers(vr string, list []int) (values []any) {
	if vr == "AT" {
		for ; len(list) >= 2; list = list[2:] {
			values = append(values, Name(tag.Tag{Group: uint16(list[0]), Element: uint16(list[1])}))
		}
		return values
	}
	for _, n := range list {
		values = append(values, n)
	}
	return values
}

// floats are the values of FL or FD. JSON has no number that is none.
func floats(list []float64) (values []any) {
	for _, f := range list {
		if math.IsNaN(f) || math.IsInf(f, 0) {
			values = append(values, nil)
			continue
		}
		values = append(values, f)
	}
	return values
}

// number is a decimal or integer string as a JSON number of the same digits, or as it is where JSON writes it otherwise: F.2.3
// allows both.
func number(s string) any {
	if json.Valid([]byte(s)) && (s[0] == '-' || s[0] >= '0' && s[0] <= '9') {
		return json.Number(s)
	}
	return s
}

// WithoutEscapes takes out the escape sequences of ISO 2022 (PS3.5 6.1.2.5.3) that a decoder has left in a text: that of Korean,
// for one, whose bytes say what they are without them.
func WithoutEscapes(s string) string {
	var b strings.Builder
	for {
		before, after, found := strings.Cut(s, "\x1b")
		b.WriteString(before)
		if !found {
			return b.String()
		}
		n := 0
		for n < len(after) && after[n] >= 0x20 && after[n] <= 0x2f { // intermediate bytes
			n++
		}
		s = after[min(n+1, len(after)):] // and the final one
	}
}
