package metrics_test

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mvmae/mvmae/model"
	"github.com/mvmae/mvmae/model/metrics"
)

// studies makes rows of one to three studies a patient whose scores tell something of the truth.
func studies(seed uint64, patients int) (rows []metrics.Row) {
	r := rand.New(rand.NewPCG(seed, 1))
	for p := range patients {
		for range 1 + r.IntN(3) {
			row := metrics.Row{Patient: fmt.Sprintf("p%05d", p)}
			for l := range row.Scores {
				y := 0.0
				if r.Float64() < 0.05+0.03*float64(l) {
					y, row.Labels[l] = 1, model.Positive
				}
				row.Scores[l] = 1 / (1 + math.Exp(1-y-1.2*r.NormFloat64()))
			}
			rows = append(rows, row)
		}
	}
	return rows
}

func mustTable(t testing.TB, rows []metrics.Row) *metrics.Table {
	t.Helper()
	table, err := metrics.NewTable(rows)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func TestNewTable_Refuses(t *testing.T) {
	for _, c := range []struct {
		name string
		edit func(*metrics.Row)
		want string
	}{
		{"no patient", func(r *metrics.Row) { r.Patient = "" }, "row 3 has no patient"},
		{"not a number", func(r *metrics.Row) { r.Scores[3] = math.NaN() }, "row 3: Edema has the score NaN"},
		{"a logit", func(r *metrics.Row) { r.Scores[3] = -0.5 }, "row 3: Edema has the score -0.5"},
		{"above one", func(r *metrics.Row) { r.Scores[3] = 1.5 }, "row 3: Edema has the score 1.5"},
	} {
		rows := studies(1, 10)
		c.edit(&rows[3])
		if _, err := metrics.NewTable(rows); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %q", c.name, err, c.want)
		}
	}
}

// A label that a study lacks is left out: the label's metrics equal those of the table without the study.
func TestTable_AbsentLabelsAreLeftOut(t *testing.T) {
	rows := studies(2, 60)
	masked, without := make([]metrics.Row, len(rows)), []metrics.Row(nil)
	const label = 9
	for i, r := range rows {
		if masked[i] = r; i%3 == 0 {
			masked[i].Labels[label] = model.Absent
		} else {
			without = append(without, r)
		}
		masked[i].Labels[5] = model.Absent
	}
	thresholds := metrics.Thresholds{label: 0.3, 5: 0.3}
	all, got, want := mustTable(t, rows).Measure(thresholds), mustTable(t, masked).Measure(thresholds), mustTable(t, without).Measure(thresholds)
	if got[label] != want[label] || got[label] == all[label] {
		t.Errorf("partly absent label: %v, want %v (all studies: %v)", got[label], want[label], all[label])
	}
	for m, v := range got[5] {
		if !math.IsNaN(v) {
			t.Errorf("metric %d of a label that is absent everywhere is %v", m, v)
		}
	}
	var sum float64
	for l := range model.NumLabels {
		if l != 5 {
			sum += got[l][metrics.F1]
		}
	}
	if want := sum / (model.NumLabels - 1); math.Abs(got[metrics.Macro][metrics.F1]-want) > 1e-12 {
		t.Errorf("macro F1 is %v, want %v: the mean over known labels", got[metrics.Macro][metrics.F1], want)
	}
}

func TestTable_UncertainAndBlankAreNegative(t *testing.T) {
	rows := studies(3, 40)
	want := mustTable(t, rows).Measure(metrics.Thresholds{})
	for i := range rows {
		for l := range rows[i].Labels {
			if rows[i].Labels[l] == model.Negative {
				rows[i].Labels[l] = [...]model.LabelState{model.Negative, model.Uncertain, model.Blank}[(i+l)%3]
			}
		}
	}
	if got := mustTable(t, rows).Measure(metrics.Thresholds{}); got != want {
		t.Errorf("metrics are %v, want %v", got, want)
	}
}

func TestTableMeasure_NothingDefinedWithoutRows(t *testing.T) {
	for l, row := range mustTable(t, nil).Measure(metrics.Thresholds{}) {
		for m, v := range row {
			if !math.IsNaN(v) {
				t.Errorf("row %d, metric %d is %v", l, m, v)
			}
		}
	}
}

func TestTableTuneThresholds_UntunableKeepsTheDefault(t *testing.T) {
	rows := studies(4, 60)
	for i := range rows {
		rows[i].Labels[2], rows[i].Labels[7] = model.Negative, model.Absent
	}
	table := mustTable(t, rows)
	thresholds, tuned := table.TuneThresholds(metrics.MaxF1)
	sheet := table.Measure(thresholds)
	for l := range thresholds {
		best, f1 := table.Label(l).BestF1()
		if l == 2 || l == 7 {
			if tuned[l] || thresholds[l] != metrics.DefaultThreshold {
				t.Errorf("%s: threshold %v, tuned %v", model.Labels[l], thresholds[l], tuned[l])
			}
		} else if !tuned[l] || thresholds[l] != best || sheet[l][metrics.TunedF1] != f1 || f1 <= sheet[l][metrics.F1] {
			t.Errorf("%s: threshold %v, tuned %v, F1 %v, at 0.5 %v; want %v and F1 %v", model.Labels[l], thresholds[l], tuned[l],
				sheet[l][metrics.TunedF1], sheet[l][metrics.F1], best, f1)
		}
	}
}

func TestValue_UndefinedIsNullInJSON(t *testing.T) {
	want := []metrics.Value{0.25, metrics.Value(math.NaN()), 1}
	data, err := json.Marshal(want)
	if err != nil || string(data) != "[0.25,null,1]" {
		t.Fatalf("marshalled as %s, error %v", data, err)
	}
	got := []metrics.Value{7, 7, 7} // null must overwrite
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, exact); diff != "" {
		t.Errorf("read back (-want +got):\n%s", diff)
	}
}

func TestEstimate_String(t *testing.T) {
	nan := metrics.Value(math.NaN())
	for want, e := range map[string]metrics.Estimate{
		"0.874 [0.851, 0.896]": {Value: 0.87412, Low: 0.851, High: 0.8961},
		"0.874":                {Value: 0.87412, Low: nan, High: nan},
		"-":                    {Value: nan, Low: nan, High: nan},
	} {
		if got := e.String(); got != want {
			t.Errorf("%#v is written %q, want %q", e, got, want)
		}
	}
}
