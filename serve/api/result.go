package api

import (
	"cmp"
	"slices"
	"time"

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
func (r *Result) Reject(list ...Rejection) { r.Rejected = SortRejections(append(r.Rejected, list...)) }

// SortRejections makes a list the same whatever order the files came in, and never nil.
func SortRejections(list []Rejection) []Rejection {
	slices.SortFunc(list, func(a, b Rejection) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Code, b.Code))
	})
	if list == nil {
		list = []Rejection{}
	}
	return list
}

// View is one object of a study that was used.
type View struct {
	SOPInstanceUID string             `json:"sop_instance_uid"`
	View           string             `json:"view" enum:"frontal,lateral,unknown"`
	Evidence       string             `json:"evidence" doc:"What the view was told by."`
	Probabilities  map[string]float32 `json:"probabilities" doc:"What this view alone says of each label."`
	ChangeWithout  map[string]float32 `json:"change_without,omitempty" doc:"How the study's probability of each label would change if this view were left out. Absent where it is the only one."`
	Flags          []string           `json:"flags" doc:"Reasons to trust this view less."`
	Attention      [][]float32        `json:"attention,omitempty" doc:"With ?attention=true or png: the share of each patch in what the classifier reads, rows from the top, by attention rollout."`
	AttentionPNG   string             `json:"attention_png,omitempty" doc:"With ?attention=png: a data URL of the image that the model saw, what holds more than an even share of the attention in red."`

	// What attention and its picture are made of where they are asked for, in the server alone.
	Rollout [][]float32 `json:"-"` // nil where the model has none
	Seen    []uint8     `json:"-"` // [S*S], the model's input; nil where there is no attention to lay over it
}

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

// StudySummary is a study in a list.
type StudySummary struct {
	StudyInstanceUID string    `json:"study_instance_uid"`
	State            string    `json:"state" enum:"receiving,queued,running,done,refused,dead,discarded"`
	Version          string    `json:"version" doc:"Names the objects that the study has."`
	Instances        int       `json:"instances"`
	Received         time.Time `json:"received" doc:"When the last object came."`
	Attempts         int       `json:"attempts" doc:"How often it was tried."`
}

// StudyList is a page of studies.
type StudyList struct {
	Studies []StudySummary `json:"studies" doc:"The one that an object came for last is first."`
	Next    string         `json:"next,omitempty" doc:"Where the next page is."`
}
