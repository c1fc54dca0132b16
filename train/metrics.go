package train

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"time"

	"github.com/mvmae/mvmae/model/metrics"
)

// ErrInterrupted says that a run stopped because its context ended. A checkpoint is left to resume from.
var ErrInterrupted = errors.New("interrupted")

// DivergedError says that a loss became NaN or infinite, and where.
type DivergedError struct {
	Step   int
	Detail string
}

func (e *DivergedError) Error() string {
	return fmt.Sprintf("diverged at step %d: %s", e.Step, e.Detail)
}

// ExitCode is that of a diverged run.
func (e *DivergedError) ExitCode() int { return 5 }

// Hint returns the cure.
func (e *DivergedError) Hint() string {
	return "begin another run with a lower --set optim.base_lr, or with --set optim.clip_norm=1"
}

// Status is what a step reports: see Pretrain and Finetune.
type Status struct {
	Steps      int     // of the whole run
	BatchViews int     // places of a batch
	Best       float64 // score so far, -Inf for none
	StepMetrics
}

// StepMetrics is a line of metrics.jsonl: means over the steps since the line before.
type StepMetrics struct {
	Step           int     `json:"step"`
	Epoch          float64 `json:"epoch"`
	Loss           float64 `json:"loss"`
	Reconstruction float64 `json:"reconstruction,omitempty"` // this and the next three in pretraining only
	Alignment      float64 `json:"alignment,omitempty"`
	Text           float64 `json:"text,omitempty"`
	Beta           float64 `json:"beta,omitempty"`
	LR             float64 `json:"lr"`
	GradNorm       float64 `json:"grad_norm"`
	ImagesPerSec   float64 `json:"images_per_sec"` // view images, empty places not counted, while the device computes
	Waiting        float64 `json:"waiting"`        // share of the time in which it waits for its next batch instead
	// Score is the macro AUROC on validation, at the end of an epoch of a classifier.
	Score *float64 `json:"validation_macro_auroc,omitempty"`
	// LabelScores are those of each label, in the order of model.Labels.
	LabelScores []metrics.Value `json:"validation_auroc,omitempty"`
	// TextOwn and TextOther are, at the end of an epoch of method mvmae-v2t, the nats a token of the reports of some validation images: with each
	// report's own image, and with another patient's. What the first is less by is read in the image.
	TextOwn   float64 `json:"validation_text_own_image,omitempty"`
	TextOther float64 `json:"validation_text_other_image,omitempty"`
}

// Metrics reads the run's metrics and when they were last added to, also while the run is in training: a line that is half
// written is left out. A probe's lines have the fields that it knows.
func (r *Run) Metrics() (lines []StepMetrics, written time.Time, err error) {
	path := r.path(metricsFile)
	body, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, written, nil
	}
	if err != nil {
		return nil, written, err
	}
	n := 0
	for line := range bytes.Lines(body) {
		n++
		if !bytes.HasSuffix(line, []byte{'\n'}) {
			break
		}
		var m StepMetrics
		if err := json.Unmarshal(line, &m); err != nil {
			return nil, written, fmt.Errorf("%s:%d: %w", path, n, err)
		}
		lines = append(lines, m)
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, written, err
	}
	return lines, info.ModTime(), nil
}

// losses are the places of the losses, in the order of losses.terms.
func (m *StepMetrics) losses() []*float64 {
	return []*float64{&m.Loss, &m.Reconstruction, &m.Alignment, &m.Text}
}

// logEvery is the number of steps between lines of metrics.jsonl.
const logEvery = 10

// notFinite names the first metric that is NaN or infinite.
func notFinite(m StepMetrics) string {
	for _, v := range []struct {
		name  string
		value float64
	}{{"reconstruction loss", m.Reconstruction}, {"alignment loss", m.Alignment}, {"text loss", m.Text}, {"loss", m.Loss}, {"gradient norm", m.GradNorm}} {
		if math.IsNaN(v.value) || math.IsInf(v.value, 0) {
			return v.name
		}
	}
	return ""
}

// meanMetrics gathers steps for one line of metrics.jsonl.
type meanMetrics struct {
	sum     StepMetrics
	n       int
	views   int
	seconds float64 // computing
	waited  time.Duration
}

func newMean() *meanMetrics { return &meanMetrics{} }

// add takes a step that was waited for, and returns the mean so far and whether it is due for the log.
func (a *meanMetrics) add(m StepMetrics, views int, waited time.Duration) (StepMetrics, bool) {
	a.n++
	a.views += views
	a.waited += waited
	a.seconds += float64(views) / m.ImagesPerSec
	sums, means := append(a.sum.losses(), &a.sum.GradNorm), append(m.losses(), &m.GradNorm)
	for i := range sums {
		*sums[i] += *means[i]
		*means[i] = *sums[i] / float64(a.n)
	}
	m.ImagesPerSec = float64(a.views) / a.seconds
	m.Waiting = a.waited.Seconds() / (a.waited.Seconds() + a.seconds)
	return m, m.Step%logEvery == 0
}

// recoverGraph turns a panic with an error, which is how graph building reports, into that error.
func recoverGraph(err *error) {
	if r := recover(); r != nil {
		e, ok := r.(error)
		if !ok {
			panic(r)
		}
		*err = fmt.Errorf("build graph: %w", e)
	}
}
