package eval_test

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/mvmae/mvmae/dicom/cxr"
	"github.com/mvmae/mvmae/internal/hint"
	"github.com/mvmae/mvmae/model"
	"github.com/mvmae/mvmae/model/fuse"
	"github.com/mvmae/mvmae/model/metrics"
	"github.com/mvmae/mvmae/train/eval"
)

var options = eval.Options{Rule: fuse.MeanProbability, Replicates: 30, Seed: 1}

// predictions makes studies of one to three views, whose lateral views see labels 0 to 6 and whose other views see the
// rest. Prefix keeps the patients of two splits apart.
func predictions(prefix string, patients int) (list []eval.Prediction) {
	r := rand.New(rand.NewPCG(uint64(len(prefix)), 9))
	for p := range patients {
		for s := range 1 + r.IntN(2) {
			study := eval.Prediction{Patient: fmt.Sprintf("%s%d", prefix, p), Study: fmt.Sprintf("%s%d.%d", prefix, p, s)}
			for l := range study.Labels {
				if r.Float64() < 0.1+0.04*float64(l) {
					study.Labels[l] = model.Positive
				}
			}
			for range 1 + r.IntN(3) {
				view := eval.ViewPrediction{View: [...]cxr.View{cxr.Frontal, cxr.Lateral, cxr.Frontal, cxr.Unknown, cxr.Lateral}[r.IntN(5)]}
				for l := range view.Logits {
					view.Logits[l] = float32(r.NormFloat64()) - 1.5
					if study.Labels[l] == model.Positive && (view.View == cxr.Lateral) == (l < 7) {
						view.Logits[l] += 2
					}
				}
				study.Views = append(study.Views, view)
			}
			list = append(list, study)
		}
	}
	return list
}

func mustEvaluate(t testing.TB, val, test []eval.Prediction, opts eval.Options) eval.Report {
	t.Helper()
	r, err := eval.Evaluate(val, test, opts)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// study is one study of one view and its own patient, positive or not for every label, with one logit for every label.
func study(id string, logit float32, state model.LabelState) eval.Prediction {
	p := eval.Prediction{Patient: "p" + id, Study: "s" + id, Views: make([]eval.ViewPrediction, 1)}
	for l := range p.Labels {
		p.Labels[l], p.Views[0].Logits[l] = state, logit
	}
	return p
}

func logit(p float64) float32 { return float32(math.Log(p / (1 - p))) }

func TestEvaluate_NumbersByHand(t *testing.T) {
	val := []eval.Prediction{study("a", logit(0.9), model.Positive), study("b", logit(0.3), model.Positive), study("c", logit(0.1), model.Negative)}
	test := []eval.Prediction{
		study("d", logit(0.8), model.Positive), study("e", logit(0.3), model.Negative), study("f", logit(0.25), model.Positive),
		study("g", logit(0.1), model.Blank), study("h", logit(0.7), model.Absent),
	}
	r := mustEvaluate(t, val, test, eval.Options{Rule: fuse.MeanLogit})
	type row struct {
		Studies, Positives                            int
		Threshold, AUROC, AP, F1, F1Tuned, Brier, ECE float64
	}
	l := r.Labels[3]
	got := row{l.Studies, l.Positives, l.Threshold, float64(l.AUROC.Value), float64(l.AveragePrecision.Value), float64(l.F1.Value),
		float64(l.F1Tuned.Value), float64(l.Brier.Value), float64(l.ECE.Value)}
	want := row{
		Studies: 4, Positives: 2, // absent: unknown
		Threshold: 0.2,  // half-way between 0.3 and 0.1 of validation
		AUROC:     0.75, // 0.25 lies below the negative 0.3
		AP:        (1 + 2./3) / 2,
		F1:        2. / 3, // one of two found
		F1Tuned:   4. / 5, // both found, one false alarm
		Brier:     (0.2*0.2 + 0.3*0.3 + 0.75*0.75 + 0.1*0.1) / 4,
		ECE:       (0.2 + 0.3 + 0.75 + 0.1) / 4, // each in its own bin
	}
	// Probabilities are float32.
	if diff := cmp.Diff(want, got, cmpopts.EquateApprox(0, 1e-7)); diff != "" {
		t.Errorf("label report (-want +got):\n%s", diff)
	}
	if r.Test != (eval.Split{Studies: 5, Patients: 5}) || r.Validation.Studies != 3 || r.Validation.MacroAUROC != 1 || r.Macro.Labels != 14 {
		t.Errorf("test %+v, validation %+v, %d labels", r.Test, r.Validation, r.Macro.Labels)
	}
	if math.Abs(float64(r.Macro.F1Tuned.Value)-0.8) > 1e-12 || l.AUROC.Low.Defined() {
		t.Errorf("macro F1 %v, AUROC without bootstrap %v", r.Macro.F1Tuned, l.AUROC)
	}
}

func TestEvaluate_ThresholdsComeFromValidationOnly(t *testing.T) {
	val, test := predictions("val", 40), predictions("te", 40)
	want := mustEvaluate(t, val, test, options).Thresholds()
	for i := range test {
		for l := range test[i].Labels {
			test[i].Labels[l] = 1 - test[i].Labels[l]
		}
	}
	if diff := cmp.Diff(want, mustEvaluate(t, val, test, options).Thresholds()); diff != "" {
		t.Errorf("test labels moved the thresholds (-before +after):\n%s", diff)
	}
	for i := range val {
		for l := range val[i].Labels {
			val[i].Labels[l] = 1 - val[i].Labels[l]
		}
	}
	if got := mustEvaluate(t, val, test, options).Thresholds(); got == want {
		t.Error("validation labels did not move the thresholds")
	}
}

func TestEvaluate_Refuses(t *testing.T) {
	val, test := predictions("val", 20), predictions("te", 20)
	edited := func(list []eval.Prediction, edit func(*eval.Prediction)) []eval.Prediction {
		list = slices.Clone(list)
		list[4].Views = slices.Clone(list[4].Views)
		edit(&list[4])
		return list
	}
	for _, c := range []struct {
		name      string
		val, test []eval.Prediction
		opts      eval.Options
		want      string
	}{
		{"unknown rule", val, test, eval.Options{Rule: "max"}, `unknown fusion rule "max"`},
		{"negative replicates", val, test, eval.Options{Rule: fuse.MeanLogit, Replicates: -1}, "-1 bootstrap replicates"},
		{"no validation", nil, test, options, "validation: no studies"},
		{"no test", val, nil, options, "test: no studies"},
		{"patient on both sides", edited(val, func(p *eval.Prediction) { p.Patient = test[0].Patient }), test, options,
			"leakage: 1 patients and 0 studies"},
		{"study on both sides", edited(val, func(p *eval.Prediction) { p.Study = test[0].Study }), test, options,
			"leakage: 0 patients and 1 studies"},
		{"study twice", val, edited(test, func(p *eval.Prediction) { p.Study = test[0].Study }), options, "test: row 4 has no study, or that"},
		{"study unnamed", val, edited(test, func(p *eval.Prediction) { p.Study = "" }), options, "test: row 4 has no study"},
		{"patient unnamed", val, edited(test, func(p *eval.Prediction) { p.Patient = "" }), options, "row 4 has no patient"},
		{"no views", val, edited(test, func(p *eval.Prediction) { p.Views = nil }), options, "test: row 4: no views"},
		{"diverged", val, edited(test, func(p *eval.Prediction) { p.Views[0].Logits[2] = float32(math.NaN()) }), options,
			"test: row 4: view 0 has a logit that is not a finite number"},
	} {
		_, err := eval.Evaluate(c.val, c.test, c.opts)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %q", c.name, err, c.want)
		}
		if strings.HasPrefix(c.want, "leakage") && hint.Of(err) == "" {
			t.Errorf("%s: no hint", c.name)
		}
	}
}

func TestEvaluate_LeakageNamesNoPatient(t *testing.T) {
	val := predictions("secret", 5)
	_, err := eval.Evaluate(val, val, options)
	if err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("error %v", err)
	}
}

func TestEvaluate_ByViews(t *testing.T) {
	val := predictions("val", 30)
	compositions := [][]cxr.View{
		{cxr.Frontal}, {cxr.Frontal, cxr.Frontal}, {cxr.Lateral}, {cxr.Lateral, cxr.Frontal}, {cxr.Frontal, cxr.Unknown}, {cxr.Unknown},
	}
	var test []eval.Prediction
	for i := range 60 {
		state := model.LabelState(i / 6 % 2)
		p := study(fmt.Sprint(i), float32(i%7)+3*float32(state), state)
		p.Views = nil
		for _, v := range compositions[i%6] {
			p.Views = append(p.Views, eval.ViewPrediction{View: v, Logits: study("", float32(i%7)-float32(v), state).Views[0].Logits})
		}
		test = append(test, p)
	}
	sizes := func(opts eval.Options) (got map[string]int) {
		got = map[string]int{}
		for _, v := range mustEvaluate(t, val, test, opts).ByViews {
			if v.Labels != 14 || !v.MacroAUROC.Value.Defined() || v.MacroAUROC.Replicates == 0 || v.Patients != v.Studies {
				t.Errorf("part %+v", v)
			}
			got[v.Views] = v.Studies
		}
		return got
	}
	opts := options
	if diff := cmp.Diff(map[string]int{"frontal only": 20, "lateral only": 10, "frontal and lateral": 10, "with unknown": 20}, sizes(opts)); diff != "" {
		t.Errorf("studies by views (-want +got):\n%s", diff)
	}
	opts.OneView = true
	if diff := cmp.Diff(map[string]int{"frontal only": 40, "lateral only": 10, "with unknown": 10}, sizes(opts)); diff != "" {
		t.Errorf("studies by views, one view each (-want +got):\n%s", diff)
	}
}

func TestEvaluate_OneViewIsTheFirstFrontal(t *testing.T) {
	val, test := predictions("val", 30), predictions("te", 30)
	want := slices.Clone(test)
	for i, p := range want {
		first := max(0, slices.IndexFunc(p.Views, func(v eval.ViewPrediction) bool { return v.View == cxr.Frontal }))
		want[i].Views = p.Views[first : first+1]
	}
	opts := options
	opts.OneView = true
	got := mustEvaluate(t, val, test, opts).Labels
	if diff := cmp.Diff(mustEvaluate(t, val, want, opts).Labels, got, exact); diff != "" {
		t.Errorf("one view (-want +got):\n%s", diff)
	}
	if cmp.Equal(mustEvaluate(t, val, test, options).Labels, got, exact) {
		t.Error("one view scores as all views do")
	}
}

var exact = cmp.Options{
	cmp.Transformer("float64", func(v metrics.Value) float64 { return float64(v) }), cmpopts.EquateNaNs(),
}

func TestReport_JSONKeepsEverything(t *testing.T) {
	val, test := predictions("val", 30), predictions("te", 30)
	for i := range test {
		test[i].Labels[4] = model.Absent
	}
	want := mustEvaluate(t, val, test, options)
	doc, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var got eval.Report
	if err := json.Unmarshal(doc, &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, exact); diff != "" {
		t.Errorf("read back (-want +got):\n%s", diff)
	}
	var loose struct {
		Labels []struct {
			Label string
			AUROC struct{ Value, Low any }
		}
		Macro map[string]any
	}
	if err := json.Unmarshal(doc, &loose); err != nil {
		t.Fatal(err)
	}
	if l := loose.Labels[4]; l.Label != "Enlarged Cardiomediastinum" || l.AUROC.Value != nil || l.AUROC.Low != nil {
		t.Errorf("absent label is %+v, want null values", l)
	}
	if loose.Macro["labels_with_auroc"] != 13.0 || loose.Macro["f1_tuned"] == nil || loose.Macro["pooled_ece"] == nil {
		t.Errorf("macro %v", loose.Macro)
	}
}

func TestReportTable_FitsAndShowsWhatIsUndefined(t *testing.T) {
	val, test := predictions("val", 60), predictions("te", 60)
	for i := range test {
		test[i].Labels[4], val[i%len(val)].Labels[11] = model.Absent, model.Negative
	}
	for i := range val {
		val[i].Labels[11] = model.Negative
	}
	table := mustEvaluate(t, val, test, options).Table()
	lines := strings.Split(table, "\n")
	for i, line := range lines {
		if len(line) > 120 || strings.TrimRight(line, " ") != line {
			t.Errorf("line %d has %d columns or ends in a space: %q", i+1, len(line), line)
		}
	}
	for l, name := range model.Labels {
		at := slices.IndexFunc(lines, func(s string) bool { return strings.HasPrefix(s, name+" ") })
		if at < 0 {
			t.Fatalf("no line for %s in:\n%s", name, table)
		}
		fields := strings.Fields(strings.TrimPrefix(lines[at], name))
		if undefined := fields[2] == "-"; undefined != (l == 4) || l == 4 && fields[0] != "0" {
			t.Errorf("%s: %q", name, lines[at])
		}
		if strings.Contains(lines[at], "0.5000*") != (l == 11) {
			t.Errorf("%s: untuned mark in %q", name, lines[at])
		}
	}
	for _, want := range []string{"n pos", "(AUROC: 13 of 14)", "* no positive in validation", "30 bootstrap replicates over patients", "frontal and lateral"} {
		if !strings.Contains(table, want) {
			t.Errorf("no %q in:\n%s", want, table)
		}
	}
}

func BenchmarkEvaluate(b *testing.B) {
	val, test := predictions("val", 1400), predictions("te", 6700)[:10000]
	opts := eval.Options{Rule: fuse.MeanProbability, Replicates: 1000, Seed: 1}
	for b.Loop() {
		mustEvaluate(b, val, test, opts)
	}
}

// A comparison is the difference of two reports, with narrower intervals, and of a model with itself it is nothing.
func TestCompare_IsTheDifferenceOfTheReports(t *testing.T) {
	a := predictions("t", 80)
	b := make([]eval.Prediction, len(a))
	r := rand.New(rand.NewPCG(3, 4))
	for i := range a { // the same studies, seen by a worse model
		b[i] = a[i]
		b[i].Views = slices.Clone(a[i].Views)
		for v := range b[i].Views {
			for l := range b[i].Views[v].Logits {
				b[i].Views[v].Logits[l] += float32(r.NormFloat64())
			}
		}
	}
	opts := options
	opts.Thresholds = &metrics.Thresholds{}
	opts.OneView = true
	reportA, reportB := mustEvaluate(t, nil, a, opts), mustEvaluate(t, nil, b, opts)
	got, err := eval.Compare(a, b, opts, opts)
	if err != nil {
		t.Fatal(err)
	}
	approx := cmpopts.EquateApprox(0, 1e-12)
	values := func(s eval.Scores) []float64 {
		return []float64{float64(s.AUROC.Value), float64(s.AveragePrecision.Value), float64(s.Brier.Value)}
	}
	less := func(a, b []float64) (d []float64) {
		for i := range a {
			d = append(d, a[i]-b[i])
		}
		return d
	}
	for l := range got.Labels {
		want := less(values(reportA.Labels[l].Scores), values(reportB.Labels[l].Scores))
		if diff := cmp.Diff(want, values(got.Labels[l].Scores), approx); diff != "" || got.Labels[l].Label != model.Labels[l] {
			t.Errorf("%s (-want +got)\n%s", got.Labels[l].Label, diff)
		}
	}
	if diff := cmp.Diff(less(values(reportA.Macro.Scores), values(reportB.Macro.Scores)), values(got.Macro), approx); diff != "" {
		t.Errorf("macro means (-want +got)\n%s", diff)
	}
	width := func(e metrics.Estimate) float64 { return float64(e.High - e.Low) }
	if w := math.Hypot(width(reportA.Macro.AUROC), width(reportB.Macro.AUROC)); width(got.Macro.AUROC) >= w || got.Macro.AUROC.Low <= 0 {
		t.Errorf("paired difference %v, want an interval above 0 and narrower than %.3f", got.Macro.AUROC, w)
	}

	got.Model = "other"
	reportA.Against = &got
	for _, want := range []string{"Less other, paired", "Macro mean"} {
		if !strings.Contains(reportA.Table(), want) {
			t.Errorf("the table lacks %q", want)
		}
	}
	for line := range strings.Lines(got.Table()) {
		if n := len([]rune(strings.TrimRight(line, "\n"))); n > 120 {
			t.Errorf("a line of %d columns: %s", n, line)
		}
	}

	if _, err := eval.Compare(a, b[1:], opts, opts); err == nil || !strings.Contains(err.Error(), "same studies") {
		t.Errorf("other studies: error %v", err)
	}
}
