package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/mvmae/mvmae/cmd/internal/cli"
	"github.com/mvmae/mvmae/export"
	"github.com/mvmae/mvmae/export/exporttest"
	"github.com/mvmae/mvmae/internal/libs"
	"github.com/mvmae/mvmae/model"
	"github.com/mvmae/mvmae/model/ort"
)

// makeRun makes a run that can be exported, of random weights.
func makeRun(t *testing.T) string {
	t.Helper()
	libs.ForTests(t)
	s := exporttest.Spec(t, "nano")
	file, err := export.Build(exporttest.Metadata(s), exporttest.Weights(s))
	if err != nil {
		t.Fatal(err)
	}
	data, err := proto.Marshal(file)
	if err != nil {
		t.Fatal(err)
	}
	m, err := ort.OpenBytes("test.onnx", data, ort.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	return exporttest.Run(t, s, func(images []float32, views []int64) [][model.NumLabels]float32 {
		out, err := m.Run(t.Context(), images, views)
		if err != nil {
			t.Fatal(err)
		}
		return out.Logits
	})
}

// result runs a command with --json or without and returns its standard output.
func result(t *testing.T, cmd interface {
	Run(ctx context.Context, out *cli.Output) error
}, asJSON bool) string {
	t.Helper()
	var stdout, stderr bytes.Buffer
	if err := cmd.Run(t.Context(), &cli.Output{JSON: asJSON, Stdout: &stdout, Stderr: &stderr}); err != nil {
		t.Fatal(err)
	}
	return stdout.String()
}

func TestExport_NewestRunIsTheDefault(t *testing.T) {
	root, out := t.TempDir(), filepath.Join(t.TempDir(), "model.onnx")
	t.Setenv(export.RunsEnv, root)
	run, older := filepath.Join(root, "run"), filepath.Join(root, "unusable")
	for _, err := range []error{
		os.Rename(makeRun(t), run), os.Mkdir(older, 0o755), os.WriteFile(filepath.Join(older, model.RunMetadata), nil, 0o644),
		os.Chtimes(filepath.Join(older, model.RunMetadata), time.Unix(1, 0), time.Unix(1, 0)),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	text := result(t, &ExportCmd{Model: out}, false)
	for _, want := range []string{out, run, "verified: the logits of 11 images", "card ", "sha256 "} {
		if !strings.Contains(text, want) {
			t.Errorf("output lacks %q:\n%s", want, text)
		}
	}
}

func TestExport_JSONIsTheSummary(t *testing.T) {
	run, out := makeRun(t), filepath.Join(t.TempDir(), "model.onnx")
	var summary struct {
		SchemaVersion int `json:"schema_version"`
		export.Summary
	}
	if err := json.Unmarshal([]byte(result(t, &ExportCmd{From: run, Model: out}, true)), &summary); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(out)
	if err != nil {
		t.Fatal(err)
	}
	if summary.SchemaVersion != 1 || summary.Run != run || summary.Model != out || int64(summary.Bytes) != info.Size() {
		t.Errorf("summary %+v of a file of %d bytes", summary, info.Size())
	}
}

func TestInspect_TextAndJSONSayWhatTheFileIs(t *testing.T) {
	run, out := makeRun(t), filepath.Join(t.TempDir(), "model.onnx")
	result(t, &ExportCmd{From: run, Model: out}, false)
	want, err := export.Inspect(out)
	if err != nil {
		t.Fatal(err)
	}
	text := result(t, &InspectCmd{Model: out}, false)
	for _, s := range []string{
		want.SHA256, want.Metadata.CheckpointSHA256, "opset 17", "image float [N,1,32,32]", "view int64 [N]", "logits float [N,14]",
		"embedding float [N,32]", "0.5000 Atelectasis", "phantom: 1 patients, 2 studies, 3 images", "fp32", model.IntendedUse,
	} {
		if !strings.Contains(text, s) {
			t.Errorf("output lacks %q:\n%s", s, text)
		}
	}
	var got export.Contents
	if err := json.Unmarshal([]byte(result(t, &InspectCmd{Model: out}, true)), &got); err != nil {
		t.Fatal(err)
	}
	if got.SHA256 != want.SHA256 || got.Nodes != want.Nodes || got.Metadata.RunID != want.Metadata.RunID || len(got.Outputs) != 3 {
		t.Errorf("JSON %+v: want %+v", got, want)
	}
}
