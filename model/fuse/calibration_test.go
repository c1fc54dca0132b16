package fuse_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mvmae/mvmae/internal/hint"
	"github.com/mvmae/mvmae/model"
	"github.com/mvmae/mvmae/model/fuse"
)

// drawn are n studies of each of the lines given, one for each number of views: the truth of every label is drawn with the
// probability sigmoid(scale·logit + shift), of which the study's own probability is not told.
func drawn(n int, lines ...[2]float64) (studies []fuse.Sample) {
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range n * len(lines) {
		views := i%len(lines) + 1
		s := fuse.Sample{Patient: fmt.Sprint(i), Views: views}
		for l := range s.Probability {
			x := 2 * rng.NormFloat64()
			s.Probability[l] = float32(fuse.Sigmoid(x))
			if rng.Float64() < fuse.Sigmoid(lines[views-1][0]*x+lines[views-1][1]) {
				s.Labels[l] = model.Positive
			}
		}
		studies = append(studies, s)
	}
	return studies
}

func TestFit_FindsTheLineOfEachNumberOfViews(t *testing.T) {
	lines := [][2]float64{{0.5, -1}, {1.5, 0.3}, {1, 0}}
	c, untouched, err := fuse.Fit(fuse.Platt, drawn(6000, lines...))
	if err != nil || len(untouched) != 0 {
		t.Fatalf("error %v, untouched %v", err, untouched)
	}
	for views, r := range c.ByViews {
		for l := range r.Scale {
			// Of 6000 studies the estimates' standard errors are 0.02 to 0.05.
			if d := math.Hypot(r.Scale[l]-lines[views][0], r.Shift[l]-lines[views][1]); d > 0.2 {
				t.Errorf("%d views, %s: scale %.3f, shift %.3f: want %v", views+1, model.Labels[l], r.Scale[l], r.Shift[l], lines[views])
			}
		}
	}
	c, _, err = fuse.Fit(fuse.Temperature, drawn(6000, [2]float64{0.4, 0}))
	if err != nil || c.ByViews[0].Shift != [model.NumLabels]float64{} || math.Abs(c.ByViews[0].Scale[3]-0.4) > 0.1 {
		t.Errorf("temperature: %v, error %v: want scale 0.4 without a shift", c.ByViews, err)
	}
}

func TestFit_FewStudiesStayNearTheIdentity(t *testing.T) {
	few := drawn(6, [2]float64{1, 0})
	for i := range few {
		few[i].Labels = model.LabelSet{} // negative
		few[i].Labels[0] = model.Absent
	}
	few[0].Labels[2], few[0].Probability[2] = model.Positive, 1 // a separable label, at the end of the scale
	for i := range few {                                        // and one the wrong way round
		few[i].Probability[3] = 0.999
		if i%2 == 0 {
			few[i].Labels[3], few[i].Probability[3] = model.Positive, 0.001
		}
	}
	c, untouched, err := fuse.Fit(fuse.Platt, few)
	if err != nil || slices.Contains(untouched, model.Labels[3]) || !slices.Contains(untouched, model.Labels[0]) || !slices.Contains(untouched, model.Labels[1]) {
		t.Fatalf("error %v, untouched %v", err, untouched)
	}
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	for views, r := range c.ByViews {
		if r.Scale[0] != 1 || r.Shift[0] != 0 {
			t.Errorf("%d views: a label that is not known became %g, %g", views+1, r.Scale[0], r.Shift[0])
		}
		if r.Scale[2] > 6 || math.Abs(r.Shift[2]) > 6 || r.Scale[3] <= 0 {
			t.Errorf("%d views: scales %v, shifts %v", views+1, r.Scale, r.Shift)
		}
	}
}

func TestFit_OneClassIsRefused(t *testing.T) {
	studies := drawn(20, [2]float64{1, 0})
	for i := range studies {
		studies[i].Labels = model.LabelSet{}
	}
	if _, untouched, err := fuse.Fit(fuse.Platt, studies); !errors.Is(err, fuse.ErrOneClass) || len(untouched) != model.NumLabels {
		t.Errorf("error %v, untouched %v", err, untouched)
	}
	if _, _, err := fuse.Fit(fuse.Temperature, nil); !errors.Is(err, fuse.ErrOneClass) {
		t.Errorf("no studies: error %v", err)
	}
	if _, _, err := fuse.Fit("isotonic", studies); err == nil || hint.Of(err) == "" {
		t.Errorf("unknown kind: error %v, hint %q", err, hint.Of(err))
	}
	if c, _, err := fuse.Fit(fuse.NoCalibration, studies); err != nil || c.Apply(all(0.3), 1) != all(0.3) {
		t.Errorf("none: %v, error %v", c, err)
	}
}

func TestApply_TakesTheLineOfTheNumberOfViews(t *testing.T) {
	c := fuse.Calibration{Kind: fuse.Platt, ByViews: make([]fuse.Correction, 2)}
	for l := range model.NumLabels {
		c.ByViews[0].Scale[l], c.ByViews[0].Shift[l] = 1, math.Log(2)
		c.ByViews[1].Scale[l] = 2
	}
	for _, x := range []struct {
		p     float32
		views int
		want  float32
	}{
		{0.5, 1, 2. / 3}, {0.75, 2, 0.9}, {0.75, 7, 0.9}, {0, 1, 0}, {1, 1, 1}, {0, 2, 0}, {1, 2, 1},
	} {
		if got := c.Apply(all(x.p), x.views)[4]; math.Abs(float64(got-x.want)) > 1e-7 {
			t.Errorf("%g of %d views is %g: want %g", x.p, x.views, got, x.want)
		}
	}
	doc, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	back, err := fuse.ParseCalibration(doc)
	if diff := cmp.Diff(c, back); err != nil || diff != "" {
		t.Errorf("error %v, read back (-want +got):\n%s", err, diff)
	}
}

func TestParseCalibration_RefusesLinesThatDoNotRise(t *testing.T) {
	line := func(value string) string { return "[" + strings.Repeat(value+",", model.NumLabels-1) + value + "]" }
	for doc, want := range map[string]string{
		`{"kind":"platt"}`: "without by_views",
		`{"kind":"platt","by_views":[{"scale":` + line("0") + `,"shift":` + line("1") + `}]}`:           "Atelectasis with 1 views: scale 0",
		`{"kind":"temperature","by_views":[{"scale":` + line("-1") + `,"shift":` + line("0") + `}]}`:    "scale -1",
		`{"kind":"temperature","by_views":[{"scale":` + line("1e999") + `,"shift":` + line("0") + `}]}`: "calibration: json",
	} {
		if _, err := fuse.ParseCalibration([]byte(doc)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", doc, err, want)
		}
	}
}

func TestFit_LeavesACalibratedHeadAlone(t *testing.T) {
	_, untouched, err := fuse.Fit(fuse.Platt, drawn(150, [2]float64{1, 0}, [2]float64{1, 0}))
	if err != nil || len(untouched) < model.NumLabels-4 { // by chance a line may seem to help
		t.Errorf("error %v, untouched %v", err, untouched)
	}
}
