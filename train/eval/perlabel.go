package eval

import (
	"fmt"

	"github.com/mvmae/mvmae/model"
)

// PerLabel says what a classifier would gain if each label had the epoch that was best for it on validation, and not all of them
// the one with the best mean, whose model the rest of the report is of (figures 3 and 10 of the MVMAE paper).
type PerLabel struct {
	JointEpoch int             `json:"joint_epoch"`
	Labels     []PerLabelEpoch `json:"labels"` // in the order of model.Labels
	Macro      Scores          `json:"macro"`
	Gain       Scores          `json:"macro_gain"` // paired, over joint selection
}

// PerLabelEpoch is the part of one label.
type PerLabelEpoch struct {
	Label string `json:"label"`
	Epoch int    `json:"epoch"`
	Scores
	Gain Scores `json:"gain"`
}

// SelectPerLabel compares, on test, predictions whose labels come from epochs of their own with those of the joint epoch, which a
// report with the same options is of. Thresholds and calibration are fitted on the former's validation predictions too.
func SelectPerLabel(report Report, joint, ownValidation, own []Prediction, opts Options) (PerLabel, error) {
	rep, err := Evaluate(ownValidation, own, opts)
	if err != nil {
		return PerLabel{}, fmt.Errorf("per-label selection: %w", err)
	}
	gain, err := Compare(own, joint, rep.AsReported(), report.AsReported())
	if err != nil {
		return PerLabel{}, fmt.Errorf("per-label selection: %w", err)
	}
	out := PerLabel{Macro: rep.Macro.Scores, Gain: gain.Macro}
	for l, name := range model.Labels {
		out.Labels = append(out.Labels, PerLabelEpoch{Label: name, Scores: rep.Labels[l].Scores, Gain: gain.Labels[l].Scores})
	}
	return out, nil
}
