package eval

import (
	"errors"
	"fmt"
	"slices"

	"github.com/mvmae/mvmae/dicom/cxr"
	"github.com/mvmae/mvmae/internal/hint"
	"github.com/mvmae/mvmae/model"
	"github.com/mvmae/mvmae/model/fuse"
	"github.com/mvmae/mvmae/model/metrics"
)

// Prediction is what a model says of one study, and the truth.
type Prediction struct {
	Patient string           `json:"patient"`
	Study   string           `json:"study"`
	Views   []ViewPrediction `json:"views"`
	Labels  model.LabelSet   `json:"labels"`
	Person  Person           `json:"-"`
}

// Person is what a study is grouped by in a report, beside its views.
type Person struct {
	Dataset string
	Sex     string // F or M; empty where unknown
	Age     int    // years; 0 where unknown
}

// ViewPrediction is what a model says of one view.
type ViewPrediction struct {
	View   cxr.View                 `json:"view"`
	Logits [model.NumLabels]float32 `json:"logits"`
}

// Options say how to evaluate.
type Options struct {
	Rule       fuse.Rule
	Replicates int    // of the patient bootstrap: 1000 is usual, 0 gives no intervals
	Seed       uint64 // of the bootstrap
	// OneView takes one view of every study, its first frontal one or, without any, its first; else all views are fused.
	OneView bool
	// Thresholds are the model's; nil tunes them on the validation studies, which are not needed otherwise.
	Thresholds *metrics.Thresholds
	// Calibration corrects the fused probabilities, as the server does; the zero value leaves them.
	Calibration fuse.Calibration
	// Calibrate is the kind of calibration to fit on the validation studies instead; "" fits none.
	Calibrate string
	// Tune is how thresholds are tuned, on calibrated probabilities.
	Tune metrics.ThresholdRule
	// Untrained are labels to leave as they are: what the model says of them means nothing.
	Untrained []string
}

// Evaluate reports on the test studies, at the model's thresholds or at those tuned on the validation studies. Errors name rows by number, not by
// patient or study.
func Evaluate(val, test []Prediction, opts Options) (Report, error) {
	if _, err := fuse.ParseRule(string(opts.Rule)); err != nil {
		return Report{}, fmt.Errorf("evaluate: %w", err)
	}
	if opts.Replicates < 0 {
		return Report{}, fmt.Errorf("evaluate: %d bootstrap replicates: want 0 or more", opts.Replicates)
	}
	plain := opts
	var calibration *CalibrationReport
	if opts.Calibrate != "" {
		fitted, untouched, err := calibrate(val, opts)
		if err != nil {
			return Report{}, fmt.Errorf("evaluate: validation: %w", err)
		}
		opts.Calibration = fitted
		calibration = &CalibrationReport{Calibration: fitted, Untouched: untouched}
	}
	var valTable *metrics.Table
	if opts.Thresholds == nil {
		var err error
		if valTable, _, err = fuseAll(val, opts); err != nil {
			return Report{}, fmt.Errorf("evaluate: validation: %w", err)
		}
	}
	testTable, groups, err := fuseAll(test, opts)
	if err != nil {
		return Report{}, fmt.Errorf("evaluate: test: %w", err)
	}
	if err := checkLeakage(val, test); err != nil {
		return Report{}, fmt.Errorf("evaluate: %w", err)
	}
	byViews, err := scoreGroups(groups, opts)
	if err != nil {
		return Report{}, fmt.Errorf("evaluate: test: %w", err)
	}
	report := newReport(valTable, testTable, byViews, opts)
	if report.ByGroup, err = breakDown(report, test, opts); err != nil {
		return Report{}, fmt.Errorf("evaluate: test: %w", err)
	}
	if report.TopFive, err = topFive(slices.Concat(groups[:]...), bestFive(report), report.Thresholds(), metrics.Resampling{Replicates: opts.Replicates, Seed: opts.Seed}); err != nil {
		return Report{}, fmt.Errorf("evaluate: test: %w", err)
	}
	if calibration != nil {
		before, _, err := fuseAll(test, plain)
		if err != nil {
			return Report{}, fmt.Errorf("evaluate: test: %w", err)
		}
		if err := calibration.compare(before, testTable, opts); err != nil {
			return Report{}, fmt.Errorf("evaluate: test: %w", err)
		}
		report.Calibration = calibration
		if opts.Thresholds == nil { // models are chosen by their own order of studies, not by that of the calibration
			own, _, err := fuseAll(val, plain)
			if err != nil {
				return Report{}, fmt.Errorf("evaluate: validation: %w", err)
			}
			report.Validation.MacroAUROC = metrics.Value(own.Measure(metrics.Thresholds{})[metrics.Macro][metrics.AUROC])
		}
	}
	return report, nil
}

// checkLeakage refuses patients and studies that are on both sides.
func checkLeakage(val, test []Prediction) error {
	patients, studies := map[string]bool{}, map[string]bool{}
	for _, p := range val {
		patients[p.Patient], studies[p.Study] = true, true
	}
	sharedPatients, sharedStudies := map[string]bool{}, map[string]bool{}
	for _, p := range test {
		if patients[p.Patient] {
			sharedPatients[p.Patient] = true
		}
		if studies[p.Study] {
			sharedStudies[p.Study] = true
		}
	}
	if len(sharedPatients)+len(sharedStudies) == 0 {
		return nil
	}
	return hint.Wrap(
		fmt.Errorf("leakage: %d patients and %d studies are in both validation and test", len(sharedPatients), len(sharedStudies)),
		"split by patient: index the dataset again")
}

// views names the composition of a study in the report.
type views int

const (
	frontalOnly views = iota
	lateralOnly
	frontalAndLateral
	withUnknown // any view of unknown projection
	numViews
)

func (v views) String() string {
	return [...]string{"frontal only", "lateral only", "frontal and lateral", "with unknown"}[v]
}

func composition(list []ViewPrediction) views {
	var seen [3]bool
	for _, v := range list {
		seen[min(v.View, cxr.Unknown)] = true
	}
	switch {
	case seen[cxr.Unknown]:
		return withUnknown
	case seen[cxr.Frontal] && seen[cxr.Lateral]:
		return frontalAndLateral
	case seen[cxr.Lateral]:
		return lateralOnly
	default:
		return frontalOnly
	}
}

// fuseAll makes the table of the studies' fused probabilities, and the rows of each composition of views.
func fuseAll(predictions []Prediction, opts Options) (*metrics.Table, [numViews][]metrics.Row, error) {
	var groups [numViews][]metrics.Row
	if len(predictions) == 0 {
		return nil, groups, errors.New("no studies")
	}
	rows := make([]metrics.Row, len(predictions))
	seen := make(map[string]bool, len(predictions))
	for i, p := range predictions {
		if p.Study == "" || seen[p.Study] {
			return nil, groups, fmt.Errorf("row %d has no study, or that of an earlier row", i)
		}
		seen[p.Study] = true
		row, used, err := fuseStudy(p, opts)
		if err != nil {
			return nil, groups, fmt.Errorf("row %d: %w", i, err)
		}
		rows[i] = row
		groups[composition(used)] = append(groups[composition(used)], row)
	}
	table, err := metrics.NewTable(rows)
	return table, groups, err
}

// fuseStudy returns the study's row and the views that made it.
func fuseStudy(p Prediction, opts Options) (metrics.Row, []ViewPrediction, error) {
	row := metrics.Row{Patient: p.Patient, Labels: p.Labels}
	if len(p.Views) == 0 {
		return row, nil, errors.New("no views")
	}
	used := p.Views
	if opts.OneView {
		used = oneView(used)
	}
	logits := make([][model.NumLabels]float32, len(used))
	for v := range used {
		logits[v] = used[v].Logits
		if !fuse.Finite(logits[v]) {
			return row, nil, fmt.Errorf("view %d has a logit that is not a finite number", v)
		}
	}
	fused := fuse.Fuse(opts.Rule, logits)
	if opts.Calibration.Kind != "" {
		fused = opts.Calibration.Apply(fused, len(used))
	}
	for l, q := range fused {
		row.Scores[l] = float64(q)
	}
	return row, used, nil
}

// oneView returns the first frontal view, or the first.
func oneView(list []ViewPrediction) []ViewPrediction {
	for v := range list {
		if list[v].View == cxr.Frontal {
			return list[v : v+1]
		}
	}
	return list[:1]
}

// scoreGroups measures each composition of views that occurs.
func scoreGroups(groups [numViews][]metrics.Row, opts Options) (reports []ViewsReport, err error) {
	for v := range numViews {
		if len(groups[v]) == 0 {
			continue
		}
		table, err := metrics.NewTable(groups[v])
		if err != nil {
			return nil, err
		}
		// Thresholds do not matter: AUROC has none.
		estimates := table.Bootstrap(metrics.Thresholds{}, metrics.Resampling{Replicates: opts.Replicates, Seed: opts.Seed})
		reports = append(reports, ViewsReport{
			Views: v.String(), Split: splitOf(table), MacroAUROC: estimates[metrics.Macro][metrics.AUROC],
			Labels: defined(&estimates, metrics.AUROC),
		})
	}
	return reports, nil
}
