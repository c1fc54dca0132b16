package train

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mvmae/mvmae/dicom/cxr"
	"github.com/mvmae/mvmae/internal/hint"
	"github.com/mvmae/mvmae/model"
	"github.com/mvmae/mvmae/train/data"
)

// means is an encoder of 64 pixels whose embedding are the means of 16 squares and the view.
type means struct{ images int }

func (m *means) ImageSize() int { return 64 }

func (m *means) Classify(_ context.Context, images []float32, views []cxr.View) (out Outputs, err error) {
	m.images += len(views)
	for i, view := range views {
		e := make([]float32, 17)
		for p, v := range images[i*4096 : (i+1)*4096] {
			e[p/64/16*4+p%64/16] += v / 256
		}
		e[16] = float32(view)
		out.Embedding, out.Logits = append(out.Embedding, e), append(out.Logits, [model.NumLabels]float32{})
	}
	return out, nil
}

func testEncoder(cache string) (Encoder, *means) {
	m := &means{}
	return Encoder{Classifier: m, File: model.EncoderFile{Path: "/models/means.onnx", SHA256: "0123"}, Spec: model.ForeignSpec(64, 17), Cache: cache}, m
}

func encoderRun(t *testing.T, pack *data.Pack, e Encoder) *Run {
	t.Helper()
	run, err := CreateRun(filepath.Join(t.TempDir(), "probe"), RunInfo{
		Kind: "probe", Data: pack.Dir(), DataDigest: pack.Digest(), Preprocessing: pack.Recipe.String(), Encoder: &e.File}, testConfig())
	if err != nil {
		t.Fatal(err)
	}
	return run
}

func TestProbeEncoder_LearnsAndKeepsEmbeddings(t *testing.T) {
	dev := device(t)
	pack := makePack(t, 100)
	cache := t.TempDir()
	total := len(ImagesOf(pack, pack.StudiesOf(data.Train))) + len(ImagesOf(pack, pack.StudiesOf(data.Validate))) + len(ImagesOf(pack, pack.StudiesOf(data.Test)))
	parity := min(parityImages, len(ImagesOf(pack, pack.StudiesOf(data.Test))))

	probe := func() (*Run, *means, float64) {
		e, m := testEncoder(cache)
		run := encoderRun(t, pack, e)
		embedded := 0
		rep, err := ProbeEncoder(t.Context(), dev, run, pack, e, func(s ProbeStatus) {
			if s.Stage == "embed" {
				embedded = s.Done
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		if embedded != total {
			t.Errorf("progress told of %d images, want %d", embedded, total)
		}
		return run, m, float64(rep.Macro.AUROC.Value)
	}
	first, m, auroc := probe()
	if m.images != total+parity {
		t.Errorf("the encoder saw %d images: want %d, and %d for the parity file", m.images, total, parity)
	}
	if auroc < 0.9 { // a bright square tells each label
		t.Errorf("macro AUROC %.3f", auroc)
	}
	again, m, same := probe()
	if m.images != parity || same != auroc {
		t.Errorf("with a cache the encoder saw %d images and the AUROC is %v: want %d and %v", m.images, same, parity, auroc)
	}
	heads := [2]model.Tensors{}
	for i, run := range []*Run{first, again} {
		var err error
		if heads[i], _, err = model.ReadSafetensors(filepath.Join(run.Dir, model.RunCheckpoint)); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(heads[0], heads[1]); diff != "" || len(heads[0]) != 2 {
		t.Errorf("%d tensors; cached embeddings give another head:\n%s", len(heads[0]), diff)
	}

	files, err := filepath.Glob(filepath.Join(cache, "*", "*.safetensors"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%v in the cache, %v", files, err)
	}
	for _, f := range files {
		if err := os.Truncate(f, 1000); err != nil {
			t.Fatal(err)
		}
	}
	if _, m, same = probe(); m.images != total+parity || same != auroc {
		t.Errorf("with a damaged cache the encoder saw %d images and the AUROC is %v: want %d and %v", m.images, same, total+parity, auroc)
	}

	doc, err := os.ReadFile(filepath.Join(first.Dir, model.RunMetadata))
	if err != nil {
		t.Fatal(err)
	}
	meta, err := model.ParseMetadata(doc)
	if err != nil {
		t.Fatal(err)
	}
	if meta.Name != "means-probe" || meta.Encoder != (model.Encoder{Method: "onnx", SHA256: "0123"}) || meta.Spec != model.ForeignSpec(64, 17) {
		t.Errorf("metadata %+v", meta)
	}
	if strings.Contains(string(doc), "/models") {
		t.Error("the metadata hold a path of this machine")
	}
	if _, _, err := OpenClassifier(dev, first.Dir); err == nil || !strings.Contains(hint.Of(err), "mvmae-export") {
		t.Errorf("opening the run without its encoder: error %v, hint %q", err, hint.Of(err))
	}
}

func TestProbeEncoder_AnotherEncoderIsRefused(t *testing.T) {
	pack := makePack(t, 10)
	e, _ := testEncoder("")
	run := encoderRun(t, pack, e)
	e.File.SHA256 = "4567"
	if _, err := ProbeEncoder(t.Context(), device(t), run, pack, e, func(ProbeStatus) {}); err == nil || !strings.Contains(err.Error(), "not what it was when the run began") {
		t.Errorf("error %v", err)
	}
}

func TestProbeEncoder_OneClassIsRefused(t *testing.T) {
	pack := makePack(t, 20, func(img *data.Image) {
		if img.Split == data.Validate {
			for l := range img.Labels {
				img.Labels[l] = model.Negative
			}
		}
	})
	e, _ := testEncoder("")
	_, err := ProbeEncoder(t.Context(), device(t), encoderRun(t, pack, e), pack, e, func(ProbeStatus) {})
	if err == nil || !strings.Contains(err.Error(), "no label has both classes among the validation studies") || hint.Of(err) == "" {
		t.Errorf("error %v, hint %q", err, hint.Of(err))
	}
}
