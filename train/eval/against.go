package eval

import (
	"fmt"
	"strings"

	"github.com/mvmae/mvmae/model"
	"github.com/mvmae/mvmae/model/metrics"
)

// Against compares a model with a second one on the same studies: every metric of the first less that of the second. The
// intervals are over bootstrap replicates in which both see the same patients, so they are narrower than those of two reports
// would suggest. One that excludes 0 says that other patients would hardly turn the order round.
type Against struct {
	Model  string            `json:"model"` // the second one
	Labels []LabelDifference `json:"labels"`
	Macro  Scores            `json:"macro"`
}

// LabelDifference is the part of one label.
type LabelDifference struct {
	Label string `json:"label"`
	Scores
}

// Compare compares two models' predictions of the same studies in the same order. The options' thresholds are needed; replicates,
// seed and views are those of a's.
func Compare(a, b []Prediction, optsA, optsB Options) (Against, error) {
	optsB.OneView = optsA.OneView
	tableA, _, err := fuseAll(a, optsA)
	if err != nil {
		return Against{}, fmt.Errorf("compare: first model: %w", err)
	}
	tableB, _, err := fuseAll(b, optsB)
	if err != nil {
		return Against{}, fmt.Errorf("compare: second model: %w", err)
	}
	d, err := metrics.Difference(tableA, tableB, *optsA.Thresholds, *optsB.Thresholds, metrics.Resampling{Replicates: optsA.Replicates, Seed: optsA.Seed})
	if err != nil {
		return Against{}, fmt.Errorf("compare: %w", err)
	}
	out := Against{Macro: scoresOf(d[metrics.Macro])}
	for l, name := range model.Labels {
		out.Labels = append(out.Labels, LabelDifference{name, scoresOf(d[l])})
	}
	return out, nil
}

// AsReported are the options with which the model of a report says what it said there: its thresholds and calibration as they are.
func (r Report) AsReported() Options {
	thresholds := r.Thresholds()
	o := Options{
		Rule: r.Fusion, Replicates: r.Bootstrap.Replicates, Seed: r.Bootstrap.Seed, OneView: r.ViewsPerStudy == "one", Thresholds: &thresholds,
	}
	if r.Calibration != nil {
		o.Calibration = r.Calibration.Calibration
	}
	return o
}

// Table returns the comparison as text of at most 120 columns. The JSON document has the other metrics too.
func (a Against) Table() string {
	var b strings.Builder
	row := func(name string, s Scores) {
		fmt.Fprintf(&b, "%-26s %-24v %-24v %v\n", name, s.AUROC, s.AveragePrecision, s.Brier)
	}
	fmt.Fprintf(&b, "\nLess %s, paired (a lower Brier score is better)\n%-26s %-24s %-24s %s\n", a.Model, "", "AUROC", "average precision", "Brier")
	for _, l := range a.Labels {
		row(l.Label, l.Scores)
	}
	row("Macro mean", a.Macro)
	return b.String()
}
