package dicomjson

import (
	"fmt"
	"strings"

	"github.com/suyashkumar/dicom/pkg/tag"
)

// Dataset is a data set or an item of a sequence, by [Name] of its elements. encoding/json writes the names in order, as F.2.2
// demands.
type Dataset map[string]Attribute

// Attribute is one element. Without Value and InlineBinary it is empty.
type Attribute struct {
	VR           string `json:"vr" doc:"The value representation (PS3.5 6.2)."`
	Value        []any  `json:"Value,omitempty" doc:"Texts, numbers, names or items, as PS3.18 F.2.3 says of the value representation."`
	InlineBinary []byte `json:"InlineBinary,omitempty" doc:"The value in base64, little endian."`
}

// PersonName is a value of VR PN by its component groups (F.2.2).
type PersonName struct {
	Alphabetic  string `json:",omitempty"`
	Ideographic string `json:",omitempty"`
	Phonetic    string `json:",omitempty"`
}

// Name is the name of an element: the eight upper-case hexadecimal digits of its tag.
func Name(t tag.Tag) string { return fmt.Sprintf("%04X%04X", t.Group, t.Element) }

// unicode is the Specific Character Set of UTF-8 (PS3.3 C.12.1.1.2).
const unicode = "ISO_IR 192"

// Set gives an element its values: strings for text and for the digits of numbers, as they are in a data set but in UTF-8; ints,
// float64s, Datasets.
func (d Dataset) Set(t tag.Tag, vr string, values ...any) {
	a := Attribute{VR: vr}
	if t == tag.SpecificCharacterSet && len(values) > 0 {
		values = []any{unicode}
	}
	for _, v := range values {
		if s, ok := v.(string); ok {
			v = text(vr, s)
		}
		a.Value = append(a.Value, v)
	}
	if len(a.Value) == 1 && a.Value[0] == nil {
		a.Value = nil
	}
	d[Name(t)] = a
}

// text is the JSON value of a text in a data set, nil where it is empty (F.2.5).
func text(vr, s string) any {
	s = strings.Trim(s, " \x00")
	if s == "" {
		return nil
	}
	switch vr {
	case "PN":
		return personName(s)
	case "DS", "IS", "US", "SS", "UL", "SL":
		return number(s)
	}
	return s
}

// personName splits a name into its component groups. Trailing delimiters say nothing (PS3.5 6.2.1.1).
func personName(s string) any {
	var n PersonName
	groups := []*string{&n.Alphabetic, &n.Ideographic, &n.Phonetic}
	for i, group := range strings.SplitN(s, "=", len(groups)) {
		*groups[i] = strings.TrimRight(strings.TrimSpace(group), "^ ")
	}
	if n == (PersonName{}) {
		return nil
	}
	return n
}
