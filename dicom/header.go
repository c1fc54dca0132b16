package dicom

import (
	"math"
	"strconv"
	"strings"

	"github.com/suyashkumar/dicom"
	"github.com/suyashkumar/dicom/pkg/tag"
)

// Header is the elements of a data set or of one item of a sequence. The accessors answer the zero value for an element
// that is absent, empty or of another kind.
type Header map[tag.Tag]*dicom.Element

// newHeader indexes elements and returns the first tag that occurs twice, if one does.
func newHeader(elems []*dicom.Element) (h Header, duplicate *tag.Tag) {
	h = make(Header, len(elems))
	for _, e := range elems {
		if _, ok := h[e.Tag]; ok {
			if duplicate == nil {
				duplicate = &e.Tag
			}
			continue
		}
		h[e.Tag] = e
	}
	return h, duplicate
}

func (h Header) value(t tag.Tag) any {
	e, ok := h[t]
	if !ok || e.Value == nil {
		return nil
	}
	return e.Value.GetValue()
}

// Strings returns the values of a text element without their padding (spaces, zero bytes). An empty element has none.
func (h Header) Strings(t tag.Tag) []string {
	values, ok := h.value(t).([]string)
	if !ok {
		return nil
	}
	trimmed := make([]string, len(values))
	for i, v := range values {
		trimmed[i] = strings.Trim(v, " \x00\t\r\n")
	}
	if len(trimmed) == 1 && trimmed[0] == "" {
		return nil
	}
	return trimmed
}

// String returns the first value of a text element.
func (h Header) String(t tag.Tag) string {
	if v := h.Strings(t); len(v) > 0 {
		return v[0]
	}
	return ""
}

// Ints returns the values of a binary integer element (US, SS, UL, SL) or of an IS.
func (h Header) Ints(t tag.Tag) []int {
	switch v := h.value(t).(type) {
	case []int:
		return v
	case []string:
		var ints []int
		for _, s := range h.Strings(t) {
			n, err := strconv.Atoi(s)
			if err != nil {
				return nil
			}
			ints = append(ints, n)
		}
		return ints
	}
	return nil
}

// Int returns the first value of an integer element, and whether there is one.
func (h Header) Int(t tag.Tag) (int, bool) {
	if v := h.Ints(t); len(v) > 0 {
		return v[0], true
	}
	return 0, false
}

// Float returns the first value of a DS, IS, FL or FD element, and whether there is one and it is finite.
func (h Header) Float(t tag.Tag) (float64, bool) {
	switch v := h.value(t).(type) {
	case []float64:
		if len(v) > 0 && !math.IsNaN(v[0]) && !math.IsInf(v[0], 0) {
			return v[0], true
		}
	case []string:
		f, err := strconv.ParseFloat(h.String(t), 64)
		if err == nil && !math.IsNaN(f) && !math.IsInf(f, 0) {
			return f, true
		}
	}
	return 0, false
}

// Bytes returns the value of an OB, OW or UN element. 16-bit words are little endian whatever the transfer syntax.
func (h Header) Bytes(t tag.Tag) []byte {
	b, _ := h.value(t).([]byte)
	return b
}

// Items returns the items of a sequence.
func (h Header) Items(t tag.Tag) []Header {
	values, ok := h.value(t).([]*dicom.SequenceItemValue)
	if !ok {
		return nil
	}
	items := make([]Header, 0, len(values))
	for _, v := range values {
		elems, _ := v.GetValue().([]*dicom.Element)
		item, _ := newHeader(elems)
		items = append(items, item)
	}
	return items
}
