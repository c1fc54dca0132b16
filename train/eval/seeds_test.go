package eval

import (
	"encoding/json"
	"math"
	"strings"
	"testing"

	"github.com/mvmae/mvmae/model"
	"github.com/mvmae/mvmae/model/metrics"
)

func TestOverSeeds_MeanAndSpreadOfTheRunsThatDefineAMetric(t *testing.T) {
	reports := make([]Report, 3)
	for i, v := range []float64{0.5, 0.6, 0.7} {
		reports[i].Labels = make([]LabelReport, model.NumLabels)
		reports[i].Macro.AUROC.Value = metrics.Value(v)
		reports[i].Labels[2].Brier.Value = metrics.Value(v)
	}
	reports[1].Labels[2].Brier.Value = metrics.Value(math.NaN())
	for i := range reports {
		reports[i].Labels[3].AUROC.Value = metrics.Value(math.NaN())
	}
	s := OverSeeds([]uint64{1, 2, 3}, reports)
	near := func(what string, got metrics.Value, want float64) {
		t.Helper()
		if !(math.Abs(float64(got)-want) < 1e-12) {
			t.Errorf("%s is %v, want %v", what, float64(got), want)
		}
	}
	near("mean", s.Macro.AUROC.Mean, 0.6)
	near("deviation", s.Macro.AUROC.SD, 0.1)
	near("min", s.Macro.AUROC.Min, 0.5)
	near("max", s.Macro.AUROC.Max, 0.7)
	near("mean of two", s.Labels[2].Brier.Mean, 0.6)
	near("deviation of two", s.Labels[2].Brier.SD, 0.2/math.Sqrt2)
	if x := s.Labels[3].AUROC; x.Runs != 0 || x.Mean.Defined() || s.Labels[2].Brier.Runs != 2 {
		t.Errorf("no run defines it: %+v", x)
	}
	if one := OverSeeds([]uint64{7}, reports[:1]).Macro.AUROC; one.SD.Defined() {
		t.Errorf("one run has the deviation %v", one.SD)
	}
	if doc, err := json.Marshal(s); err != nil || !strings.Contains(string(doc), `"mean":null`) {
		t.Errorf("JSON: %v", err)
	}
	if table := s.Table(); !strings.Contains(table, "0.600 ± 0.100") {
		t.Errorf("table:\n%s", table)
	}
}
