package cxr

import (
	"fmt"
	"math"

	"github.com/mvmae/mvmae/dicom"
	"github.com/mvmae/mvmae/dicom/codec"
)

// table makes the recipe's map from raw words to 8 bits, [p.Words()], for the words that occur in p. h is nil for a
// picture. constant says that p holds one value only.
func (r Recipe) table(p *codec.Plane, h dicom.Header) (table []uint8, constant bool, err error) {
	hist := p.Histogram()
	lo, hi := int32(math.MaxInt32), int32(math.MinInt32)
	for w, n := range hist {
		if n > 0 {
			v := p.Value(w)
			lo, hi = min(lo, v), max(hi, v)
		}
	}
	switch r.Name {
	case Mimic.Name:
		return mimic(p, hist, lo, hi), lo == hi, nil
	case Display.Name:
		table, err = display(p, hist, h)
		return table, lo == hi, err
	}
	return nil, false, fmt.Errorf("unknown recipe %q", r.Name)
}

// mimic stretches lo..hi to 8 bits, inverts MONOCHROME1 and equalises.
func mimic(p *codec.Plane, hist []uint32, lo, hi int32) []uint8 {
	table := make([]uint8, len(hist))
	var levels [256]uint32
	for w, n := range hist {
		if n == 0 {
			continue
		}
		if hi > lo {
			table[w] = uint8(float64(p.Value(w)-lo) / float64(hi-lo) * 255)
		}
		if p.Inverted {
			table[w] = 255 - table[w]
		}
		levels[table[w]] += n
	}
	equalised := equalise(levels)
	for w := range table {
		table[w] = equalised[table[w]]
	}
	return table
}

// equalise is cv::equalizeHist: the darkest level in use becomes 0, each other one the share of pixels above the darkest
// level and up to it. The scale is a float32 and ties go to the even number, as there. An image of one level stays as it is.
func equalise(levels [256]uint32) (table [256]uint8) {
	var total uint32
	for _, n := range levels {
		total += n
	}
	first := 0
	for first < 255 && levels[first] == 0 {
		first++
	}
	if levels[first] == total {
		table[first] = uint8(first)
		return table
	}
	scale := float32(255) / float32(total-levels[first])
	var sum uint32
	for i := first + 1; i < 256; i++ {
		sum += levels[i]
		table[i] = uint8(math.RoundToEven(float64(float32(sum) * scale)))
	}
	return table
}
