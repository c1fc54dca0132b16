package synth

import (
	"math"
	"slices"
	"testing"

	"github.com/mvmae/mvmae/model"
)

// with returns a study of a patient with just the given findings.
func with(patient int, findings ...Finding) *Study {
	p := NewPatient(&Plain, 11, patient)
	return &Study{Patient: p, anatomy: p.anatomy, Findings: findings, Views: []View{centred(p, PA), centred(p, LL)}}
}

// place draws a finding of a kind in a patient's body, as newFindings does, with a severity of its own.
func place(patient int, label, kind string, severity float64) Finding {
	f := placed(NewPatient(&Plain, 11, patient), label, kind)
	f.Severity = severity
	return f
}

func TestIncidences_AllLabelsInThreeHundredStudies(t *testing.T) {
	studies, _ := census(&Plain, 1, 300)
	sum := summarise(studies, 0)
	for _, label := range model.Labels {
		// The test split of a demo holds a few hundred studies: each label needs positives there.
		if n := sum.Positives[label]; n < 15 {
			t.Errorf("%s: %d of 300 studies, want at least 15", label, n)
		}
	}
}

func TestIncidences_PrevalencesAreTheTables(t *testing.T) {
	const n = 4000
	count := map[string]float64{}
	both := 0.0
	for i := range n {
		has := present(&Plain, stream(uint64(i), streamStudy), newLatent(stream(uint64(i), streamPatient)))
		for i, yes := range has {
			if yes {
				count[model.Labels[i]]++
			}
		}
		if has[model.LabelIndex("Edema")] && has[model.LabelIndex("Cardiomegaly")] {
			both++
		}
	}
	for _, inc := range incidences {
		want := inc.prevalence
		if inc.label == "Consolidation" || inc.label == "Lung Opacity" {
			want += 0.02 // a pneumonia without either is given one
		}
		near(t, inc.label, count[inc.label]/n, want, 0.03) // 4 standard deviations
	}
	if apart := count["Edema"] * count["Cardiomegaly"] / n; both < 2*apart {
		t.Errorf("oedema with a large heart in %g studies, %g if they were independent: want at least twice as many", both, apart)
	}
}

func TestLabels_FollowTheFindings(t *testing.T) {
	studies, _ := census(&Plain, 5, 400)
	for _, s := range studies {
		set := s.Labels()
		positive := func(label string) bool { return set[model.LabelIndex(label)] == model.Positive }
		other := slices.ContainsFunc(s.Findings, func(f Finding) bool { return f.Label != "Support Devices" })
		if positive("No Finding") == other {
			t.Errorf("visit %d of %s: No Finding is %v beside %v", s.Visit, s.Patient.ID, positive("No Finding"), s.Findings)
		}
		if positive("Pneumonia") && !positive("Consolidation") && !positive("Lung Opacity") {
			t.Errorf("visit %d of %s: a pneumonia with neither consolidation nor opacity", s.Visit, s.Patient.ID)
		}
	}
}

func TestNodule_LiesAtOneHeightInBothViews(t *testing.T) {
	const size = 256
	for patient, at := range []vec{{74, 25, 30}, {-74, -15, 25}, {-62, 35, 50}, {78, 15, 5}} { // in lung all round
		s := with(patient, Finding{Label: "Lung Lesion", Kind: "nodule", X: at.x, Y: at.y, Z: at.z, Severity: 1})
		if at.x > 0 {
			s.Findings[0].side = 1
		}
		f := s.Findings[0]
		var height [2]float64
		for i := range s.Views {
			v := &s.Views[i]
			cam := newCamera(v, size)
			diff := integrate(build(s.anatomy, s.Findings, v.setup.pose), v, size)
			for k, x := range integrate(build(s.anatomy, nil, v.setup.pose), v, size) {
				diff[k] -= x
			}
			col, row := centroid(diff, size)
			wantCol, wantRow, perMM := cam.project(f.at())
			// Within a pixel, though vessels near it and the cavity's edge may shift the centre a little.
			near(t, string(v.Projection)+" column", col, wantCol, 1)
			near(t, string(v.Projection)+" row", row, wantRow, 1)
			height[i] = (float64(size-1)/2-row)/perMM - v.shift.z
			for k, x := range diff {
				away := math.Hypot(float64(k%size)-wantCol, float64(k/size)-wantRow)
				if away > 16*perMM && x != 0 {
					t.Fatalf("%s: pixel %d, %.0f mm from the nodule, changed by %g", v.Projection, k, away/perMM, x)
				}
			}
		}
		near(t, "height in the lateral view", height[1], height[0], 1.5)
		near(t, "height in the frontal view", height[0], f.Z, 1.5)
	}
}

func TestContrast_ViewsThatShowAFinding(t *testing.T) {
	cases := []struct {
		label, kind string
		severity    float64
		better      Projection
		factor      float64 // mean contrast there over the other's
	}{
		{"Pleural Effusion", "fluid", 0.03, LL, 1.5}, // it fills the sulcus behind the diaphragm first
		{"Fracture", "vertebral compression", 0.5, LL, 2},
		{"Pneumothorax", "air", 0.3, PA, 1.3},
		{"Enlarged Cardiomediastinum", "wide mediastinum", 0.5, PA, 1.5},
	}
	for _, c := range cases {
		t.Run(c.kind, func(t *testing.T) {
			mean := map[Projection]float64{}
			for patient := range 6 {
				s := with(patient, place(patient, c.label, c.kind, c.severity))
				for _, projection := range []Projection{PA, LL} {
					mean[projection] += s.Contrast(0, projection) / 6
				}
			}
			worse := LL
			if c.better == LL {
				worse = PA
			}
			if mean[c.better] < c.factor*mean[worse] || mean[c.better] < shownFrom {
				t.Errorf("contrast %v, want %s above %g and %g times the other", mean, c.better, float64(shownFrom), c.factor)
			}
		})
	}
}

func TestEffusion_SmallOneIsShownFromTheSideFirst(t *testing.T) {
	sideOnly := 0
	for patient := range 12 {
		s := with(patient, place(patient, "Pleural Effusion", "fluid", 0.05))
		contrast := map[Projection]float64{PA: s.Contrast(0, PA), LL: s.Contrast(0, LL)}
		shown := s.shownIn(contrast)
		if slices.Equal(shown, []Projection{PA}) {
			t.Errorf("patient %d: shown in the frontal view alone: %v", patient, contrast)
		}
		if slices.Equal(shown, []Projection{LL}) {
			sideOnly++
		}
		s.Views = s.Views[:1]
		if shown := s.shownIn(contrast); slices.Contains(shown, LL) {
			t.Errorf("patient %d: shown in %v, a view that was not taken", patient, shown)
		}
	}
	if sideOnly < 6 {
		t.Errorf("shown in the lateral view alone in %d of 12 patients, want at least half", sideOnly)
	}
}

func TestFindings_EveryKindChangesAView(t *testing.T) {
	studies, _ := census(&Plain, 2, 250)
	seen := map[string]float64{}
	for _, s := range studies {
		for i, f := range s.Findings {
			if seen[f.Kind] < shownFrom {
				seen[f.Kind] = max(seen[f.Kind], s.Contrast(i, PA), s.Contrast(i, LL))
			}
		}
	}
	if len(seen) < 24 {
		t.Errorf("%d kinds of findings in 250 studies, want all 24: %v", len(seen), seen)
	}
	for kind, contrast := range seen {
		if contrast < shownFrom {
			t.Errorf("%s: contrast %.1f at most in 250 studies, want some above %d", kind, contrast, shownFrom)
		}
	}
}

func TestVessels_NoneOutsideACollapsedLung(t *testing.T) {
	f := place(3, "Pneumothorax", "air", 1)
	a := with(3).anatomy
	healthy, collapsed := build(a, nil, onHips), build(a, []Finding{f}, onHips)
	if len(collapsed.tubes) >= len(healthy.tubes) {
		t.Errorf("%d tubes with a pneumothorax, %d without: want fewer", len(collapsed.tubes), len(healthy.tubes))
	}
}
