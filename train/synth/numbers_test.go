package synth

import (
	"math"
	"testing"
)

func TestExp_IsTheExponential(t *testing.T) {
	for x := -40.; x <= 40; x += 0.173 {
		near(t, "exp, relative", exp(x)/math.Exp(x), 1, 2e-15)
	}
	for _, x := range []float64{0, 1e-9, 0.3, 1, 7.5} {
		near(t, "pow", pow(x, 1.3), math.Pow(x, 1.3), 1e-14*math.Pow(x, 1.3))
	}
}

func TestGauss_IsNormal(t *testing.T) {
	const n = 200000
	rng := stream(1)
	for name, draw := range map[string]func() float64{"gauss": func() float64 { return gauss(rng) }, "grain": func() float64 { return grain(rng) }} {
		mean, squares, beyond := 0.0, 0.0, 0.0
		for range n {
			x := draw()
			mean += x / n
			squares += x * x / n
			if x > 1.6449 {
				beyond += 1. / n
			}
		}
		near(t, name+" mean", mean, 0, 0.01)
		near(t, name+" variance", squares, 1, 0.015)
		near(t, name+" above the 95th percentile", beyond, 0.05, 0.004)
	}
}
