package metrics

import (
	"maps"
	"math"
	"slices"
)

// Part is what one observation of a patient adds to a ratio: right answers of questions, say. To compare two models, Sum is the first's
// less the second's.
type Part struct {
	Patient    string
	Sum, Count float64
}

// Ratio is the sum over all parts over their count, with the interval over replicates that draw patients.
func Ratio(parts []Part, r Resampling) Estimate {
	byPatient := map[string][2]float64{}
	for _, p := range parts {
		of := byPatient[p.Patient]
		byPatient[p.Patient] = [2]float64{of[0] + p.Sum, of[1] + p.Count}
	}
	patients := slices.Sorted(maps.Keys(byPatient))
	ratio := func(weight func(i int) float64) float64 {
		sum, count := 0.0, 0.0
		for i, p := range patients {
			sum += weight(i) * byPatient[p][0]
			count += weight(i) * byPatient[p][1]
		}
		return sum / count
	}
	replicates := replicate(len(patients), r, func() func([]int32) float64 {
		return func(weights []int32) float64 { return ratio(func(i int) float64 { return float64(weights[i]) }) }
	})
	replicates = slices.DeleteFunc(replicates, math.IsNaN) // of patients that count for nothing
	return interval(ratio(func(int) float64 { return 1 }), replicates)
}
