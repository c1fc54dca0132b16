package main

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mvmae/mvmae/cmd/internal/cli"
	"github.com/mvmae/mvmae/export/exporttest"
	"github.com/mvmae/mvmae/model"
)

// An encoder that this project did not train, from its ONNX file to the answers of a served model: probed, exported in one
// file with its head, evaluated, and asked by the server's command line.
func TestProbe_EncoderOfAnONNXFileIsServed(t *testing.T) {
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	must(t, "mvmae-train", "synth", "--layout", "dicom", "--studies", "60", "--seed", "3", "--size", "128", "--out", in("synth"))
	must(t, "mvmae-train", "index", "dicom", "--root", in("synth"), "--out", in("index.parquet"))
	must(t, "mvmae-train", "pack", in("index.parquet"), "--out", in("pack"))

	encoder := exporttest.CNN(t, dir)
	probe := func(encoder, out string) {
		must(t, "mvmae-train", "probe", "--data", in("pack"), "--encoder", encoder, "--cache", in("cache"), "--device", "cpu",
			"--set", "probe.epochs=5", "--set", "probe.warmup_epochs=1", "--set", "probe.replicates=10", "--out", in(out))
		must(t, "mvmae-export", "--run", in(out), in(out+".onnx"))
	}
	probe(encoder, "probe")
	if cached, err := filepath.Glob(in("cache/*/*.safetensors")); err != nil || len(cached) == 0 {
		t.Errorf("nothing in the cache: %v", err)
	}

	// What the file answers is what the probe reported.
	type report struct {
		Macro struct{ Brier struct{ Value float64 } }
	}
	var reported, evaluated report
	doc, err := os.ReadFile(in("probe/eval.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(doc, &reported); err != nil {
		t.Fatal(err)
	}
	doc = must(t, "mvmae-train", "eval", "--data", in("pack"), "--model", in("probe.onnx"), "--replicates", "10", "--device", "cpu", "--json")
	if err := json.Unmarshal(doc, &evaluated); err != nil {
		t.Fatal(err)
	}
	if d := math.Abs(reported.Macro.Brier.Value - evaluated.Macro.Brier.Value); !(d < 1e-5) || reported.Macro.Brier.Value == 0 {
		t.Errorf("macro Brier %v in the probe's report, %v of the file", reported.Macro.Brier.Value, evaluated.Macro.Brier.Value)
	}

	patients, err := filepath.Glob(in("synth/dicom/*"))
	if err != nil || len(patients) < 2 {
		t.Fatal("no two patients", err)
	}
	var answer struct {
		Studies []struct {
			Probabilities map[string]float64 `json:"probabilities"`
		} `json:"studies"`
	}
	study := must(t, "mvmae-serve", "classify", "--model", in("probe.onnx"), "--json", patients[0], patients[1])
	if err := json.Unmarshal(study, &answer); err != nil || len(answer.Studies) == 0 || len(answer.Studies[0].Probabilities) != model.NumLabels {
		t.Errorf("%v in\n%s", err, study)
	}
	text := string(must(t, "mvmae-export", "inspect", in("probe.onnx")))
	for _, want := range []string{"cnn-probe", "preset onnx", "probe on onnx", "Conv", "image float [N,1,64,64]", "embedding float [N,32]", "0.00133 GFLOPs an image"} {
		if !strings.Contains(text, want) {
			t.Errorf("inspect lacks %q:\n%s", want, text)
		}
	}

	// A stopped probe is begun again with the same encoder; and weights of PyTorch come in the same way.
	must(t, "mvmae-train", "resume", in("probe"), "--cache", in("cache"), "--device", "cpu")
	must(t, "mvmae-export", "from-torch", "../../model/torch/testdata/mae.pth", in("mae.onnx"))
	probe(in("mae.onnx"), "mae-probe")

	for _, c := range []struct {
		args []string
		exit int
		want string
	}{
		{[]string{"mvmae-export", "--run", in("probe"), "--precision", "int8", "--force", in("x.onnx")}, cli.ExitFailure, "in the encoder's own precision"},
		{[]string{"mvmae-train", "eval", "--data", in("pack"), "--model", in("probe")}, cli.ExitFailure, "its encoder is an ONNX file"},
		{[]string{"mvmae-train", "probe", "--data", in("pack"), "--encoder", encoder, "--init", in("probe")}, cli.ExitUsage, "--init"},
		{[]string{"mvmae-train", "probe", "--data", in("pack"), "--encoder", encoder, "--recipe", "code"}, cli.ExitUsage, "--set probe.augment=false"},
		{[]string{"mvmae-train", "pretrain", "--data", in("pack"), "--init", "nowhere.pth"}, cli.ExitUsage, "nowhere.pth"},
	} {
		cmd := program(t, c.args[0], c.args[1:]...)
		err := cmd.Run()
		if text := cmd.Stderr.(interface{ String() string }).String(); exitCodeOf(err) != c.exit || !strings.Contains(text, c.want) {
			t.Errorf("%v: exit code %d, want %d with %q:\n%s", c.args, exitCodeOf(err), c.exit, c.want, text)
		}
	}
	if err := os.WriteFile(encoder+".toml", []byte("image_size = 64\nchannels = 1\nmean = [0.4]\nstd = [0.25]\npool = \"mean\"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := program(t, "mvmae-export", "--run", in("probe"), in("x.onnx"))
	err = cmd.Run()
	if text := cmd.Stderr.(interface{ String() string }).String(); exitCodeOf(err) != cli.ExitFailure || !strings.Contains(text, "not the one that the head was trained on") {
		t.Errorf("an encoder with other notes: %v\n%s", err, text)
	}
}
