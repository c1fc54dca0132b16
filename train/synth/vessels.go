package synth

import (
	"math"
	"math/rand/v2"
)

const (
	branches    = 13  // that leave a hilum
	hilumRadius = 4.8 // mm
	thinVessel  = 0.7 // mm: thinner ones are not drawn
)

// vesselTree adds the vessels of one lung, where it is aerated: a collapsed lung takes its vessels with it, fluid hides them.
// A patient's tree is the same in every study.
func (b *builder) vesselTree(side int) {
	sign := sides[side].sign
	cavity := b.cavity(side)
	rng := stream(b.seed, streamVessels, uint64(side))
	for i := range branches {
		// Aim evenly over the lung's height, at random over its section.
		z := mix(-150, 105, (float64(i)+rng.Float64())/branches)
		wide, y, deep := b.cage(z)
		turn := rng.Float64() * 2 * math.Pi
		reach := 0.75 * math.Sqrt(rng.Float64())
		hilum := b.at(sign*mix(30, 40, rng.Float64()), mix(-4, 18, rng.Float64()), 2+6*sign+0.16*z)
		target := b.at(sign*(wide*0.55+wide*0.4*reach*math.Cos(turn)), y+deep*reach*math.Sin(turn), z)
		b.grow(side, &cavity, rng, hilum, target.sub(hilum), hilumRadius*mix(0.7, 1.1, rng.Float64()))
	}
}

// grow adds a branch from p along span, which is halved at every fork.
func (b *builder) grow(side int, cavity *solid, rng *rand.Rand, p, span vec, radius float64) {
	if radius < thinVessel {
		return
	}
	piece := span.scale(0.42)
	side1 := piece.cross(vec{0.3, 0.9, 0.3}).unit()
	bend := side1.scale(piece.norm() * 0.15 * gauss(rng))
	mid, end := p.add(piece.scale(0.5)).add(bend), p.add(piece)
	if cavity.level(end) > 0.96 {
		return
	}
	next := radius * mix(0.72, 0.82, rng.Float64())
	if b.aeratedAt(side, end, 0.97) {
		r := b.vessels * b.scale
		b.tubes = append(b.tubes, tube{[]vec{p, mid, end}, []float64{radius * r, (radius + next) / 2 * r, next * r}, muSoft - b.lungMu})
	}
	turn := rng.Float64() * 2 * math.Pi
	up := piece.cross(side1).unit()
	for fork := range 2 {
		angle := turn + math.Pi*float64(fork)
		away := side1.scale(math.Cos(angle)).add(up.scale(math.Sin(angle)))
		open := mix(0.2, 0.55, rng.Float64()) * span.norm()
		b.grow(side, cavity, rng, end, span.scale(0.68).add(away.scale(open*0.6)), next*mix(0.8, 1, rng.Float64()))
	}
}
