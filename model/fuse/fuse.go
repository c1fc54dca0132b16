package fuse

import (
	"fmt"
	"math"
	"slices"

	"github.com/mvmae/mvmae/internal/hint"
	"github.com/mvmae/mvmae/model"
)

// Rule says how the logits of several views become the probabilities of one study. Its value is what the model file holds.
type Rule string

const (
	MeanProbability Rule = "mean_probability" // mean of the views' probabilities: the MVMAE paper
	MeanLogit       Rule = "mean_logit"       // probability of the views' mean logit: the paper's reference code
)

// ParseRule reads a rule's name.
func ParseRule(name string) (Rule, error) {
	switch r := Rule(name); r {
	case MeanProbability, MeanLogit:
		return r, nil
	}
	return "", hint.Wrap(fmt.Errorf("unknown fusion rule %q", name), "the rules are %s and %s", MeanProbability, MeanLogit)
}

// Fuse returns the probabilities of a study from the logits of its views. For a single view both rules are the sigmoid of
// its logits, so it also gives the probabilities of one view. A logit that is not a number gives a probability that is not.
// It panics without a view and for a rule that ParseRule would refuse: both are mistakes of the caller, not of the data.
func Fuse(rule Rule, logits [][model.NumLabels]float32) (probability [model.NumLabels]float32) {
	if len(logits) == 0 {
		panic("fuse: a study without views")
	}
	if _, err := ParseRule(string(rule)); err != nil {
		panic("fuse: " + err.Error())
	}
	n := float64(len(logits))
	for l := range probability {
		var sum float64
		for v := range logits {
			x := float64(logits[v][l])
			if rule == MeanProbability {
				x = Sigmoid(x)
			}
			sum += x
		}
		p := sum / n
		if rule == MeanLogit {
			p = Sigmoid(p)
		}
		probability[l] = float32(p)
	}
	return probability
}

// Sigmoid is 1/(1+exp(-x)), to within an ulp or two for every x: nothing cancels, and where the exponential overflows the
// result is 0.
func Sigmoid(x float64) float64 { return 1 / (1 + math.Exp(-x)) }

// Finding is what a model says of one label of a study.
type Finding struct {
	Label       string  `json:"label"`
	Probability float32 `json:"probability"`
	Threshold   float64 `json:"threshold"`
	Positive    bool    `json:"positive"` // Probability >= Threshold
	// Untrained says that no training study knew the label: its probability means nothing.
	Untrained bool `json:"untrained,omitempty"`
}

// Findings compares fused, calibrated probabilities with their thresholds, in the order of model.Labels. Probabilities
// must be numbers: Finite tells. A label that the model was not trained on is never positive.
func Findings(probability [model.NumLabels]float32, thresholds [model.NumLabels]float64, untrained []string) []Finding {
	findings := make([]Finding, model.NumLabels)
	for l := range findings {
		silent := slices.Contains(untrained, model.Labels[l])
		findings[l] = Finding{
			Label: model.Labels[l], Probability: probability[l], Threshold: thresholds[l],
			Positive: float64(probability[l]) >= thresholds[l] && !silent, Untrained: silent,
		}
	}
	return findings
}

// Finite says whether every value is a finite number: a model that overflowed must not pass for one that found nothing.
func Finite(values [model.NumLabels]float32) bool {
	for _, v := range values {
		if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
			return false
		}
	}
	return true
}
