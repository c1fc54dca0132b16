package synth

import (
	"fmt"
	"math/rand/v2"
	"time"
)

// Patient is one person of a seed's world. Everything about patient i follows from (seed, i).
type Patient struct {
	ID     string // unique to the seed too, so that phantoms of several seeds can be joined
	Sex    string // "F" or "M"
	Age    int    // years, at the first study
	Visits int    // studies

	at      *Institution
	seed    uint64
	index   uint64
	first   time.Time
	anatomy anatomy
	chronic latent
}

// NewPatient draws patient i of an institution. Two institutions share no patient, but body i of a seed is the same in all.
func NewPatient(at *Institution, seed uint64, i int) *Patient {
	rng := stream(seed, streamPatient, uint64(i))
	p := &Patient{
		ID:  fmt.Sprintf("S%d-P%06d", seed, i),
		Sex: "M",
		Age: int(clamp(58+18*gauss(rng), 18, 95)),
		at:  at, seed: seed, index: uint64(i),
		first: time.Date(2018, 1, 1, 8, 0, 0, 0, time.UTC).Add(time.Duration(rng.IntN(3*365*24*60)) * time.Minute),
	}
	if rng.Float64() < 0.47 {
		p.Sex = "F"
	}
	// Six in ten have one study; the mean is some 1.7, as in ChestX-ray14's follow-ups without its long tail.
	for p.Visits = 1; p.Visits < 5 && rng.Float64() < 0.4; p.Visits++ {
	}
	p.anatomy = newAnatomy(rng, p.Sex == "F", float64(p.Age))
	p.chronic = newLatent(rng)
	return p
}

// newAnatomy draws a body. The spreads are meant to hide a mild finding from a glance at the raw pixels: an old or heavy
// patient's normal heart may look as wide as a young one's enlarged heart.
func newAnatomy(rng *rand.Rand, female bool, age float64) anatomy {
	normal := func(mean, sd float64) float64 { return mean + sd*clamp(gauss(rng), -2.5, 2.5) }
	habitus := clamp(gauss(rng), -2, 2.5)
	old := (age - 55) / 20
	a := anatomy{
		scale:    normal(1, 0.04),
		wall:     26 + 7*habitus,
		depth:    normal(1, 0.07) + 0.02*old,
		heart:    normal(0.92, 0.07) + 0.012*habitus,
		heartAt:  vec{normal(0, 5), normal(0, 4), normal(0, 6)},
		upper:    normal(1, 0.13),
		aorta:    normal(0.95, 0.07) + 0.05*old,
		kyphosis: normal(9, 4) + 4*max(0, old),
		scolio:   normal(0, 3),
		lungMu:   muLung * normal(1, 0.14),
		vessels:  normal(1, 0.13),
		ribPitch: normal(24.5, 0.9),
		ribDrop:  normal(1, 0.15),
		bone:     normal(1, 0.08) - 0.06*old,
		seed:     rng.Uint64(),
	}
	a.dome = [2]float64{normal(-82, 8), normal(-94, 8)}
	if rng.Float64() < 0.75 {
		a.bubble = normal(0.85, 0.25)
	}
	if female {
		a.scale *= 0.93
		a.breast = max(20, normal(42, 9)+4*habitus)
		a.bone -= 0.05 * max(0, old)
	}
	return a
}

// Study is one visit: its findings and the exposures taken.
type Study struct {
	Patient  *Patient
	Visit    int // from 0
	Time     time.Time
	Findings []Finding
	Views    []View

	anatomy anatomy // at this visit, before the findings change it
}

// NewStudy draws visit v of a patient.
func NewStudy(p *Patient, v int) *Study {
	rng := stream(p.seed, streamStudy, p.index, uint64(v))
	s := &Study{Patient: p, Visit: v, anatomy: p.anatomy}
	s.Time = p.first.AddDate(0, 0, v*(20+rng.IntN(200))).Add(time.Duration(rng.IntN(600)) * time.Minute)
	breath := 7 * clamp(gauss(rng), -1, 3) // a poor inspiration is commoner than a deeper one
	for i := range s.anatomy.dome {
		s.anatomy.dome[i] += breath
	}
	s.anatomy.heart *= 1 + 0.0025*breath // a raised diaphragm lays the heart flat
	s.Findings = newFindings(p.at, rng, &s.anatomy, p.chronic)
	for i, projection := range plan(p.at.Views, rng) {
		s.Views = append(s.Views, newView(p, projection, stream(p.seed, streamView, p.index, uint64(v), uint64(i))))
	}
	return s
}

// plan draws which views a study has.
func plan(protocols []Protocol, rng *rand.Rand) []Projection {
	u := rng.Float64()
	for _, p := range protocols {
		if u -= p.Share; u < 0 {
			return p.Views
		}
	}
	return protocols[0].Views // the shares' rounding
}

func (s *Study) render(r *renderer, v *View) []uint16 {
	r.integrals(build(s.anatomy, s.Findings, v.setup.pose), newCamera(v, r.size))
	r.expose(r.sum, v, true)
	return r.present(r.sum, v)
}

// RenderView renders one of the study's views at size x size pixels: stored values of View.Bits bits, row-major, denser brighter
// unless the view is MONOCHROME1.
func RenderView(s *Study, view, size int) []uint16 {
	return s.render(newRenderer(size), &s.Views[view])
}
