package export

import (
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/mvmae/mvmae/export/onnxpb"
	"github.com/mvmae/mvmae/model"
	"github.com/mvmae/mvmae/model/metrics"
)

// CardPaths are where the card of a model file lies, for people and for programs: model.card.md beside model.onnx.
func CardPaths(path string) (text, doc string) {
	base := strings.TrimSuffix(path, ".onnx")
	return base + ".card.md", base + ".card.json"
}

// Card says in one document what a model file is, what it was trained and measured on, and what it is for. It depends on the
// run, or the weights, and the options alone: the same model has the same card.
type Card struct {
	SchemaVersion int    `json:"schema_version"`
	Notice        string `json:"notice"`
	Model         struct {
		File       string    `json:"file"`
		SHA256     string    `json:"sha256"`
		Bytes      int       `json:"bytes"`
		Nodes      int       `json:"nodes"`
		Opset      int64     `json:"opset"`
		Parameters int64     `json:"parameters"`
		GFLOPs     float64   `json:"gflops"` // of an image; 0 where it is not known
		Precision  Precision `json:"precision"`
	} `json:"model"`
	Source   *CardSource    `json:"source,omitempty"` // of weights that this project did not train
	Parity   *CardParity    `json:"parity"`           // null for weights without logits of a trainer
	Metadata model.Metadata `json:"metadata"`         // with precision_check; without the numbers of the embedding and the self-test, which are in the model file
	// Evaluation is what the trainer's evaluation says of the test studies; null if it left none.
	Evaluation json.RawMessage `json:"evaluation"`

	paths [2]string
}

// CardSource is the file of PyTorch that a network was taken from.
type CardSource struct {
	File    string   `json:"file"`
	SHA256  string   `json:"sha256"`
	Layout  string   `json:"layout"`   // whose names its tensors have: see package torch
	LeftOut []string `json:"left_out"` // tensors that are no part of the model file
}

// CardParity is how well the graph reproduces the logits that the trainer left.
type CardParity struct {
	Images        int     `json:"images"`
	MaxDifference float64 `json:"max_difference"` // of a float32 logit from the trainer's
	Tolerance     float64 `json:"tolerance"`
}

// newCard is the card of a model for a path, as far as the model and a run's evaluation, which may be nil, tell it.
func newCard(file *onnxpb.ModelProto, encoded File, path string, evaluation json.RawMessage) (*Card, error) {
	c := &Card{SchemaVersion: 1, Notice: model.IntendedUse, Evaluation: evaluation}
	if c.Evaluation == nil {
		c.Evaluation = json.RawMessage("null")
	}
	var err error
	if c.Metadata, err = metadataIn(file); err != nil {
		return nil, err
	}
	cost, err := costOf(c.Metadata, file)
	if err != nil {
		return nil, err
	}
	c.Metadata.SelfTest = nil
	c.Metadata.Embedding = model.EmbeddingStats{DistanceP99: c.Metadata.Embedding.DistanceP99}
	m := &c.Model
	m.File, m.SHA256, m.Bytes = filepath.Base(path), digestOf(encoded.Model), len(encoded.Model)
	m.Nodes, m.Opset, m.Precision = len(file.Graph.Node), file.OpsetImport[0].Version, Precision(c.Metadata.Precision)
	m.Parameters, m.GFLOPs = cost.Parameters, float64(cost.Embed)/1e9
	c.paths[0], c.paths[1] = CardPaths(path)
	return c, nil
}

// write leaves the card beside the model.
func (c *Card) write() error {
	doc, err := json.MarshalIndent(c, "", " ")
	if err != nil {
		return fmt.Errorf("card: %w", err)
	}
	text, err := c.text()
	if err != nil {
		return fmt.Errorf("card: %w", err)
	}
	if err := replaceFile(c.paths[1], append(doc, '\n')); err != nil {
		return err
	}
	return replaceFile(c.paths[0], []byte(text))
}

// evaluation is what the card for people shows of a run's evaluation: see eval.Report of package train/eval.
type evaluation struct {
	Bootstrap struct {
		Replicates int `json:"replicates"`
	} `json:"bootstrap"`
	Validation  size          `json:"validation"`
	Test        size          `json:"test"`
	Macro       scores        `json:"macro"`
	Labels      []labelScores `json:"labels"`
	ByGroup     []groupScores `json:"by_group"`
	Calibration *struct {
		Kind      string      `json:"kind"`
		Untouched []string    `json:"untouched"`
		ECE       beforeAfter `json:"ece"`
		PooledECE beforeAfter `json:"pooled_ece"`
		Brier     beforeAfter `json:"brier"`
		Bins      struct {
			Before metrics.Bins `json:"before"`
			After  metrics.Bins `json:"after"`
		} `json:"bins"`
	} `json:"calibration"`
}

type size struct {
	Studies  int `json:"studies"`
	Patients int `json:"patients"`
}

type scores struct {
	AUROC   metrics.Estimate `json:"auroc"`
	AP      metrics.Estimate `json:"average_precision"`
	F1Tuned metrics.Estimate `json:"f1_tuned"`
	Brier   metrics.Estimate `json:"brier"`
	ECE     metrics.Estimate `json:"ece"`
}

type labelScores struct {
	Label     string  `json:"label"`
	Studies   int     `json:"studies"`
	Positives int     `json:"positives"`
	Threshold float64 `json:"threshold"`
	scores
}

type groupScores struct {
	By    string `json:"by"`
	Group string `json:"group"`
	size
	MacroAUROC metrics.Estimate `json:"macro_auroc"`
	Labels     []labelScores    `json:"labels"`
}

type beforeAfter struct {
	Before metrics.Estimate `json:"before"`
	After  metrics.Estimate `json:"after"`
	Change metrics.Estimate `json:"change"`
}

// text is the card for people, in Markdown.
func (c *Card) text() (string, error) {
	var b strings.Builder
	c.writeModel(&b)
	c.writeData(&b)
	if string(c.Evaluation) == "null" {
		if c.Source != nil {
			b.WriteString("\n## Results\n\nNothing was measured: thresholds are one half, nothing is calibrated.\n")
		} else {
			b.WriteString("\n## Results\n\nThe run left no evaluation.\n")
		}
		return b.String(), nil
	}
	var e evaluation
	if err := json.Unmarshal(c.Evaluation, &e); err != nil {
		return "", fmt.Errorf("%s: %w", model.RunEvaluation, err)
	}
	e.writeResults(&b)
	e.writeCalibration(&b)
	e.writeGroups(&b)
	return b.String(), nil
}

func (c *Card) writeModel(b *strings.Builder) {
	m, meta := c.Model, c.Metadata
	what := "classifier"
	if meta.Part != "" {
		what = meta.Part + " of a classifier"
	}
	origin := fmt.Sprintf("%s on an encoder trained by %s", meta.Kind, meta.Encoder.Method)
	if c.Source != nil {
		origin = "weights of PyTorch, layout " + c.Source.Layout
	}
	fmt.Fprintf(b, "# %s %s\n\n**%s**\n\nA %s of chest radiographs: %s, preset %s (%s), %s.\n\n",
		meta.Name, meta.Version, c.Notice, what, origin, meta.Spec.Preset, costText(m.Parameters, m.GFLOPs), m.Precision)
	fmt.Fprintf(b, "| | |\n|---|---|\n| file | `%s`, %d bytes, %d nodes, opset %d |\n| SHA-256 | `%s` |\n", m.File, m.Bytes, m.Nodes, m.Opset, m.SHA256)
	if w := meta.Weights; w != nil {
		fmt.Fprintf(b, "| weights | `%s`, %d bytes, SHA-256 `%s` |\n", w.Name, w.Bytes, w.SHA256)
	}
	if src := c.Source; src != nil {
		fmt.Fprintf(b, "| weights of PyTorch | `%s`, SHA-256 `%s`; %d tensors left out |\n", src.File, src.SHA256, len(src.LeftOut))
	} else {
		fmt.Fprintf(b, "| checkpoint SHA-256 | `%s` |\n| run | %s |\n", meta.CheckpointSHA256, meta.RunID)
	}
	fmt.Fprintf(b, "| input | recipe %s, %d pixels a side; views %s |\n| fusion | %s |\n| licence | %s |\n",
		meta.Preprocessing, meta.Spec.ImageSize, "frontal, lateral or unknown", meta.Fusion, meta.Licence)
	c.writeProof(b)
}

func (c *Card) writeProof(b *strings.Builder) {
	m := c.Model
	b.WriteString("\n## Proof\n\n")
	if p := c.Parity; p != nil {
		fmt.Fprintf(b, "In float32 the graph gives the trainer's logits of %d held-out images to within %.1e (allowed: %g).\n", p.Images, p.MaxDifference, p.Tolerance)
	} else {
		b.WriteString("No trainer's answers came with the weights: the file was loaded and run, and compared with nothing.\n")
	}
	switch p := c.Metadata.Check; {
	case p != nil:
		verdict := "which is within the limit"
		if !p.Passed {
			verdict = "which is **beyond the limit**: the file was forced"
		}
		fmt.Fprintf(b, "\nAgainst float32, on %d held-out studies of %d patients, %s loses %s of the macro AUROC and %s of the macro Brier score (95 %% intervals, patients drawn in pairs; limit of the upper end %g), %s. The largest difference of a logit is %.3f.\n",
			p.Studies, p.Patients, m.Precision, interval(p.AUROCLoss), interval(p.BrierLoss), p.Limit, verdict, p.LogitDifference)
	case m.Precision != FP32:
		fmt.Fprintf(b, "\n**What %s loses against float32 was not measured: the file was forced.**\n", m.Precision)
	}
	if m.Precision == INT8 {
		b.WriteString("\nInputs of 8-bit products are scaled by the tensor's range, so the images of one batch share it: run them one at a time for numbers that do not depend on their neighbours.\n")
	}
}

func (c *Card) writeData(b *strings.Builder) {
	b.WriteString("\n## Training data\n\n")
	if c.Source != nil {
		b.WriteString("Not known: the weights do not say which images they were trained on.\n")
		return
	}
	b.WriteString("| data set | patients | studies | images | frontal | lateral | unknown view |\n|---|---|---|---|---|---|---|\n")
	for _, name := range slices.Sorted(maps.Keys(c.Metadata.Datasets)) {
		n := c.Metadata.Datasets[name]
		fmt.Fprintf(b, "| %s | %d | %d | %d | %d | %d | %d |\n", name, n.Patients, n.Studies, n.Images, n.Frontal, n.Lateral, n.Unknown)
	}
	fmt.Fprintf(b, "\nViews were known by: %s.", strings.Join(c.Metadata.ViewEvidence, ", "))
	if u := c.Metadata.UntrainedLabels; len(u) > 0 {
		fmt.Fprintf(b, " Not trained, never positive: %s.", strings.Join(u, ", "))
	}
	b.WriteString("\n")
}

func (e *evaluation) writeResults(b *strings.Builder) {
	fmt.Fprintf(b, "\n## Results\n\nOn %d test studies of %d patients, all views of a study fused; chosen, calibrated and tuned on %d validation studies of %d other patients. Brackets: 95 %% intervals, %d replicates that draw patients (which raises a calibration error, so that it may lie below its own).\n\n",
		e.Test.Studies, e.Test.Patients, e.Validation.Studies, e.Validation.Patients, e.Bootstrap.Replicates)
	b.WriteString("| label | studies | positive | AUROC | average precision | threshold | F1 there | Brier | ECE |\n|---|---|---|---|---|---|---|---|---|\n")
	for _, l := range e.Labels {
		fmt.Fprintf(b, "| %s | %d | %d | %v | %v | %.4f | %v | %v | %v |\n", l.Label, l.Studies, l.Positives, l.AUROC, l.AP, l.Threshold, l.F1Tuned, l.Brier, l.ECE)
	}
	m := e.Macro
	fmt.Fprintf(b, "| **macro mean** | | | %v | %v | | %v | %v | %v |\n", m.AUROC, m.AP, m.F1Tuned, m.Brier, m.ECE)
}

func (e *evaluation) writeCalibration(b *strings.Builder) {
	c := e.Calibration
	if c == nil {
		return
	}
	fmt.Fprintf(b, "\n## Calibration\n\nKind %s, on the fused probability, by label and number of views.", c.Kind)
	if len(c.Untouched) > 0 {
		fmt.Fprintf(b, " Left as they are, for they were calibrated before, or validation has too few of them to tell: %s.", strings.Join(c.Untouched, ", "))
	}
	b.WriteString("\n\n| on test | before | after | change |\n|---|---|---|---|\n")
	for _, row := range []struct {
		name string
		of   beforeAfter
	}{{"ECE, macro mean", c.ECE}, {"ECE, all labels pooled", c.PooledECE}, {"Brier score, macro mean", c.Brier}} {
		fmt.Fprintf(b, "| %s | %v | %v | %v |\n", row.name, row.of.Before, row.of.After, row.of.Change)
	}
	b.WriteString("\nReliability, all labels pooled: where the model says the first, the second is the share of positives.\n\n| probability | before: says | is | studies | after: says | is | studies |\n|---|---|---|---|---|---|---|\n")
	for i := range c.Bins.Before {
		fmt.Fprintf(b, "| %.2f-%.2f |%s |%s |\n", float64(i)/metrics.ECEBins, float64(i+1)/metrics.ECEBins, cells(c.Bins.Before[i]), cells(c.Bins.After[i]))
	}
}

func cells(bin metrics.Bin) string {
	if bin.Studies == 0 {
		return " - | - | 0"
	}
	n := float64(bin.Studies)
	return fmt.Sprintf(" %.3f | %.3f | %d", bin.ScoreSum/n, float64(bin.Positives)/n, bin.Studies)
}

// writeGroups shows a table for each way to group the studies: labels down, groups across.
func (e *evaluation) writeGroups(b *strings.Builder) {
	for from := 0; from < len(e.ByGroup); {
		to := from
		for to < len(e.ByGroup) && e.ByGroup[to].By == e.ByGroup[from].By {
			to++
		}
		groups := e.ByGroup[from:to]
		fmt.Fprintf(b, "\n## AUROC by %s\n\n| label |", groups[0].By)
		for _, g := range groups {
			fmt.Fprintf(b, " %s (%d studies of %d patients) |", g.Group, g.Studies, g.Patients)
		}
		fmt.Fprintf(b, "\n|---|%s\n", strings.Repeat("---|", len(groups)))
		for l, name := range model.Labels {
			fmt.Fprintf(b, "| %s |", name)
			for _, g := range groups {
				fmt.Fprintf(b, " %v, %d positive |", g.Labels[l].AUROC, g.Labels[l].Positives)
			}
			b.WriteString("\n")
		}
		b.WriteString("| **macro mean** |")
		for _, g := range groups {
			fmt.Fprintf(b, " %v |", g.MacroAUROC)
		}
		b.WriteString("\n")
		from = to
	}
}
