package synth

import (
	"math"
	"slices"
)

const (
	contrastSize = 128 // pixels a side; some 3 mm each, the size of a detail that is just seen

	// shownFrom is the contrast from which a finding counts as shown. In plain noise a detail of 5 is seen (Rose 1948); ribs,
	// vessels and organs are a clutter in which it takes several times that (seven here: a choice).
	shownFrom = 35
)

// Contrast returns how much finding i changes a faultless exposure: the largest change over the details (3 mm) of what the
// detector records, scatter included, in standard deviations of the quantum noise there. It says by how much a view shows a
// finding, whether or not the view was taken.
func (s *Study) Contrast(i int, projection Projection) float64 {
	return s.contrast(newRenderer(contrastSize), i, projection)
}

func (s *Study) contrast(r *renderer, i int, projection Projection) float64 {
	var without []Finding
	for _, f := range s.Findings {
		if f.seed != s.Findings[i].seed { // a pneumonia and what it looks like are one
			without = append(without, f)
		}
	}
	v := centred(s.Patient, projection)
	cam := newCamera(&v, r.size)
	record := func(findings []Finding) []float64 {
		r.integrals(build(s.anatomy, findings, v.setup.pose), cam)
		r.expose(r.sum, &v, false)
		return r.sum
	}
	with := slices.Clone(record(s.Findings))
	most, photons := 0.0, photonsPerPixel(&v, r.size)
	for i, x := range record(without) {
		// The logarithm's deviation is that of the count, relative: 1/sqrt(photons recorded).
		most = max(most, math.Abs(with[i]-x)*math.Sqrt(photons*exp(-x)))
	}
	return most
}

// shownIn returns the projections taken in which a finding is seen, given its contrast in each of them.
func (s *Study) shownIn(contrast map[Projection]float64) (shown []Projection) {
	for _, projection := range Projections {
		for _, v := range s.Views {
			if v.Projection == projection && contrast[projection] >= shownFrom {
				shown = append(shown, projection)
				break
			}
		}
	}
	return shown
}
