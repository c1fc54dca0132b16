package metrics

import (
	"fmt"
	"math"
	"slices"

	"github.com/mvmae/mvmae/model"
)

// DefaultThreshold is the probability from which a finding is called positive where no threshold was tuned.
const DefaultThreshold = 0.5

// Row is one study: its probability for every label and what is known of the truth. Uncertain and blank labels count as
// negative (model.LabelState.Target), absent ones not at all.
type Row struct {
	Patient string
	Scores  [model.NumLabels]float64
	Labels  model.LabelSet
}

// Thresholds holds one decision threshold per label: a finding is positive from there upwards.
type Thresholds = [model.NumLabels]float64

// Table is a set of scored studies, sorted once per label. It is not changed by its methods, which may run at the same
// time.
type Table struct {
	columns  [model.NumLabels]column
	studies  int
	patients []string // distinct, sorted
	patient  []uint32 // [studies] index into patients
	labels   []model.LabelSet
}

// column is one label over the studies that know it.
type column struct {
	tally   Tally
	slot    []uint32 // [K] where each study is counted: see rank
	patient []uint32 // [K] index into Table.patients
}

// NewTable sorts the rows' studies label by label. It refuses a row without a patient, because patients are what is
// resampled, and a score that is not a probability.
func NewTable(rows []Row) (*Table, error) {
	t := &Table{studies: len(rows)}
	for i, r := range rows {
		if r.Patient == "" {
			return nil, fmt.Errorf("metrics: row %d has no patient", i)
		}
		for l, s := range r.Scores {
			if !(s >= 0 && s <= 1) { // also NaN
				return nil, fmt.Errorf("metrics: row %d: %s has the score %v, which is not a probability", i, model.Labels[l], s)
			}
		}
		t.patients = append(t.patients, r.Patient)
		t.labels = append(t.labels, r.Labels)
	}
	// Sorted, so that the replicates do not depend on the order of the rows.
	slices.Sort(t.patients)
	t.patients = slices.Clip(slices.Compact(t.patients))
	for _, r := range rows {
		p, _ := slices.BinarySearch(t.patients, r.Patient)
		t.patient = append(t.patient, uint32(p))
	}
	for l := range t.columns {
		t.columns[l] = t.column(rows, l)
	}
	return t, nil
}

func (t *Table) column(rows []Row, l int) column {
	var scores []float64
	var truth []bool
	var c column
	for i := range rows {
		y, known := rows[i].Labels[l].Target()
		if !known {
			continue
		}
		scores = append(scores, rows[i].Scores[l])
		truth = append(truth, y == 1)
		c.patient = append(c.patient, t.patient[i])
	}
	c.tally, c.slot = rank(scores, truth)
	return c
}

// Studies returns the number of rows.
func (t *Table) Studies() int { return t.studies }

// Patients returns the number of distinct patients.
func (t *Table) Patients() int { return len(t.patients) }

// Label returns the tally of one label over the studies that know it.
func (t *Table) Label(l int) Tally { return t.columns[l].tally }

// TuneThresholds returns each label's threshold by a rule. A label without a positive study keeps DefaultThreshold, and
// tuned is false there. Tune on validation; report on test.
func (t *Table) TuneThresholds(rule ThresholdRule) (thresholds Thresholds, tuned [model.NumLabels]bool) {
	for l := range t.columns {
		thresholds[l] = DefaultThreshold
		if best := rule.threshold(t.Label(l)); !math.IsNaN(best) {
			thresholds[l], tuned[l] = best, true
		}
	}
	return thresholds, tuned
}

// Metric is a column of a Sheet.
type Metric int

const (
	AUROC Metric = iota
	AveragePrecision
	F1                         // at DefaultThreshold
	F1LabelsWithPositives      // F1, undefined for a label without positives: its macro mean is over labels that have some
	TunedF1                    // F1 at the given thresholds
	TunedF1LabelsWithPositives // the same, over labels with positives
	Brier                      // mean (score - truth)^2
	ECE                        // over ECEBins bins
	PooledECE                  // macro: all labels' studies as one sample
	NumMetrics                 = iota
)

// Macro is the row of a Sheet after those of the labels: the mean over the labels that define the metric.
const Macro = model.NumLabels

// Sheet holds every metric of every label, and their macro means: sheet[label or Macro][metric]. Undefined is NaN.
type Sheet [model.NumLabels + 1][NumMetrics]float64

// Measure computes all metrics, TunedF1 at the given thresholds.
func (t *Table) Measure(thresholds Thresholds) Sheet {
	return t.measure(&thresholds, func(c *column) Tally { return c.tally })
}

// measure computes all metrics of the tallies that count chooses.
func (t *Table) measure(thresholds *Thresholds, count func(*column) Tally) (s Sheet) {
	var pooled Bins
	for l := range t.columns {
		tally := count(&t.columns[l])
		bins := tally.Bins()
		pooled.Add(&bins)
		row := &s[l]
		row[AUROC] = tally.AUROC()
		row[AveragePrecision] = tally.AveragePrecision()
		row[F1] = tally.F1(DefaultThreshold)
		row[TunedF1] = tally.F1(thresholds[l])
		row[F1LabelsWithPositives], row[TunedF1LabelsWithPositives] = row[F1], row[TunedF1]
		if _, pos := tally.Counts(); pos == 0 {
			row[F1LabelsWithPositives], row[TunedF1LabelsWithPositives] = math.NaN(), math.NaN()
		}
		row[Brier] = tally.Brier()
		row[ECE] = bins.ECE()
		row[PooledECE] = row[ECE]
	}
	for m := range Metric(NumMetrics) {
		s[Macro][m] = macro(&s, m)
	}
	s[Macro][PooledECE] = pooled.ECE()
	return s
}

// macro is the mean of a metric over the labels that define it.
func macro(s *Sheet, m Metric) float64 {
	var sum float64
	var n int
	for _, row := range s[:Macro] {
		if !math.IsNaN(row[m]) {
			sum += row[m]
			n++
		}
	}
	return sum / float64(n) // 0/0 where no label defines it
}
