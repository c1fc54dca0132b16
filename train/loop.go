package train

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	gomodel "github.com/gomlx/gomlx/ml/model"
	"golang.org/x/sync/errgroup"

	"github.com/mvmae/mvmae/internal/hint"
	"github.com/mvmae/mvmae/model"
	"github.com/mvmae/mvmae/train/data"
)

// task is what a run trains: masked pretraining (pretrain.go) or a classifier (finetune.go). The rest is the loop's, below:
// batches, augmentation, optimiser, metrics, checkpoints.
type task interface {
	// inputs are the graph inputs of a batch that only this task has, random ones drawn from rng; weight is how much there
	// is that the batch's loss is a mean over.
	inputs(rng *rand.Rand, b hostBatch) (own []any, weight float64)
	// loss builds the forward pass on a batch of augmented images; own are the nodes of inputs.
	loss(o graphOps, b graphBatch, own []node) losses
	// rates are the learning rate of the step after done, and beta, the weight of the alignment loss.
	rates(done int) (lr, beta float64)
	// score judges the parameters at the end of an epoch, from 1. With a score the loop keeps the parameters of the best epoch.
	score(ctx context.Context, epoch int) (epochScore, error)
}

// graphBatch are the graph inputs that every task's batches have.
type graphBatch struct {
	image node // [V,S,S] in [0,1], augmented
	view  node // [V] int32
	study node // [V,V]: 1 where view image v (column) belongs to study g (row); unused rows and columns are zero
	beta  node // []
}

// loop is the state of a run in training.
type loop struct {
	task   task
	run    *Run
	spec   model.Spec
	params []model.Param
	frozen []model.Param // that the task needs and nothing trains
	optim  OptimConfig
	scale  func(model.Param) float64 // factor on each parameter's learning rate; nil for 1
	loader *loader
	store  *gomodel.Store
	exec   *gomodel.Exec
	shards *shards // nil on one device
	dev    *Device
	plan   Plan // of a step's memory, once its graph is compiled

	resident int64 // memory of the process before the first step

	epochs float64
	steps  int           // of the whole run
	done   int           // steps
	scored int           // step after which the last score was taken
	best   model.Tensors // parameters of the best score, under their names with bestPrefix
	score  float64       // the best score, -Inf before the first
	kept   model.Tensors // what the task's last score wants back after a resume, under its own names
}

// Prefixes in a checkpoint: of the best epoch's parameters, and of what a task keeps.
const (
	bestPrefix = "best."
	keptPrefix = "kept."
)

// newLoop prepares the loop of a run over some studies. restore, compile and fit follow, in this order.
func newLoop(run *Run, pack *data.Pack, spec model.Spec, params []model.Param, epochs float64, optim OptimConfig, views int, studies []int) (*loop, error) {
	l := &loop{run: run, spec: spec, params: params, optim: optim, epochs: epochs, score: math.Inf(-1)}
	var err error
	if l.loader, err = newLoader(run.Config, views, pack, studies); err != nil {
		return nil, err
	}
	l.steps = max(int(math.Round(epochs*float64(l.loader.places)/float64(run.Config.Accumulate*views))), 1)
	return l, nil
}

// restore loads the run's last checkpoint, or the values of first if it has none.
func (l *loop) restore(first model.Tensors) error {
	if err := l.run.sweep(); err != nil {
		return err
	}
	last, err := l.run.loadCheckpoint()
	if err != nil {
		return err
	}
	if last.tensors == nil {
		last.tensors = first
	}
	for _, p := range l.frozen {
		last.tensors[p.Name] = first[p.Name]
	}
	if l.store, err = newStore(slices.Concat(l.params, l.frozen), last.tensors); err != nil {
		return fmt.Errorf("checkpoint of %s: %w", l.run.Dir, err)
	}
	addMoments(l.store, l.params, last.tensors)
	if last.scored > 0 {
		l.scored, l.score, l.best = last.scored, last.score, model.Tensors{}
		for _, p := range l.params {
			l.best[bestPrefix+p.Name] = last.tensors[bestPrefix+p.Name]
		}
		l.kept = model.Tensors{}
		for name, x := range last.tensors {
			if own, ok := strings.CutPrefix(name, keptPrefix); ok {
				l.kept[own] = x
			}
		}
	}
	if l.run.Config.Accumulate > 1 {
		addGradientSums(l.store, l.params)
	}
	l.done = last.step
	l.loader.skip(l.done * l.run.Config.Accumulate)
	return nil
}

// compile prepares the step of a task. XLA compiles it at the first call.
func (l *loop) compile(dev *Device, t task) (err error) {
	l.task, l.dev = t, dev
	if l.exec, err = gomodel.NewExec(dev.Backend, l.store, l.build); err == nil && dev.Count > 1 {
		l.shards, err = spreadOver(dev.Count, l.exec, l.loader.views)
	}
	return err
}

// cosine is the learning rate that warms up and decays per step.
func (l *loop) cosine() Schedule {
	return Schedule{
		Decay: "cosine", Base: l.baseLR(), Floor: l.optim.MinLR,
		Warmup: int(math.Round(l.optim.WarmupEpochs * float64(l.steps) / l.epochs)), Steps: l.steps,
	}
}

// baseLR is the learning rate for the run's batches.
func (l *loop) baseLR() float64 { return l.optim.BaseLR * l.loader.studiesPerStep() / 256 }

// epoch is the number of whole epochs in some steps; the last step ends the last one.
func (l *loop) epoch(steps int) int {
	return int(float64(steps)/float64(l.steps)*l.epochs + 1e-9)
}

// fit trains from the checkpoint to the end: report is called after every step. When ctx ends, the step at hand is
// finished, a checkpoint is left and the error wraps ErrInterrupted.
func (l *loop) fit(ctx context.Context, report func(Status)) error {
	log, err := l.run.openMetrics(l.done)
	if err != nil {
		return err
	}
	defer log.close()
	if l.scored < l.done && l.epochEnded() { // stopped between the last step of an epoch and its score
		if err := l.takeScore(ctx, &StepMetrics{}); err != nil {
			return err
		}
	}
	batches, stop := l.load(ctx)
	defer stop()

	saved, mean := time.Now(), newMean()
	for asked := time.Now(); ; asked = time.Now() {
		batch, more := <-batches
		if !more {
			break
		}
		waited := time.Since(asked)
		m, views, err := l.step(batch)
		if err != nil {
			return err
		}
		line, full := mean.add(m, views, waited)
		if l.epochEnded() {
			if err := l.takeScore(ctx, &line); err != nil {
				return err
			}
			full = full || line.Score != nil || line.TextOwn != 0
		}
		if full || l.done == l.steps {
			if err := log.append(line); err != nil {
				return err
			}
			mean = newMean()
		}
		report(Status{Steps: l.steps, BatchViews: l.run.Config.Accumulate * l.loader.views, Best: l.score, StepMetrics: line})

		interrupted := ctx.Err() != nil && l.done < l.steps
		if l.done == l.steps || interrupted || time.Since(saved).Minutes() >= l.run.Config.Checkpoint.Minutes {
			if err := l.save(); err != nil {
				return err
			}
			saved = time.Now()
		}
		if interrupted {
			return l.interrupted()
		}
	}
	_, peak := residentMemory()
	slog.Debug("memory", "planned for a step", bytesText(l.plan.Total()), "resident before the first", bytesText(l.resident), "peak", bytesText(peak))
	return nil
}

// load makes the batches of each step while the device computes. The caller calls stop when it wants no more.
func (l *loop) load(ctx context.Context) (steps chan []hostBatch, stop func()) {
	loading, ctxLoad := errgroup.WithContext(context.WithoutCancel(ctx))
	ctxLoad, cancel := context.WithCancel(ctxLoad)
	steps = make(chan []hostBatch, 2)
	first, n := l.done, l.run.Config.Accumulate
	loading.Go(func() error {
		defer close(steps)
		for step := first; step < l.steps; step++ {
			batches := make([]hostBatch, n)
			for i := range batches {
				batches[i] = l.loader.batch(step*n+i, l.task)
			}
			select {
			case steps <- batches:
			case <-ctxLoad.Done():
				return nil
			}
		}
		return nil
	})
	return steps, func() {
		cancel()
		loading.Wait()
	}
}

func (l *loop) interrupted() error {
	return hint.Wrap(fmt.Errorf("%w at step %d of %d", ErrInterrupted, l.done, l.steps), `go on with "mvmae-train resume %s"`, l.run.Dir)
}

// build is the graph of one batch: augmentation, forward pass, losses, gradients, AdamW.
func (l *loop) build(_ *gomodel.Scope, in []node) []node {
	cfg := l.run.Config
	o := graphOps{store: l.store, g: in[0].Graph(), half: cfg.Compute == "bfloat16"}
	scalars, stored, draws, view, study, own := in[0], in[1], in[2], in[3], in[4], in[5:] // scalars: see step
	scalar := func(i int) node { return graph.Reshape(graph.Slice(scalars, graph.AxisRange(i, i+1))) }

	loss := l.task.loss(o, graphBatch{augment(stored, draws, l.spec.ImageSize), view, study, scalar(3)}, own)
	grads, last := gradients(o, l.params, loss.total), node(nil)
	if cfg.Accumulate > 1 {
		grads, last = accumulate(o, l.params, grads, scalar(4), scalar(5)), scalar(6)
	}
	return append([]node{l.optim.apply(o, l.params, l.scale, grads, scalars, last)}, loss.terms()...)
}

// step runs one optimiser step on its batches, and returns its metrics and the number of view images.
func (l *loop) step(batches []hostBatch) (m StepMetrics, views int, err error) {
	if l.plan == (Plan{}) {
		defer l.watchMemory()()
	}
	start, total := time.Now(), 0.0
	for _, b := range batches {
		views, total = views+b.views, total+b.weight
	}
	lr, beta := l.task.rates(l.done)
	m = StepMetrics{Step: l.done + 1, Epoch: float64(l.done+1) / float64(l.steps) * l.epochs, Beta: beta, LR: lr}
	for i, b := range batches {
		share := 1.0 // of this batch in the step's mean
		if total > 0 {
			share = b.weight / total
		}
		s := l.optim.stepScalars(lr, m.Step)
		scalars := []float32{s[0], s[1], s[2], float32(beta), float32(share), oneIf(i == 0), oneIf(i == len(batches)-1)}
		inputs := append([]any{tensors.FromFlatDataAndDimensions(scalars, len(scalars))}, b.inputs...)
		out, err := l.call(inputs)
		if err != nil {
			return m, views, fmt.Errorf("step %d: %w", m.Step, l.outOfMemory(err))
		}
		m.GradNorm = float64(tensors.ToScalar[float32](out[0])) // of the sum so far
		for j, value := range m.losses()[:len(out)-1] {
			*value += share * float64(tensors.ToScalar[float32](out[1+j]))
		}
		finalize(inputs)
		finalize(out)
	}
	l.done++
	m.ImagesPerSec = float64(views) / time.Since(start).Seconds()
	if bad := notFinite(m); bad != "" {
		return m, views, &DivergedError{Step: l.done, Detail: fmt.Sprintf("%s is not finite (learning rate %.3g, beta %.3g, loss %v, gradient norm %v, %d studies from %q)",
			bad, lr, beta, m.Loss, m.GradNorm, len(batches[0].studies), l.loader.name(batches[0].studies[0]))}
	}
	return m, views, nil
}

func (l *loop) call(inputs []any) ([]*tensors.Tensor, error) {
	if l.shards != nil {
		return l.shards.call(l.exec, inputs)
	}
	return l.exec.Call(inputs...)
}

func oneIf(yes bool) float32 {
	if yes {
		return 1
	}
	return 0
}

// epochEnded reports whether the last step was the last of an epoch.
func (l *loop) epochEnded() bool {
	return l.done > 0 && l.epoch(l.done) > l.epoch(l.done-1) || l.done == l.steps
}

// takeScore judges the parameters and keeps them if they are the best so far. If ctx ends before the task is done with it, a
// checkpoint is left from which the run will score first.
func (l *loop) takeScore(ctx context.Context, m *StepMetrics) error {
	score, err := l.task.score(ctx, l.epoch(l.done))
	if err != nil && ctx.Err() != nil {
		return errors.Join(l.save(), l.interrupted())
	}
	if err == nil && score.text != nil {
		m.TextOwn, m.TextOther = score.text[0], score.text[1]
	}
	if err != nil || math.IsNaN(score.value) {
		return err
	}
	l.scored, l.kept, m.Score, m.LabelScores = l.done, score.kept, &score.value, score.labels
	if score.value > l.score {
		values, err := readVariables(l.store, l.params, "")
		if err != nil {
			return err
		}
		l.score, l.best = score.value, model.Tensors{}
		for name, t := range values {
			l.best[bestPrefix+name] = t
		}
	}
	return nil
}

// save leaves a checkpoint.
func (l *loop) save() error {
	all := maps.Clone(l.best)
	if all == nil {
		all = model.Tensors{}
	}
	for name, x := range l.kept {
		all[keptPrefix+name] = x
	}
	for _, prefix := range []string{"", firstMoment, secondMoment} {
		part, err := readVariables(l.store, l.params, prefix)
		if err != nil {
			return fmt.Errorf("checkpoint at step %d: %w", l.done, err)
		}
		maps.Copy(all, part)
	}
	if err := l.run.saveCheckpoint(checkpoint{l.done, l.scored, l.score, all}); err != nil {
		return hint.Wrap(fmt.Errorf("checkpoint at step %d: %w", l.done, err),
			`an older checkpoint, if there was one, is still whole: go on with "mvmae-train resume %s"`, l.run.Dir)
	}
	slog.Debug("checkpoint written", "step", l.done, "of", l.steps)
	return nil
}
