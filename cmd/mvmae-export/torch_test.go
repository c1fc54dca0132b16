package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mvmae/mvmae/cmd/internal/cli"
	"github.com/mvmae/mvmae/export"
	"github.com/mvmae/mvmae/internal/hint"
	"github.com/mvmae/mvmae/internal/libs"
)

const torchData = "../../model/torch/testdata/"

func TestFromTorch_TextAndJSON(t *testing.T) {
	libs.ForTests(t)
	out := filepath.Join(t.TempDir(), "mae.onnx")
	text := result(t, &FromTorchCmd{Weights: torchData + "mae.pth", Model: out}, false)
	for _, want := range []string{out + ": encoder of layout mae", "width 48, depth 2, heads 6", "left out: ", "decoder_blocks.0.attn.proj.bias", "notes ", "sha256 "} {
		if !strings.Contains(text, want) {
			t.Errorf("output lacks %q:\n%s", want, text)
		}
	}
	var s export.TorchSummary
	if err := json.Unmarshal([]byte(result(t, &FromTorchCmd{Weights: torchData + "vit.pth", Model: out}, true)), &s); err != nil {
		t.Fatal(err)
	}
	if s.Part != export.Full || s.LeftOut == nil || s.Notes != "" || s.Model != out {
		t.Errorf("%+v", s)
	}
}

func TestFromTorch_PickleThatCallsCodeIsNotRun(t *testing.T) {
	dir := t.TempDir()
	touched, evil := filepath.Join(dir, "touched"), filepath.Join(dir, "evil.pth")
	command := "touch " + touched
	pickle := "\x80\x02cposix\nsystem\nX" + string([]byte{byte(len(command)), 0, 0, 0}) + command + "\x85R."
	if err := os.WriteFile(evil, []byte(pickle), 0o644); err != nil {
		t.Fatal(err)
	}
	err := (&FromTorchCmd{Weights: evil, Model: filepath.Join(dir, "x.onnx")}).Run(t.Context(), &cli.Output{Stdout: &bytes.Buffer{}, Stderr: &bytes.Buffer{}})
	if err == nil || !strings.HasSuffix(err.Error(), "a pickle that calls code: posix.system") || !strings.Contains(hint.Of(err), "safetensors") {
		t.Errorf("error %v, hint %q", err, hint.Of(err))
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("the folder holds %v: want evil.pth alone", entries)
	}
}

func TestDiff_TextAndJSON(t *testing.T) {
	libs.ForTests(t)
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a.onnx"), filepath.Join(dir, "b.onnx")
	result(t, &FromTorchCmd{Weights: torchData + "vit.pth", Model: a}, false)
	result(t, &FromTorchCmd{Weights: torchData + "medical_mae.pth", Model: b}, false)
	if text := result(t, &DiffCmd{a, a}, false); text != "the same bytes\n" {
		t.Errorf("a file and itself: %q", text)
	}
	text := result(t, &DiffCmd{a, b}, false)
	for _, want := range []string{`metadata  mvmae.name: "vit" | "medical_mae"`, "numbers differ, by up to", "tensors differ and"} {
		if !strings.Contains(text, want) {
			t.Errorf("output lacks %q:\n%s", want, text)
		}
	}
	var d struct {
		Same bool
		export.Difference
	}
	if err := json.Unmarshal([]byte(result(t, &DiffCmd{a, b}, true)), &d); err != nil || d.Same || len(d.Weights) == 0 || len(d.Graph) != 0 {
		t.Errorf("%+v, %v", d, err)
	}
}
