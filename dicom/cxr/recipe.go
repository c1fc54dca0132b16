package cxr

import (
	"fmt"
	"math"
	"slices"

	"github.com/mvmae/mvmae/dicom"
	"github.com/mvmae/mvmae/dicom/codec"
)

// table makes the recipe's map from raw words to 8 bits in w, for the words that occur in p. h is nil for a picture.
// contrast is how many of the 256 levels from the lowest value to the highest the pixels need, but for the lowest and the
// highest hundredth of them; 0 if p holds one value only. Of a reduced plane, which only display takes, the map is w.fine.
func (r Recipe) table(p *codec.Plane, h dicom.Header, w *workspace) (contrast int, err error) {
	hist := p.Histogram(&w.counts)
	lo, hi := int32(math.MaxInt32), int32(math.MinInt32)
	for word, n := range hist {
		if n > 0 {
			v := p.Value(word)
			lo, hi = min(lo, v), max(hi, v)
		}
	}
	table := w.table[:len(hist)]
	levels := stretch(p, hist, lo, hi, table)
	if hi > lo {
		contrast = spread(&levels)
	}
	switch r.Name {
	case Mimic.Name:
		mimic(p, &levels, table)
	case Display.Name:
		gray, inverted, err := display(p, hist, h)
		if err != nil {
			return 0, err
		}
		if p.Reduced > 0 {
			render(hist, gray, inverted, w.fine[:len(hist)])
		} else {
			render(hist, gray, inverted, table)
		}
	default:
		return 0, fmt.Errorf("unknown recipe %q", r.Name)
	}
	return contrast, nil
}

// stretch maps lo..hi to 8 bits and counts the pixels of each level.
func stretch(p *codec.Plane, hist []uint32, lo, hi int32, table []uint8) (levels [256]uint32) {
	for w, n := range hist {
		if n == 0 {
			continue
		}
		table[w] = 0
		if hi > lo {
			table[w] = uint8(float64(p.Value(w)-lo) / float64(hi-lo) * 255)
		}
		levels[table[w]] += n
	}
	return levels
}

// spread is the number of levels left when a hundredth of the pixels is taken from either end.
func spread(levels *[256]uint32) int {
	var total uint32
	for _, n := range levels {
		total += n
	}
	first, last := 0, 255
	for left := total / 100; levels[first] <= left; first++ {
		left -= levels[first]
	}
	for left := total / 100; levels[last] <= left; last-- {
		left -= levels[last]
	}
	return last - first + 1
}

// mimic inverts MONOCHROME1 and equalises, on top of stretch.
func mimic(p *codec.Plane, levels *[256]uint32, table []uint8) {
	if p.Inverted {
		slices.Reverse(levels[:])
	}
	equalised := equalise(*levels)
	if p.Inverted {
		slices.Reverse(equalised[:])
	}
	for w := range table {
		table[w] = equalised[table[w]]
	}
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
