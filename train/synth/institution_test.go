package synth

import (
	"math"
	"slices"
	"testing"
)

func institutions() []*Institution {
	all := []*Institution{&Plain}
	for i := range Institutions {
		all = append(all, &Institutions[i])
	}
	return all
}

func TestInstitutions_StoreTheirBits(t *testing.T) {
	for _, at := range institutions() {
		s := example(at, 3, PA, "", "")
		most := slices.Max(RenderView(s, 0, 128))
		if full := uint16(1)<<at.Display.Bits - 1; most > full || most < full-full/8 {
			t.Errorf("%s: brightest pixel %d, want close to %d", at.Name, most, full)
		}
	}
}

func TestInstitutions_InvertAsOftenAsStated(t *testing.T) {
	const n = 1500
	for _, at := range institutions() {
		inverted, collimated, marked := 0.0, 0.0, 0.0
		p := NewPatient(at, 1, 1)
		for i := range n {
			v := newView(p, PA, stream(uint64(i), streamView))
			if v.inverted {
				inverted += 1. / n
			}
			if v.field != (field{}) {
				collimated += 1. / n
			}
			if len(v.marks) > 0 {
				marked += 1. / n
			}
		}
		near(t, at.Name+" inverted", inverted, at.Display.Inverted, 0.05) // four deviations
		near(t, at.Name+" collimated", collimated, at.Collimated, 0.05)
		near(t, at.Name+" marked", marked, at.Markers.Side, 0.05)
	}
}

func TestInstitutions_NoiseIsTheirPhotons(t *testing.T) {
	const size, sum = 128, 2.
	for _, at := range institutions() {
		v := centred(NewPatient(at, 1, 1), PA)
		v.detector, v.exposure, v.scatter = at.Detector, at.Detector.Dose, 0
		r := newRenderer(size)
		for i := range r.sum {
			r.sum[i] = sum
		}
		r.expose(r.sum, &v, true)
		squares := 0.0
		for _, x := range r.sum {
			squares += (x - sum) * (x - sum) / (size * size)
		}
		pitch := at.Detector.FieldMM / size
		photons := quanta * at.Detector.Dose * pitch * pitch / (quantaMM * quantaMM) * math.Exp(-sum)
		near(t, at.Name+" noise, relative", math.Sqrt(squares*photons), 1, 0.03)
	}
}

// The spread of a step's derivative is the detector's.
func TestInstitutions_EdgesAreAsSharpAsStated(t *testing.T) {
	const size = 1024
	for _, at := range institutions() {
		v := centred(NewPatient(at, 1, 1), PA)
		v.detector, v.scatter = at.Detector, 0
		r := newRenderer(size)
		for i := range r.sum {
			if i%size >= size/2 {
				r.sum[i] = 1
			}
		}
		r.expose(r.sum, &v, false)
		line := r.sum[size*size/2:][:size]
		total, mean, squares := 0.0, 0.0, 0.0
		for pass := range 2 {
			for col := 1; col < size; col++ {
				d := math.Exp(-line[col-1]) - math.Exp(-line[col])
				if x := (float64(col) - 0.5) * at.Detector.FieldMM / size; pass == 0 {
					total, mean = total+d, mean+d*x
				} else {
					squares += d * (x - mean/total) * (x - mean/total) / total
				}
			}
		}
		near(t, at.Name+" blur, mm", math.Sqrt(squares), at.Detector.BlurMM, 0.03)
	}
}
