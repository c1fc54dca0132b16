package metrics

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The interval of a mean of one number a patient is that of the normal distribution, nearly: +-1.96 deviations over the root of n.
func TestRatio_IntervalOfAMean(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	const n = 400
	var parts []Part
	sum, squares := 0.0, 0.0
	for i := range n {
		x := rng.NormFloat64()
		sum, squares = sum+x, squares+x*x
		parts = append(parts, Part{fmt.Sprint(i), x, 1})
	}
	r := Resampling{Replicates: 2000, Seed: 1}
	got := Ratio(parts, r)
	mean := sum / n
	half := 1.96 * math.Sqrt((squares/n-mean*mean)/n)
	if math.Abs(float64(got.Value)-mean) > 1e-12 {
		t.Errorf("value %v, want %v", float64(got.Value), mean)
	}
	for _, end := range [][2]float64{{float64(got.Low), mean - half}, {float64(got.High), mean + half}} {
		if math.Abs(end[0]-end[1]) > 0.1*half { // 2000 replicates know an end to some 4 % of half the interval
			t.Errorf("interval [%v, %v], want %v to %v", float64(got.Low), float64(got.High), mean-half, mean+half)
		}
	}
	rng.Shuffle(n, func(i, j int) { parts[i], parts[j] = parts[j], parts[i] })
	if again := Ratio(parts, r); math.Abs(float64(again.Low-got.Low)) > 1e-12 {
		t.Errorf("the order of the parts matters: %v, %v", got, again)
	}
}

func TestRatio_PatientsAreDrawnWhole(t *testing.T) {
	one := []Part{{"a", 1, 2}, {"b", 3, 4}}
	var split []Part
	for range 4 {
		split = append(split, Part{"a", 0.25, 0.5}, Part{"b", 0.75, 1})
	}
	r := Resampling{Replicates: 50, Seed: 1}
	if diff := cmp.Diff(Ratio(one, r), Ratio(split, r)); diff != "" {
		t.Errorf("the same patients in more parts (-one +four):\n%s", diff)
	}
	if e := Ratio(one[:1], r); e.Value != 0.5 || e.Low.Defined() {
		t.Errorf("one patient: %v", e)
	}
	if e := Ratio(nil, r); e.Value.Defined() {
		t.Errorf("nothing: %v", e)
	}
}
