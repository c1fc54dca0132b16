package synth

import "math"

// camera is the ray geometry of a view in the patient's frame. A ray runs from the source to a pixel; a parameter along it
// is 0 at the source and 1 at the detector.
type camera struct {
	source vec
	corner vec // centre of the pixel in row 0, column 0
	du, dv vec // one pixel along a row, along a column
	normal vec // from source to detector, unit
	dist   float64
	size   int
}

// newCamera places the source and a detector of size x size pixels.
func newCamera(v *View, size int) *camera {
	u, n := v.setup.u, v.setup.n
	turn := rotation(0, 0, v.turn)
	u, n = turn.mul(u), turn.mul(n)
	w := vec{z: -1}
	cl, sl := math.Cos(v.lean), math.Sin(v.lean)
	n, w = n.scale(cl).add(w.scale(sl)), w.scale(cl).sub(n.scale(sl))
	cr, sr := math.Cos(v.roll), math.Sin(v.roll)
	u, w = u.scale(cr).add(w.scale(sr)), w.scale(cr).sub(u.scale(sr))
	centre := n.scale(v.toDetector).sub(v.shift)
	pitch := v.detector.FieldMM / float64(size)
	c := &camera{
		source: centre.sub(n.scale(v.setup.sourceMM)),
		du:     u.scale(pitch), dv: w.scale(pitch),
		normal: n, dist: v.setup.sourceMM, size: size,
	}
	half := float64(size-1) / 2
	c.corner = centre.sub(c.du.scale(half)).sub(c.dv.scale(half))
	return c
}

// toMillimetres scales a row of lengths, given as parts of the ray from source to detector.
func (c *camera) toMillimetres(row int, lengths []float64) {
	d := c.corner.sub(c.source).add(c.dv.scale(float64(row)))
	l0, l1, l2 := d.dot(d), 2*d.dot(c.du), c.du.dot(c.du)
	for col := range lengths {
		x := float64(col)
		lengths[col] *= math.Sqrt(l0 + x*(l1+x*l2))
	}
}

// project returns the column and row (pixels) where p falls and the pixels a millimetre at p takes.
func (c *camera) project(p vec) (col, row, perMM float64) {
	d := p.sub(c.source)
	depth := d.dot(c.normal)
	hit := d.scale(c.dist / depth).add(c.source).sub(c.corner)
	pitch2 := c.du.dot(c.du)
	return hit.dot(c.du) / pitch2, hit.dot(c.dv) / pitch2, c.dist / depth / math.Sqrt(pitch2)
}
