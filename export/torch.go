package export

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"github.com/mvmae/mvmae/export/onnxpb"
	"github.com/mvmae/mvmae/internal/hint"
	"github.com/mvmae/mvmae/model"
	"github.com/mvmae/mvmae/model/fuse"
	"github.com/mvmae/mvmae/model/ort"
	"github.com/mvmae/mvmae/model/torch"
)

// TorchSummary is what FromTorch did.
type TorchSummary struct {
	Weights       string     `json:"weights"`
	WeightsSHA256 string     `json:"weights_sha256"`
	Layout        string     `json:"layout"` // whose names the weights have: see package torch
	Spec          model.Spec `json:"spec"`
	Part          Part       `json:"part"`
	LeftOut       []string   `json:"left_out"` // tensors that are no part of the file
	Model         string     `json:"model"`
	Notes         string     `json:"notes,omitempty"` // of an encoder: the TOML that "mvmae-train probe --encoder" reads
	Card          string     `json:"card"`
	Bytes         int        `json:"bytes"`
	SHA256        string     `json:"sha256"`
	Nodes         int        `json:"nodes"`
}

// FromTorch writes the network of a PyTorch file as the model file out. An empty part means the whole classifier where the
// weights have a head whose labels are known, and else the encoder, for a probe of its own. There are no logits of a trainer
// to compare with: the file has been loaded and run when it is written, and the tests compare networks of every layout with
// what PyTorch answers.
func FromTorch(weights, out string, part Part) (*TorchSummary, error) {
	n, err := torch.Open(weights)
	if err != nil {
		return nil, fmt.Errorf("from-torch: %w", err)
	}
	switch {
	case part == "" && n.HasHead:
		part = Full
	case part == "":
		part = Encoder
	case part == Full && !n.HasHead:
		return nil, hint.Wrap(fmt.Errorf("from-torch: %s has no head of %d known labels", weights, model.NumLabels),
			"write labels = [...], in the order of its outputs, into the file beside it that ends in .toml, as in vit.pth.toml, or take --part encoder and train a head: mvmae-train probe --encoder")
	}
	s := &TorchSummary{Weights: weights, Layout: n.Layout, Spec: n.Spec, Part: part, LeftOut: append([]string{}, n.LeftOut...), Model: out}
	if s.WeightsSHA256, err = model.FileDigest(weights); err != nil {
		return nil, fmt.Errorf("from-torch: %w", err)
	}
	metadata := torchMetadata(n, s)
	file, encoded, err := s.encode(metadata, n.Tensors)
	if err == nil && part != Encoder {
		var m *ort.Model
		if m, err = encoded.open(out, ort.Options{}); err == nil {
			metadata.SelfTest, err = m.SelfTest()
			err = errors.Join(err, m.Close())
		}
		if err == nil {
			file, encoded, err = s.encode(metadata, n.Tensors)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("from-torch %s: %w", weights, err)
	}
	if err := s.write(file, encoded); err != nil {
		return nil, fmt.Errorf("from-torch %s: %w", weights, err)
	}
	return s, nil
}

func (s *TorchSummary) encode(metadata model.Metadata, weights model.Tensors) (*onnxpb.ModelProto, File, error) {
	file, err := Graph{Part: s.Part}.Build(metadata, weights)
	if err != nil {
		return nil, File{}, err
	}
	encoded, err := Encode(file, s.Model, 0)
	return file, encoded, err
}

// write leaves the file and its card; an encoder, which was not run yet, when it was, and with its notes.
func (s *TorchSummary) write(file *onnxpb.ModelProto, f File) error {
	card, err := newCard(file, f, s.Model, nil)
	if err != nil {
		return err
	}
	card.Source = &CardSource{File: filepath.Base(s.Weights), SHA256: s.WeightsSHA256, Layout: s.Layout, LeftOut: s.LeftOut}
	s.Nodes, s.Bytes, s.SHA256, s.Card = card.Model.Nodes, card.Model.Bytes, card.Model.SHA256, card.paths[0]
	if s.Part == Encoder {
		if err := s.writeNotes(f); err != nil {
			return err
		}
	}
	return errors.Join(f.Write(s.Model), card.write())
}

// writeNotes leaves an encoder's notes when the encoder was run as they say.
func (s *TorchSummary) writeNotes(f File) error {
	s.Notes = encoderNotes(s.Model)
	notes := EncoderNotes{ImageSize: s.Spec.ImageSize, Channels: 1, Mean: []float64{0}, Std: []float64{1}, Input: "image", View: "view", Output: "embedding"}
	doc, err := toml.Marshal(notes)
	if err != nil {
		return err
	}
	staged, remove, err := f.stage(s.Model)
	if err != nil {
		return err
	}
	defer remove()
	e, err := newEncoder(staged, f.Model, notes)
	if err != nil {
		return err
	}
	m, err := e.Run(ort.Options{})
	if err != nil {
		return err
	}
	doc = append([]byte("# Pixels in [0,1] as they are: their scaling is in the graph.\n"), doc...)
	return errors.Join(m.Close(), replaceFile(s.Notes, doc))
}

// torchMetadata say what is known of weights from elsewhere. Nothing was tuned: thresholds are one half, nothing is calibrated,
// and what the training images' embeddings looked like is not known, so that no image is flagged as far from them.
func torchMetadata(n *torch.Network, s *TorchSummary) model.Metadata {
	m := model.Metadata{
		FormatVersion: model.FormatVersion, Name: strings.TrimSuffix(filepath.Base(s.Weights), filepath.Ext(s.Weights)), Version: s.WeightsSHA256[:12],
		Spec: n.Spec, Labels: model.Labels[:], Preprocessing: "mimic", Fusion: string(fuse.MeanProbability),
		Calibration: json.RawMessage(fmt.Sprintf(`{"kind":%q}`, fuse.NoCalibration)), Thresholds: slices.Repeat([]float64{0.5}, model.NumLabels),
		Kind: "from-torch", Encoder: model.Encoder{Method: n.Layout, SHA256: s.WeightsSHA256}, Datasets: map[string]model.Counts{}, ViewEvidence: []string{},
		Embedding:        model.EmbeddingStats{Mean: make([]float32, n.Spec.Width), Std: slices.Repeat([]float32{1}, n.Spec.Width)},
		CheckpointSHA256: s.WeightsSHA256, Licence: "that of the weights", IntendedUse: model.IntendedUse,
	}
	if n.Layout == torch.MVMAE { // as the published program fuses
		m.Fusion = string(fuse.MeanLogit)
	}
	return m
}
