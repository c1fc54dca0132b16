package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/mvmae/mvmae/cmd/internal/cli"
	"github.com/mvmae/mvmae/internal/hint"
	"github.com/mvmae/mvmae/model"
	"github.com/mvmae/mvmae/serve/api"
	"github.com/mvmae/mvmae/serve/client"
	"github.com/mvmae/mvmae/train/data"
	"github.com/mvmae/mvmae/train/eval"
)

// DemoCmd is the whole product once, small: the programs are run as a person would run them.
type DemoCmd struct {
	Out     string  `help:"Folder to work in." default:"demo" placeholder:"DIR"`
	Studies int     `help:"Synthetic studies." default:"1200"`
	Epochs  float64 `help:"Passes of pretraining over the training studies." default:"40"`
	Size    int     `help:"Pixels on a side of the synthetic images." default:"384"`
	Seed    uint64  `help:"Seed of studies and training." default:"1"`
}

// demoMarker marks a folder that a demo made and may delete.
const demoMarker = ".mvmae-demo"

// Run makes studies, trains, exports, serves, and compares what the programs say.
func (c *DemoCmd) Run(ctx context.Context, out *cli.Output) error {
	if err := c.clear(); err != nil {
		return err
	}
	d := demo{tools{"demo", out, c.Out}}
	seed := fmt.Sprint(c.Seed)
	// A base rate far above the paper's, for a run a thousandth as long, and an alignment loss that lets embeddings vary: at its
	// full weight so short a run makes them nearly equal, and a probe that divides by their deviations shows the rounding.
	pretrain := []string{"--preset", "tiny", "--set", "seed=" + seed, "--set", fmt.Sprint("epochs=", c.Epochs), "--set", fmt.Sprint("optim.warmup_epochs=", c.Epochs/10),
		"--set", "batch_views=64", "--set", "optim.base_lr=4e-3", "--set", "optim.clip_norm=1", "--set", "loss.beta=0.05", "--device", "cpu"}
	probe := []string{"--set", "seed=" + seed, "--device", "cpu"}
	for _, step := range []struct {
		program string
		args    []string
	}{
		{"mvmae-train", []string{"synth", "--layout", "dicom", "--studies", fmt.Sprint(c.Studies), "--size", fmt.Sprint(c.Size), "--seed", seed, "--compress", "--out", d.path("phantom")}},
		{"mvmae-train", []string{"index", "dicom", "--root", d.path("phantom"), "--split-shares", "0.6,0.15,0.25", "--out", d.path("phantom.parquet")}},
		{"mvmae-train", []string{"pack", d.path("phantom.parquet"), "--out", d.path("pack")}},
		{"mvmae-train", append([]string{"pretrain", "--data", d.path("pack"), "--out", d.path("pretrain")}, pretrain...)},
		{"mvmae-train", append([]string{"probe", "--data", d.path("pack"), "--init", d.path("pretrain"), "--out", d.path("probe")}, probe...)},
		{"mvmae-train", append([]string{"probe", "--data", d.path("pack"), "--preset", "tiny", "--out", d.path("random")}, probe...)},
		{"mvmae-export", []string{"--run", d.path("probe"), d.path("model.onnx")}},
	} {
		if err := d.run(ctx, step.program, step.args...); err != nil {
			return err
		}
	}
	served, err := d.evaluate(ctx)
	if err != nil {
		return err
	}
	study, err := d.takeStudy()
	if err != nil {
		return err
	}
	answer, err := d.classify(ctx)
	if err != nil {
		return err
	}
	return d.conclude(study, answer, served)
}

// clear makes the folder, or empties one that an earlier demo made.
func (c *DemoCmd) clear() error {
	entries, err := os.ReadDir(c.Out)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("demo: %w", err)
	}
	if len(entries) > 0 {
		if _, err := os.Stat(filepath.Join(c.Out, demoMarker)); err != nil {
			return hint.Wrap(fmt.Errorf("demo: %s is not empty, and no earlier demo made it", c.Out), "name another folder with --out")
		}
		if err := os.RemoveAll(c.Out); err != nil {
			return fmt.Errorf("demo: %w", err)
		}
	}
	if err := os.MkdirAll(c.Out, 0o755); err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	return os.WriteFile(filepath.Join(c.Out, demoMarker), []byte("made by mvmae-train demo, which may delete this folder\n"), 0o644)
}

// demo is the work in its folder.
type demo struct{ tools }

// evaluate scores the exported file with ONNX Runtime.
func (d demo) evaluate(ctx context.Context) (rep eval.Report, err error) {
	err = d.result(ctx, &rep, "mvmae-train", "eval", "--data", d.path("pack"), "--model", d.path("model.onnx"), "--split", "test", "--device", "cpu")
	if err == nil {
		fmt.Fprint(d.out.Stderr, rep.Table())
	}
	return rep, err
}

// takeStudy copies the first test study that has both views and a finding into demo/study: chosen before any answer about it
// is known.
func (d demo) takeStudy() (model.LabelSet, error) {
	index, err := data.ReadIndex(d.path("phantom.parquet"))
	if err != nil {
		return model.LabelSet{}, err
	}
	byStudy := map[string][]data.Image{}
	for _, img := range index.Images {
		byStudy[img.StudyID] = append(byStudy[img.StudyID], img)
	}
	for _, img := range index.Images {
		images := byStudy[img.StudyID]
		lateral := slices.ContainsFunc(images, func(o data.Image) bool { return o.View != images[0].View })
		if img.Split != data.Test || !lateral || img.Labels[model.LabelIndex("No Finding")] == model.Positive {
			continue
		}
		if err := os.MkdirAll(d.path("study"), 0o755); err != nil {
			return model.LabelSet{}, err
		}
		for _, o := range images {
			file := filepath.Join(index.Root, filepath.FromSlash(o.Path))
			body, err := os.ReadFile(file)
			if err != nil {
				return model.LabelSet{}, err
			}
			if err := os.WriteFile(filepath.Join(d.path("study"), filepath.Base(file)), body, 0o644); err != nil {
				return model.LabelSet{}, err
			}
		}
		return img.Labels, nil
	}
	return model.LabelSet{}, hint.Wrap(errors.New("demo: no test study has both views and a finding"), "make more studies with --studies")
}

// classify classifies demo/study by command line and by HTTP, which must agree to the last digit.
func (d demo) classify(ctx context.Context) (*api.Result, error) {
	byCLI := &api.Result{}
	err := d.result(ctx, byCLI, "mvmae-serve", "classify", "--model", d.path("model.onnx"), d.path("study"))
	if err != nil {
		return nil, err
	}
	byHTTP, err := d.classifyHTTP(ctx)
	if err != nil {
		return nil, err
	}
	byCLI.TimingsMS, byHTTP.TimingsMS = api.Timings{}, api.Timings{}
	a, _ := json.Marshal(byCLI)
	b, _ := json.Marshal(byHTTP)
	if !bytes.Equal(a, b) || len(byCLI.Findings) != model.NumLabels {
		return nil, fmt.Errorf("demo: the command line and HTTP disagree:\n%s\n%s", a, b)
	}
	return byCLI, nil
}

// classifyHTTP starts a server, posts the study and stops the server.
func (d demo) classifyHTTP(ctx context.Context) (result *api.Result, err error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	cmd, err := d.command(ctx, "mvmae-serve", "up", "--model", d.path("model.onnx"), "--listen", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("demo: mvmae-serve up: %w", err)
	}
	defer func() {
		stop() // SIGTERM: the server finishes and leaves with 0
		io.Copy(io.Discard, stdout)
		if end := cmd.Wait(); err == nil && end != nil && !errors.Is(end, context.Canceled) {
			err = fmt.Errorf("demo: mvmae-serve up: %w", end)
		}
	}()
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		return nil, fmt.Errorf("demo: mvmae-serve up said no address: %w", err)
	}
	base := regexp.MustCompile(`http://\S+`).FindString(line)
	study, err := client.Files(d.path("study"))
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(d.out.Stderr, "$ curl %s/v1/studies:classify -F file=@%s/...\n", base, d.path("study"))
	if result, err = (&client.Client{URL: base}).Classify(ctx, study); err != nil {
		return nil, fmt.Errorf("demo: %w", err)
	}
	return result, nil
}

// conclude prints the findings beside the truth and the scores, and fails if the model has learned nothing.
func (d demo) conclude(truth model.LabelSet, a *api.Result, served eval.Report) error {
	var views []string
	for _, v := range a.Views {
		views = append(views, v.View)
	}
	d.out.Printf("\nA held-out study (%s) in %s, by command line and by HTTP alike:\n\n", strings.Join(views, ", "), d.path("study"))
	d.out.Printf("  %-28s %11s %9s  %-8s %s\n", "finding", "probability", "threshold", "model", "truth")
	mark := map[bool]string{true: "positive", false: "-"}
	for i, f := range a.Findings {
		d.out.Printf("  %-28s %11.3f %9.3f  %-8s %s\n", f.Label, f.Probability, f.Threshold, mark[f.Positive], mark[truth[i] == model.Positive])
	}
	trained, random, err := d.reports()
	if err != nil {
		return err
	}
	d.out.Printf("\nMacro AUROC on %d held-out studies (95 %% interval over patients):\n", served.Test.Studies)
	for _, row := range []struct {
		name string
		rep  eval.Report
	}{{"pretrained encoder, linear probe", trained}, {"the same, exported, by ONNX Runtime", served}, {"random encoder, linear probe", random}} {
		d.out.Printf("  %-38s %s\n", row.name, row.rep.Macro.AUROC)
	}
	d.out.Printf("\nNext: %s is a whole model. Try\n  bin/mvmae-serve classify --model %s %s\n", d.path("model.onnx"), d.path("model.onnx"), d.path("study"))
	low := float64(served.Macro.AUROC.Low)
	if !(low > 0.5) {
		return fmt.Errorf("demo: the macro AUROC's lower bound is %.3f: not above 0.5, so the model has learned nothing", low)
	}
	return d.out.Result(struct {
		Model   string      `json:"model"`
		Study   *api.Result `json:"study"`
		Trained eval.Report `json:"trained"`
		Served  eval.Report `json:"served"`
		Random  eval.Report `json:"random"`
	}{d.path("model.onnx"), a, trained, served, random})
}

// reports reads what the two probes left.
func (d demo) reports() (trained, random eval.Report, err error) {
	for name, rep := range map[string]*eval.Report{"probe": &trained, "random": &random} {
		doc, err := os.ReadFile(filepath.Join(d.path(name), "eval.json"))
		if err != nil {
			return trained, random, err
		}
		if err := json.Unmarshal(doc, rep); err != nil {
			return trained, random, err
		}
	}
	return trained, random, nil
}
