package model

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"path/filepath"

	"github.com/mvmae/mvmae/dicom/cxr"
)

// MetadataKey is the key of an ONNX file's metadata_props under which its Metadata lie, as one JSON document.
const MetadataKey = "mvmae"

// The files of a run folder that make a servable model: the border between train, which writes them, and export.
const (
	RunMetadata   = "model.json"                   // Metadata, but for CheckpointSHA256 and Precision, which export fills
	RunCheckpoint = "checkpoints/best.safetensors" // the parameters of PartEncoder and PartHead
	RunEncoder    = "encoder.json"                 // EncoderFile: of a probe of an ONNX encoder only; its RunCheckpoint holds PartHead
	RunParity     = "parity.safetensors"           // image [n,1,S,S], view [n], the logits [n,14] and some attention [k,S/P,S/P] the trainer got
	RunEvaluation = "eval.json"                    // what the trainer's evaluation says, for the model's card
)

// FormatVersion is the version of Metadata that this program writes. Readers refuse a newer one.
const FormatVersion = 1

// Metadata are everything a model file says beside its graph: what a server needs to treat a study as the trainer did,
// and what a person needs to know where the model came from.
type Metadata struct {
	FormatVersion int             `json:"format_version"`
	Name          string          `json:"name"`
	Version       string          `json:"version"`
	Spec          Spec            `json:"spec"`
	Labels        []string        `json:"labels"`
	Preprocessing string          `json:"preprocessing"`            // a cxr.Recipe
	Fusion        string          `json:"fusion"`                   // a fuse.Rule
	Thresholds    []float64       `json:"thresholds"`               // per label, on the calibrated probability of a study; tuned on validation
	Calibration   json.RawMessage `json:"calibration"`              // a fuse.Calibration
	ThresholdRule string          `json:"threshold_rule,omitempty"` // a metrics.ThresholdRule: how the thresholds were tuned
	// UntrainedLabels are the labels that no training study knew: their probability means nothing, and is next to 0.
	UntrainedLabels  []string          `json:"untrained_labels,omitempty"`
	RunID            string            `json:"run_id"`
	Kind             string            `json:"kind"` // of the run: probe, finetune or supervised
	Encoder          Encoder           `json:"encoder"`
	Datasets         map[string]Counts `json:"datasets"`
	ViewEvidence     []string          `json:"view_evidence"` // the ranks of evidence that the training views were known by
	Embedding        EmbeddingStats    `json:"embedding"`
	CheckpointSHA256 string            `json:"checkpoint_sha256"`
	Precision        string            `json:"precision"`
	Part             string            `json:"part,omitempty"`      // "encoder" or "head" where the file is not the whole
	Attention        bool              `json:"attention,omitempty"` // the file has the output attention
	Weights          *WeightsFile      `json:"weights,omitempty"`   // where they are not in the file itself
	// Check is what the precision costs on held-out studies; nil for fp32, which is the reference.
	Check *PrecisionCheck `json:"precision_check,omitempty"`
	// SelfTest is nil in files of earlier versions.
	SelfTest    *SelfTest `json:"self_test,omitempty"`
	Licence     string    `json:"licence"`
	IntendedUse string    `json:"intended_use"`
}

// PrecisionCheck compares a model of lower precision with its float32 original on the same held-out studies. A loss is how much
// worse it is, with the 95 % interval over replicates that draw patients.
type PrecisionCheck struct {
	Studies         int      `json:"studies"`
	Patients        int      `json:"patients"`
	Limit           float64  `json:"limit"` // of the intervals' upper ends
	AUROCLoss       Interval `json:"auroc_loss"`
	BrierLoss       Interval `json:"brier_loss"`
	LogitDifference float64  `json:"logit_difference"` // the largest
	Passed          bool     `json:"passed"`
}

// Interval is a number with the ends of its 95 % interval.
type Interval struct {
	Value float64 `json:"value"`
	Low   float64 `json:"low"`
	High  float64 `json:"high"`
}

// WeightsFile is the file that holds a model's weights, in the folder of the model file.
type WeightsFile struct {
	Name   string `json:"name"`
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
}

// Encoder says where a classifier's encoder came from.
type Encoder struct {
	Method     string `json:"method"`           // of pretraining; "random" for none; for weights from elsewhere their layout; "onnx" for a graph
	RunID      string `json:"run_id,omitempty"` // of the pretraining run
	Step       int    `json:"step,omitempty"`   // optimiser steps it had done
	DataSHA256 string `json:"data_sha256,omitempty"`
	SHA256     string `json:"sha256,omitempty"` // of the file, where the encoder is not of a run
	// FLOPs of an image, of a graph that came as an ONNX file, with its head; or the operator that keeps them from being known.
	FLOPs     int64  `json:"flops,omitempty"`
	Uncounted string `json:"uncounted,omitempty"`
}

// EncoderFile says which ONNX encoder a probe's head belongs to.
type EncoderFile struct {
	Path   string `json:"path"`
	SHA256 string `json:"sha256"` // of the file and of the notes beside it
}

// Counts are the size of a dataset.
type Counts struct {
	Patients int `json:"patients"`
	Studies  int `json:"studies"`
	Images   int `json:"images"`
	// The images by view; 0 in files of earlier versions.
	Frontal int `json:"frontal,omitempty"`
	Lateral int `json:"lateral,omitempty"`
	Unknown int `json:"unknown,omitempty"`
}

// EmbeddingStats describe the embeddings [D] of the training images, to tell an image far from all of them.
type EmbeddingStats struct {
	Mean []float32 `json:"mean"`
	Std  []float32 `json:"std"`
	// DistanceP99 is the 99th percentile over training images of sqrt(mean_d ((e-mean)/std)^2).
	DistanceP99 float64 `json:"distance_p99"`
}

// Distance is how far an embedding lies from the training images', in units of their standard deviations:
// sqrt(mean_d ((e_d - mean_d)/std_d)^2).
func (s EmbeddingStats) Distance(e []float32) float64 {
	sum := 0.0
	for d, v := range e {
		z := float64(v-s.Mean[d]) / float64(s.Std[d])
		sum += z * z
	}
	return math.Sqrt(sum / float64(len(e)))
}

// IntendedUse is what every model file says of its use until a regulator has said otherwise.
const IntendedUse = "Research use only. Not a medical device: not for diagnosis or treatment."

// Validate reports every way in which metadata are not those of a model this program can serve.
func (m Metadata) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if m.FormatVersion < 1 || m.FormatVersion > FormatVersion {
		return fmt.Errorf("format_version is %d: this program reads 1 to %d", m.FormatVersion, FormatVersion)
	}
	if err := m.Spec.Validate(); err != nil {
		bad("spec: %w", err)
	}
	if len(m.Labels) != NumLabels || m.Spec.NumClasses != NumLabels {
		bad("labels: %d of them and %d classes: want %d", len(m.Labels), m.Spec.NumClasses, NumLabels)
	} else {
		for i, l := range m.Labels {
			if l != Labels[i] {
				bad("labels: number %d is %q: want %q", i, l, Labels[i])
			}
		}
	}
	if _, err := cxr.ParseRecipe(m.Preprocessing); err != nil {
		bad("preprocessing: %w", err)
	}
	if len(m.Thresholds) != len(m.Labels) {
		bad("thresholds: %d of them for %d labels", len(m.Thresholds), len(m.Labels))
	}
	for i, t := range m.Thresholds {
		if !(t >= 0 && t <= 1) {
			bad("thresholds: number %d is %g: want 0 to 1", i, t)
		}
	}
	if n := m.Spec.Width; len(m.Embedding.Mean) != n || len(m.Embedding.Std) != n {
		bad("embedding: %d means and %d standard deviations for width %d", len(m.Embedding.Mean), len(m.Embedding.Std), n)
	}
	for d, std := range m.Embedding.Std {
		if !(std > 0) {
			bad("embedding: standard deviation number %d is %g: want more than 0", d, std)
			break
		}
	}
	if w := m.Weights; w != nil && (w.Name == "" || w.Name != filepath.Base(w.Name)) {
		bad("weights: %q is not the name of a file beside the model", w.Name)
	}
	if m.SelfTest != nil {
		if err := m.SelfTest.validate(); err != nil {
			bad("self_test: %w", err)
		}
	}
	for _, l := range m.UntrainedLabels {
		if LabelIndex(l) < 0 {
			bad("untrained_labels: %q is no label", l)
		}
	}
	return errors.Join(errs...)
}

// ParseMetadata reads and validates the JSON document of a model file.
func ParseMetadata(doc []byte) (Metadata, error) {
	var m Metadata
	if err := json.Unmarshal(doc, &m); err != nil {
		return Metadata{}, fmt.Errorf("model metadata: %w", err)
	}
	if err := m.Validate(); err != nil {
		return Metadata{}, fmt.Errorf("model metadata: %w", err)
	}
	return m, nil
}
