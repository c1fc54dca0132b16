package cxr

import (
	"encoding/binary"
	"fmt"
	"math"
	"strings"

	"github.com/mvmae/mvmae/dicom"
	"github.com/mvmae/mvmae/dicom/codec"
	"github.com/suyashkumar/dicom/pkg/tag"
)

// display is the grayscale pipeline of PS3.4 N.2, from a raw word that occurs to [0,1], but for the inversion that comes last.
// The luma of a colour image and a picture have no header attributes to follow: their full range is stretched.
func display(p *codec.Plane, hist []uint32, h dicom.Header) (gray func(word int) float64, inverted bool, err error) {
	if p.Colour {
		h = nil
	}
	modality, err := modalityLUT(h, p.Signed())
	if err != nil {
		return nil, false, err
	}
	bias := lowBandBias(p)
	value := func(w int) float64 { return modality(float64(p.Value(w)) - bias) }
	lo, hi := math.Inf(1), math.Inf(-1)
	for w, n := range hist {
		if n > 0 {
			v := value(w)
			lo, hi = min(lo, v), max(hi, v)
		}
	}
	voi, err := voiLUT(h, p.Signed() || lo < 0)
	if err != nil {
		return nil, false, err
	}
	if voi == nil {
		voi = func(x float64) float64 {
			if hi == lo {
				return 0
			}
			return (x - lo) / (hi - lo)
		}
	}
	inverted = p.Inverted || strings.EqualFold(h.String(tag.PresentationLUTShape), "INVERSE")
	return func(w int) float64 { return min(max(voi(value(w)), 0), 1) }, inverted, nil
}

// render makes the table of display, for the words that occur: rounded half up to all values of T.
func render[T uint8 | uint16](hist []uint32, gray func(word int) float64, inverted bool, table []T) {
	white := ^T(0)
	for w, n := range hist {
		if n == 0 {
			continue
		}
		table[w] = T(math.Floor(gray(w)*float64(white) + 0.5))
		if inverted {
			table[w] = white - table[w]
		}
	}
}

// modalityLUT is the Modality LUT Sequence, else the rescale (PS3.3 C.11.1).
func modalityLUT(h dicom.Header, signed bool) (func(float64) float64, error) {
	if items := h.Items(tag.ModalityLUTSequence); len(items) > 0 {
		lut, err := readLUT("Modality LUT", items[0], signed)
		if err != nil {
			return nil, err
		}
		return func(x float64) float64 { return float64(lut.at(x)) }, nil
	}
	slope, ok := h.Float(tag.RescaleSlope)
	if !ok || slope == 0 {
		slope = 1
	}
	intercept, _ := h.Float(tag.RescaleIntercept)
	return func(x float64) float64 { return x*slope + intercept }, nil
}

// voiLUT is the first item of the VOI LUT Sequence, else the first window (PS3.3 C.11.2), as a map to [0,1]. It is nil
// where the header has neither, or a window without width.
func voiLUT(h dicom.Header, signed bool) (func(float64) float64, error) {
	if items := h.Items(tag.VOILUTSequence); len(items) > 0 {
		lut, err := readLUT("VOI LUT", items[0], signed)
		if err != nil {
			return nil, err
		}
		white := float64(int(1)<<lut.bits - 1)
		return func(x float64) float64 { return float64(lut.at(x)) / white }, nil
	}
	c, okCenter := h.Float(tag.WindowCenter)
	w, okWidth := h.Float(tag.WindowWidth)
	function := strings.ToUpper(h.String(tag.VOILUTFunction))
	switch {
	case !okCenter || !okWidth || w <= 0:
		return nil, nil
	case function == "SIGMOID":
		return func(x float64) float64 { return 1 / (1 + math.Exp(-4*(x-c)/w)) }, nil
	case function == "LINEAR_EXACT":
		return ramp(c, w), nil
	case w < 1: // a LINEAR window has a width of 1 at least
		return nil, nil
	}
	return ramp(c-0.5, w-1), nil
}

// ramp rises from 0 at c-w/2 to 1 at c+w/2. One without width is a step: 0 up to c, 1 above.
func ramp(c, w float64) func(float64) float64 {
	return func(x float64) float64 {
		switch {
		case x <= c-w/2:
			return 0
		case x > c+w/2:
			return 1
		}
		return (x-c)/w + 0.5
	}
}

// lut is a lookup table of PS3.3 C.11.1.1: values below first take its first entry, those past its end the last.
type lut struct {
	first   int
	bits    int
	entries []uint16
}

func (l lut) at(x float64) uint16 {
	i := math.Round(x) - float64(l.first)
	return l.entries[int(min(max(i, 0), float64(len(l.entries)-1)))]
}

// readLUT reads LUTDescriptor and LUTData. The first value mapped is as signed as what goes in, whatever VR the descriptor
// has; the number of entries never is, and 0 means 65,536.
func readLUT(name string, item dicom.Header, signed bool) (lut, error) {
	malformed := func(format string, args ...any) (lut, error) {
		return lut{}, &dicom.Error{Code: dicom.CodeMalformed, Detail: name + ": " + fmt.Sprintf(format, args...)}
	}
	d := item.Ints(tag.LUTDescriptor)
	if len(d) != 3 {
		return malformed("LUTDescriptor has %d values", len(d))
	}
	n, first, bits := d[0]&0xffff, d[1]&0xffff, d[2]
	if n == 0 {
		n = 1 << 16
	}
	if signed {
		first = int(int16(first))
	}
	if bits < 8 || bits > 16 {
		return malformed("LUTDescriptor says %d bits", bits)
	}
	var entries []uint16
	for _, v := range item.Ints(tag.LUTData) { // US, or SS
		entries = append(entries, uint16(v))
	}
	for b := item.Bytes(tag.LUTData); len(b) >= 2; b = b[2:] { // OW
		entries = append(entries, binary.LittleEndian.Uint16(b))
	}
	if bits == 8 && len(entries) < n { // two entries to a word
		var halves []uint16
		for _, w := range entries {
			halves = append(halves, w&0xff, w>>8)
		}
		entries = halves
	}
	if len(entries) < n {
		return malformed("LUTData has %d entries of %d", len(entries), n)
	}
	return lut{first, bits, entries[:n]}, nil
}
