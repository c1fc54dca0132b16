package export

import (
	"math"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mvmae/mvmae/export/exporttest"
	"github.com/mvmae/mvmae/model"
)

// writeModel writes a model file, its weights in another if they are more than limit bytes.
func writeModel(t *testing.T, name string, o Graph, limit int, edit func(model.Metadata, model.Tensors) model.Metadata) string {
	t.Helper()
	s := exporttest.Spec(t, "nano")
	m, weights := exporttest.Metadata(s), exporttest.Weights(s)
	if edit != nil {
		m = edit(m, weights)
	}
	file, err := o.Build(m, weights)
	must(t, err)
	path := filepath.Join(t.TempDir(), name)
	encoded, err := Encode(file, path, limit)
	must(t, err)
	must(t, encoded.Write(path))
	return path
}

func TestDiff_SaysWhatDiffers(t *testing.T) {
	a := writeModel(t, "a.onnx", Graph{}, 0, nil)
	for _, c := range []struct {
		name     string
		b        string
		metadata []Change
		graph    []string // names
		weights  []WeightChange
	}{
		{"the same", writeModel(t, "b.onnx", Graph{}, 0, nil), nil, nil, nil},
		{"a weight and metadata", writeModel(t, "b.onnx", Graph{}, 0, func(m model.Metadata, w model.Tensors) model.Metadata {
			w["head.bias"].Data[2] += 0.5
			w["head.bias"].Data[3] -= 0.25
			w["encoder.layer_norm.bias"].Data[0] = 1
			m.Fusion, m.Thresholds[7] = "mean_logit", 0.75
			return m
		}), []Change{{"mvmae.fusion", `"mean_probability"`, `"mean_logit"`}, {"mvmae.thresholds[7]", "0.5", "0.75"}}, nil, []WeightChange{
			{"encoder.layer_norm.bias", "float[32]", "float[32]", 1, 1, 32}, {"head.bias", "float[14]", "float[14]", 0.5, 2, 14}}},
		{"another opset", writeModel(t, "b.onnx", Graph{Opset: 18}, 0, nil), nil, []string{"opset"}, nil},
		{"weights in another file", writeModel(t, "b.onnx", Graph{}, 1000, nil), []Change{{"mvmae.weights", "", ""}}, nil, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			d, err := Diff(a, c.b)
			must(t, err)
			if len(d.Metadata) != len(c.metadata) {
				t.Fatalf("metadata %+v: want %+v", d.Metadata, c.metadata)
			}
			for i, want := range c.metadata {
				if got := d.Metadata[i]; got.Name != want.Name || want.B != "" && got != want {
					t.Errorf("metadata %+v: want %+v", got, want)
				}
			}
			names := map[string]bool{}
			for _, x := range d.Graph {
				names[x.Name] = true
			}
			for _, want := range c.graph {
				if !names[want] {
					t.Errorf("graph %+v: want %q", d.Graph, want)
				}
			}
			if len(c.graph) == 0 && len(d.Graph) > 0 {
				t.Errorf("graph %+v: want nothing", d.Graph)
			}
			if len(d.Weights) != len(c.weights) || d.Equal == 0 {
				t.Fatalf("weights %+v, %d equal: want %+v", d.Weights, d.Equal, c.weights)
			}
			for i, want := range c.weights {
				if d.Weights[i] != want {
					t.Errorf("weights %+v: want %+v", d.Weights[i], want)
				}
			}
			if same := c.name == "the same"; d.SameBytes != same || d.Same() != same {
				t.Errorf("same bytes %v, same %v", d.SameBytes, d.Same())
			}
		})
	}
}

func TestDiff_OfPrecisionsNamesTypes(t *testing.T) {
	d, err := Diff(writeModel(t, "a.onnx", Graph{}, 0, nil), writeModel(t, "b.onnx", Graph{Precision: FP16}, 0, nil))
	must(t, err)
	if d.Same() || len(d.Weights) == 0 || len(d.Graph) == 0 {
		t.Fatalf("%+v", d)
	}
	for _, w := range d.Weights {
		if w.A == w.B || math.IsNaN(w.Largest) || w.Largest > 0.01 {
			t.Errorf("%+v", w)
		}
	}
}

func TestDiff_WhatCannotBeReadIsNamed(t *testing.T) {
	whole := writeModel(t, "a.onnx", Graph{}, 0, nil)
	text := filepath.Join(t.TempDir(), "text.onnx")
	writeFile(t, text, []byte("This is no model."))
	apart := writeModel(t, "b.onnx", Graph{}, 1000, nil)
	data, err := filepath.Glob(filepath.Join(filepath.Dir(apart), "*.data"))
	if err != nil || len(data) != 1 {
		t.Fatal(data, err)
	}
	truncate(t, data[0])
	for path, want := range map[string]string{text: "not a whole ONNX file", "nowhere.onnx": "no such file", apart: "ends before byte"} {
		if _, err := Diff(whole, path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v: want %q", path, err, want)
		}
	}
}

func TestInspect_CountsAndFindsTheCard(t *testing.T) {
	path := writeModel(t, "a.onnx", Graph{}, 0, nil)
	x, err := Inspect(path)
	must(t, err)
	total := 0
	for _, n := range x.Operators {
		total += n
	}
	cost, err := model.CostOf(x.Metadata.Spec, 1)
	must(t, err)
	if total != x.Nodes || x.Operators["LayerNormalization"] != 5 || x.GFLOPs != float64(cost.Embed)/1e9 || x.Card != nil {
		t.Errorf("%+v", x)
	}
	text, doc := CardPaths(path)
	for digest, current := range map[string]bool{x.SHA256: true, "0123": false} {
		writeFile(t, doc, []byte(`{"model":{"sha256":"`+digest+`"}}`))
		if x, err = Inspect(path); err != nil || x.Card == nil || x.Card.Current != current || x.Card.Text != text {
			t.Errorf("card %+v, error %v", x.Card, err)
		}
	}
	writeFile(t, doc, []byte("{"))
	if _, err := Inspect(path); err == nil || !strings.Contains(err.Error(), doc) {
		t.Errorf("error %v", err)
	}
}
