package synth

import "math"

// Linear attenuation (1/mm) at the mean energy of a filtered 120 kVp chest beam, near 60 keV; values rounded from the NIST
// tables of Hubbell and Seltzer (NISTIR 5632) times usual densities. Lung is tissue at 0.26 g/ml.
const (
	muSoft    = 0.0205
	muLung    = 0.0053
	muCortex  = 0.052 // compact bone
	muSpongy  = 0.031 // vertebral body
	muCalcium = 0.042
	muMetal   = 0.35
)

// scene is everything one exposure sees. Body and lungs are sets of nested shapes: along a ray, soft tissue counts where any
// body solid is, air where a lung is and no soft solid. Dense solids and tubes add to what is there.
type scene struct {
	body  []solid
	soft  []solid // what cuts into the lungs: heart, vessels, mediastinum, diaphragm, pleural thickening
	lungs [2]lung // right, left
	dense []density
	tubes []tube
}

type density struct {
	solid
	mu float64
}

// lung is a pleural cavity and what fills it.
type lung struct {
	cavity solid
	floor  float64 // nothing is aerated below this height, mm
	mu     float64
	opaque []blob

	inner     *solid // where the lung itself is when the cavity also holds fluid or air
	rim       solid  // a little smaller than inner: between them lies the pleural line of a collapsed lung
	collapsed bool   // the rest of the cavity is air; otherwise fluid
}

// blob is a region of the lung that holds more than air, mu (1/mm) at its centre. A soft one fades as 1-r*r to its edge.
type blob struct {
	solid
	mu   float64
	soft bool
}

// renderer computes line integrals and exposures of one size; it is not safe for concurrent use, its buffers are reused.
type renderer struct {
	exposer
	sum     []float64 // [size*size] attenuation along the ray to each pixel
	scratch []float64
	body    []quadric
	soft    []quadric
	dense   []quadric
	lungs   [2]lungQuadrics

	hitBody, hitSoft []*quadric // of the row at hand
	hitOpaque        []int
}

// lungQuadrics is a lung as the camera sees it.
type lungQuadrics struct {
	of                 *lung
	cavity, inner, rim quadric
	opaque             []quadric
}

func newRenderer(size int) *renderer {
	return &renderer{exposer: exposer{size: size, line: make([]float64, size)}, sum: make([]float64, size*size), scratch: make([]float64, size*size)}
}

// integrals fills r.sum with the integral of attenuation along the ray to each pixel (Beer-Lambert: intensity is
// exp(-sum)), [size,size] row-major.
func (r *renderer) integrals(sc *scene, c *camera) {
	r.prepare(sc, c)
	for row := range r.size {
		out := r.sum[row*r.size : (row+1)*r.size]
		r.bodyRow(row, out)
		r.hitSoft = scan(r.soft, row, r.hitSoft[:0])
		for i := range r.lungs {
			r.lungRow(&r.lungs[i], c, row, out)
		}
		for i := range r.dense {
			q := &r.dense[i]
			if !q.scanRow(row) {
				continue
			}
			for col := q.colLo; col < q.colHi; col++ {
				out[col] += sc.dense[i].mu * q.at(col).length()
			}
		}
		c.toMillimetres(row, out)
	}
	for i := range sc.tubes {
		r.addTube(&sc.tubes[i], c)
	}
}

func (r *renderer) prepare(sc *scene, c *camera) {
	r.body = prepared(r.body, len(sc.body), func(i int, q *quadric) { c.quadric(&sc.body[i], q) })
	r.soft = prepared(r.soft, len(sc.soft), func(i int, q *quadric) { c.quadric(&sc.soft[i], q) })
	r.dense = prepared(r.dense, len(sc.dense), func(i int, q *quadric) { c.quadric(&sc.dense[i].solid, q) })
	for side := range sc.lungs {
		l, q := &sc.lungs[side], &r.lungs[side]
		q.of = l
		c.quadric(&l.cavity, &q.cavity)
		q.opaque = prepared(q.opaque, len(l.opaque), func(i int, q *quadric) { c.quadric(&l.opaque[i].solid, q) })
		if l.inner != nil {
			c.quadric(l.inner, &q.inner)
			c.quadric(&l.rim, &q.rim)
		}
	}
}

// prepared returns qs with n quadrics, each set; the buffers of earlier ones are kept.
func prepared(qs []quadric, n int, set func(int, *quadric)) []quadric {
	for len(qs) < n {
		qs = append(qs, quadric{})
	}
	for i := range n {
		set(i, &qs[i])
	}
	return qs[:n]
}

// scan computes the row of every quadric and appends those it meets.
func scan(qs []quadric, row int, hit []*quadric) []*quadric {
	for i := range qs {
		if qs[i].scanRow(row) {
			hit = append(hit, &qs[i])
		}
	}
	return hit
}

// bodyRow sets soft tissue along the union of the body's solids.
func (r *renderer) bodyRow(row int, out []float64) {
	r.hitBody = scan(r.body, row, r.hitBody[:0])
	for col := range out {
		var ivs [8]interval
		n := 0
		for _, q := range r.hitBody {
			if col >= q.colLo && col < q.colHi && n < len(ivs) {
				ivs[n] = interval{q.enter[col], q.leave[col]}
				n++
			}
		}
		out[col] = muSoft * union(ivs[:n])
	}
}

// lungRow takes soft tissue away where the lung is aerated and adds what the lung holds.
func (r *renderer) lungRow(q *lungQuadrics, c *camera, row int, out []float64) {
	if !q.cavity.scanRow(row) {
		return
	}
	l := q.of
	if l.inner != nil {
		q.inner.scanRow(row)
		q.rim.scanRow(row)
	}
	r.hitOpaque = r.hitOpaque[:0]
	for i := range q.opaque {
		if q.opaque[i].scanRow(row) {
			r.hitOpaque = append(r.hitOpaque, i)
		}
	}
	slope := c.corner.z - c.source.z + c.dv.z*float64(row)
	for col := q.cavity.colLo; col < q.cavity.colHi; col++ {
		cavity := above(q.cavity.at(col), c.source.z-l.floor, slope+c.du.z*float64(col))
		aerated := cavity
		if l.inner != nil {
			aerated = cavity.and(q.inner.at(col))
			if !l.collapsed {
				cavity = aerated // fluid is soft tissue, which is there already
			}
		}
		segs := segments{n: 1}
		segs.iv[0] = cavity
		for _, s := range r.hitSoft {
			if col >= s.colLo && col < s.colHi {
				segs.cut(interval{s.enter[col], s.leave[col]})
			}
		}
		length := segs.overlap(aerated)
		held := l.mu * length
		for _, i := range r.hitOpaque {
			held += q.amount(i, &segs, aerated, col)
		}
		held = min(held, muSoft*length) // an opacity cannot hold more than tissue
		if l.collapsed {
			held += muSoft * (length - segs.overlap(q.rim.at(col)))
		}
		out[col] += held - muSoft*segs.length()
	}
}

// amount integrates opacity i over the aerated parts of the ray.
func (q *lungQuadrics) amount(i int, segs *segments, aerated interval, col int) float64 {
	s, b := &q.opaque[i], &q.of.opaque[i]
	span := s.at(col)
	if span.hi <= span.lo {
		return 0
	}
	if !b.soft {
		return b.mu * segs.overlap(aerated.and(span))
	}
	return b.mu * segs.fading(span, aerated, s.peak(col))
}

// addTube adds a tube's chords. Near the axis the ray counts as parallel to the one through it, so the chord of a piece
// follows from the pixel's distance to the projected axis; pieces are joined by their maximum, which makes joints smooth.
func (r *renderer) addTube(t *tube, c *camera) {
	lo, hi := [2]int{r.size, r.size}, [2]int{0, 0}
	for i := range len(t.pts) - 1 {
		p := c.piece(t, i)
		p.draw(r.scratch, r.size)
		lo = [2]int{min(lo[0], p.lo[0]), min(lo[1], p.lo[1])}
		hi = [2]int{max(hi[0], p.hi[0]), max(hi[1], p.hi[1])}
	}
	for row := lo[1]; row < hi[1]; row++ {
		for i := row*r.size + lo[0]; i < row*r.size+hi[0]; i++ {
			r.sum[i] += t.mu * r.scratch[i]
			r.scratch[i] = 0
		}
	}
}

// piece is one straight piece of a tube on the detector.
type piece struct {
	x, y, dx, dy float64 // pixels
	r0, dr       float64 // radius, pixels
	thin         bool    // of less than a pixel: drawn as a line one pixel wide that holds as much
	gain         float64 // chord, mm, per pixel of it
	lo, hi       [2]int  // columns, rows
}

// thinnest is the radius in pixels below which a tube is a line: there both ways of drawing are as bright.
const thinnest = 2 / math.Pi

func (c *camera) piece(t *tube, i int) piece {
	x0, y0, k0 := c.project(t.pts[i])
	x1, y1, k1 := c.project(t.pts[i+1])
	r0, r1, perMM := t.radii[i]*k0, t.radii[i+1]*k1, (k0+k1)/2
	p := piece{x: x0, y: y0, dx: x1 - x0, dy: y1 - y0, r0: r0, dr: r1 - r0}
	// A piece at an angle to the ray is cut obliquely; along the ray not more than two diameters count.
	oblique := math.Hypot(p.dx, p.dy) / max(1e-9, t.pts[i+1].sub(t.pts[i]).norm()*perMM)
	p.gain = 2 / max(oblique, 0.5) / perMM
	reach := max(r0, r1)
	if mean := (r0 + r1) / 2; mean < thinnest {
		p.thin, reach = true, 1
		p.gain *= math.Pi * mean * mean / 2
	}
	p.lo = [2]int{int(clamp(min(x0, x1)-reach, 0, float64(c.size))), int(clamp(min(y0, y1)-reach, 0, float64(c.size)))}
	p.hi = [2]int{int(clamp(max(x0, x1)+reach+1, 0, float64(c.size))), int(clamp(max(y0, y1)+reach+1, 0, float64(c.size)))}
	return p
}

// draw raises scratch, [size,size], to the piece's chords.
func (p *piece) draw(scratch []float64, size int) {
	long2 := max(p.dx*p.dx+p.dy*p.dy, 1e-9)
	for row := p.lo[1]; row < p.hi[1]; row++ {
		y := float64(row) - p.y
		for col := p.lo[0]; col < p.hi[0]; col++ {
			x := float64(col) - p.x
			t := clamp((x*p.dx+y*p.dy)/long2, 0, 1)
			ex, ey := x-t*p.dx, y-t*p.dy
			chord, radius := 0.0, p.r0+t*p.dr
			if d2 := ex*ex + ey*ey; p.thin && d2 < 1 {
				chord = p.gain * (1 - math.Sqrt(d2))
			} else if !p.thin && d2 < radius*radius {
				chord = p.gain * math.Sqrt(radius*radius-d2)
			}
			at := &scratch[row*size+col]
			*at = max(*at, chord)
		}
	}
}
