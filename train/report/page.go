package report

import (
	"bytes"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"image/png"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/pelletier/go-toml/v2"
	"gonum.org/v1/plot/vg"

	"github.com/mvmae/mvmae/model"
	"github.com/mvmae/mvmae/model/metrics"
	"github.com/mvmae/mvmae/train"
	"github.com/mvmae/mvmae/train/data"
	"github.com/mvmae/mvmae/train/eval"
)

// PageFile is the name of the page in a run's folder.
const PageFile = "report.html"

//go:embed page.html
var pageHTML string

var pageTemplate = template.Must(template.New("page").Parse(pageHTML))

// page is what the template shows.
type page struct {
	Name     string
	Info     train.RunInfo
	Encoder  string // what the run begins with
	Config   string
	Refresh  int // seconds between reloads; 0 for none
	Progress progress
	Charts   []picture
	Rebuilt  *picture
	Text     *train.Description
	Eval     *eval.Report
	Reliable *picture
}

// picture is an image inside the page.
type picture struct {
	Name string
	Data template.URL
}

func inline(name, media string, body []byte) picture {
	return picture{name, template.URL("data:" + media + ";base64," + base64.StdEncoding.EncodeToString(body))}
}

// progress is how far a run is.
type progress struct {
	Complete bool
	Step     int
	Percent  int
	Left     time.Duration // at the rate of the last line; 0 for unknown
	Last     train.StepMetrics
	Written  time.Time // of the last line
}

// WaitingPercent is how much of the time the device waits for its batches.
func (p progress) WaitingPercent() float64 { return 100 * p.Last.Waiting }

// WritePage writes the page of a run. rec may be nil. With refresh a browser asks for it anew after that time.
func WritePage(w io.Writer, run *train.Run, rec *train.Reconstruction, refresh time.Duration) error {
	p, err := newPage(run, rec)
	if err == nil {
		p.Refresh = int(refresh.Seconds())
		err = pageTemplate.Execute(w, p)
	}
	if err != nil {
		return fmt.Errorf("page of %s: %w", run.Dir, err)
	}
	return nil
}

// LeavePage writes the page of a run at rest into its folder. dev draws what a pretraining run reconstructs.
func LeavePage(dev *train.Device, run *train.Run, pack *data.Pack) error {
	var rec *train.Reconstruction
	if run.Info.Kind == "pretrain" {
		r, err := train.Reconstruct(dev, run, pack)
		if err != nil && !errors.Is(err, train.ErrNoCheckpoint) {
			return err
		}
		if err == nil {
			rec = &r
		}
	}
	return model.WriteFileAtomic(filepath.Join(run.Dir, PageFile), func(w io.Writer) error { return WritePage(w, run, rec, 0) })
}

func newPage(run *train.Run, rec *train.Reconstruction) (*page, error) {
	config, err := toml.Marshal(run.Config)
	if err != nil {
		return nil, err
	}
	lines, written, err := run.Metrics()
	if err != nil {
		return nil, err
	}
	p := &page{Name: filepath.Base(run.Dir), Info: run.Info, Encoder: beginning(run), Config: string(config), Progress: progressOf(run, lines, written)}
	if p.Charts, err = charts(lines); err != nil {
		return nil, err
	}
	if rec != nil {
		var b bytes.Buffer
		if err := png.Encode(&b, rec.Picture); err != nil {
			return nil, err
		}
		rebuilt := inline(fmt.Sprintf("One validation study at step %d", rec.Step), "image/png", b.Bytes())
		p.Rebuilt = &rebuilt
	}
	if p.Text, err = optional[train.Description](run, train.TextFile); err != nil {
		return nil, err
	}
	if p.Eval, err = optional[eval.Report](run, model.RunEvaluation); err != nil {
		return nil, err
	}
	if p.Eval != nil && p.Eval.Calibration != nil {
		p.Reliable, err = reliability(p.Eval.Calibration.Bins)
	}
	return p, err
}

// optional reads a JSON document of a run's folder; nil where it is not there.
func optional[T any](run *train.Run, name string) (*T, error) {
	doc, err := os.ReadFile(filepath.Join(run.Dir, name))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	v := new(T)
	if err := json.Unmarshal(doc, v); err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(run.Dir, name), err)
	}
	return v, nil
}

// beginning says in words what a run's network begins with.
func beginning(run *train.Run) string {
	switch {
	case run.Info.Encoder != nil:
		return filepath.Base(run.Info.Encoder.Path)
	case run.Info.Init != "":
		return filepath.Base(run.Info.Init)
	}
	return "random weights"
}

// progressOf takes the last line of the metrics for the state of the run. A probe's steps are epochs.
func progressOf(run *train.Run, lines []train.StepMetrics, written time.Time) progress {
	p := progress{Written: written.UTC().Truncate(time.Second)}
	if len(lines) == 0 {
		return p
	}
	p.Last = lines[len(lines)-1]
	p.Step = p.Last.Step
	epoch, epochs, views := p.Last.Epoch, run.Config.Epochs, run.Config.BatchViews
	switch run.Info.Kind {
	case "probe":
		epoch, epochs = float64(p.Step), run.Config.Probe.Epochs
	case "finetune", "supervised":
		epochs, views = run.Config.Finetune.Epochs, run.Config.Finetune.BatchViews
	}
	share := min(epoch/epochs, 1)
	p.Percent, p.Complete = int(100*share), share >= 1
	if share > 0 && p.Last.ImagesPerSec > 0 && p.Last.Waiting < 1 {
		images := float64(p.Step) * (1/share - 1) * float64(views*run.Config.Accumulate)
		rate := p.Last.ImagesPerSec * (1 - p.Last.Waiting)
		p.Left = time.Duration(images / rate * float64(time.Second)).Truncate(time.Second)
	}
	return p
}

// charts are those of metrics.jsonl, each of what its lines have.
func charts(lines []train.StepMetrics) (pictures []picture, err error) {
	series := func(name string, of func(train.StepMetrics) float64) curve {
		c := curve{name: name}
		for _, m := range lines {
			if y := of(m); y != 0 {
				c.x, c.y = append(c.x, float64(m.Step)), append(c.y, y)
			}
		}
		return c
	}
	score := func(m train.StepMetrics) float64 {
		if m.Score == nil {
			return 0
		}
		return *m.Score
	}
	for _, c := range []chart{
		{title: "Loss", curves: []curve{
			series("total", func(m train.StepMetrics) float64 { return m.Loss }),
			series("reconstruction", func(m train.StepMetrics) float64 { return m.Reconstruction }),
			series("alignment", func(m train.StepMetrics) float64 { return m.Alignment }),
			series("text", func(m train.StepMetrics) float64 { return m.Text }),
		}},
		{title: "Reports of validation images, nats a token", curves: []curve{
			series("its own image", func(m train.StepMetrics) float64 { return m.TextOwn }),
			series("another patient's", func(m train.StepMetrics) float64 { return m.TextOther }),
		}},
		{title: "Validation macro AUROC", curves: []curve{series("", score)}},
		{title: "Learning rate", curves: []curve{series("", func(m train.StepMetrics) float64 { return m.LR })}},
		{title: "Beta, the weight of the alignment loss", curves: []curve{series("", func(m train.StepMetrics) float64 { return m.Beta })}},
		{title: "Images a second", curves: []curve{series("", func(m train.StepMetrics) float64 { return m.ImagesPerSec })}},
		{title: "Share of the time spent waiting for data", curves: []curve{series("", func(m train.StepMetrics) float64 { return m.Waiting })}},
		{title: "Gradient norm", curves: []curve{series("", func(m train.StepMetrics) float64 { return m.GradNorm })}},
	} {
		present := c.curves[:0]
		for _, one := range c.curves {
			if len(one.x) > 0 {
				present = append(present, one)
			}
		}
		if c.curves = present; len(present) == 0 {
			continue
		}
		c.x = "step"
		drawn, err := c.plot()
		if err != nil {
			return nil, err
		}
		body, err := figure{name: c.title, width: 16 * vg.Centimeter, height: 8 * vg.Centimeter, plot: drawn}.encode("svg")
		if err != nil {
			return nil, err
		}
		pictures = append(pictures, inline(c.title, "image/svg+xml", body))
	}
	return pictures, nil
}

// reliability draws what the model said against what was, before and after calibration.
func reliability(bins eval.ReliableBins) (*picture, error) {
	c := chart{title: "Reliability on test, all labels pooled", x: "probability", y: "share of positives"}
	for _, one := range []struct {
		name string
		bins metrics.Bins
	}{{"before calibration", bins.Before}, {"after", bins.After}} {
		line := curve{name: one.name}
		for _, b := range one.bins {
			if b.Studies > 0 {
				n := float64(b.Studies)
				line.x, line.y = append(line.x, b.ScoreSum/n), append(line.y, float64(b.Positives)/n)
			}
		}
		c.curves = append(c.curves, line)
	}
	c.curves = append(c.curves, curve{name: "perfect", x: []float64{0, 1}, y: []float64{0, 1}})
	drawn, err := c.plot()
	if err != nil {
		return nil, err
	}
	body, err := figure{name: c.title, width: 14 * vg.Centimeter, height: 10 * vg.Centimeter, plot: drawn}.encode("svg")
	if err != nil {
		return nil, err
	}
	p := inline(c.title, "image/svg+xml", body)
	return &p, nil
}
