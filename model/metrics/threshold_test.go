package metrics_test

import (
	"math"
	"testing"

	"github.com/mvmae/mvmae/internal/hint"
	"github.com/mvmae/mvmae/model/metrics"
)

func TestParseThresholdRule_ReadsWhatItWrites(t *testing.T) {
	for _, text := range []string{"max_f1", "sensitivity=0.9", "sensitivity=1", "sensitivity=0.955"} {
		if r, err := metrics.ParseThresholdRule(text); err != nil || r.String() != text {
			t.Errorf("%s became %v, error %v", text, r, err)
		}
	}
	for _, text := range []string{"", "f1", "sensitivity", "sensitivity=", "sensitivity=0", "sensitivity=1.1", "sensitivity=NaN", "specificity=0.9"} {
		if _, err := metrics.ParseThresholdRule(text); err == nil || hint.Of(err) == "" {
			t.Errorf("%q: error %v, hint %q", text, err, hint.Of(err))
		}
	}
}

func TestAtSensitivity_IsTheHighestThatFindsEnough(t *testing.T) {
	tally := metrics.NewTally([]float64{0.9, 0.8, 0.7, 0.6, 0.5, 0.4}, []bool{true, false, true, false, true, true})
	for share, want := range map[float64]float64{0.2: 0.85, 0.25: 0.85, 0.26: 0.65, 0.5: 0.65, 0.75: 0.45, 0.76: 0.2, 1: 0.2} {
		if got := tally.AtSensitivity(share); math.Abs(got-want) > 1e-12 {
			t.Errorf("sensitivity %g: threshold %g, want %g", share, got, want)
		}
	}
	if got := metrics.NewTally([]float64{0.5}, []bool{false}).AtSensitivity(0.9); !math.IsNaN(got) {
		t.Errorf("without positives: %g", got)
	}
}
