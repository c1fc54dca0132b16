package metrics

import (
	"errors"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/mvmae/mvmae/model"
)

// Level is the coverage of every interval.
const Level = 0.95

// Resampling says how to bootstrap. The result depends on these numbers and the data alone: not on the order of the rows
// nor on the number of cores.
type Resampling struct {
	Replicates int    // 1000 is usual; 0 gives values without intervals
	Seed       uint64 // replicate i draws from PCG(Seed, i)
}

// Estimates are the values of a Sheet with their intervals.
type Estimates [model.NumLabels + 1][NumMetrics]Estimate

// Bootstrap measures the table and gives every metric its percentile interval over replicates in which patients, not
// studies, are drawn with replacement: studies of one patient are not independent. Macro means are taken in each
// replicate over the labels it defines. Fewer than two patients give no intervals.
//
// Resampling adds noise to the bins of the ECE, which raises it on average, so an ECE close to zero may lie below its own
// interval; that is a property of the percentile bootstrap.
func (t *Table) Bootstrap(thresholds Thresholds, r Resampling) Estimates {
	replicates := replicate(len(t.patients), r, func() func([]int32) Sheet { return t.weighted(thresholds) })
	return estimate(t.Measure(thresholds), replicates)
}

// Pair is two models' tables of the same studies in the same order, and their thresholds. Without B it is the one model's table.
type Pair struct {
	A, B                     *Table
	ThresholdsA, ThresholdsB Thresholds
}

// Difference compares two models on the same studies: every metric of a less that of b, with the interval over
// replicates in which both see the same patients. Both tables must hold the same studies in the same order.
func Difference(a, b *Table, thresholdsA, thresholdsB Thresholds, r Resampling) (Estimates, error) {
	return CrossValidate([]Pair{{a, b, thresholdsA, thresholdsB}}, r)
}

// CrossValidate is the mean over folds, whose test sets share no patient, of each fold's Difference, or of its metrics where a
// pair has no B. Scores are compared within a fold only, since each fold's model has a scale of its own. The interval is
// over replicates in which every fold draws its own patients: it covers the choice of patients, not that of the training.
func CrossValidate(folds []Pair, r Resampling) (Estimates, error) {
	if len(folds) == 0 {
		return Estimates{}, errors.New("metrics: cross-validation without a fold")
	}
	var value Sheet
	means := make([]Sheet, max(r.Replicates, 0))
	for _, fold := range folds {
		if fold.B != nil && !fold.A.sameStudies(fold.B) {
			return Estimates{}, errors.New("metrics: paired difference: the two tables do not hold the same studies")
		}
		replicates := replicate(len(fold.A.patients), r, fold.sheets)
		means = means[:len(replicates)] // none, if a fold has one patient
		for i := range means {
			add(&means[i], replicates[i], 1/float64(len(folds)))
		}
		add(&value, fold.measure(), 1/float64(len(folds)))
		r.Seed++
	}
	return estimate(value, means), nil
}

func (t *Table) sameStudies(other *Table) bool {
	return slices.Equal(t.patients, other.patients) && slices.Equal(t.patient, other.patient) && slices.Equal(t.labels, other.labels)
}

func (p Pair) measure() Sheet {
	s := p.A.Measure(p.ThresholdsA)
	if p.B != nil {
		add(&s, p.B.Measure(p.ThresholdsB), -1)
	}
	return s
}

// sheets returns a function that is measure with each patient counted as often as it was drawn.
func (p Pair) sheets() func(weights []int32) Sheet {
	sheetA := p.A.weighted(p.ThresholdsA)
	if p.B == nil {
		return sheetA
	}
	sheetB := p.B.weighted(p.ThresholdsB)
	return func(weights []int32) Sheet {
		s := sheetA(weights)
		add(&s, sheetB(weights), -1)
		return s
	}
}

// add adds a multiple of b to s.
func add(s *Sheet, b Sheet, factor float64) {
	for row := range s {
		for m := range s[row] {
			s[row][m] += factor * b[row][m]
		}
	}
}

// weighted returns a function that measures the table with each patient's studies counted as often as the patient was
// drawn. It owns its scratch space: one for each goroutine.
func (t *Table) weighted(thresholds Thresholds) func(weights []int32) Sheet {
	var scratch [][2]int32
	return func(weights []int32) Sheet {
		return t.measure(&thresholds, func(c *column) Tally {
			scratch = slices.Grow(scratch[:0], len(c.tally.counts))[:len(c.tally.counts)]
			clear(scratch)
			for i, slot := range c.slot {
				scratch[slot/2][slot%2] += weights[c.patient[i]]
			}
			return Tally{scores: c.tally.scores, counts: scratch}
		})
	}
}

// replicate draws patients r.Replicates times and measures each draw, on all cores. newSheet is called once per goroutine.
func replicate[S any](patients int, r Resampling, newSheet func() func(weights []int32) S) []S {
	if patients < 2 || r.Replicates <= 0 {
		return nil
	}
	sheets := make([]S, r.Replicates)
	var next atomic.Int64
	var workers sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), r.Replicates) {
		workers.Go(func() {
			sheet, weights := newSheet(), make([]int32, patients)
			for i := next.Add(1) - 1; i < int64(r.Replicates); i = next.Add(1) - 1 {
				rng := rand.New(rand.NewPCG(r.Seed, uint64(i)))
				clear(weights)
				for range patients {
					weights[rng.IntN(patients)]++
				}
				sheets[i] = sheet(weights)
			}
		})
	}
	workers.Wait()
	return sheets
}

// estimate puts the percentile intervals of the replicates around the values.
func estimate(values Sheet, replicates []Sheet) (e Estimates) {
	defined := make([]float64, 0, len(replicates))
	for row := range e {
		for m := range e[row] {
			defined = defined[:0]
			for i := range replicates {
				if v := replicates[i][row][m]; !math.IsNaN(v) {
					defined = append(defined, v)
				}
			}
			e[row][m] = interval(values[row][m], defined)
		}
	}
	return e
}

// interval puts the percentile interval of replicates, which it sorts, around a value.
func interval(value float64, replicates []float64) Estimate {
	slices.Sort(replicates)
	return Estimate{
		Value: Value(value), Replicates: len(replicates),
		Low: Value(quantile(replicates, (1-Level)/2)), High: Value(quantile(replicates, (1+Level)/2)),
	}
}

// quantile interpolates linearly between the order statistics of sorted values (type 7 of Hyndman and Fan 1996, the
// default of R and NumPy).
func quantile(sorted []float64, q float64) float64 {
	if len(sorted) == 0 {
		return math.NaN()
	}
	at := q * float64(len(sorted)-1)
	i := int(at)
	if i+1 >= len(sorted) {
		return sorted[len(sorted)-1]
	}
	return sorted[i] + (at-float64(i))*(sorted[i+1]-sorted[i])
}
