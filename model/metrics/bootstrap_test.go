package metrics_test

import (
	"math"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mvmae/mvmae/model"
	"github.com/mvmae/mvmae/model/metrics"
)

var half = func() (t metrics.Thresholds) {
	for l := range t {
		t[l] = 0.5
	}
	return t
}()

func sameEstimates(t *testing.T, what string, want, got metrics.Estimates) {
	t.Helper()
	if diff := cmp.Diff(want, got, exact); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// Nothing but seed and data decides the intervals.
func TestBootstrap_IsReproducible(t *testing.T) {
	rows := studies(1, 50)
	r := metrics.Resampling{Replicates: 40, Seed: 7}
	want := mustTable(t, rows).Bootstrap(half, r)

	before := runtime.GOMAXPROCS(1)
	got := mustTable(t, rows).Bootstrap(half, r)
	runtime.GOMAXPROCS(before)
	sameEstimates(t, "on one core", want, got)

	reversed := slices.Clone(rows)
	slices.Reverse(reversed)
	sameEstimates(t, "rows reversed", want, mustTable(t, reversed).Bootstrap(half, r))

	r.Seed++
	other := mustTable(t, rows).Bootstrap(half, r)
	if want[0][metrics.AUROC].Low == other[0][metrics.AUROC].Low {
		t.Error("another seed drew the same replicates")
	}
	two := mustTable(t, rows).Bootstrap(half, metrics.Resampling{Replicates: 2, Seed: 7})[metrics.Macro][metrics.Brier]
	if two.Low == two.High {
		t.Errorf("two replicates drew the same patients: %v", two)
	}
}

// Four copies of every study of a patient add no information: the intervals stay. Resampling studies would halve them.
func TestBootstrap_ResamplesPatientsNotStudies(t *testing.T) {
	rows := studies(2, 50)
	r := metrics.Resampling{Replicates: 60, Seed: 3}
	want := mustTable(t, rows).Bootstrap(half, r)
	got := mustTable(t, slices.Concat(rows, rows, rows, rows)).Bootstrap(half, r)
	if diff := cmp.Diff(want, got, approx); diff != "" {
		t.Errorf("intervals of fourfold studies (-single +fourfold):\n%s", diff)
	}
}

// The Brier score is a mean, so theory gives its standard error: the interval is +-1.96 of it.
func TestBootstrap_IntervalOfAMeanIsTheNormalOne(t *testing.T) {
	var rows []metrics.Row
	seen := map[string]bool{}
	for _, r := range studies(3, 600) {
		if !seen[r.Patient] {
			rows = append(rows, r)
			seen[r.Patient] = true
		}
	}
	const label = 10
	var sum, squares float64
	for _, r := range rows {
		y, _ := r.Labels[label].Target()
		e := (r.Scores[label] - float64(y)) * (r.Scores[label] - float64(y))
		sum += e
		squares += e * e
	}
	n := float64(len(rows))
	width := 2 * 1.96 * math.Sqrt((squares/n-sum/n*sum/n)/n)
	got := mustTable(t, rows).Bootstrap(half, metrics.Resampling{Replicates: 2000, Seed: 1})[label][metrics.Brier]
	// The ends of 2000 replicates have a relative standard error of some 2 %: 8 % is four of them.
	if w := float64(got.High - got.Low); math.Abs(w/width-1) > 0.08 || got.Low > got.Value || got.Value > got.High {
		t.Errorf("interval %v is %.5f wide, theory says %.5f", got, w, width)
	}
}

func TestBootstrap_UndefinedReplicatesAreLeftOut(t *testing.T) {
	rows := studies(4, 40)
	for i := range rows {
		rows[i].Labels[0], rows[i].Labels[1], rows[i].Labels[2] = model.Negative, model.Negative, model.Absent
	}
	rows[0].Labels[1] = model.Positive // of one patient: some 37 % of replicates lack it
	got := mustTable(t, rows).Bootstrap(half, metrics.Resampling{Replicates: 400, Seed: 1})
	for _, c := range []struct {
		name     string
		estimate metrics.Estimate
		min, max int
	}{
		{"AUROC without positives", got[0][metrics.AUROC], 0, 0},
		{"AUROC of one positive patient", got[1][metrics.AUROC], 200, 300},
		{"Brier of an absent label", got[2][metrics.Brier], 0, 0},
		{"F1 without positives", got[0][metrics.F1], 400, 400},
		{"macro AUROC", got[metrics.Macro][metrics.AUROC], 400, 400},
	} {
		n := c.estimate.Replicates
		if n < c.min || n > c.max || c.estimate.Low.Defined() != (n > 0) || c.estimate.Value.Defined() != (n > 0) {
			t.Errorf("%s: %v over %d replicates, want %d to %d", c.name, c.estimate, n, c.min, c.max)
		}
	}
}

func TestBootstrap_NoIntervalFromOnePatientOrNoReplicates(t *testing.T) {
	for _, c := range []struct {
		name string
		rows []metrics.Row
		n    int
	}{
		{"one patient", studies(5, 1), 100},
		{"no replicates", studies(5, 20), 0},
	} {
		table := mustTable(t, c.rows)
		got := table.Bootstrap(half, metrics.Resampling{Replicates: c.n})[metrics.Macro][metrics.Brier]
		if got.Low.Defined() || got.High.Defined() || float64(got.Value) != table.Measure(half)[metrics.Macro][metrics.Brier] {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

// blurred are the same studies scored by a worse model.
func blurred(rows []metrics.Row) []metrics.Row {
	worse := slices.Clone(rows)
	for i := range worse {
		for l := range worse[i].Scores {
			worse[i].Scores[l] = 0.7*worse[i].Scores[l] + 0.3*rows[(i+5)%len(rows)].Scores[l]
		}
	}
	return worse
}

func TestDifference_IsPaired(t *testing.T) {
	rows := studies(6, 150)
	a, b := mustTable(t, rows), mustTable(t, blurred(rows))
	r := metrics.Resampling{Replicates: 300, Seed: 5}

	zero, err := metrics.Difference(a, a, half, half, r)
	if err != nil {
		t.Fatal(err)
	}
	if e := zero[metrics.Macro][metrics.AUROC]; e.Value != 0 || e.Low != 0 || e.High != 0 {
		t.Errorf("a model differs from itself by %v", e)
	}

	ab, err := metrics.Difference(a, b, half, half, r)
	if err != nil {
		t.Fatal(err)
	}
	ea, eb := a.Bootstrap(half, r)[metrics.Macro][metrics.AUROC], b.Bootstrap(half, r)[metrics.Macro][metrics.AUROC]
	d := ab[metrics.Macro][metrics.AUROC]
	if math.Abs(float64(d.Value-(ea.Value-eb.Value))) > 1e-12 {
		t.Errorf("difference %v of %v and %v", d, ea, eb)
	}
	// The two scores share patients, so their difference varies less than the root of the summed squares would say.
	if unpaired := math.Hypot(float64(ea.High-ea.Low), float64(eb.High-eb.Low)); float64(d.High-d.Low) > 0.8*unpaired {
		t.Errorf("paired interval %v is as wide as an unpaired one (%.3f)", d, unpaired)
	}
	ba, err := metrics.Difference(b, a, half, half, r)
	if err != nil {
		t.Fatal(err)
	}
	if e := ba[metrics.Macro][metrics.AUROC]; e.Value != -d.Value || math.Abs(float64(e.Low+d.High)) > 1e-12 {
		t.Errorf("reversed difference %v, forward %v", e, d)
	}
}

func TestDifference_RefusesOtherStudies(t *testing.T) {
	rows := studies(7, 30)
	relabelled, renamed := slices.Clone(rows), slices.Clone(rows)
	relabelled[4].Labels[2] = model.Absent
	renamed[4].Patient = "someone else"
	for name, other := range map[string][]metrics.Row{"fewer": rows[1:], "relabelled": relabelled, "renamed": renamed} {
		_, err := metrics.Difference(mustTable(t, rows), mustTable(t, other), half, half, metrics.Resampling{})
		if err == nil || !strings.Contains(err.Error(), "same studies") {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

func TestCrossValidate_IsTheMeanOverFolds(t *testing.T) {
	var folds, reversed []metrics.Pair
	var alone, difference float64
	for f := range 4 {
		rows := studies(uint64(20+f), 100)
		a, b := mustTable(t, rows), mustTable(t, blurred(rows))
		folds, reversed = append(folds, metrics.Pair{A: a, B: b}), append(reversed, metrics.Pair{A: b, B: a})
		alone += a.Measure(half)[metrics.Macro][metrics.AUROC] / 4
		difference += (a.Measure(half)[metrics.Macro][metrics.AUROC] - b.Measure(half)[metrics.Macro][metrics.AUROC]) / 4
	}
	r := metrics.Resampling{Replicates: 300, Seed: 5}
	macroAUROC := func(folds []metrics.Pair) metrics.Estimate {
		e, err := metrics.CrossValidate(folds, r)
		if err != nil {
			t.Fatal(err)
		}
		return e[metrics.Macro][metrics.AUROC]
	}
	d := macroAUROC(folds)
	if math.Abs(float64(d.Value)-difference) > 1e-12 || d.Low > d.Value || d.Value > d.High || d.Replicates != 300 {
		t.Errorf("difference %v, want %.6f", d, difference)
	}
	if e := macroAUROC(reversed); e.Value != -d.Value || math.Abs(float64(e.Low+d.High)) > 1e-12 {
		t.Errorf("reversed difference %v, forward %v", e, d)
	}
	for f := range folds {
		folds[f].B = nil
	}
	if e := macroAUROC(folds); math.Abs(float64(e.Value)-alone) > 1e-12 {
		t.Errorf("without a second model %v, want %.6f", e, alone)
	}
	// One fold is Bootstrap. Four of the same size know twice as much as one, give or take the folds' own luck.
	one, four := macroAUROC(folds[:1]), macroAUROC(folds)
	if b := folds[0].A.Bootstrap(half, r)[metrics.Macro][metrics.AUROC]; b != one {
		t.Errorf("one fold: %v, Bootstrap says %v", one, b)
	}
	if ratio := (four.High - four.Low) / (one.High - one.Low); ratio < 0.3 || ratio > 0.8 {
		t.Errorf("four folds' interval %v is %.2f times one's %v, want about half", four, ratio, one)
	}
	if _, err := metrics.CrossValidate(nil, r); err == nil {
		t.Error("no folds, no error")
	}
}

// A thousand replicates of all metrics over 10,000 studies of some 5,000 patients and 14 labels.
func BenchmarkBootstrap(b *testing.B) {
	table := mustTable(b, studies(1, 6000)[:10000])
	for b.Loop() {
		table.Bootstrap(half, metrics.Resampling{Replicates: 1000, Seed: 1})
	}
}

func BenchmarkMeasure(b *testing.B) {
	table := mustTable(b, studies(1, 6000)[:10000])
	for b.Loop() {
		table.Measure(half)
	}
}
