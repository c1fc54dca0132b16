package synth

import "math"

const (
	edgeGrid = 128 // an edge is what differs from the mean over some 6 mm
	edgeSD   = 1   // cells
)

// present maps what the exposer left to stored values, [size,size]. The device's limits are percentiles within the body, missed
// by a little; denser is brighter unless the view is stored as MONOCHROME1.
func (e *exposer) present(sum []float64, v *View) []uint16 {
	if v.display.Edge > 0 {
		e.sharpen(sum, v.display.Edge)
	}
	lo, hi := e.limits(sum, v)
	width := hi - lo
	lo, hi = lo+v.black*width, hi+v.white*width
	curve := v.lookup()
	scale := float64(len(curve)-1) / (hi - lo)
	out := make([]uint16, len(sum))
	for i, s := range sum {
		at := clamp((s-lo)*scale, 0, float64(len(curve)-1))
		cell := min(int(at), len(curve)-2)
		out[i] = uint16(math.Floor(mix(curve[cell], curve[cell+1], at-float64(cell)) + 0.5))
	}
	full := uint16(1)<<v.display.Bits - 1
	if v.field.shutter {
		e.blacken(out, v)
	}
	for _, m := range v.marks {
		m.burn(out, e.size, v.detector.FieldMM/float64(e.size), full)
	}
	if v.inverted {
		for i := range out {
			out[i] = full - out[i]
		}
	}
	return out
}

// lookup is the look-up table from the exposure range to stored values: a power, and a film's S in part.
func (v *View) lookup() (curve [1024]float64) {
	full := float64(uint(1)<<v.display.Bits - 1)
	for i := range curve {
		x := pow(float64(i)/float64(len(curve)-1), v.gamma)
		curve[i] = full * mix(x, x*x*(3-2*x), v.display.Film)
	}
	return curve
}

// sharpen adds a part of what is finer than edgeGrid's cells.
func (e *exposer) sharpen(sum []float64, gain float64) {
	e.smooth.average(sum, e.size, min(edgeGrid, e.size/2), func(s float64) float64 { return s })
	e.smooth.blur(edgeSD)
	for row := range e.size {
		for col := range e.size {
			i := row*e.size + col
			sum[i] += gain * (sum[i] - e.smooth.at(row, col, e.size))
		}
	}
}

// limits returns the 1st and 99.5th percentiles of the pixels behind the body and between the leaves.
func (e *exposer) limits(sum []float64, v *View) (lo, hi float64) {
	const bins, top = 2048, 10.0
	var count [bins]int
	total := 0
	left, right, above, below := e.opening(v)
	for row := above; row < below; row++ {
		for _, s := range sum[row*e.size+left : row*e.size+right] {
			if s > bodyFrom {
				count[min(bins-1, int(s*bins/top))]++
				total++
			}
		}
	}
	find := func(part float64) float64 {
		left := part * float64(total)
		for i, n := range count {
			if left -= float64(n); left < 0 {
				return float64(i) * top / bins
			}
		}
		return top
	}
	return find(0.01), max(find(0.995), find(0.01)+0.5)
}

// opening is the collimated part of the picture without the shadow's edge: columns left to right, rows above to below.
func (e *exposer) opening(v *View) (left, right, above, below int) {
	if v.field == (field{}) {
		return 0, e.size, 0, e.size
	}
	edge := func(mm float64) int {
		return int(clamp(mm*float64(e.size)/v.detector.FieldMM+float64(e.size)/2, 0, float64(e.size)))
	}
	return edge(-v.field.left) + 1, edge(v.field.right) - 1, edge(-v.field.top) + 1, edge(v.field.bottom) - 1
}

// blacken covers what lies outside the collimator's opening.
func (e *exposer) blacken(out []uint16, v *View) {
	left, right, above, below := e.opening(v)
	for row := range e.size {
		line := out[row*e.size : (row+1)*e.size]
		if row < above || row >= below {
			clear(line)
			continue
		}
		clear(line[:left])
		clear(line[right:])
	}
}
