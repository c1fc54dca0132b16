package synth

import "math"

const (
	numRibs      = 10 // pairs; the last two are short and lie below the lungs
	numVertebrae = 15
	ribStart     = 0.2 // radians from the spine
	ribEnd       = 2.6
	ribRadius    = 5.6 // mm
)

func (b *builder) skeleton() {
	b.spine()
	for side := range sides {
		for rib := range numRibs {
			b.rib(side, rib)
		}
		s := sides[side].sign
		b.bone(b.pipe(5.5, muCortex-muSoft, vec{s * 16, -58, 86}, vec{s * 55, -62, 96}, vec{s * 105, -30, 112}, vec{s * 150, 4, 116}).pts, 5.5)
	}
	k := b.scale
	_, y, deep := b.cage(0)
	sternum := ellipsoid(b.at(0, y-deep-4, -2), 18*k, 5.5*k, 78*k, rotation(-0.24, 0, 0))
	b.dense = append(b.dense, density{sternum, muSpongy - muSoft + 0.004})
}

// bone adds a tube of compact bone with a spongy core.
func (b *builder) bone(pts []vec, radius float64) {
	r := radius * b.scale
	b.tubes = append(b.tubes, even(pts, r, muCortex-muSoft), even(pts, r*0.74, -(muCortex-muSpongy)))
}

// ribAt is the point of a rib at an angle round the cage.
func (b *builder) ribAt(side, rib int, angle float64) vec {
	z := 122 - b.ribPitch*float64(rib)
	drop := b.ribDrop * min(30+12*float64(rib), 80)
	z -= drop * (1 - math.Cos(angle)) / 2
	wide, y, deep := b.cage(z)
	return b.at(sides[side].sign*wide*math.Sin(angle), y+deep*math.Cos(angle), z)
}

// rib adds one rib, in pieces where it is broken.
func (b *builder) rib(side, rib int) {
	from, offset := ribStart, vec{}
	end := ribEnd - 0.5*max(0, float64(rib-6))/3
	for _, br := range b.breaks {
		if br.side != side || br.rib != rib || br.angle >= end {
			continue
		}
		half := br.gap / 2 / 110 // the cage's radius is some 110 mm
		b.ribPiece(side, rib, from, br.angle-half, offset)
		if br.callus > 0 {
			r := br.callus * b.scale
			at := b.ribAt(side, rib, br.angle).add(offset)
			b.dense = append(b.dense, density{upright(at, r, r, r), (muCortex - muSoft) * 0.6})
		}
		from, offset = br.angle+half, offset.add(vec{0, 0, -br.step * b.scale})
	}
	b.ribPiece(side, rib, from, end, offset)
}

func (b *builder) ribPiece(side, rib int, from, to float64, offset vec) {
	if to <= from {
		return
	}
	n := 1 + int((to-from)/0.12)
	pts := make([]vec, n+1)
	for i := range pts {
		pts[i] = b.ribAt(side, rib, mix(from, to, float64(i)/float64(n))).add(offset)
	}
	b.bone(pts, ribRadius)
}

// vertebraZ is the height of a vertebral body's centre, mean body.
func vertebraZ(i int) float64 { return 136 - 24.5*float64(i) }

func (b *builder) spine() {
	const plate = 0.007 // beyond spongy bone; seen edge on from both sides
	k := b.scale
	for i := range numVertebrae {
		z := vertebraZ(i)
		tilt := -math.Atan2(b.spineY(z+5)-b.spineY(z-5), 10)
		lean := math.Atan2(b.spineX(z+5)-b.spineX(z-5), 10)
		size := 1 + 0.015*float64(i)
		half := 9.8 * (1 - b.wedges[i])
		turn := rotation(tilt, lean, 0)
		at := func(dy, dz float64) vec {
			return b.at(b.spineX(z), b.spineY(z), z).add(turn.mul(vec{0, dy, dz}.scale(k)))
		}
		rx, ry := 17*size*k, 14*size*k
		b.dense = append(b.dense,
			density{disc(at(0, 0), rx, ry, half*k, turn), muSpongy - muSoft},
			density{disc(at(0, half-0.8), rx, ry, 0.9*k, turn), plate}, // end plates
			density{disc(at(0, -half+0.8), rx, ry, 0.9*k, turn), plate},
			density{ellipsoid(at(32, -9), 3*k, 15*k, 6*k, turn), muSpongy - muSoft}, // spinous process
			density{ellipsoid(at(17, 0), 26*k, 4*k, 5*k, turn), muSpongy - muSoft})  // transverse processes
	}
}
