package export

import (
	"encoding/json"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mvmae/mvmae/export/exporttest"
	"github.com/mvmae/mvmae/internal/codecprog"
	"github.com/mvmae/mvmae/internal/hint"
	"github.com/mvmae/mvmae/internal/libs"
	"github.com/mvmae/mvmae/model"
	"github.com/mvmae/mvmae/model/ort"
)

const (
	torchData      = "../model/torch/testdata"
	torchTolerance = 3e-6
)

// torchNetworks are the files that testdata/make.py makes, and whether each is a whole classifier.
var torchNetworks = map[string]bool{"vit": true, "mae": false, "mae_finetuned": true, "medical_mae": true, "mvmae": false, "mvmae_classifier": true}

// answers are what PyTorch said of a network's images.
type answers struct {
	Image     []float32   `json:"image"` // [n*32*32], 0 to 255
	View      []int64     `json:"view"`
	Embedding [][]float32 `json:"embedding"`
	Logits    [][]float32 `json:"logits"`
}

// checkTorch turns every network in dir into a model file and compares its answers with PyTorch's.
func checkTorch(t *testing.T, dir string) {
	libs.ForTests(t)
	for name, whole := range torchNetworks {
		t.Run(name, func(t *testing.T) {
			doc, err := os.ReadFile(filepath.Join(dir, name+".json"))
			must(t, err)
			var want answers
			must(t, json.Unmarshal(doc, &want))
			for i := range want.Image {
				want.Image[i] /= 255
			}
			out := filepath.Join(t.TempDir(), "model.onnx")
			summary, err := FromTorch(filepath.Join(dir, name+".pth"), out, "")
			must(t, err)
			if (summary.Part == Full) != whole || summary.Nodes == 0 || summary.SHA256 == "" {
				t.Fatalf("summary %+v", summary)
			}
			checkTorchCard(t, summary)
			m, err := openTorch(out, whole)
			must(t, err)
			defer m.Close()
			got, err := m.Run(t.Context(), want.Image, want.View)
			must(t, err)
			// float32 in another order, and scaling folded into the weights: 5e-7 was measured, of numbers up to 2.
			compareRows(t, "embedding", got.Embedding, want.Embedding, torchTolerance)
			if whole {
				logits := make([][]float32, len(got.Logits))
				for i := range logits {
					logits[i] = got.Logits[i][:]
				}
				compareRows(t, "logits", logits, want.Logits, torchTolerance)
			}
		})
	}
}

// checkTorchCard wants a card that says where the weights come from, and nothing that nobody measured.
func checkTorchCard(t *testing.T, s *TorchSummary) {
	t.Helper()
	text, doc := CardPaths(s.Model)
	data, err := os.ReadFile(doc)
	must(t, err)
	var card Card
	must(t, json.Unmarshal(data, &card))
	want := &CardSource{File: filepath.Base(s.Weights), SHA256: s.WeightsSHA256, Layout: s.Layout, LeftOut: s.LeftOut}
	if diff := cmp.Diff(want, card.Source); diff != "" || card.Parity != nil || string(card.Evaluation) != "null" || card.Model.SHA256 != s.SHA256 || card.Model.GFLOPs <= 0 {
		t.Errorf("card %+v\n%s", card, diff)
	}
	data, err = os.ReadFile(text)
	must(t, err)
	for _, want := range []string{s.WeightsSHA256, "layout " + s.Layout, "Nothing was measured", "compared with nothing", "Not known", model.IntendedUse} {
		if !strings.Contains(string(data), want) {
			t.Errorf("the card lacks %q:\n%s", want, data)
		}
	}
	x, err := Inspect(s.Model)
	if err != nil || s.Card != text || x.Card == nil || !x.Card.Current {
		t.Errorf("inspect finds card %+v, error %v", x, err)
	}
}

// openTorch opens a file of FromTorch: a classifier as it is, an encoder with the notes that were left beside it.
func openTorch(path string, whole bool) (*ort.Model, error) {
	if whole {
		return ort.Open(path, ort.Options{})
	}
	e, err := OpenEncoder(path)
	if err != nil {
		return nil, err
	}
	return e.Run(ort.Options{})
}

func compareRows(t *testing.T, what string, got, want [][]float32, tolerance float64) {
	t.Helper()
	if len(got) != len(want) || len(want) == 0 {
		t.Fatalf("%s: %d rows, want %d", what, len(got), len(want))
	}
	largest := 0.0
	for i, row := range want {
		for d, w := range row {
			if diff := math.Abs(float64(got[i][d] - w)); !(diff <= tolerance) {
				t.Fatalf("%s of image %d, number %d: %g, PyTorch has %g", what, i, d, got[i][d], w)
			}
			largest = max(largest, math.Abs(float64(w)))
		}
	}
	if largest < 0.5 {
		t.Errorf("%s: the largest number is %g: nothing was compared", what, largest)
	}
}

// The networks in the repository were made by PyTorch 1.13.
func TestFromTorch_AnswersAsPyTorchDid(t *testing.T) { checkTorch(t, torchData) }

// And new ones of other weights, wherever there is a PyTorch: "make peers" installs one.
func TestFromTorch_AnswersAsPyTorchDoes(t *testing.T) {
	python := os.Getenv("MVMAE_TORCH_PYTHON")
	if python == "" {
		python = "/usr/bin/python3"
	}
	if exec.Command(python, "-c", "import torch").Run() != nil {
		codecprog.Skip(t, python+` has no torch: run "make peers", or name another Python with MVMAE_TORCH_PYTHON`)
	}
	dir := t.TempDir()
	if out, err := exec.CommandContext(t.Context(), python, torchData+"/make.py", dir, "20261124").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	checkTorch(t, dir)
}

// A golden case's parameters, under the published program's names, give that program's logits.
func TestFromTorch_GoldenClassifier(t *testing.T) {
	libs.ForTests(t)
	golden, _, err := model.ReadSafetensors("../testdata/golden/vit_classifier_0.safetensors")
	must(t, err)
	params := model.Tensors{}
	for name, v := range golden {
		if own, ok := strings.CutPrefix(name, "param."); ok {
			params[own] = v
		}
	}
	dir := t.TempDir()
	weights, out := filepath.Join(dir, "weights.safetensors"), filepath.Join(dir, "model.onnx")
	writeTensors(t, weights, params)
	// The case feeds its images as they are; a file of this layout expects them scaled.
	writeFile(t, weights+".toml", []byte("mean = [0.0]\nstd = [1.0]\nheads = 4\n"))
	_, err = FromTorch(weights, out, Full)
	must(t, err)
	m, err := ort.Open(out, ort.Options{})
	must(t, err)
	defer m.Close()
	var views []int64
	for _, v := range golden["in.view"].Data {
		views = append(views, int64(v))
	}
	got, err := m.Run(t.Context(), golden["in.image"].Data, views)
	must(t, err)
	for i, row := range got.Logits {
		compareRows(t, "logits", [][]float32{row[:]}, [][]float32{golden["out.logits"].Data[i*14 : (i+1)*14]}, 1e-4)
	}
	meta := m.Metadata()
	if meta.Fusion != "mean_logit" || meta.Encoder.Method != "mvmae" || meta.Encoder.SHA256 == "" || meta.Spec.PixelMean != 0.5056 {
		t.Errorf("metadata %+v", meta)
	}
}

// The notes of an encoder must not take the place of the weights' own, whatever the names.
func TestFromTorch_LeavesTheWeightsNotesAlone(t *testing.T) {
	libs.ForTests(t)
	weights := filepath.Join(t.TempDir(), "mae.pth")
	for _, name := range []string{"mae.pth", "mae.pth.toml"} {
		data, err := os.ReadFile(filepath.Join(torchData, name))
		must(t, err)
		writeFile(t, filepath.Join(filepath.Dir(weights), name), data)
	}
	for range 2 { // the second reads the notes after the first wrote its own
		_, err := FromTorch(weights, strings.TrimSuffix(weights, ".pth")+".onnx", "")
		must(t, err)
	}
}

func TestFromTorch_RefusesByName(t *testing.T) {
	libs.ForTests(t)
	out := filepath.Join(t.TempDir(), "model.onnx")
	for _, c := range []struct{ name, weights, want, cure string }{
		{"no head", torchData + "/mae.pth", "has no head of 14 known labels", "--part encoder"},
		{"no file", "nowhere.pth", "no such file", ""},
		{"no network", torchData + "/tensors.pth", "no patch embedding of a network that is known", "ONNX"},
		{"our own run", filepath.Join(exporttest.Run(t, exporttest.Spec(t, "nano"), func(_ []float32, v []int64) [][model.NumLabels]float32 {
			return make([][model.NumLabels]float32, len(v))
		}), model.RunCheckpoint), "tensor encoder.pos_embedding is missing", ""},
	} {
		if _, err := FromTorch(c.weights, out, Full); err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(hint.Of(err), c.cure) {
			t.Errorf("%s: error %v, hint %q: want %q and %q", c.name, err, hint.Of(err), c.want, c.cure)
		}
	}
	if names := listDir(t, filepath.Dir(out)); len(names) != 0 {
		t.Errorf("the folder holds %v: want nothing", names)
	}
}
