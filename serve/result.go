package serve

import (
	"fmt"

	"github.com/mvmae/mvmae/model"
	"github.com/mvmae/mvmae/serve/api"
)

// The documents that the server answers with, which its callers have too: see package api.
type (
	Result  = api.Result
	View    = api.View
	ModelID = api.ModelID
	Timings = api.Timings
)

// showAttention puts each view's attention into the document, where the model has any: 196 numbers that few callers want, and
// as a picture if that is wanted.
func showAttention(r *Result, picture bool) error {
	for i := range r.Views {
		v := &r.Views[i]
		v.Attention = v.Rollout
		if !picture || v.Rollout == nil {
			continue
		}
		var err error
		if v.AttentionPNG, err = overlay(v.Seen, v.Rollout); err != nil {
			return fmt.Errorf("draw attention: %w", err)
		}
	}
	return nil
}

// The flags that the engine adds to those of cxr.
const (
	FlagEvidenceUntrained = "view_evidence_untrained" // the view is known by evidence that the training images never had, or by none
	FlagFarFromTraining   = "far_from_training"       // the embedding lies farther out than those of 99 % of the training images
	FlagSharedUID         = "sop_instance_uid_shared" // another object of the study has the same UID and another picture
)

// FlagLateralOnly is a flag of a study: it has no view but laterals, which show less of most findings.
const FlagLateralOnly = "lateral_only"

// The codes of a Rejection beside those of cxr.
const (
	CodeDuplicate  = "duplicate"             // same SOP Instance UID and same picture as an object that is used
	CodeUnreadable = "unreadable"            // the file could not be read
	CodeNoStudyUID = "no_study_instance_uid" // so it cannot be told which views belong together
	CodeMisplaced  = "misplaced"             // a UID that says what it belongs to is missing, or is none
	CodeInternal   = "internal"              // a defect of this program
)

// byLabel gives each of the 14 numbers its label's name.
func byLabel(p [model.NumLabels]float32) map[string]float32 {
	m := make(map[string]float32, len(p))
	for i, v := range p {
		m[model.Labels[i]] = v
	}
	return m
}
