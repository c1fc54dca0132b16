package metrics

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/mvmae/mvmae/internal/hint"
)

// ThresholdRule says how thresholds are tuned. The zero value is MaxF1.
type ThresholdRule struct {
	sensitivity float64
}

// MaxF1 takes the threshold of the best F1: see Tally.BestF1.
var MaxF1 = ThresholdRule{}

const maxF1Name, sensitivityName = "max_f1", "sensitivity="

// ParseThresholdRule reads "max_f1", or "sensitivity=0.9": the highest threshold that finds at least that share of the
// positive studies.
func ParseThresholdRule(text string) (ThresholdRule, error) {
	if text == maxF1Name {
		return MaxF1, nil
	}
	if share, ok := strings.CutPrefix(text, sensitivityName); ok {
		if s, err := strconv.ParseFloat(share, 64); err == nil && s > 0 && s <= 1 {
			return ThresholdRule{s}, nil
		}
	}
	return MaxF1, hint.Wrap(fmt.Errorf("unknown threshold rule %q", text), "the rules are %s and, for example, %s0.9 (above 0, at most 1)", maxF1Name, sensitivityName)
}

// String is what ParseThresholdRule reads.
func (r ThresholdRule) String() string {
	if r == MaxF1 {
		return maxF1Name
	}
	return sensitivityName + strconv.FormatFloat(r.sensitivity, 'g', -1, 64)
}

// threshold is undefined without positives.
func (r ThresholdRule) threshold(t Tally) float64 {
	if r == MaxF1 {
		best, _ := t.BestF1()
		return best
	}
	return t.AtSensitivity(r.sensitivity)
}

// AtSensitivity returns the highest threshold from which at least a share of the positive studies is called, between two scores as
// BestF1 has it. It is undefined without positives.
func (t Tally) AtSensitivity(share float64) float64 {
	_, pos := t.Counts()
	if pos == 0 {
		return math.NaN()
	}
	hits, cut := 0, 0
	for g, c := range t.counts {
		hits += int(c[positive])
		if cut = g; float64(hits) >= share*float64(pos) {
			break
		}
	}
	return t.between(cut)
}
