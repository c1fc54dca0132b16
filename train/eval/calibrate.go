package eval

import (
	"slices"

	"github.com/mvmae/mvmae/internal/hint"
	"github.com/mvmae/mvmae/model"
	"github.com/mvmae/mvmae/model/fuse"
	"github.com/mvmae/mvmae/model/metrics"
)

// CalibrationReport says what a calibration fitted on validation does on the test studies.
type CalibrationReport struct {
	fuse.Calibration
	// Untouched are the labels whose line is the identity: see fuse.Fit, and those that were not trained.
	Untouched []string     `json:"untouched"`
	ECE       BeforeAfter  `json:"ece"`        // macro mean
	PooledECE BeforeAfter  `json:"pooled_ece"` // all labels' studies as one sample
	Brier     BeforeAfter  `json:"brier"`      // macro mean
	Bins      ReliableBins `json:"bins"`       // the reliability curve of all labels' studies as one sample
}

// BeforeAfter is a metric without the calibration and with it, and the paired difference: below 0 where it got better.
type BeforeAfter struct {
	Before metrics.Estimate `json:"before"`
	After  metrics.Estimate `json:"after"`
	Change metrics.Estimate `json:"change"`
}

// ReliableBins are the pooled reliability curves.
type ReliableBins struct {
	Before metrics.Bins `json:"before"`
	After  metrics.Bins `json:"after"`
}

// calibrate fits a calibration to the validation studies.
func calibrate(val []Prediction, opts Options) (fuse.Calibration, []string, error) {
	opts.Calibration = fuse.Calibration{}
	var samples []fuse.Sample
	for _, p := range val {
		row, used, err := fuseStudy(p, opts)
		if err != nil {
			return fuse.Calibration{}, nil, err
		}
		s := fuse.Sample{Patient: p.Patient, Views: len(used), Labels: p.Labels}
		for l, v := range row.Scores {
			s.Probability[l] = float32(v)
			if slices.Contains(opts.Untrained, model.Labels[l]) {
				s.Labels[l] = model.Absent
			}
		}
		samples = append(samples, s)
	}
	c, untouched, err := fuse.Fit(opts.Calibrate, samples)
	return c, append([]string{}, untouched...), hint.Wrap(err, "give validation more studies with --split-shares, or leave the calibration out: --set probe.calibration=none")
}

// compare measures the test studies without the calibration and with it.
func (r *CalibrationReport) compare(before, after *metrics.Table, opts Options) error {
	resampling := metrics.Resampling{Replicates: opts.Replicates, Seed: opts.Seed}
	var none metrics.Thresholds // the metrics below have none
	change, err := metrics.Difference(after, before, none, none, resampling)
	if err != nil {
		return err
	}
	was, is := before.Bootstrap(none, resampling), after.Bootstrap(none, resampling)
	for m, to := range map[metrics.Metric]*BeforeAfter{metrics.ECE: &r.ECE, metrics.PooledECE: &r.PooledECE, metrics.Brier: &r.Brier} {
		*to = BeforeAfter{was[metrics.Macro][m], is[metrics.Macro][m], change[metrics.Macro][m]}
	}
	for l := range model.NumLabels {
		b, a := before.Label(l).Bins(), after.Label(l).Bins()
		r.Bins.Before.Add(&b)
		r.Bins.After.Add(&a)
	}
	return nil
}
