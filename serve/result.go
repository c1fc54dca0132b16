package serve

import (
	"github.com/mvmae/mvmae/model"
	"github.com/mvmae/mvmae/model/fuse"
)

// Result is the answer to one study: the document of both the command line and HTTP.
type Result struct {
	StudyInstanceUID string             `json:"study_instance_uid"`
	Probabilities    map[string]float32 `json:"probabilities" doc:"The study's probability of each of the 14 labels, fused over its views and calibrated."`
	Findings         []fuse.Finding     `json:"findings" doc:"Each label in alphabetical order."`
	Views            []View             `json:"views" doc:"The objects that were used, in the order of their SOP Instance UIDs."`
	Flags            []string           `json:"flags" doc:"Reasons to trust the study's answer less."`
	Rejected         []Rejection        `json:"rejected" doc:"The objects that were not used."`
	Model            ModelID            `json:"model"`
	TimingsMS        Timings            `json:"timings_ms"`
}

// Reject adds objects that were not used, in the order of the list whatever order they came in.
func (r *Result) Reject(list ...Rejection) { r.Rejected = sortRejections(append(r.Rejected, list...)) }

// ShowAttention puts each view's attention into the document, where the model has any: 196 numbers that few callers want.
func (r *Result) ShowAttention() {
	for i := range r.Views {
		r.Views[i].Attention = r.Views[i].Rollout
	}
}

// View is one object of a study that was used.
type View struct {
	SOPInstanceUID string             `json:"sop_instance_uid"`
	View           string             `json:"view" enum:"frontal,lateral,unknown"`
	Evidence       string             `json:"evidence" doc:"What the view was told by."`
	Probabilities  map[string]float32 `json:"probabilities" doc:"What this view alone says of each label."`
	Flags          []string           `json:"flags" doc:"Reasons to trust this view less."`
	// Attention is empty until Result.ShowAttention takes it from Rollout.
	Attention [][]float32 `json:"attention,omitempty" doc:"With ?attention=true: the share of each patch in what the classifier reads, rows from the top, by attention rollout."`
	Rollout   [][]float32 `json:"-"` // nil where the model has none
}

// The flags that the engine adds to those of cxr.
const (
	FlagEvidenceUntrained = "view_evidence_untrained" // the view is known by evidence that the training images never had, or by none
	FlagFarFromTraining   = "far_from_training"       // the embedding lies farther out than those of 99 % of the training images
	FlagSharedUID         = "sop_instance_uid_shared" // another object of the study has the same UID and another picture
)

// FlagLateralOnly is a flag of a study: it has no view but laterals, which show less of most findings.
const FlagLateralOnly = "lateral_only"

// Rejection is one object that was not used, and why.
type Rejection struct {
	Name   string `json:"name" doc:"The name it was sent under."`
	Code   string `json:"code" doc:"Why, stable across versions."`
	Detail string `json:"detail"`
}

// The codes of a Rejection beside those of cxr.
const (
	CodeDuplicate  = "duplicate"             // same SOP Instance UID and same picture as an object that is used
	CodeUnreadable = "unreadable"            // the file could not be read
	CodeNoStudyUID = "no_study_instance_uid" // so it cannot be told which views belong together
	CodeMisplaced  = "misplaced"             // a UID that says what it belongs to is missing, or is none
	CodeInternal   = "internal"              // a defect of this program
)

// ModelID says which model answered.
type ModelID struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	SHA256  string `json:"sha256"`
}

// Timings say where the time of a study went, in milliseconds. Queue to Run are sums over the objects that were used, which
// are worked on side by side; Read and Total are what a clock on the wall showed.
type Timings struct {
	Read       float64 `json:"read" doc:"Until the last object was there and parsed."`
	Queue      float64 `json:"queue" doc:"Waiting for a core or for a batch, summed over objects."`
	Parse      float64 `json:"parse" doc:"The DICOM data set, summed over objects."`
	Decode     float64 `json:"decode" doc:"Its pixels, summed over objects."`
	Preprocess float64 `json:"preprocess" doc:"Pixels to model input, summed over views."`
	Run        float64 `json:"run" doc:"In the network, summed over views."`
	Fuse       float64 `json:"fuse"`
	Total      float64 `json:"total"`
}

// byLabel gives each of the 14 numbers its label's name.
func byLabel(p [model.NumLabels]float32) map[string]float32 {
	m := make(map[string]float32, len(p))
	for i, v := range p {
		m[model.Labels[i]] = v
	}
	return m
}
