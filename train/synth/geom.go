package synth

import "math"

// vec is a point or a direction in the patient's frame, millimetres: x to the patient's left, y to the back, z to the head
// (the LPS axes of PS3.3 C.7.6.2.1.1). The origin lies between the lung hila.
type vec struct{ x, y, z float64 }

func (a vec) add(b vec) vec           { return vec{a.x + b.x, a.y + b.y, a.z + b.z} }
func (a vec) sub(b vec) vec           { return vec{a.x - b.x, a.y - b.y, a.z - b.z} }
func (a vec) scale(k float64) vec     { return vec{a.x * k, a.y * k, a.z * k} }
func (a vec) dot(b vec) float64       { return a.x*b.x + a.y*b.y + a.z*b.z }
func (a vec) norm() float64           { return math.Sqrt(a.dot(a)) }
func (a vec) unit() vec               { return a.scale(1 / a.norm()) }
func (a vec) cross(b vec) vec         { return vec{a.y*b.z - a.z*b.y, a.z*b.x - a.x*b.z, a.x*b.y - a.y*b.x} }
func lerp(a, b vec, t float64) vec    { return a.add(b.sub(a).scale(t)) }
func mix(a, b, t float64) float64     { return a + (b-a)*t }
func clamp(x, lo, hi float64) float64 { return min(max(x, lo), hi) }

// mat holds three rows.
type mat [3]vec

func (m *mat) mul(v vec) vec { return vec{m[0].dot(v), m[1].dot(v), m[2].dot(v)} }

// rotation turns by the given angles (radians) about x, then y, then z.
func rotation(ax, ay, az float64) mat {
	sx, cx := math.Sincos(ax)
	sy, cy := math.Sincos(ay)
	sz, cz := math.Sincos(az)
	return mat{
		{cz * cy, cz*sy*sx - sz*cx, cz*sy*cx + sz*sx},
		{sz * cy, sz*sy*sx + cz*cx, sz*sy*cx - cz*sx},
		{-sy, cy * sx, cy * cx},
	}
}

// solid is an ellipsoid: the points with |m(p-c)| < 1. With a cap it is a disc instead: the elliptic cylinder along its
// third axis between two planes, so that a ray's part inside is one interval either way.
type solid struct {
	c      vec
	m      mat
	axis   vec     // of the cap, a unit vector
	cap    float64 // half height along axis, mm; 0 means none
	radius float64 // of a ball about c that holds the solid
}

// ellipsoid has the semi-axes rx, ry, rz (mm) along the rotated axes.
func ellipsoid(c vec, rx, ry, rz float64, turn mat) solid {
	s := solid{c: c, radius: max(rx, ry, rz)}
	x, y, z := turn[0], turn[1], turn[2] // the solid's axes are the columns
	s.m = mat{vec{x.x, y.x, z.x}.scale(1 / rx), vec{x.y, y.y, z.y}.scale(1 / ry), vec{x.z, y.z, z.z}.scale(1 / rz)}
	return s
}

// upright is an ellipsoid along the patient's own axes.
func upright(c vec, rx, ry, rz float64) solid { return ellipsoid(c, rx, ry, rz, rotation(0, 0, 0)) }

// disc is an elliptic cylinder of semi-axes rx, ry and the half height half along its third axis.
func disc(c vec, rx, ry, half float64, turn mat) solid {
	s := ellipsoid(c, rx, ry, half, turn)
	s.axis, s.cap = s.m[2].unit(), half
	s.m[2] = vec{}
	s.radius = math.Hypot(max(rx, ry), half)
	return s
}

// level is |m(p-c)|: below 1 inside an ellipsoid.
func (s *solid) level(p vec) float64 { return s.m.mul(p.sub(s.c)).norm() }

// grown returns the ellipsoid with its semi-axes multiplied by k.
func (s solid) grown(k float64) solid {
	for i := range s.m {
		s.m[i] = s.m[i].scale(1 / k)
	}
	s.radius *= k
	return s
}

// moved returns the solid shifted by d.
func (s solid) moved(d vec) solid {
	s.c = s.c.add(d)
	return s
}

// tube is a bent wire, vessel or rib: a polyline of balls with a radius (mm) at each point, filled with extra attenuation
// (1/mm) over what lies there already.
type tube struct {
	pts   []vec
	radii []float64
	mu    float64
}

// curve samples a Catmull-Rom spline through the points, n steps a piece.
func curve(n int, through ...vec) []vec {
	at := func(i int) vec { return through[min(max(i, 0), len(through)-1)] }
	var out []vec
	for i := range len(through) - 1 {
		a, b, c, d := at(i-1), at(i), at(i+1), at(i+2)
		for k := range n {
			t := float64(k) / float64(n)
			p := b.scale(2).add(c.sub(a).scale(t))
			p = p.add(a.scale(2).sub(b.scale(5)).add(c.scale(4)).sub(d).scale(t * t))
			p = p.add(b.scale(3).sub(a).sub(c.scale(3)).add(d).scale(t * t * t))
			out = append(out, p.scale(0.5))
		}
	}
	return append(out, at(len(through)-1))
}

// even is a tube of one radius.
func even(pts []vec, radius, mu float64) tube {
	radii := make([]float64, len(pts))
	for i := range radii {
		radii[i] = radius
	}
	return tube{pts, radii, mu}
}
