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
		b.shaft(b.pipe(5.5, 0, vec{s * 16, -58, 86}, vec{s * 55, -62, 96}, vec{s * 105, -30, 112}, vec{s * 150, 4, 116}).pts, 5.5)
		b.shoulder(s)
	}
	k := b.scale
	_, y, deep := b.cage(0)
	sternum := ellipsoid(b.at(0, y-deep-4, -2), 18*k, 5.5*k, 78*k, rotation(-0.24, 0, 0))
	b.dense = append(b.dense, density{sternum, b.bony(muSpongy) + 0.004})
}

// shaft adds a tube of compact bone with a spongy core.
func (b *builder) shaft(pts []vec, radius float64) {
	r := radius * b.scale
	b.tubes = append(b.tubes, even(pts, r, b.bony(muCortex)), even(pts, r*0.74, b.bony(muSpongy)-b.bony(muCortex)))
}

// bony is what bone of an attenuation adds to soft tissue, by the patient's density.
func (b *builder) bony(mu float64) float64 { return (mu - muSoft) * b.bone }

// shoulder adds a shoulder blade and the upper arm. With the hands on the hips the blade lies beside the lung, on one who lies it
// lies over it; raised arms turn it up.
func (b *builder) shoulder(sign float64) {
	angle, out, z := 1.3, 20.0, 50.0 // of the blade's middle: from the spine round the cage, mm from the ribs, height
	elbow := vec{sign * 205, 15, -40}
	switch b.pose {
	case supine:
		angle, out, z = 0.72, 11, 45
		elbow = vec{sign * 190, 25, -60}
	case raised:
		angle, out, z = 1.0, 14, 66
		elbow = vec{sign * 125, -30, 240}
	}
	wide, y, deep := b.cage(z)
	normal := vec{sign * math.Sin(angle), math.Cos(angle), 0.12}.unit()
	at := func(along, up float64) vec { // a point of the blade: away from the spine, towards the head
		p := vec{sign * (wide + out) * math.Sin(angle), y + (deep+out)*math.Cos(angle), z}
		across := vec{sign * math.Cos(angle), -math.Sin(angle), 0}
		return p.add(across.scale(along)).add(vec{z: up})
	}
	k := b.scale
	joint := at(48, 46)
	b.dense = append(b.dense,
		density{ellipsoid(at(2, 4).scale(k), 2.6*k, 46*k, 62*k, aligned(normal)), b.bony(muCortex)},
		density{upright(joint.add(vec{sign * 16, -2, 4}).scale(k), 22*k, 22*k, 22*k), b.bony(muSpongy)})
	b.shaft(b.pipe(3.6, 0, at(-26, -52), at(14, -22), at(42, 34)).pts, 3.6) // lateral border
	b.shaft(b.pipe(3.4, 0, at(-40, 30), at(6, 40), at(52, 60)).pts, 3.4)    // spine of the blade, acromion
	b.shaft(b.pipe(11, 0, joint.add(vec{sign * 18, 0, 0}), lerp(joint, elbow, 0.5), elbow).pts, 11)
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
			b.dense = append(b.dense, density{upright(at, r, r, r), b.bony(muCortex) * 0.6})
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
	b.shaft(pts, ribRadius)
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
			density{disc(at(0, 0), rx, ry, half*k, turn), b.bony(muSpongy)},
			density{disc(at(0, half-0.8), rx, ry, 0.9*k, turn), plate}, // end plates
			density{disc(at(0, -half+0.8), rx, ry, 0.9*k, turn), plate},
			density{ellipsoid(at(32, -9), 3*k, 15*k, 6*k, turn), b.bony(muSpongy)}, // spinous process
			density{ellipsoid(at(17, 0), 26*k, 4*k, 5*k, turn), b.bony(muSpongy)})  // transverse processes
	}
}
