package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mvmae/mvmae/cmd/internal/cli"
	"github.com/mvmae/mvmae/dicom"
	"github.com/mvmae/mvmae/internal/libs"
	"github.com/mvmae/mvmae/model"
	"github.com/mvmae/mvmae/train"
)

// programs is a folder with the three programs as "make build" leaves them in bin/.
var programs = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "mvmae-bin")
	if err != nil {
		return "", err
	}
	out, err := exec.Command("go", "build", "-o", dir+"/", "github.com/mvmae/mvmae/cmd/...").CombinedOutput()
	if err != nil {
		return "", errors.New(string(out))
	}
	return dir, nil
})

// program prepares a run of a built program.
func program(t *testing.T, name string, args ...string) *exec.Cmd {
	t.Helper()
	libs.ForTests(t)
	dir, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), filepath.Join(dir, name), args...)
	cmd.Stderr = &bytes.Buffer{}
	return cmd
}

// must runs a built program and returns what it wrote to standard output.
func must(t *testing.T, name string, args ...string) []byte {
	t.Helper()
	cmd := program(t, name, args...)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, cmd.Stderr)
	}
	return out
}

func exitCodeOf(err error) int {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode()
	}
	if err != nil {
		return -1
	}
	return 0
}

// The whole thread, small: every program, and the answers of trainer, command line and HTTP side by side. So small a model
// need not have learned anything, so the demo's own verdict on that is the only failure let pass.
func TestDemo_EveryProgramAgrees(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "demo")
	cmd := program(t, "mvmae-train", "demo", "--studies", "90", "--epochs", "2", "--size", "128", "--out", dir)
	out, err := cmd.Output()
	if err != nil && !strings.Contains(cmd.Stderr.(*bytes.Buffer).String(), "learned nothing") {
		t.Fatalf("%v\n%s", err, cmd.Stderr)
	}
	for _, label := range model.Labels {
		if !bytes.Contains(out, []byte(label)) {
			t.Errorf("the findings table lacks %s:\n%s", label, out)
		}
	}
	for _, file := range []string{"model.onnx", "study", "probe/eval.json", "pretrain/metrics.jsonl", "pretrain/config.toml"} {
		if _, err := os.Stat(filepath.Join(dir, file)); err != nil {
			t.Error(err)
		}
	}

	// The study that command line and HTTP agree about is a compressed one, of two views.
	views, err := filepath.Glob(filepath.Join(dir, "study", "*.dcm"))
	if err != nil || len(views) < 2 {
		t.Errorf("%d images in the study, %v", len(views), err)
	}
	for _, view := range views {
		data, err := os.ReadFile(view)
		if err != nil {
			t.Fatal(err)
		}
		if f, err := dicom.Parse(data, dicom.Limits{}); err != nil || f.TransferSyntaxUID != dicom.RLELossless {
			t.Errorf("%s is not compressed: %v", view, err)
		}
	}

	// eval of the file by ONNX Runtime against the run by XLA, on the same studies. Not the AUROC: logits differ by up to 1e-4,
	// which can swap two nearly equal studies.
	var report struct {
		Against struct {
			Model string
			Macro struct{ Brier struct{ Value float64 } }
		}
	}
	doc := must(t, "mvmae-train", "eval", "--data", filepath.Join(dir, "pack"), "--model", filepath.Join(dir, "model.onnx"),
		"--against", filepath.Join(dir, "probe"), "--replicates", "10", "--device", "cpu", "--json")
	if err := json.Unmarshal(doc, &report); err != nil {
		t.Fatal(err)
	}
	if d := report.Against.Macro.Brier.Value; d > 1e-5 || d < -1e-5 || report.Against.Model != filepath.Join(dir, "probe") {
		t.Errorf("macro Brier by ONNX Runtime less that by the trainer is %v; against %q", d, report.Against.Model)
	}

	t.Run("AgainInTheSameFolder", func(t *testing.T) {
		other := t.TempDir()
		if err := os.WriteFile(filepath.Join(other, "thesis.txt"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		cmd := program(t, "mvmae-train", "demo", "--out", other)
		if err := cmd.Run(); exitCodeOf(err) != cli.ExitFailure {
			t.Errorf("a demo in somebody's folder: %v", err)
		}
		if _, err := os.Stat(filepath.Join(other, "thesis.txt")); err != nil {
			t.Error(err)
		}
	})
	t.Run("RunsAreSeen", func(t *testing.T) { seen(t, dir) })
	t.Run("PrecisionIsMeasuredOnThePack", func(t *testing.T) { exportHalf(t, dir) })
	t.Run("ReadmeCommands", func(t *testing.T) { readmeCommands(t, filepath.Dir(dir)) })
	t.Run("StopAndResume", func(t *testing.T) { stopAndResume(t, filepath.Join(dir, "pack")) })
}

// seen looks at a demo's runs: the pages they left, one of them live, and the tables and figures they make together.
func seen(t *testing.T, dir string) {
	for run, want := range map[string]string{"pretrain": "One validation study at step", "probe": "macro mean"} {
		page, err := os.ReadFile(filepath.Join(dir, run, "report.html"))
		if err != nil || !bytes.Contains(page, []byte(want)) || !bytes.Contains(page, []byte("100 %: complete")) {
			t.Errorf("the page of %s lacks %q, or does not say that it is complete: %v", run, want, err)
		}
	}
	out := t.TempDir()
	must(t, "mvmae-train", "report", filepath.Join(dir, "probe"), filepath.Join(dir, "random"), filepath.Join(dir, "pretrain"), "--out", out)
	for _, name := range []string{"report.md", "tables/table1-probe.csv", "tables/table4.csv", "figures/figure3-probe.svg", "figures/figure8.png"} {
		if _, err := os.Stat(filepath.Join(out, name)); err != nil {
			t.Error(err)
		}
	}

	cmd := program(t, "mvmae-train", "watch", filepath.Join(dir, "pretrain"))
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	url, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatal(err, cmd.Stderr)
	}
	resp, err := http.Get(strings.TrimSpace(url))
	if err != nil {
		t.Fatal(err)
	}
	page, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil || !bytes.Contains(page, []byte("100 %: complete")) {
		t.Errorf("the live page: %v\n%.300s", err, page)
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("watch, interrupted: %v\n%s", err, cmd.Stderr)
	}
}

// exportHalf exports a demo's probe in half precision, with attention, against its own pack; and then without one.
func exportHalf(t *testing.T, dir string) {
	file := filepath.Join(t.TempDir(), "half.onnx")
	args := []string{"--run", filepath.Join(dir, "probe"), "--precision", "fp16", "--attention", "--json", file}
	var summary struct {
		Card  string
		Check *model.PrecisionCheck `json:"precision_check"`
	}
	if err := json.Unmarshal(must(t, "mvmae-export", append([]string{"--force"}, args...)...), &summary); err != nil {
		t.Fatal(err)
	}
	if c := summary.Check; c == nil || c.Studies < 20 || c.Patients >= c.Studies || c.LogitDifference > 0.1 {
		t.Errorf("check %+v: want the validation and test studies of the pack", c)
	}
	if card, err := os.ReadFile(summary.Card); err != nil || !bytes.Contains(card, []byte("## AUROC by sex")) {
		t.Errorf("card %s, error %v", card, err)
	}
	pack := filepath.Join(dir, "pack")
	if err := os.Rename(pack, pack+".away"); err != nil {
		t.Fatal(err)
	}
	defer os.Rename(pack+".away", pack)
	cmd := program(t, "mvmae-export", args...)
	err := cmd.Run()
	if stderr := cmd.Stderr.(*bytes.Buffer).String(); exitCodeOf(err) != cli.ExitFailure || !strings.Contains(stderr, "hint: where is the pack of the run now? Name it with --data") {
		t.Errorf("without the pack: %v\n%s", err, stderr)
	}
	must(t, "mvmae-export", append([]string{"--data", pack + ".away", "--force"}, args...)...)
}

// readmeCommands runs the README's commands in a folder that holds a demo, all but the server, which does not end.
func readmeCommands(t *testing.T, folder string) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	run := 0
	for line := range strings.Lines(string(readme)) {
		line, _, _ = strings.Cut(line, "#")
		words := strings.Fields(line)
		if len(words) < 2 || !strings.HasPrefix(words[0], "bin/") || words[1] == "up" {
			continue
		}
		run++
		cmd := program(t, strings.TrimPrefix(words[0], "bin/"), words[1:]...)
		cmd.Dir = folder
		if err := cmd.Run(); err != nil {
			t.Fatalf("%s: %v\n%s", line, err, cmd.Stderr)
		}
	}
	if run < 9 {
		t.Errorf("only %d commands were found", run)
	}
}

// stopAndResume stops runs by ^C and by SIGKILL and goes on with them in another process: the weights are those of an
// uninterrupted run.
func stopAndResume(t *testing.T, pack string) {
	whole, stopped := filepath.Join(t.TempDir(), "whole"), filepath.Join(t.TempDir(), "stopped")
	recipe := filepath.Join(t.TempDir(), "short.toml")
	// The smallest network, which --preset does not offer.
	err := os.WriteFile(recipe, []byte("preset = \"nano\"\nepochs = 60\nbatch_views = 16\n[optim]\nwarmup_epochs = 1\nbase_lr = 0.01\n"), 0o644)
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"pretrain", "--data", pack, "--recipe", recipe, "--device", "cpu", "--out"}
	must(t, "mvmae-train", append(args, whole)...)

	cmd := program(t, "mvmae-train", append(args, stopped)...)
	cmd.Stderr = nil
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines, interrupted := bufio.NewScanner(stderr), false
	for lines.Scan() { // the line about compiling comes before the first step
		if !interrupted && strings.Contains(lines.Text(), "compiling") {
			interrupted = true
			if err := cmd.Process.Signal(os.Interrupt); err != nil {
				t.Fatal(err)
			}
		}
	}
	if code := exitCodeOf(cmd.Wait()); code != cli.ExitInterrupted {
		t.Fatalf("interrupted: exit code %d, want %d", code, cli.ExitInterrupted)
	}
	_, meta, err := model.ReadSafetensors(filepath.Join(stopped, "checkpoints/last.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	if meta["step"] != "1" {
		t.Errorf("stopped after step %s, want the one at hand", meta["step"])
	}
	must(t, "mvmae-train", "resume", stopped, "--device", "cpu")
	sameWeights(t, whole, stopped, "last")

	t.Run("PretrainKilled", func(t *testing.T) { kill(t, whole, args, "last") })
	t.Run("FinetuneKilled", func(t *testing.T) {
		tuned := filepath.Join(t.TempDir(), "tuned")
		args := []string{"finetune", "--data", pack, "--init", whole, "--device", "cpu", "--set", "finetune.epochs=8",
			"--set", "finetune.batch_views=16", "--set", "finetune.optim.base_lr=0.01", "--set", "probe.replicates=10", "--out"}
		must(t, "mvmae-train", append(args, tuned)...)
		kill(t, tuned, args, "last", "best")
		if out := must(t, "mvmae-export", "--run", tuned, filepath.Join(t.TempDir(), "tuned.onnx")); len(out) == 0 {
			t.Error("the export says nothing")
		}
	})
}

func sameWeights(t *testing.T, whole, resumed string, names ...string) {
	t.Helper()
	for _, name := range names {
		want, _, err := model.ReadSafetensors(filepath.Join(whole, "checkpoints", name+".safetensors"))
		if err != nil {
			t.Fatal(err)
		}
		got, _, err := model.ReadSafetensors(filepath.Join(resumed, "checkpoints", name+".safetensors"))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("the resumed run's %s.safetensors differs:\n%.400s", name, diff)
		}
	}
}

// kill kills a run like whole after a random checkpoint, wherever it is then, and resumes it.
func kill(t *testing.T, whole string, args []string, checkpoints ...string) {
	killed := filepath.Join(t.TempDir(), "killed")
	cmd := program(t, "mvmae-train", append(args, killed, "-v", "--set", "checkpoint.minutes=1e-9")...)
	cmd.Stderr = nil
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	left := 1 + rand.New(rand.NewPCG(1, uint64(len(args)))).IntN(20)
	for lines := bufio.NewScanner(stderr); lines.Scan(); {
		if strings.Contains(lines.Text(), "checkpoint written") {
			if left--; left == 0 {
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	if err := cmd.Wait(); err == nil || left > 0 {
		t.Fatalf("the run ended by itself (%v), %d checkpoints too early", err, left)
	}
	log := func() []byte {
		doc, err := os.ReadFile(filepath.Join(killed, "metrics.jsonl"))
		if err != nil {
			t.Fatal(err)
		}
		return doc
	}
	before := log()
	must(t, "mvmae-train", "resume", killed, "--device", "cpu")
	sameWeights(t, whole, killed, checkpoints...)
	last := 0
	for line := range bytes.Lines(log()) {
		var m train.StepMetrics
		if err := json.Unmarshal(line, &m); err != nil || m.Step <= last {
			t.Fatalf("step %d after %d (%v)", m.Step, last, err)
		}
		last = m.Step
	}
	if len(log()) <= len(before) {
		t.Error("the resumed run logged nothing")
	}
}
