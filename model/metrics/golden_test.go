package metrics_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mvmae/mvmae/model"
	"github.com/mvmae/mvmae/model/goldentest"
	"github.com/mvmae/mvmae/model/metrics"
)

// goldenFile is testdata/golden/metrics*.json: see section F of the README there.
type goldenFile struct {
	Threshold float64
	ECEBins   int `json:"ece_bins"`
	Sets      []struct {
		Scores   [][model.NumLabels]float64
		Labels   [][model.NumLabels]int
		Expected struct {
			AUROC                 []metrics.Value
			AveragePrecision      []metrics.Value `json:"average_precision"`
			F1, Brier, ECE        []metrics.Value
			MacroAUROC            metrics.Value `json:"macro_auroc"`
			MacroAveragePrecision metrics.Value `json:"macro_average_precision"`
			MacroF1               metrics.Value `json:"macro_f1"`
			MacroF1WithPositives  metrics.Value `json:"macro_f1_labels_with_positives"`
			MacroBrier            metrics.Value `json:"macro_brier"`
			MacroECE              metrics.Value `json:"macro_ece"`
			PooledECE             metrics.Value `json:"pooled_ece"`
		}
	}
}

func TestTable_Golden(t *testing.T) {
	for _, file := range goldentest.Files(t, "metrics*.json") {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var golden goldenFile
		if err := json.Unmarshal(data, &golden); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		if golden.Threshold != metrics.DefaultThreshold || golden.ECEBins != metrics.ECEBins || len(golden.Sets) == 0 {
			t.Fatalf("%s: threshold %v, %d bins, %d sets", file, golden.Threshold, golden.ECEBins, len(golden.Sets))
		}
		for k := range golden.Sets {
			t.Run(filepath.Base(file)+"/"+strconv.Itoa(k), func(t *testing.T) { checkGolden(t, golden, k) })
		}
	}
}

// checkGolden compares one set. All computation is in float64 on both sides: only the order of summation differs.
func checkGolden(t *testing.T, golden goldenFile, k int) {
	set := golden.Sets[k]
	rows := make([]metrics.Row, len(set.Scores))
	for i := range rows {
		rows[i] = metrics.Row{Patient: strconv.Itoa(i), Scores: set.Scores[i]}
		for l, y := range set.Labels[i] {
			rows[i].Labels[l] = model.LabelState(y)
		}
	}
	table, err := metrics.NewTable(rows)
	if err != nil {
		t.Fatal(err)
	}
	sheet := table.Measure(metrics.Thresholds{})
	want := set.Expected
	for _, c := range []struct {
		name   string
		metric metrics.Metric
		labels []metrics.Value
		macro  metrics.Value
	}{
		{"auroc", metrics.AUROC, want.AUROC, want.MacroAUROC},
		{"average precision", metrics.AveragePrecision, want.AveragePrecision, want.MacroAveragePrecision},
		{"f1", metrics.F1, want.F1, want.MacroF1},
		{"f1 of labels with positives", metrics.F1LabelsWithPositives, nil, want.MacroF1WithPositives},
		{"brier", metrics.Brier, want.Brier, want.MacroBrier},
		{"ece", metrics.ECE, want.ECE, want.MacroECE},
		{"pooled ece", metrics.PooledECE, nil, want.PooledECE},
	} {
		var got []metrics.Value
		for l := range c.labels {
			got = append(got, metrics.Value(sheet[l][c.metric]))
		}
		got, all := append(got, metrics.Value(sheet[metrics.Macro][c.metric])), append(c.labels, c.macro)
		if diff := cmp.Diff(all, got, approx); diff != "" {
			t.Errorf("%s, labels then macro (-want +got):\n%s", c.name, diff)
		}
	}
}
