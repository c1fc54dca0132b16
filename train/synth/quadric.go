package synth

import "math"

// quadric is a solid as one camera sees it. Along the ray to (col, row) the squared level is a*s*s + 2*b*s + k + 1, where a
// is quadratic and b linear in col: nothing but these polynomials is left to evaluate per pixel.
type quadric struct {
	o, p, q, r     vec // m(source-c), m(corner-source), m(du), m(dv)
	k              float64
	axisO, axisP   float64
	axisQ, axisR   float64
	cap            float64
	rowLo, rowHi   int // the shadow of the ball that holds the solid
	minCol, maxCol int
	a0, a1, a2     float64 // this row's
	b0, b1         float64
	axisRow        float64
	colLo, colHi   int
	enter, leave   []float64 // per column of this row: the ray's parameters
}

// quadric sets q to the solid's, reusing q's buffers.
func (c *camera) quadric(s *solid, q *quadric) {
	o := c.source.sub(s.c)
	first := c.corner.sub(c.source)
	enter, leave := q.enter, q.leave
	if len(enter) != c.size {
		enter, leave = make([]float64, c.size), make([]float64, c.size)
	}
	*q = quadric{o: s.m.mul(o), p: s.m.mul(first), q: s.m.mul(c.du), r: s.m.mul(c.dv), cap: s.cap, enter: enter, leave: leave}
	q.k = q.o.dot(q.o) - 1
	q.axisO, q.axisP, q.axisQ, q.axisR = s.axis.dot(o), s.axis.dot(first), s.axis.dot(c.du), s.axis.dot(c.dv)
	// The ball's shadow, with a little to spare for the slant of outer rays.
	col, row, perMM := c.project(s.c)
	reach := s.radius*perMM*1.15 + 2
	q.rowLo, q.rowHi = max(0, int(row-reach)), min(c.size, int(row+reach)+1)
	q.minCol, q.maxCol = max(0, int(col-reach)), min(c.size, int(col+reach)+1)
}

// scanRow fills enter and leave for one row and reports whether the solid is seen in it, in columns [colLo, colHi).
func (q *quadric) scanRow(row int) bool {
	q.colLo, q.colHi = 0, 0
	if row < q.rowLo || row >= q.rowHi {
		return false
	}
	p := q.p.add(q.r.scale(float64(row)))
	q.a0, q.a1, q.a2 = p.dot(p), 2*p.dot(q.q), q.q.dot(q.q)
	q.b0, q.b1 = q.o.dot(p), q.o.dot(q.q)
	d0, d1, d2 := q.b0*q.b0-q.a0*q.k, 2*q.b0*q.b1-q.a1*q.k, q.b1*q.b1-q.a2*q.k
	q.colLo, q.colHi = q.minCol, q.maxCol
	if d2 < 0 {
		// The ray meets the solid where b*b - a*k > 0: an interval of columns between two roots. (d2 is positive for a disc that
		// faces the source: its endless cylinder fills the view, and only the caps bound the ray.)
		disc := d1*d1 - 4*d2*d0
		if disc <= 0 {
			q.colHi = q.colLo
			return false
		}
		root, mid := math.Sqrt(disc)/(-2*d2), -d1/(2*d2)
		q.colLo = max(q.colLo, int(math.Ceil(mid-root)))
		q.colHi = min(q.colHi, int(math.Floor(mid+root))+1)
	}
	if q.colLo >= q.colHi {
		q.colHi = q.colLo
		return false
	}
	q.axisRow = q.axisP + q.axisR*float64(row)
	for col := q.colLo; col < q.colHi; col++ {
		x := float64(col)
		a := max(q.a0+x*(q.a1+x*q.a2), 1e-30) // 0 along a disc's axis
		b := q.b0 + x*q.b1
		h := math.Sqrt(max(b*b-a*q.k, 0)) // 0 outside
		q.enter[col], q.leave[col] = (-b-h)/a, (-b+h)/a
	}
	if q.cap > 0 {
		q.clipCaps()
	}
	return true
}

// at is the part of the ray to col, in the row scanned last, that lies inside.
func (q *quadric) at(col int) interval {
	if col < q.colLo || col >= q.colHi {
		return interval{}
	}
	return interval{q.enter[col], q.leave[col]}
}

// peak is one less the smallest squared level along the ray.
func (q *quadric) peak(col int) float64 {
	x := float64(col)
	h := (q.leave[col] - q.enter[col]) / 2
	return h * h * (q.a0 + x*(q.a1+x*q.a2))
}

// clipCaps cuts the cylinder's intervals at its two planes.
func (q *quadric) clipCaps() {
	for col := q.colLo; col < q.colHi; col++ {
		slope := q.axisRow + q.axisQ*float64(col) // growth of the height over the plane through c, per unit of the parameter
		if math.Abs(slope) < 1e-9 {
			slope = 1e-9
		}
		s1, s2 := (-q.cap-q.axisO)/slope, (q.cap-q.axisO)/slope
		q.enter[col] = max(q.enter[col], min(s1, s2))
		q.leave[col] = min(q.leave[col], max(s1, s2))
	}
}
