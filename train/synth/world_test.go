package synth

import (
	"math"
	"testing"

	"github.com/mvmae/mvmae/model"
)

// institution is the one of a name.
func institution(t testing.TB, name string) *Institution {
	t.Helper()
	at, err := InstitutionOf(name)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// Every label and every pair occurs as often as in the real tables: within 2 % of all studies. Six standard errors of 20,000
// draws are up to 2.1 %, the fit's own is 0.3 %.
func TestWorlds_OccurAsInTheRealTables(t *testing.T) {
	const n, tolerance = 20000, 0.02
	for _, name := range []string{"mimic", "chexpert", "padchest", "nih"} {
		t.Run(name, func(t *testing.T) {
			at := institution(t, name)
			own, _ := ratesOf(name)
			worst := 0.0
			var alone [model.NumLabels]float64
			var both [model.NumLabels][model.NumLabels]float64
			rng := stream(5, streamPatient)
			for range n {
				has := present(at, rng, newLatent(rng))
				has[noFinding] = true
				for i, h := range has {
					if h && i != devices && i != noFinding {
						has[noFinding] = false
					}
				}
				for i, h := range has {
					for j := range i + 1 {
						if h && has[j] {
							both[i][j]++
						}
					}
				}
			}
			for i := range alone {
				alone[i] = both[i][i] / n
				worst = max(worst, math.Abs(alone[i]-own.alone[i]))
				if math.Abs(alone[i]-own.alone[i]) > tolerance {
					t.Errorf("%s in %.4f of the studies, the table has %.4f", model.Labels[i], alone[i], own.alone[i])
				}
				for j := range i {
					if want := own.both[i][j]; !math.IsNaN(want) {
						worst = max(worst, math.Abs(both[i][j]/n-want))
					}
					if want := own.both[i][j]; !math.IsNaN(want) && math.Abs(both[i][j]/n-want) > tolerance {
						t.Errorf("%s with %s in %.4f of the studies, the table has %.4f", model.Labels[i], model.Labels[j], both[i][j]/n, want)
					}
				}
			}
			t.Logf("largest difference %.4f", worst)
			// Not by independence: where a pair is commoner than that, it is so here.
			for i := range own.both {
				for j := range i {
					apart := own.alone[i] * own.alone[j]
					if lift := own.both[i][j] / apart; lift > 2 && own.both[i][j] > 0.01 && both[i][j]/n < 1.5*apart {
						t.Errorf("%s with %s in %.4f, the table has %.4f, independence would give %.4f", model.Labels[i], model.Labels[j], both[i][j]/n, own.both[i][j], apart)
					}
				}
			}
		})
	}
}

func TestBelow_KnownValues(t *testing.T) {
	for _, c := range []struct{ a, b, r, want float64 }{
		{0.5, 0.5, 0, 0.25},
		{0.5, 0.5, 0.5, 1.0 / 3}, // 1/4 + asin(r)/(2 pi)
		{0.5, 0.5, -0.5, 1.0 / 6},
		{0.8413447, 0.1586553, 0, 0.8413447 * 0.1586553},
	} {
		if got := below(c.a, c.b, c.r); math.Abs(got-c.want) > 1e-4 {
			t.Errorf("below(%g, %g, %g) = %.6f, want %.6f", c.a, c.b, c.r, got, c.want)
		}
	}
	if r := tetrachoric(0.5, 0.5, 1.0/3); math.Abs(r-0.5) > 1e-3 {
		t.Errorf("tetrachoric: %.4f, want 0.5", r)
	}
}
