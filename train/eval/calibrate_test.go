package eval_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mvmae/mvmae/model"
	"github.com/mvmae/mvmae/model/fuse"
	"github.com/mvmae/mvmae/model/metrics"
	"github.com/mvmae/mvmae/train/eval"
)

// overconfident makes the logits of predictions too large and too high.
func overconfident(list []eval.Prediction) []eval.Prediction {
	for _, p := range list {
		for v := range p.Views {
			for l := range p.Views[v].Logits {
				p.Views[v].Logits[l] = 3*p.Views[v].Logits[l] + 2
			}
		}
	}
	return list
}

func TestEvaluate_CalibrationLowersTheErrorOnTest(t *testing.T) {
	opts := options
	opts.Replicates, opts.Calibrate, opts.Untrained = 200, fuse.Platt, []string{"Fracture"}
	opts.Tune, _ = metrics.ParseThresholdRule("sensitivity=0.9")
	val, test := overconfident(predictions("v", 250)), overconfident(predictions("test", 400))
	r := mustEvaluate(t, val, test, opts)
	c := r.Calibration
	for name, m := range map[string]eval.BeforeAfter{"ECE": c.ECE, "pooled ECE": c.PooledECE, "Brier": c.Brier} {
		if !(m.Change.High < 0) || m.After.Value >= m.Before.Value {
			t.Errorf("%s: %v before, %v after, change %v: want the whole interval below 0", name, m.Before, m.After, m.Change)
		}
	}
	if diff := cmp.Diff([]string{"Fracture"}, c.Untouched); diff != "" {
		t.Errorf("untouched (-want +got):\n%s", diff)
	}
	if l := model.LabelIndex("Fracture"); c.ByViews[0].Scale[l] != 1 || c.ByViews[0].Shift[l] != 0 {
		t.Error("an untrained label was calibrated")
	}
	if r.Macro.ECE != c.ECE.After || r.ThresholdRule != "sensitivity=0.9" {
		t.Errorf("the report's ECE is %v, threshold rule %q", r.Macro.ECE, r.ThresholdRule)
	}
	studies := 0
	for _, b := range c.Bins.After {
		studies += b.Studies
	}
	if studies != len(test)*model.NumLabels {
		t.Errorf("the reliability curve holds %d: want %d", studies, len(test)*model.NumLabels)
	}
	// What the model file then says gives the same report.
	served := options
	served.Replicates, served.Calibration = opts.Replicates, c.Calibration
	thresholds := r.Thresholds()
	served.Thresholds = &thresholds
	if diff := cmp.Diff(r.Macro, mustEvaluate(t, nil, test, served).Macro); diff != "" {
		t.Errorf("with the fitted calibration given (-fitted +given):\n%s", diff)
	}
}

func TestEvaluate_OneClassCalibrationSetIsRefused(t *testing.T) {
	val := predictions("v", 20)
	for i := range val {
		val[i].Labels = model.LabelSet{}
	}
	opts := options
	opts.Calibrate = fuse.Temperature
	if _, err := eval.Evaluate(val, predictions("test", 20), opts); !errors.Is(err, fuse.ErrOneClass) {
		t.Errorf("error %v: want ErrOneClass", err)
	}
}

func TestEvaluate_GroupsPartitionTheTestStudies(t *testing.T) {
	test := predictions("test", 120)
	for i := range test {
		test[i].Person = eval.Person{Dataset: []string{"nih", "mimic"}[i%2], Sex: []string{"F", "M", ""}[i%3], Age: []int{0, 39, 40, 79, 80, 90}[i%6]}
	}
	r := mustEvaluate(t, predictions("v", 60), test, options)
	studies, groups := map[string]int{}, map[string][]string{}
	for _, g := range r.ByGroup {
		studies[g.By] += g.Studies
		groups[g.By] = append(groups[g.By], g.Group)
		if len(g.Labels) != model.NumLabels || !g.MacroAUROC.Value.Defined() {
			t.Errorf("%s %s: %d labels, macro AUROC %v", g.By, g.Group, len(g.Labels), g.MacroAUROC)
		}
	}
	want := map[string][]string{
		"sex": {"F", "M", "unknown"}, "age": {"1-39", "40-59", "60-79", "80 and more", "unknown"},
		"views": {"frontal only", "lateral only", "frontal and lateral", "with unknown"}, "dataset": {"nih", "mimic"},
	}
	if diff := cmp.Diff(want, groups); diff != "" {
		t.Errorf("groups (-want +got):\n%s", diff)
	}
	for by, n := range studies {
		if n != len(test) {
			t.Errorf("by %s: %d studies, want %d", by, n, len(test))
		}
	}
}
