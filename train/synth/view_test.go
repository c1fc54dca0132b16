package synth

import (
	"math"
	"slices"
	"testing"
)

// change returns what findings add to the line integrals of a faultless view.
func change(s *Study, projection Projection, size int) (diff []float64, cam *camera) {
	v := centred(s.Patient, projection)
	cam = newCamera(&v, size)
	diff = slices.Clone(integrate(build(s.anatomy, s.Findings, v.setup.pose), &v, size))
	for i, x := range integrate(build(s.anatomy, nil, v.setup.pose), &v, size) {
		diff[i] -= x
	}
	return diff, cam
}

func TestNodule_LiesWhereEveryViewSaysItLies(t *testing.T) {
	const size = 256
	for patient, at := range []vec{{74, 25, 30}, {-74, -15, 25}, {-62, 35, 50}, {78, 15, 5}} { // in lung all round
		s := with(patient, Finding{Label: "Lung Lesion", Kind: "nodule", X: at.x, Y: at.y, Z: at.z, Severity: 0.8})
		if at.x > 0 {
			s.Findings[0].side = 1
		}
		for _, projection := range Projections {
			diff, cam := change(s, projection, size)
			col, row := centroid(diff, size)
			wantCol, wantRow, _ := cam.project(at)
			// Within a pixel, though vessels near it may shift the centre a little.
			near(t, string(projection)+" column", col, wantCol, 1)
			near(t, string(projection)+" row", row, wantRow, 1)
		}
	}
}

// A lung's mass in the beam is the same from all sides: line integrals summed over the area that they stand for at its depth.
func TestMass_AddsTheSameFromEverySide(t *testing.T) {
	const size = 256
	s := with(2, Finding{Label: "Lung Lesion", Kind: "nodule", X: 70, Y: 15, Z: 25, Severity: 1, side: 1})
	r := 16 * s.anatomy.scale
	want := muOpacity * 4 / 3 * math.Pi * r * r * r
	for _, projection := range Projections {
		diff, cam := change(s, projection, size)
		_, _, perMM := cam.project(s.Findings[0].at())
		sum := 0.0
		for _, x := range diff {
			sum += x / perMM / perMM
		}
		// Vessels inside count as tissue already, and a lung holds no more than tissue: a tenth may be missing.
		near(t, string(projection)+" mass", sum/want, 0.97, 0.09)
	}
}

func TestAP_MagnifiesTheHeart(t *testing.T) {
	p := NewPatient(&Plain, 11, 0)
	width := map[Projection]float64{}
	for _, projection := range []Projection{PA, AP} {
		v := centred(p, projection)
		cam := newCamera(&v, 512)
		_, _, heart := cam.project(vec{20, -30, -62})
		_, _, cage := cam.project(vec{130, 10, -62})
		width[projection] = heart / cage
	}
	if ratio := width[AP] / width[PA]; ratio < 1.05 || ratio > 1.2 {
		t.Errorf("the heart against the cage is %.3f times as wide in AP as in PA, want 1.05 to 1.2", ratio)
	}
}

// fluidOf is the volume (mm3) of the cavity that a lung leaves; a thin layer must not fall between the samples.
func fluidOf(b *builder, side int, inner *solid) (volume float64) {
	const step = 4
	c, rng := b.lungs[side].cavity.c, stream(1)
	for z := -220.; z < 220; z += step {
		for y := -120.; y < 120; y += step {
			for x := -100.; x < 100; x += step {
				if p := c.add(vec{x, y + step*rng.Float64(), z}); b.aeratedAt(side, p, 1) && inner.level(p) > 1 {
					volume += step * step * step
				}
			}
		}
	}
	return volume
}

func TestFluid_RunsToTheBackAndStaysAsMuch(t *testing.T) {
	for _, severity := range []float64{0.2, 0.5, 0.9} {
		f := place(1, "Pleural Effusion", "fluid", severity)
		s := with(1, f)
		level := map[pose]*solid{}
		bodies := map[pose]*builder{}
		for _, p := range []pose{onHips, supine} {
			b := &builder{anatomy: &s.anatomy, pose: p} // the same diaphragm in both
			b.mediastinum()
			b.lung(f.side)
			f.addFluid(b)
			level[p], bodies[p] = b.lungs[f.side].inner, b
			b.lungs[f.side].inner = nil
		}
		up, down := fluidOf(bodies[onHips], f.side, level[onHips]), fluidOf(bodies[supine], f.side, level[supine])
		near(t, "volume lying / standing", down/up, 1, 0.15) // cells of 5 mm
		// High in the lung: nothing in the upright view, a haze in the supine one.
		var at [2]float64
		for i, projection := range []Projection{PA, AP} {
			diff, cam := change(s, projection, 128)
			col, row, _ := cam.project(vec{sides[f.side].sign * 62, 20, 30}.scale(s.anatomy.scale))
			at[i] = diff[int(row+0.5)*128+int(col+0.5)]
		}
		if math.Abs(at[0]) > 1e-9 && severity < 0.6 || at[1] < 0.05 && severity > 0.3 {
			t.Errorf("severity %g: upper lung changes by %.3f standing and %.3f lying, want 0 and a haze", severity, at[0], at[1])
		}
	}
}

func TestAir_LiesInTheDeepSulcusOfOneWhoLies(t *testing.T) {
	f := place(1, "Pneumothorax", "air", 0.6)
	s := with(1, f)
	var lowest [2]float64 // of the pixels that the air darkens, mm
	for i, projection := range []Projection{PA, AP} {
		diff, cam := change(s, projection, 128)
		lowest[i] = math.Inf(1)
		for k, x := range diff {
			if x < -0.3 {
				_, _, perMM := cam.project(vec{})
				lowest[i] = min(lowest[i], (63.5-float64(k/128))/perMM)
			}
		}
	}
	if lowest[1] > lowest[0]-5 {
		t.Errorf("air reaches down to %.0f mm standing and %.0f mm lying: want it deeper lying", lowest[0], lowest[1])
	}
}

func TestConfusions_OneViewShowsWhatTheOtherHides(t *testing.T) {
	behind := func(kind string) []Finding {
		var out []Finding
		for i := range 6 {
			f := Finding{Label: "Lung Lesion", Kind: kind, X: 26, Y: 38, Z: -75, Severity: 0.3, side: 1, Side: Left, seed: uint64(i)}
			out = append(out, f)
		}
		return out
	}
	for _, kind := range []string{"nodule", "dense region"} {
		pa, ll := 0.0, 0.0
		for patient, f := range behind(kind) {
			s := with(patient, f)
			pa, ll = pa+s.Contrast(0, PA), ll+s.Contrast(0, LL)
		}
		if ll < 1.3*pa {
			t.Errorf("%s behind the heart: contrast %.0f from the side, %.0f from the front: want a lateral view to show it better", kind, ll/6, pa/6)
		}
	}
	var front, side int
	for patient := range 20 {
		s := with(patient, place(patient, "Fracture", "displaced ribs", 0))
		s.Findings[0].seed = uint64(patient)
		contrast := s.contrasts(newRenderer(contrastSize), []Projection{PA, LL})[0]
		switch {
		case contrast[PA] >= shownFrom && contrast[LL] < shownFrom:
			front++
		case contrast[LL] >= shownFrom && contrast[PA] < shownFrom:
			side++
		}
	}
	if front == 0 || side == 0 {
		t.Errorf("of 20 mild rib fractures %d are shown by the frontal and %d by the lateral view alone: want some of each", front, side)
	}
}

func TestOedema_FadesToTheRimAndTheApex(t *testing.T) {
	s := with(0, Finding{Label: "Edema", Kind: "oedema", Severity: 0.8, Z: 10, seed: 5})
	diff, cam := change(s, PA, 256)
	at := func(x, z float64) float64 {
		col, row, _ := cam.project(vec{x, 8, z}.scale(s.anatomy.scale))
		sum := 0.0
		for dy := -6; dy <= 6; dy++ {
			for dx := -6; dx <= 6; dx++ {
				sum += diff[(int(row)+dy)*256+int(col)+dx] / 169
			}
		}
		return sum
	}
	for _, sign := range []float64{-1, 1} {
		hilum, rim, apex := at(sign*55, -10), at(sign*112, -10), at(sign*55, 90)
		if hilum < 1.5*rim || hilum < 1.5*apex {
			t.Errorf("%+.0f: oedema adds %.3f at the hilum, %.3f at the rim, %.3f at the apex", sign, hilum, rim, apex)
		}
	}
}

func TestField_OutsideIsWhiteOrBlack(t *testing.T) {
	const size = 200
	s := with(3)
	v := &s.Views[0]
	v.field = field{left: 150, right: 160, top: 170, bottom: 150}
	for _, shutter := range []bool{false, true} {
		v.field.shutter = shutter
		pixels := RenderView(s, 0, size)
		for name, at := range map[string][2]int{"left": {100, 8}, "right": {100, 192}, "top": {5, 100}, "bottom": {190, 100}} {
			value := pixels[at[0]*size+at[1]]
			if shutter && value != 0 || !shutter && value < 3000 {
				t.Errorf("shutter %v: %s of the field is %d", shutter, name, value)
			}
		}
	}
}

func TestMarks_AreInThePixels(t *testing.T) {
	const size = 400 // a pixel a millimetre
	s := with(3)
	plain := RenderView(s, 0, size)
	s.Views[0].marks = []mark{{"L", 130, -150, 14}}
	rows, cols := map[int]bool{}, map[int]bool{}
	for i, x := range RenderView(s, 0, size) {
		if x == plain[i] {
			continue
		}
		if x < plain[i] {
			t.Fatalf("pixel %d is darker with a mark", i)
		}
		rows[i/size], cols[i%size] = true, true
	}
	if len(rows) != 14 || len(cols) != 10 || !rows[50] || !cols[330] {
		t.Errorf("the letter takes %d rows and %d columns, want 14 and 10 from row 50 and column 330", len(rows), len(cols))
	}
}
