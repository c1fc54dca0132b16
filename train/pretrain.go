package train

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	gomodel "github.com/gomlx/gomlx/ml/model"
	"golang.org/x/sync/errgroup"

	"github.com/mvmae/mvmae/internal/hint"
	"github.com/mvmae/mvmae/model"
	"github.com/mvmae/mvmae/train/data"
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
	return "lower optim.base_lr or set optim.clip_norm=1; the last checkpoint is from before"
}

// Status is what a step reports: see Pretrain.
type Status struct {
	Steps      int // of the whole run
	BatchViews int // places of a batch
	StepMetrics
}

// StepMetrics is a line of metrics.jsonl: means over the steps since the line before.
type StepMetrics struct {
	Step           int     `json:"step"`
	Epoch          float64 `json:"epoch"`
	Loss           float64 `json:"loss"`
	Reconstruction float64 `json:"reconstruction"`
	Alignment      float64 `json:"alignment"`
	Beta           float64 `json:"beta"`
	LR             float64 `json:"lr"`
	GradNorm       float64 `json:"grad_norm"`
	ImagesPerSec   float64 `json:"images_per_sec"` // view images, empty places not counted
}

// logEvery is the number of steps between lines of metrics.jsonl.
const logEvery = 10

// Pretrain trains encoder and decoder from the run's last checkpoint to its end. report is called after every step. When
// ctx ends, the step at hand is finished, a checkpoint is left and the error wraps ErrInterrupted. A loss that is no
// number ends the run with a *DivergedError.
func Pretrain(ctx context.Context, dev *Device, run *Run, pack *data.Pack, report func(Status)) (err error) {
	defer recoverGraph(&err)
	p, err := newPretrainer(dev, run, pack)
	if err != nil {
		return fmt.Errorf("pretrain: %w", err)
	}
	log, err := run.openMetrics(p.done)
	if err != nil {
		return fmt.Errorf("pretrain: %w", err)
	}
	defer log.close()

	loading, ctxLoad := errgroup.WithContext(context.WithoutCancel(ctx))
	ctxLoad, stop := context.WithCancel(ctxLoad)
	defer loading.Wait()
	defer stop()
	batches := make(chan hostBatch, 2) // the host draws the next batches while the device computes
	loading.Go(func() error {
		defer close(batches)
		for step := p.done; step < p.steps; step++ {
			select {
			case batches <- p.loader.batch(step):
			case <-ctxLoad.Done():
				return nil
			}
		}
		return nil
	})

	saved := time.Now()
	mean := newMean()
	for batch := range batches {
		m, err := p.step(batch)
		if err != nil {
			return fmt.Errorf("pretrain: %w", err)
		}
		line, full := mean.add(m, batch.views)
		if full || p.done == p.steps {
			if err := log.append(line); err != nil {
				return fmt.Errorf("pretrain: %w", err)
			}
			mean = newMean()
		}
		report(Status{Steps: p.steps, BatchViews: run.Config.BatchViews, StepMetrics: line})

		interrupted := ctx.Err() != nil && p.done < p.steps
		if p.done == p.steps || interrupted || time.Since(saved).Minutes() >= run.Config.Checkpoint.Minutes {
			if err := p.save(); err != nil {
				return fmt.Errorf("pretrain: %w", err)
			}
			saved = time.Now()
		}
		if interrupted {
			return hint.Wrap(fmt.Errorf("pretrain: %w at step %d of %d", ErrInterrupted, p.done, p.steps), `go on with "mvmae-train resume %s"`, run.Dir)
		}
	}
	return nil
}

// pretrainer is the state of a run.
type pretrainer struct {
	run    *Run
	spec   model.Spec
	params []model.Param
	store  *gomodel.Store
	exec   *gomodel.Exec
	loader *loader
	rate   Schedule
	beta   Ramp
	steps  int // of the whole run
	done   int
}

func newPretrainer(dev *Device, run *Run, pack *data.Pack) (*pretrainer, error) {
	cfg := run.Config
	if pack.Manifest.Pixels.SHA256 != run.Info.DataDigest {
		return nil, hint.Wrap(fmt.Errorf("the pixels of pack %s are not those the run began with", run.Info.Data),
			"a run goes on with its own data; begin another run for other data")
	}
	spec, err := model.Preset(cfg.Preset)
	if err != nil {
		return nil, err
	}
	p := &pretrainer{run: run, spec: spec, params: spec.Params(model.PartEncoder, model.PartDecoder)}
	if p.loader, err = newLoader(cfg, spec, pack); err != nil {
		return nil, err
	}
	p.steps = max(int(math.Round(cfg.Epochs*float64(p.loader.trainViews)/float64(cfg.BatchViews))), 1)
	stepsPerEpoch := float64(p.steps) / cfg.Epochs
	studiesPerBatch := float64(cfg.BatchViews) * float64(len(p.loader.studies)) / float64(p.loader.trainViews)
	p.rate = Schedule{
		Decay: "cosine", Base: cfg.Optim.BaseLR * studiesPerBatch / 256, Floor: cfg.Optim.MinLR,
		Warmup: int(math.Round(cfg.Optim.WarmupEpochs * stepsPerEpoch)), Steps: p.steps,
	}
	p.beta = Ramp{Form: "cosine", Target: cfg.Loss.Beta, End: p.steps}
	if cfg.Method == "independent" {
		p.beta.Target = 0
	}

	last, err := run.loadCheckpoint()
	if err != nil {
		return nil, err
	}
	if last.tensors == nil {
		last.tensors = initialise(p.params, cfg.Seed)
	}
	if p.store, err = newStore(p.params, last.tensors); err != nil {
		return nil, fmt.Errorf("checkpoint of %s: %w", run.Dir, err)
	}
	addMoments(p.store, p.params, last.tensors)
	p.done = last.step
	p.loader.skip(p.done)
	p.exec, err = gomodel.NewExec(dev.Backend, p.store, p.build)
	return p, err
}

// build is the graph of one step: augmentation, forward pass, losses, gradients, AdamW.
func (p *pretrainer) build(_ *gomodel.Scope, in []node) []node {
	o := graphOps{p.store, in[0].Graph()}
	stored, draws, view, keep, restore, study, scalars := in[0], in[1], in[2], in[3], in[4], in[5], in[6]
	image := augment(stored, draws, p.spec.ImageSize)
	beta := graph.Reshape(graph.Slice(scalars, graph.AxisRange(3, 4)))
	loss := buildPretrain(o, p.spec, pretrainBatch{image, view, keep, restore, study}, beta)
	norm := p.run.Config.Optim.update(o, p.params, loss.total, scalars)
	return []node{loss.total, loss.reconstruction, loss.alignment, norm}
}

// step runs one optimiser step and returns its metrics.
func (p *pretrainer) step(b hostBatch) (StepMetrics, error) {
	start := time.Now()
	lr, beta := p.rate.At(p.done), p.beta.At(p.done)
	s := p.run.Config.Optim.stepScalars(lr, p.done+1)
	scalars := tensors.FromFlatDataAndDimensions([]float32{s[0], s[1], s[2], float32(beta)}, 4)
	out, err := p.exec.Call(append(b.inputs, scalars)...)
	if err != nil {
		return StepMetrics{}, fmt.Errorf("step %d: %w", p.done+1, err)
	}
	value := func(i int) float64 { return float64(tensors.ToScalar[float32](out[i])) }
	p.done++
	m := StepMetrics{
		Step: p.done, Epoch: float64(p.done) / float64(p.steps) * p.run.Config.Epochs, Loss: value(0), Reconstruction: value(1),
		Alignment: value(2), GradNorm: value(3), Beta: beta, LR: lr, ImagesPerSec: float64(b.views) / time.Since(start).Seconds(),
	}
	for _, t := range out {
		t.FinalizeAll()
	}
	if bad := notFinite(m); bad != "" {
		return m, &DivergedError{Step: p.done, Detail: fmt.Sprintf("%s is not finite (learning rate %.3g, beta %.3g, loss %v, gradient norm %v, %d studies from %q)",
			bad, lr, beta, m.Loss, m.GradNorm, len(b.studies), p.loader.pack.Studies[b.studies[0]].ID)}
	}
	return m, nil
}

// notFinite names the first metric that is NaN or infinite.
func notFinite(m StepMetrics) string {
	for _, v := range []struct {
		name  string
		value float64
	}{{"reconstruction loss", m.Reconstruction}, {"alignment loss", m.Alignment}, {"loss", m.Loss}, {"gradient norm", m.GradNorm}} {
		if math.IsNaN(v.value) || math.IsInf(v.value, 0) {
			return v.name
		}
	}
	return ""
}

func (p *pretrainer) save() error {
	all := model.Tensors{}
	for _, prefix := range []string{"", firstMoment, secondMoment} {
		part, err := readVariables(p.store, p.params, prefix)
		if err != nil {
			return fmt.Errorf("checkpoint at step %d: %w", p.done, err)
		}
		for name, t := range part {
			all[name] = t
		}
	}
	if err := p.run.saveCheckpoint(checkpoint{p.done, all}); err != nil {
		return fmt.Errorf("checkpoint at step %d: %w", p.done, err)
	}
	return nil
}

// meanMetrics gathers steps for one line of metrics.jsonl.
type meanMetrics struct {
	sum     StepMetrics
	n       int
	views   int
	seconds float64
}

func newMean() *meanMetrics { return &meanMetrics{} }

// add returns the mean so far, and whether it is due for the log.
func (a *meanMetrics) add(m StepMetrics, views int) (StepMetrics, bool) {
	a.n++
	a.views += views
	a.seconds += float64(views) / m.ImagesPerSec
	a.sum.Loss += m.Loss
	a.sum.Reconstruction += m.Reconstruction
	a.sum.Alignment += m.Alignment
	a.sum.GradNorm += m.GradNorm
	n := float64(a.n)
	m.Loss, m.Reconstruction, m.Alignment, m.GradNorm = a.sum.Loss/n, a.sum.Reconstruction/n, a.sum.Alignment/n, a.sum.GradNorm/n
	m.ImagesPerSec = float64(a.views) / a.seconds
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
