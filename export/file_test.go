package export

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mvmae/mvmae/export/exporttest"
	"github.com/mvmae/mvmae/internal/hint"
	"github.com/mvmae/mvmae/model"
	"github.com/mvmae/mvmae/model/ort"
)

// Weights beside the file: the threshold is lowered from 2 GiB, the rest is as it would be.
func TestExport_LargeWeightsLieBeside(t *testing.T) {
	python := testPython(t)
	dir, folder := writeRun(t, "nano"), t.TempDir()
	out, whole := filepath.Join(folder, "model.onnx"), filepath.Join(t.TempDir(), "model.onnx")
	summary, err := Export(t.Context(), dir, out, Options{MaxFileBytes: 10_000})
	must(t, err)
	again, err := Export(t.Context(), dir, out, Options{MaxFileBytes: 10_000})
	must(t, err)
	if diff := cmp.Diff(summary, again); diff != "" {
		t.Errorf("the second time (-first +second):\n%s", diff)
	}
	want := []string{"model.card.json", "model.card.md", "model.onnx", summary.Weights}
	slices.Sort(want)
	if diff := cmp.Diff(want, listDir(t, folder)); diff != "" {
		t.Errorf("the folder (-want +got):\n%s", diff)
	}
	_, err = Export(t.Context(), dir, whole, Options{})
	must(t, err)
	images, views := exporttest.Inputs(3, exporttest.Spec(t, "nano"))
	var answers []*ort.Output
	for _, path := range []string{out, whole} {
		m, err := ort.Open(path, ort.Options{})
		must(t, err)
		defer m.Close()
		answer, err := m.Run(t.Context(), images, views)
		must(t, err)
		answers = append(answers, answer)
	}
	if diff := cmp.Diff(answers[1], answers[0]); diff != "" {
		t.Errorf("weights beside (-within +beside):\n%s", diff)
	}
	runChecker(t, python, out)

	weights := filepath.Join(folder, summary.Weights)
	data, err := os.ReadFile(weights)
	must(t, err)
	data[4000] ^= 1
	must(t, os.WriteFile(weights, data, 0o644))
	refused(t, out, "bytes of SHA-256", "belong together")
	must(t, os.Remove(weights))
	refused(t, out, "no such file", "belong together")
}

func refused(t *testing.T, path, want, cure string) {
	t.Helper()
	if _, err := ort.Open(path, ort.Options{}); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(hint.Of(err), cure) {
		t.Errorf("error %v, hint %q: want %q and %q", err, hint.Of(err), want, cure)
	}
}

func TestOpen_PartIsNotServed(t *testing.T) {
	dir := writeRun(t, "nano")
	for _, part := range []Part{Encoder, Head} {
		out := filepath.Join(t.TempDir(), "part.onnx")
		_, err := Export(t.Context(), dir, out, Options{Graph: Graph{Part: part}})
		must(t, err)
		refused(t, out, "it is the "+string(part)+" of a classifier alone", "without --part")
	}
}

func TestExport_AttentionIsComparedWithTheTrainers(t *testing.T) {
	dir, out := writeRun(t, "nano"), filepath.Join(t.TempDir(), "model.onnx")
	s := exporttest.Spec(t, "nano")
	m := open(t, buildGraph(t, Graph{Attention: true}, s, exporttest.Weights(s)))
	path := filepath.Join(dir, model.RunParity)
	tensors, _, err := model.ReadSafetensors(path)
	must(t, err)
	got, err := m.Run(t.Context(), tensors["image"].Data[:2*32*32], []int64{int64(tensors["view"].Data[0]), int64(tensors["view"].Data[1])})
	must(t, err)
	attention := append(append([]float32{}, got.Attention[0]...), got.Attention[1]...)
	tensors["attention"] = model.Tensor{Dims: []int{2, 4, 4}, Data: attention}
	writeTensors(t, path, tensors)
	_, err = Export(t.Context(), dir, out, Options{Graph: Graph{Attention: true}})
	must(t, err)
	attention[17] += 3e-4
	writeTensors(t, path, tensors)
	_, err = Export(t.Context(), dir, out, Options{Graph: Graph{Attention: true}})
	if err == nil || !strings.Contains(err.Error(), "image 1, attention") {
		t.Errorf("error %v: want image 1, attention", err)
	}
}
