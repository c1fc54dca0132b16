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
	v := centred(s.Patient, projection)
	return s.against(r, i, &v, slices.Clone(s.record(r, s.Findings, &v)))
}

// contrasts returns the contrasts of all findings in the projections: [finding][projection].
func (s *Study) contrasts(r *renderer, projections []Projection) []map[Projection]float64 {
	out := make([]map[Projection]float64, len(s.Findings))
	for i := range out {
		out[i] = map[Projection]float64{}
	}
	for _, projection := range projections {
		if len(out) == 0 {
			break
		}
		v := centred(s.Patient, projection)
		with := slices.Clone(s.record(r, s.Findings, &v))
		for i := range out {
			out[i][projection] = s.against(r, i, &v, with)
		}
	}
	return out
}

// record is what a noiseless detector records of the patient with findings; it lives in r until the next call.
func (s *Study) record(r *renderer, findings []Finding, v *View) []float64 {
	r.integrals(build(s.anatomy, findings, v.setup.pose), newCamera(v, r.size))
	r.expose(r.sum, v, false)
	return r.sum
}

// against compares a record of all findings with one without finding i.
func (s *Study) against(r *renderer, i int, v *View, with []float64) float64 {
	var without []Finding
	for _, f := range s.Findings {
		if f.seed != s.Findings[i].seed { // a pneumonia and what it looks like are one
			without = append(without, f)
		}
	}
	most, photons := 0.0, photonsPerPixel(v, r.size)
	for i, x := range s.record(r, without, v) {
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
