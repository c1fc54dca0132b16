package eval

import (
	"github.com/mvmae/mvmae/model"
	"github.com/mvmae/mvmae/model/fuse"
	"github.com/mvmae/mvmae/model/metrics"
)

// Report is the evaluation of one model on one test set. A metric that the data do not define is null, and left out of
// the macro means.
type Report struct {
	Fusion        fuse.Rule     `json:"fusion"`
	ViewsPerStudy string        `json:"views_per_study"` // "all" or "one"
	Bootstrap     Bootstrap     `json:"bootstrap"`
	Validation    Validation    `json:"validation"`
	Test          Split         `json:"test"`
	Macro         MacroReport   `json:"macro"`
	Labels        []LabelReport `json:"labels"` // in the order of model.Labels
	TopFive       TopFive       `json:"top_five"`
	ByViews       []ViewsReport `json:"by_views"`
	ByGroup       []GroupReport `json:"by_group"` // label by label, of each sex, age, composition of views and data set
	// Calibration is what was fitted on validation; nil where the model's own was taken.
	Calibration   *CalibrationReport `json:"calibration,omitempty"`
	ThresholdRule string             `json:"threshold_rule,omitempty"`      // of the thresholds tuned on validation
	Against       *Against           `json:"against,omitempty"`             // a second model, where one was named
	PerLabel      *PerLabel          `json:"per_label_selection,omitempty"` // of a run that was just trained
}

// Bootstrap says how the intervals were made.
type Bootstrap struct {
	Unit       string  `json:"unit"` // what is drawn: "patient"
	Level      float64 `json:"level"`
	Replicates int     `json:"replicates"`
	Seed       uint64  `json:"seed"`
}

// Split is the size of a set of studies.
type Split struct {
	Studies  int `json:"studies"`
	Patients int `json:"patients"`
}

// Validation is the set that thresholds were tuned on, with the score that models are selected by. It is empty where the
// thresholds are those of a model.
type Validation struct {
	Split
	MacroAUROC metrics.Value `json:"macro_auroc"`
}

// Scores are the metrics of one label, or their macro means.
type Scores struct {
	AUROC            metrics.Estimate `json:"auroc"`
	AveragePrecision metrics.Estimate `json:"average_precision"`
	F1               metrics.Estimate `json:"f1"`       // at probability 0.5
	F1Tuned          metrics.Estimate `json:"f1_tuned"` // at the threshold tuned on validation
	Brier            metrics.Estimate `json:"brier"`
	ECE              metrics.Estimate `json:"ece"`
}

// LabelReport is the part of one label.
type LabelReport struct {
	Label     string  `json:"label"`
	Studies   int     `json:"studies"`   // that know the label
	Positives int     `json:"positives"` // of them
	Threshold float64 `json:"threshold"`
	Tuned     bool    `json:"threshold_tuned"` // false: validation has no positive, so the threshold is 0.5
	Scores
}

// MacroReport holds the means over labels.
type MacroReport struct {
	Labels int `json:"labels_with_auroc"` // the labels that AUROC is the mean of: those with both classes
	Scores
	F1LabelsWithPositives      metrics.Estimate `json:"f1_labels_with_positives"`
	F1TunedLabelsWithPositives metrics.Estimate `json:"f1_tuned_labels_with_positives"`
	PooledECE                  metrics.Estimate `json:"pooled_ece"` // all labels' studies as one sample
}

// ViewsReport is the part of the studies with one composition of views, as they were fused.
type ViewsReport struct {
	Views string `json:"views"` // "frontal only", "lateral only", "frontal and lateral", "with unknown"
	Split
	MacroAUROC metrics.Estimate `json:"macro_auroc"`
	Labels     int              `json:"labels_with_auroc"`
}

// GroupReport is the part of the studies that have something in common.
type GroupReport struct {
	By    string `json:"by"`    // "sex", "age", "views", "dataset"
	Group string `json:"group"` // "F", "60-79", "frontal only", "nih"; "unknown"
	Split
	MacroAUROC metrics.Estimate `json:"macro_auroc"`
	Macro      Scores           `json:"macro"`
	TopFive    *TopFive         `json:"top_five,omitempty"` // of a data set, over the labels of the whole report's
	Labels     []GroupLabel     `json:"labels"`             // in the order of model.Labels
}

// GroupLabel is one label in a group.
type GroupLabel struct {
	Label     string `json:"label"`
	Studies   int    `json:"studies"` // that know the label
	Positives int    `json:"positives"`
	Scores
}

func newReport(val, test *metrics.Table, byViews []ViewsReport, opts Options) Report {
	var thresholds metrics.Thresholds
	var tuned [model.NumLabels]bool
	var validation Validation
	if opts.Thresholds != nil {
		thresholds = *opts.Thresholds
	} else {
		thresholds, tuned = val.TuneThresholds(opts.Tune)
		validation = Validation{Split: splitOf(val), MacroAUROC: metrics.Value(val.Measure(thresholds)[metrics.Macro][metrics.AUROC])}
	}
	estimates := test.Bootstrap(thresholds, metrics.Resampling{Replicates: opts.Replicates, Seed: opts.Seed})
	macro := estimates[metrics.Macro]
	r := Report{
		Fusion: opts.Rule, ViewsPerStudy: "all",
		Bootstrap:  Bootstrap{Unit: "patient", Level: metrics.Level, Replicates: opts.Replicates, Seed: opts.Seed},
		Validation: validation, Test: splitOf(test),
		Macro: MacroReport{
			Labels: defined(&estimates, metrics.AUROC), Scores: scoresOf(macro),
			F1LabelsWithPositives: macro[metrics.F1LabelsWithPositives], PooledECE: macro[metrics.PooledECE],
			F1TunedLabelsWithPositives: macro[metrics.TunedF1LabelsWithPositives],
		},
		ByViews: byViews,
	}
	if opts.Thresholds == nil {
		r.ThresholdRule = opts.Tune.String()
	}
	if opts.OneView {
		r.ViewsPerStudy = "one"
	}
	for l, name := range model.Labels {
		neg, pos := test.Label(l).Counts()
		r.Labels = append(r.Labels, LabelReport{
			Label: name, Studies: neg + pos, Positives: pos, Threshold: thresholds[l], Tuned: tuned[l],
			Scores: scoresOf(estimates[l]),
		})
	}
	return r
}

func splitOf(t *metrics.Table) Split { return Split{Studies: t.Studies(), Patients: t.Patients()} }

func scoresOf(row [metrics.NumMetrics]metrics.Estimate) Scores {
	return Scores{
		AUROC: row[metrics.AUROC], AveragePrecision: row[metrics.AveragePrecision], F1: row[metrics.F1],
		F1Tuned: row[metrics.TunedF1], Brier: row[metrics.Brier], ECE: row[metrics.ECE],
	}
}

// defined counts the labels for which the data define the metric.
func defined(e *metrics.Estimates, m metrics.Metric) (n int) {
	for _, row := range e[:metrics.Macro] {
		if row[m].Value.Defined() {
			n++
		}
	}
	return n
}

// Thresholds returns the thresholds tuned on validation, for the model file.
func (r Report) Thresholds() (t metrics.Thresholds) {
	for l := range r.Labels {
		t[l] = r.Labels[l].Threshold
	}
	return t
}
