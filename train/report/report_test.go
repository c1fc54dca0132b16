package report

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mvmae/mvmae/dicom/cxr"
	"github.com/mvmae/mvmae/internal/hint"
	"github.com/mvmae/mvmae/model"
	"github.com/mvmae/mvmae/model/fuse"
	"github.com/mvmae/mvmae/train"
	"github.com/mvmae/mvmae/train/eval"
)

// predictions are of made studies of two datasets; a model of more skill scores them better.
func predictions(seed uint64, skill float64) (out []eval.Prediction) {
	rng := rand.New(rand.NewPCG(seed, 1))
	for s := range 120 {
		p := eval.Prediction{Patient: fmt.Sprint("p", seed, "-", s/2), Study: fmt.Sprint("s", seed, "-", s), Person: eval.Person{Dataset: []string{"nih", "mimic"}[s%2]}}
		var v eval.ViewPrediction
		v.View = cxr.View(s % 2)
		for l := range model.NumLabels {
			if rng.IntN(3) == 0 {
				p.Labels[l] = model.Positive
			}
			y, _ := p.Labels[l].Target()
			v.Logits[l] = float32(skill*float64(2*y-1) + rng.NormFloat64())
		}
		p.Views = []eval.ViewPrediction{v}
		out = append(out, p)
	}
	return out
}

// makeRun leaves the folder of a classifier's run as training would.
func makeRun(t *testing.T, name string, info train.RunInfo, cfg train.Config, skill float64) string {
	t.Helper()
	opts := eval.Options{Rule: fuse.MeanProbability, Replicates: 50, Seed: 1, Calibrate: "platt"}
	val, test := predictions(100, skill), predictions(200+cfg.Seed, skill)
	rep, err := eval.Evaluate(val, test, opts)
	if err != nil {
		t.Fatal(err)
	}
	own, err := eval.SelectPerLabel(rep, test, val, test, opts)
	if err != nil {
		t.Fatal(err)
	}
	rep.PerLabel = &own
	run, err := train.CreateRun(filepath.Join(t.TempDir(), name), info, cfg)
	if err != nil {
		t.Fatal(err)
	}
	score := 0.7
	lines := []train.StepMetrics{
		{Step: 1, Epoch: 0.5, Loss: 0.7, LR: 1e-4, ImagesPerSec: 100}, {Step: 2, Epoch: 1, Loss: 0.6, LR: 2e-4, ImagesPerSec: 100, Waiting: 0.25, Score: &score},
	}
	for name, doc := range map[string]any{model.RunEvaluation: rep, model.RunMetadata: map[string]int{}, "predictions.json": test} {
		if err := run.WriteJSON(name, doc); err != nil {
			t.Fatal(err)
		}
	}
	writeMetrics(t, run, lines)
	return run.Dir
}

func writeMetrics(t *testing.T, run *train.Run, lines []train.StepMetrics) {
	t.Helper()
	var b bytes.Buffer
	for _, m := range lines {
		if err := json.NewEncoder(&b).Encode(m); err != nil {
			t.Fatal(err)
		}
	}
	b.WriteString(`{"step":3,"los`) // as a reader finds a line that is being written
	if err := os.WriteFile(filepath.Join(run.Dir, "metrics.jsonl"), b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

func config(change func(*train.Config)) train.Config {
	cfg := train.Default()
	cfg.Preset = "tiny"
	change(&cfg)
	return cfg
}

func TestCompare_GroupsRunsThatDifferByTheirSeed(t *testing.T) {
	method := func(name string, labels int, views string, seed uint64) train.Config {
		return config(func(c *train.Config) { c.Method, c.Labels, c.Views, c.Seed = name, labels, views, seed })
	}
	probe := train.RunInfo{Kind: "probe", Init: "/runs/pre", Data: "/packs/gone"}
	var dirs []string
	for _, r := range []struct {
		info  train.RunInfo
		cfg   train.Config
		skill float64
	}{
		{probe, method("mvmae", 0, "all", 1), 1}, {probe, method("mvmae", 0, "all", 2), 1.1}, {probe, method("independent", 0, "all", 1), 0.8},
		{probe, method("mvmae", 50, "all", 1), 0.7}, {probe, method("mvmae", 200, "all", 1), 0.9}, {probe, method("independent", 50, "all", 1), 0.5},
		{probe, method("mvmae", 0, "one_of_two", 1), 0.6}, {probe, method("mvmae", 0, "two", 1), 0.8},
		{train.RunInfo{Kind: "supervised", Data: "/packs/gone"}, method("mvmae", 0, "all", 1), 0.7},
		{train.RunInfo{Kind: "probe", Data: "/packs/gone"}, method("mvmae", 0, "all", 1), 0.2},
		{train.RunInfo{Kind: "probe", Data: "/packs/gone", Encoder: &model.EncoderFile{Path: "/weights/BiomedCLIP.onnx"}}, method("mvmae", 0, "all", 1), 0.4},
	} {
		dirs = append(dirs, makeRun(t, fmt.Sprint("run", len(dirs)), r.info, r.cfg, r.skill))
	}
	unfinished, err := train.CreateRun(filepath.Join(t.TempDir(), "unfinished"), probe, config(func(*train.Config) {}))
	if err != nil {
		t.Fatal(err)
	}
	c, err := Compare(append(dirs, unfinished.Dir))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, g := range c.Groups {
		got = append(got, fmt.Sprintf("%s %s %d %s: %d", g.Method, g.Kind, g.Labels, g.Views, len(g.Runs)))
	}
	want := []string{
		"Random probe 0 all: 1", "Supervised finetune 0 all: 1", "Independent probe 0 all: 1", "Independent probe 50 all: 1", "BiomedCLIP probe 0 all: 1",
		"MVMAE probe 0 all: 2", "MVMAE probe 0 one_of_two: 1", "MVMAE probe 0 two: 1", "MVMAE probe 50 all: 1", "MVMAE probe 200 all: 1",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("groups (-want +got)\n%s", diff)
	}
	if diff := cmp.Diff([]string{"unfinished: not a classifier that has ended"}, c.Left); diff != "" {
		t.Errorf("left out (-want +got)\n%s", diff)
	}

	out := t.TempDir()
	files, err := c.Write(out)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"tables/table1-probe.csv", "tables/table5-probe-mimic.csv", "tables/table8.csv", "figures/figure3-probe.svg", "figures/figure4-probe.png", "figures/figure5-probe.svg", "figures/table8.svg"} {
		if info, err := os.Stat(filepath.Join(out, name)); err != nil || info.Size() == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
	if len(files) < 20 {
		t.Errorf("%d files", len(files))
	}

	// The numbers of the table are those of the runs.
	cells := readCells(t, filepath.Join(out, "tables/table1-probe.csv"))
	first, second := c.Groups[5].Runs[0].Eval.Macro.AUROC.Value, c.Groups[5].Runs[1].Eval.Macro.AUROC.Value
	mvmae := cells["MVMAE/Combined (n=120), AUROC"]
	if want := fmt.Sprint(float64(first+second) / 2); mvmae["value"] != want || mvmae["runs"] != "2" || mvmae["paper"] != "0.8743" || mvmae["studies"] != "120" {
		t.Errorf("MVMAE's AUROC is %v, want the mean %s of 2 runs, beside the paper's 0.8743", mvmae, want)
	}
	if cells["BiomedCLIP/Combined (n=120), F1 at 0.5"]["paper"] != "0.1985" || cells["Random/Combined (n=120), AUROC"]["paper"] != "" {
		t.Error("the paper's figures are not where the paper has them")
	}
	two := readCells(t, filepath.Join(out, "tables/table8.csv"))["MVMAE, linear probe/gain"]
	want8 := c.Groups[7].Runs[0].Eval.Macro.AUROC.Value - c.Groups[6].Runs[0].Eval.Macro.AUROC.Value
	if two["value"] != fmt.Sprint(float64(want8)) {
		t.Errorf("gain of the second view %s, want %v", two["value"], want8)
	}
	value, low, high := number(t, two["value"]), number(t, two["low"]), number(t, two["high"])
	if alone := float64(c.Groups[7].Runs[0].Eval.Macro.AUROC.High - c.Groups[7].Runs[0].Eval.Macro.AUROC.Low); !(low < value && value < high && high-low < alone) {
		t.Errorf("gain %v in [%v, %v]: want a paired interval, narrower than the %v of one run", value, low, high, alone)
	}
	doc, err := os.ReadFile(filepath.Join(out, MarkdownFile))
	if err != nil || !strings.Contains(string(doc), "left out: unfinished") || !strings.Contains(string(doc), "no pack of the runs is where it was") {
		t.Errorf("the report does not say what it lacks: %v", err)
	}
}

func number(t *testing.T, text string) float64 {
	t.Helper()
	x, err := strconv.ParseFloat(text, 64)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func readCells(t *testing.T, path string) map[string]map[string]string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	cells := map[string]map[string]string{}
	for _, row := range rows[1:] {
		one := map[string]string{}
		for i, name := range rows[0] {
			one[name] = row[i]
		}
		cells[one["row"]+"/"+one["column"]] = one
	}
	return cells
}

func TestCompare_NothingToCompare(t *testing.T) {
	run, err := train.CreateRun(filepath.Join(t.TempDir(), "pre"), train.RunInfo{Kind: "pretrain"}, config(func(*train.Config) {}))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Compare([]string{run.Dir}); err == nil || hint.Of(err) == "" {
		t.Errorf("error %v with hint %q", err, hint.Of(err))
	}
}

func TestWritePage_HoldsAllOfARun(t *testing.T) {
	dir := makeRun(t, "fine", train.RunInfo{Kind: "finetune", Init: "/runs/pre"}, config(func(c *train.Config) { c.Finetune.Epochs = 10 }), 1)
	run, err := train.OpenRun(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := LeavePage(nil, run, nil); err != nil {
		t.Fatal(err)
	}
	doc, err := os.ReadFile(filepath.Join(dir, PageFile))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"Step 2, 10 %", "25 % of the time waiting for data", `alt="Loss"`, `alt="Validation macro AUROC"`, "Pleural Effusion", "macro mean", `alt="Reliability on test, all labels pooled"`, "layer_decay"} {
		if !strings.Contains(string(doc), want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	for _, not := range []string{"http://", "https://", "<script", `http-equiv="refresh"`} {
		if strings.Contains(string(doc), not) {
			t.Errorf("a static page has %q", not)
		}
	}
}

func TestWatch_ShowsANewCheckpoint(t *testing.T) {
	run, err := train.CreateRun(filepath.Join(t.TempDir(), "pre"), train.RunInfo{Kind: "pretrain"}, config(func(c *train.Config) { c.Epochs = 10 }))
	if err != nil {
		t.Fatal(err)
	}
	writeMetrics(t, run, []train.StepMetrics{{Step: 7, Epoch: 1, Loss: 0.5, Reconstruction: 0.5, LR: 1e-3, Beta: 0.1, ImagesPerSec: 10}})
	if err := os.WriteFile(filepath.Join(run.Dir, "checkpoints", "last.safetensors"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	reconstructed := make(chan struct{})
	done := make(chan error, 1)
	go func() {
		done <- Watch(ctx, ln, run, func() (train.Reconstruction, error) {
			defer close(reconstructed)
			return train.Reconstruction{Step: 7, Picture: image.NewGray(image.Rect(0, 0, 8, 8))}, nil
		})
	}()
	<-reconstructed
	var page string
	for !strings.Contains(page, "One validation study at step 7") { // it is stored a moment after it was made
		resp, err := http.Get("http://" + ln.Addr().String() + "/")
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatal(resp.Status, err)
		}
		page = string(body)
	}
	for _, want := range []string{"Step 7, 10 %", `http-equiv="refresh" content="5"`} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	stop()
	if err := <-done; err != nil && !errors.Is(err, http.ErrServerClosed) {
		t.Error(err)
	}
}
