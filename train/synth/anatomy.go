package synth

import "math"

// Side names a half of the body as the patient sees it.
type Side string

const (
	Right   Side = "right"
	Left    Side = "left"
	Both    Side = "both"
	Midline Side = "midline"
)

// sides are the halves in the order of scene.lungs, with the sign of their x.
var sides = [2]struct {
	name Side
	sign float64
}{{Right, -1}, {Left, 1}}

// anatomy is one body's measures: NewPatient draws them, a study varies some, findings change others. Lengths are for a
// man of mean height; build multiplies all by scale.
type anatomy struct {
	scale    float64
	wall     float64    // thickness of the chest wall, mm
	depth    float64    // front to back, relative
	breast   float64    // radius, mm; 0 for none
	heart    float64    // size, relative
	heartAt  vec        // shift, mm
	upper    float64    // width of the upper mediastinum, relative
	aorta    float64    // relative
	kyphosis float64    // of the spine, mm
	scolio   float64    // bend of the spine to a side, mm
	dome     [2]float64 // height of the diaphragm, mm
	lungMu   float64
	vessels  float64 // calibre, relative
	ribPitch float64 // from rib to rib, mm
	ribDrop  float64 // how steeply ribs fall to the front, relative
	bubble   float64 // size of the stomach's gas, relative; 0 for none
	bone     float64 // density of bone, relative
	seed     uint64  // of the vessels

	breaks []ribBreak
	wedges map[int]float64 // vertebra: part of its height lost
}

// ribBreak is a fracture: rib number side by side, the angle round the cage (radians from the spine), the gap and step (mm)
// between its ends, and callus (radius, mm; 0 for none).
type ribBreak struct {
	side, rib         int
	angle             float64
	gap, step, callus float64
}

// builder makes a scene out of an anatomy.
type builder struct {
	*anatomy
	scene
	pose pose
}

// at scales a point of the mean body.
func (b *builder) at(x, y, z float64) vec { return vec{x, y, z}.scale(b.scale) }

// ball is an upright ellipsoid of the mean body.
func (b *builder) ball(x, y, z, rx, ry, rz float64) solid {
	k := b.scale
	return upright(b.at(x, y, z), rx*k, ry*k, rz*k)
}

// The lung's ellipsoid: its axis leans to the midline and the back at the top.
const (
	lungX, lungY, lungZ    = 72, 5, -70 // centre
	lungRX, lungRY, lungRZ = 64, 88, 195
	lungInward, lungBack   = 0.14, 0.09 // lean, radians
)

func (b *builder) cavity(side int) solid {
	sign, k := sides[side].sign, b.scale
	return ellipsoid(b.at(sign*lungX, lungY, lungZ), lungRX*k, lungRY*b.depth*k, lungRZ*k, rotation(-lungBack, -sign*lungInward, 0))
}

// cage returns the ellipse on which ribs lie at a height of the mean body: half width, centre y, half depth.
func (b *builder) cage(z float64) (wide, y, deep float64) {
	rel := (z - lungZ) / lungRZ
	f := math.Sqrt(max(0.09, 1-rel*rel))
	return lungX - (z-lungZ)*math.Tan(lungInward) + lungRX*f + 5, lungY + (z-lungZ)*math.Tan(lungBack), lungRY*b.depth*f + 5
}

// lung adds a side's lung and the dome of the diaphragm that cuts it from below. The dome's middle lies forward of the
// lung's, so the lung reaches lowest behind: the posterior sulcus.
func (b *builder) lung(side int) {
	b.lungs[side] = lung{cavity: b.cavity(side), mu: b.lungMu, floor: b.scale * (b.dome[side] - 100)}
	b.soft = append(b.soft, b.ball(sides[side].sign*68, -25, b.dome[side]-88, 84, 98*b.depth, 88))
}

// build makes the scene of a body with findings.
func build(a anatomy, findings []Finding, p pose) *scene {
	if p == supine {
		a.lieDown()
	}
	for i := range findings {
		findings[i].morph(&a, p)
	}
	b := &builder{anatomy: &a, pose: p}
	b.trunk()
	b.mediastinum()
	b.skeleton()
	for side := range sides {
		b.lung(side)
	}
	for i := range findings {
		findings[i].add(b)
	}
	for side := range sides {
		b.vesselTree(side)
	}
	return &b.scene
}

// lieDown is what a bed does to a body: the diaphragm rises, veins fill, the heart spreads, breasts flatten.
func (a *anatomy) lieDown() {
	for i := range a.dome {
		a.dome[i] += 15
	}
	a.heart *= 1.04
	a.upper *= 1.12
	a.vessels *= 1.08
	a.breast *= 0.85
}

func (b *builder) trunk() {
	wide, y, deep := b.cage(lungZ)
	wide, deep = wide+b.wall*1.05, deep+b.wall*0.85
	b.body = append(b.body,
		b.ball(0, y+3, -120, wide, deep, 310),
		b.ball(0, 18, 210, 56, 60, 120)) // neck
	if b.pose == raised {
		b.body = append(b.body, b.ball(0, 24, 132, wide-12, 62, 66))
	} else {
		k := b.scale
		for _, s := range sides {
			b.body = append(b.body, ellipsoid(b.at(s.sign*110, 22, 98), 150*k, (44+b.wall/3)*k, 58*k, rotation(0, s.sign*0.42, 0)))
		}
	}
	if b.breast > 0 {
		for _, s := range sides {
			b.body = append(b.body, b.ball(s.sign*70, y-deep*0.76, -70, b.breast*1.2, b.breast*0.95, b.breast*1.2))
		}
	}
	if b.bubble > 0 {
		b.dense = append(b.dense, density{b.ball(50, -22, b.dome[1]-12-20*b.bubble, 32*b.bubble, 28*b.bubble, 16*b.bubble), -muSoft})
	}
}

func (b *builder) mediastinum() {
	h, o := b.heart*b.scale, b.heartAt
	long := aligned(vec{0.78, -0.42, -0.46}) // the heart's axis
	// An enlarged heart grows to the left and back; its right border moves less.
	grown := vec{16, 6, -8}.scale(b.scale * (b.heart - 0.92))
	ao := b.aorta
	b.soft = append(b.soft,
		ellipsoid(b.at(27+o.x, -19+o.y, -62+o.z), 63*h, 46*h, 46*h, long).moved(grown), // left ventricle
		ellipsoid(b.at(17+o.x, -36+o.y, -64+o.z), 58*h, 38*h, 43*h, long).moved(grown), // right ventricle
		b.ball(-13+o.x, -14+o.y, -52+o.z, 39*b.heart, 41*b.heart, 50*b.heart),          // right atrium
		b.ball(3, 20, -34, 34*b.heart, 24*b.heart, 27*b.heart),                         // left atrium
		b.ball(22, -6, 8, 17, 22, 20),                                                  // pulmonary trunk
		b.ball(0, 10, 50, 25*b.upper, 34, 122),
		b.ball(-12-8*(b.upper-1), -14, 32, 20*ao, 20*ao, 44),
		b.ball(20+10*(b.upper-1), 14, 50, 18*ao, 25*ao, 18*ao), // aortic arch
		b.ball(20, 52, -50, 12*ao, 12*ao, 118),                 // descending aorta
		b.ball(-24*b.upper, 2, 52, 9, 10, 52),                  // superior vena cava
		b.ball(-24, 10, -112, 12, 13, 30),                      // inferior vena cava
		b.ball(0, b.spineY(-20)+8, -30, 26, 30, 270),
	)
	filled := muSoft - b.lungMu
	b.tubes = append(b.tubes,
		b.pipe(6.2*b.vessels, filled, vec{-26, 4, 2}, vec{-40, 9, -14}, vec{-47, 15, -48}), // pulmonary arteries
		b.pipe(6.2*b.vessels, filled, vec{30, 8, 12}, vec{42, 16, 2}, vec{50, 22, -34}),
		b.pipe(8.5, -muSoft, vec{0, 14, 175}, vec{0, 16, 110}, vec{2, 22, 45}),
		b.pipe(5.5, -muSoft*0.8, vec{2, 22, 45}, vec{-22, 22, 22}),
		b.pipe(5, -muSoft*0.8, vec{2, 22, 45}, vec{28, 24, 16}))
}

// pipe is a tube of the mean body through the points.
func (b *builder) pipe(radius, mu float64, through ...vec) tube {
	pts := curve(8, through...)
	for i := range pts {
		pts[i] = pts[i].scale(b.scale)
	}
	return even(pts, radius*b.scale, mu)
}

// aligned turns the first axis along dir.
func aligned(dir vec) mat {
	a := dir.unit()
	b := vec{z: 1}.cross(a)
	if b.norm() < 1e-6 {
		b = vec{y: 1}
	}
	b = b.unit()
	c := a.cross(b)
	return mat{{a.x, b.x, c.x}, {a.y, b.y, c.y}, {a.z, b.z, c.z}}
}

// spineY and spineX give the line of the vertebral bodies.
func (b *builder) spineY(z float64) float64 {
	rel := (z - 5) / 130
	return 62 + b.kyphosis*(1-rel*rel)
}

func (b *builder) spineX(z float64) float64 { return b.scolio * math.Sin((z+40)/90) }

// aeratedAt reports whether the lung of a side holds air and vessels at p: inside its cavity with a margin (a level below
// within), outside all that cuts into it, above the floor.
func (b *builder) aeratedAt(side int, p vec, within float64) bool {
	l := &b.lungs[side]
	if l.cavity.level(p) > within || p.z < l.floor || l.inner != nil && l.inner.level(p) > within {
		return false
	}
	for i := range b.soft {
		if b.soft[i].level(p) < 1 {
			return false
		}
	}
	return true
}
