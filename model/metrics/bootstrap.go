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

// Difference compares two models on the same studies: every metric of a less that of b, with the interval over
// replicates in which both see the same patients. Both tables must hold the same studies in the same order.
func Difference(a, b *Table, thresholdsA, thresholdsB Thresholds, r Resampling) (Estimates, error) {
	if !slices.Equal(a.patients, b.patients) || !slices.Equal(a.patient, b.patient) || !slices.Equal(a.labels, b.labels) {
		return Estimates{}, errors.New("metrics: paired difference: the two tables do not hold the same studies")
	}
	replicates := replicate(len(a.patients), r, func() func([]int32) Sheet {
		sheetA, sheetB := a.weighted(thresholdsA), b.weighted(thresholdsB)
		return func(weights []int32) Sheet { return subtract(sheetA(weights), sheetB(weights)) }
	})
	return estimate(subtract(a.Measure(thresholdsA), b.Measure(thresholdsB)), replicates), nil
}

func subtract(a, b Sheet) Sheet {
	for row := range a {
		for m := range a[row] {
			a[row][m] -= b[row][m]
		}
	}
	return a
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
func replicate(patients int, r Resampling, newSheet func() func(weights []int32) Sheet) []Sheet {
	if patients < 2 || r.Replicates <= 0 {
		return nil
	}
	sheets := make([]Sheet, r.Replicates)
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
			slices.Sort(defined)
			e[row][m] = Estimate{
				Value: Value(values[row][m]), Replicates: len(defined),
				Low: Value(quantile(defined, (1-Level)/2)), High: Value(quantile(defined, (1+Level)/2)),
			}
		}
	}
	return e
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
