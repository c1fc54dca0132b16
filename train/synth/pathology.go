package synth

import (
	"maps"
	"math"
	"math/rand/v2"
	"slices"
)

const muOpacity = muSoft - muLung // fills a lung to the density of tissue

func (f *Finding) at() vec { return vec{f.X, f.Y, f.Z} }

// morph changes the body as a finding of that kind does, before its shapes are made.
func (f *Finding) morph(a *anatomy, p pose) {
	s := f.Severity
	switch f.Kind {
	case "large heart":
		a.heart *= 1.1 + 0.26*s
	case "wide mediastinum":
		a.upper *= 1.16 + 0.55*s
		a.aorta *= 1.03 + 0.12*s
	case "oedema":
		a.lungMu *= 1 + 0.14*s
		a.vessels *= 1.05 + 0.35*s
	case "air":
		if p == supine { // air lies in front and below: the deep sulcus
			a.dome[f.side] -= 10 + 16*s
		}
	case "plate":
		a.dome[f.side] += 4 + 7*s
	case "volume loss":
		a.dome[f.side] += 14 + 26*s
		a.heartAt.x += sides[f.side].sign * (4 + 9*s)
	case "vertebral compression":
		a.wedges = maps.Clone(a.wedges)
		if a.wedges == nil {
			a.wedges = map[int]float64{}
		}
		for i := range numVertebrae {
			if away := math.Abs(vertebraZ(i)*a.scale - f.Z); away < 5 || away < 30 && s > 0.6 {
				a.wedges[i] = 0.35 + 0.25*s
			}
		}
	case "displaced ribs", "healing ribs":
		a.breaks = append(a.breaks[:len(a.breaks):len(a.breaks)], f.ribBreaks(a)...)
	}
}

// ribBreaks breaks the rib nearest to the finding and, when severe, its neighbours, at about the same angle.
func (f *Finding) ribBreaks(a *anatomy) []ribBreak {
	rng := stream(f.seed, streamFinding)
	b := &builder{anatomy: a}
	rib, angle, nearest := 0, 0.0, math.Inf(1)
	for i := range numRibs {
		for t := ribStart; t < ribEnd; t += 0.05 {
			if d := b.ribAt(f.side, i, t).sub(f.at()).norm(); d < nearest {
				rib, angle, nearest = i, t, d
			}
		}
	}
	var out []ribBreak
	for i := range 1 + int(3.9*f.Severity) {
		br := ribBreak{side: f.side, rib: rib + i, angle: angle + 0.08*gauss(rng), gap: 0.8 + 5*f.Severity, step: 1 + 9*f.Severity}
		if f.Kind == "healing ribs" {
			br.gap, br.step, br.callus = 0.5, 1, 5.8+4.5*f.Severity
		}
		out = append(out, br)
	}
	return out
}

// add puts what a finding holds into the scene.
func (f *Finding) add(b *builder) {
	rng := stream(f.seed, streamFinding)
	s, k := f.Severity, b.scale
	switch f.Kind {
	case "oedema":
		f.addOedema(b, rng)
	case "plate":
		for range 1 + rng.IntN(3) {
			at := f.at().add(b.at(8*gauss(rng), 8*gauss(rng), 12*gauss(rng)))
			turn := rotation(0.25*gauss(rng), 0.3*gauss(rng), 0)
			f.opaque(b, ellipsoid(at, mix(24, 42, s)*k, mix(18, 30, s)*k, mix(1.6, 3.2, s)*k, turn), muOpacity*0.8, false)
		}
	case "volume loss":
		base := b.at(sides[f.side].sign*50, 15, b.dome[f.side]+5)
		f.opaque(b, upright(base, 36*k, 50*k, mix(22, 38, s)*k), mix(0.006, 0.012, s), true)
	case "dense region":
		f.patches(b, rng, 3, 14, mix(26, 42, s), mix(0.007, 0.0145, s))
	case "haze":
		f.patches(b, rng, 2, 14, mix(36, 54, s), mix(0.0036, 0.0075, s))
	case "patches, dense":
		f.patches(b, rng, 5+rng.IntN(4), 22, mix(16, 25, s), mix(0.009, 0.0148, s))
	case "patches, faint":
		f.patches(b, rng, 5+rng.IntN(4), 26, mix(18, 28, s), mix(0.005, 0.0088, s))
	case "nodule":
		r := mix(7, 16, s) * k
		f.opaque(b, upright(f.at(), r, r, r), muOpacity, false)
	case "mass":
		r := mix(18, 38, s) * k
		f.opaque(b, ellipsoid(f.at(), r, r*0.85, r*0.9, rotation(rng.Float64(), rng.Float64(), 0)), muOpacity, false)
	case "fluid":
		f.addFluid(b)
	case "air":
		f.addAir(b)
	case "pleural thickening":
		b.soft = append(b.soft, ellipsoid(f.at(), mix(9, 20, s)*k, mix(28, 46, s)*k, mix(30, 60, s)*k, aligned(f.outward(b))))
	case "calcified plaques":
		f.addPlaques(b, rng)
	case "displaced ribs":
		// Blood lifts the pleura off the broken ribs.
		b.soft = append(b.soft, ellipsoid(f.at(), mix(2, 15, s)*k, mix(8, 26, s)*k, mix(8, 36, s)*k, aligned(f.outward(b))))
	case "pacemaker", "central line", "sternal wires", "feeding tube", "endotracheal tube", "chest tube":
		f.addDevice(b)
	}
}

// outward is the direction from the cavity's axis to the finding, level.
func (f *Finding) outward(b *builder) vec {
	out := f.at().sub(b.lungs[f.side].cavity.c)
	out.z = 0
	return out.unit()
}

func (f *Finding) opaque(b *builder, s solid, mu float64, soft bool) {
	l := &b.lungs[f.side]
	l.opaque = append(l.opaque, blob{s, mu, soft})
}

// patches puts n soft balls of about a radius (mm) around the finding.
func (f *Finding) patches(b *builder, rng *rand.Rand, n int, spread, radius, mu float64) {
	for i := range n {
		at := f.at()
		if i > 0 {
			at = at.add(b.at(gauss(rng), gauss(rng), gauss(rng)).scale(spread))
		}
		r := radius * b.scale * mix(0.75, 1.2, rng.Float64())
		f.opaque(b, ellipsoid(at, r, r*mix(0.8, 1.2, rng.Float64()), r*mix(0.7, 1, rng.Float64()), rotation(0, rng.Float64(), rng.Float64())), mu, true)
	}
}

// addOedema fogs both lungs, most around the hila and somewhat more at the base.
func (f *Finding) addOedema(b *builder, rng *rand.Rand) {
	s, k := f.Severity, b.scale
	for side := range sides {
		l, sign := &b.lungs[side], sides[side].sign
		l.opaque = append(l.opaque, blob{upright(b.at(sign*52, 8, -12), 50*k, 66*k, 78*k), mix(0.0004, 0.0095, s), true})
		for range 5 {
			at := b.at(sign*mix(40, 85, rng.Float64()), mix(-35, 50, rng.Float64()), mix(-90, 40, rng.Float64()))
			r := mix(16, 28, rng.Float64()) * k
			l.opaque = append(l.opaque, blob{upright(at, r, r, r), mix(0.0004, 0.007, s), true})
		}
	}
}

// addFluid lets the lung float on an effusion: fluid fills the cavity below a level, which climbs at the walls. The cavity
// reaches lowest behind, so a little fluid lies in the posterior sulcus, behind and below the diaphragm's dome. In a patient
// who lies the same fluid runs to the back, where the whole lung is seen through it: a haze without a level.
func (f *Finding) addFluid(b *builder) {
	const flat = 450 // radius of the lung's base, mm: nearly level
	s := f.Severity
	l := &b.lungs[f.side]
	level := b.dome[f.side] - 74 + 46*s + 78*s*s
	climb := 12 + 10*s
	wide := 75 / math.Sqrt(1-(1-climb/flat)*(1-climb/flat))
	_, y, _ := b.cage(level)
	inner := upright(b.at(sides[f.side].sign*lungX, y, level+flat), wide*b.scale, wide*b.scale, flat*b.scale)
	if b.pose == supine {
		inner = b.onItsBack(f.side, &inner)
	}
	l.inner, l.rim = &inner, inner
}

// onItsBack returns the solid, nearly level at its rear, in which the lung floats when the fluid that left it inside inner lies
// behind it: as much of the cavity is outside.
func (b *builder) onItsBack(side int, inner *solid) solid {
	const step = 5 // mm; an effusion of 100 ml is 800 of these cells
	l := &b.lungs[side]
	cells := 0
	var depths []float64
	c, r := l.cavity.c, l.cavity.radius
	for z := -r; z <= r; z += step {
		for y := -r / 2; y <= r/2; y += step {
			for x := -r / 2; x <= r/2; x += step {
				p := c.add(vec{x, y, z})
				if !b.aeratedAt(side, p, 1) {
					continue
				}
				if inner.level(p) > 1 {
					cells++
				}
				depths = append(depths, p.y)
			}
		}
	}
	if cells == 0 || cells >= len(depths) {
		return *inner
	}
	slices.Sort(depths)
	level := depths[len(depths)-cells]
	// The cells of one layer have one depth: the level lies within it, at the part that is still to fill.
	from, _ := slices.BinarySearch(depths, level)
	to, _ := slices.BinarySearch(depths, level+step/2)
	level += step * (0.5 - float64(cells-(len(depths)-to))/float64(to-from))
	k := b.scale
	return upright(vec{c.x, level - 200*k, c.z}, 800*k, 200*k, 2400*k)
}

// addAir collapses a lung towards its hilum; air takes the rest of the cavity: most at the apex and the side of one who
// stands, in front and below of one who lies.
func (f *Finding) addAir(b *builder) {
	l := &b.lungs[f.side]
	keep := 0.93 - 0.3*f.Severity
	hilum := b.at(sides[f.side].sign*34, 8, -10)
	if b.pose == supine {
		hilum = b.at(sides[f.side].sign*40, 75, 60)
	}
	inner := l.cavity.grown(keep)
	inner.c = lerp(hilum, l.cavity.c, keep)
	l.inner, l.rim, l.collapsed = &inner, inner.grown(0.982), true
	l.mu *= 1 + 0.5*f.Severity
}

// addPlaques scatters chalk on the pleura near the finding.
func (f *Finding) addPlaques(b *builder, rng *rand.Rand) {
	k := b.scale
	for range 4 + int(5*f.Severity) {
		angle, z := mix(0.7, 2.6, rng.Float64()), f.Z/k+28*gauss(rng)
		at := b.pleura(f.side, clamp(z, -110, 90), angle)
		out := at.sub(b.lungs[f.side].cavity.c)
		out.z = 0
		plaque := ellipsoid(at, mix(2, 4, f.Severity)*k, mix(9, 18, rng.Float64())*k, mix(7, 15, rng.Float64())*k, aligned(out.unit()))
		b.dense = append(b.dense, density{plaque, muCalcium - muSoft})
	}
}

// pleura is the point of the chest wall's lining at a height of the mean body and an angle from the spine round the side.
func (b *builder) pleura(side int, z, angle float64) vec {
	cavity := b.cavity(side)
	_, y, _ := b.cage(z)
	axis := b.at(sides[side].sign*(lungX-(z-lungZ)*math.Tan(lungInward)), y, z)
	out := vec{sides[side].sign * math.Sin(angle), math.Cos(angle), 0}
	lo, hi := 0.0, 200*b.scale
	for range 40 {
		mid := (lo + hi) / 2
		if cavity.level(axis.add(out.scale(mid))) < 1 {
			lo = mid
		} else {
			hi = mid
		}
	}
	return axis.add(out.scale(lo))
}

func (f *Finding) addDevice(b *builder) {
	k := b.scale
	switch f.Kind {
	case "pacemaker":
		_, y, deep := b.cage(78)
		front := y - deep - 9
		b.dense = append(b.dense, density{disc(b.at(90, front, 80), 23*k, 19*k, 4*k, rotation(math.Pi/2, 0, 0.35)), 0.22})
		b.tubes = append(b.tubes, b.pipe(1.1, muMetal,
			vec{82, front, 92}, vec{60, front + 12, 100}, vec{18, -20, 84}, vec{-18, -10, 55}, vec{-22, -14, -10}, vec{-8, -30, -62}, vec{36, -42, -86}))
	case "central line":
		b.tubes = append(b.tubes, b.pipe(1.4, 0.2, vec{-42, 6, 185}, vec{-36, 2, 130}, vec{-24, -8, 80}, vec{-20, -10, 10 + 40*(1-f.Severity)}))
	case "sternal wires":
		for i := range 6 {
			z := 58 - 22*float64(i)
			_, y, deep := b.cage(0)
			y += 0.24*(z+2) - deep - 4
			b.tubes = append(b.tubes, b.pipe(0.9, muMetal, vec{-8, y, z}, vec{0, y - 4, z + 4}, vec{9, y, z + 1}, vec{1, y + 5, z - 5}, vec{-8, y, z}))
		}
	case "endotracheal tube":
		b.tubes = append(b.tubes, b.pipe(4.2, 0.02, vec{0, 13, 195}, vec{0, 14, 130}, vec{1, 18, 62 + 30*(1-f.Severity)}),
			b.pipe(0.9, 0.16, vec{4, 13, 195}, vec{4, 14, 130}, vec{5, 18, 62 + 30*(1-f.Severity)})) // its stripe
	case "chest tube":
		x := sides[f.side].sign
		b.tubes = append(b.tubes, b.pipe(3.6, 0.03, vec{x * 160, 5, -70}, vec{x * 128, 8, -48}, vec{x * 108, 30, 0}, vec{x * 72, 36, 70}),
			b.pipe(0.8, 0.2, vec{x * 160, 5, -67}, vec{x * 128, 8, -45}, vec{x * 108, 30, 3}, vec{x * 72, 36, 73}))
	case "feeding tube":
		b.tubes = append(b.tubes, b.pipe(2, 0.1, vec{0, 16, 190}, vec{-2, 30, 90}, vec{4, 36, 0}, vec{8, 40, -70}, vec{26, 12, -112}, vec{52, -20, b.dome[1] - 45}))
	}
}
