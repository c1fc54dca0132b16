package cxr

import "github.com/mvmae/mvmae/dicom/codec"

// The sides of the stored picture and of the middle of it that the model sees.
const (
	StoredSize = 256
	CropSize   = 224
)

// axis resamples one dimension with integer weights that add up to total for each output.
type axis struct {
	spans []span
	inner uint64
	total uint64
}

// span is the source of one output: first*src[a] + inner*(src[a+1]+...+src[b-1]) + last*src[b].
type span struct {
	a, b        int
	first, last uint64
}

// newAxis resamples n values to size and keeps count outputs from offset on.
func newAxis(n, size, offset, count int) axis {
	ax := axis{spans: make([]span, count), inner: uint64(size), total: uint64(n)}
	at := average
	if size > n {
		ax.inner, ax.total = 0, 2*uint64(size)
		at = interpolate
	}
	for i := range ax.spans {
		ax.spans[i] = at(offset+i, n, size)
	}
	return ax
}

// average is area averaging, for size <= n: source value j covers [j*size, (j+1)*size) of the line on which output i
// covers [i*n, (i+1)*n).
func average(i, n, size int) span {
	from, to := i*n, (i+1)*n
	s := span{a: from / size, b: (to - 1) / size}
	if s.a == s.b {
		s.first = uint64(n)
	} else {
		s.first, s.last = uint64((s.a+1)*size-from), uint64(to-s.b*size)
	}
	return s
}

// interpolate is linear interpolation between the centres of the two nearest values, in units of 1/(2*size) of their
// distance; beyond the outer centres the border is repeated.
func interpolate(i, n, size int) span {
	unit := 2 * size
	center := (2*i+1)*n - size
	s := span{a: center / unit, last: uint64(max(center, 0) % unit)}
	s.b = s.a + 1
	if s.b == n {
		s.b, s.last = s.a, 0
	}
	s.first = uint64(unit) - s.last
	return s
}

// row writes the weighted sums of src, at most 255*total each, to dst, [len(spans)].
func (ax axis) row(src []uint8, dst []uint64) {
	for i, s := range ax.spans {
		v := s.first * uint64(src[s.a])
		if s.b > s.a {
			var inner uint64
			for _, x := range src[s.a+1 : s.b] {
				inner += uint64(x)
			}
			v += ax.inner*inner + s.last*uint64(src[s.b])
		}
		dst[i] = v
	}
}

// resample calls put for each output row with its weighted sums, which x.total*y.total divides. source returns a row.
func resample(x, y axis, source func(row int) []uint8, put func(row int, sums []uint64)) {
	sums := make([]uint64, len(x.spans))
	line := make([]uint64, len(x.spans))
	have := -1 // the source row in line: neighbouring spans share one
	for i, s := range y.spans {
		clear(sums)
		for r := s.a; r <= s.b; r++ {
			weight := y.inner
			switch r {
			case s.a:
				weight = s.first
			case s.b:
				weight = s.last
			}
			if r != have {
				x.row(source(r), line)
				have = r
			}
			for j, v := range line {
				sums[j] += weight * v
			}
		}
		put(i, sums)
	}
}

// store maps p through w.table and resizes it, rounding half up: [StoredSize, StoredSize].
func store(p *codec.Plane, w *workspace, fit bool) []byte {
	rows, columns := p.Full()
	width, height := StoredSize, StoredSize
	if short := min(rows, columns); fit {
		width = (2*columns*StoredSize + short) / (2 * short) // rounded half up
		height = (2*rows*StoredSize + short) / (2 * short)
	}
	left, top := (width-StoredSize)/2, (height-StoredSize)/2
	stored := make([]byte, StoredSize*StoredSize)
	resize := enlarge
	switch {
	case p.Reduced > 0:
		resize = shrinkReduced
	case width <= columns && height <= rows:
		resize = shrink
	}
	resize(p, w, width, height, left, top, stored)
	return stored
}

// enlarge is for an image of which an axis grows, though it can shrink one too.
func enlarge(p *codec.Plane, w *workspace, width, height, left, top int, stored []byte) {
	x := newAxis(p.Columns, width, left, StoredSize)
	y := newAxis(p.Rows, height, top, StoredSize)
	line := make([]uint8, p.Columns)
	source := func(row int) []uint8 {
		p.MapRow(row, &w.table, line)
		return line
	}
	total := x.total * y.total
	resample(x, y, source, func(row int, sums []uint64) {
		for j, v := range sums {
			stored[row*StoredSize+j] = uint8((v + total/2) / total)
		}
	})
}

// Input makes the model's input of a stored picture, [StoredSize, StoredSize]: its middle 224 x 224, by area average
// (bilinear when enlarging) to size x size, divided by 255. dst is [1, size, size], in [0,1].
//
// It is the only function that does so: training, evaluation, the command line and the server all call it.
func Input(stored []byte, size int, dst []float32) {
	if len(stored) != StoredSize*StoredSize || len(dst) != size*size {
		panic("cxr.Input: stored must hold 256*256 bytes and dst size*size values")
	}
	const margin = (StoredSize - CropSize) / 2
	if size == CropSize { // what the code below does too, but at once
		for row := range size {
			line := stored[(margin+row)*StoredSize+margin:][:size]
			for j, v := range line {
				dst[row*size+j] = float32(v) / 255
			}
		}
		return
	}
	ax := newAxis(CropSize, size, 0, size)
	source := func(row int) []uint8 {
		at := (margin+row)*StoredSize + margin
		return stored[at : at+CropSize]
	}
	// One division of exact integers, then one rounding.
	white := float64(255 * ax.total * ax.total)
	resample(ax, ax, source, func(row int, sums []uint64) {
		for j, v := range sums {
			dst[row*size+j] = float32(float64(v) / white)
		}
	})
}
