package train

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/gomlx/gomlx/core/tensors"

	"github.com/mvmae/mvmae/model"
	"github.com/mvmae/mvmae/train/data"
)

// Pretrain trains encoder and decoder from the run's last checkpoint to its end. report is called after every step. When
// ctx ends, the step at hand is finished, a checkpoint is left and the error wraps ErrInterrupted. A loss that is no
// number ends the run with a *DivergedError.
func Pretrain(ctx context.Context, dev *Device, run *Run, pack *data.Pack, report func(Status)) (err error) {
	defer recoverGraph(&err)
	end, err := run.begin(pack)
	if err != nil {
		return fmt.Errorf("pretrain: %w", err)
	}
	defer end()
	l, err := newPretraining(dev, run, pack)
	if err == nil {
		err = l.fit(ctx, report)
	}
	if err == nil && run.Config.Method == methodV2T {
		err = leaveDescription(ctx, dev, run, pack)
	}
	if err != nil {
		return fmt.Errorf("pretrain: %w", err)
	}
	return nil
}

// pretraining is the task of a masked autoencoder.
type pretraining struct {
	cfg      Config
	spec     model.Spec
	loop     *loop
	writer   *writer // of reports; nil but in method mvmae-v2t
	glance   *glance // nil without reports to ask
	rate     Schedule
	beta     Ramp
	perEpoch bool // both change per epoch, not per step
}

func newPretraining(dev *Device, run *Run, pack *data.Pack) (*loop, error) {
	cfg := run.Config
	spec, err := run.Spec()
	if err != nil {
		return nil, err
	}
	var w *writer
	if cfg.Method == methodV2T {
		if w, err = newWriter(run, pack); err != nil {
			return nil, err
		}
		spec.Text = cfg.Text.spec(w.tok.Size())
		if err := spec.Validate(); err != nil {
			return nil, err
		}
	}
	params := spec.Params(model.PartEncoder, model.PartDecoder, model.PartText)
	l, err := newLoop(run, pack, spec, params, cfg.Epochs, cfg.Optim, cfg.BatchViews, pack.StudiesOf(data.Train))
	if err != nil {
		return nil, err
	}
	first, err := run.first(pack, spec, params)
	if err != nil {
		return nil, err
	}
	if err := l.restore(first); err != nil {
		return nil, err
	}
	p := &pretraining{cfg: cfg, spec: spec, loop: l, writer: w, rate: l.cosine(), beta: Ramp{Form: "cosine", Target: cfg.Loss.Beta, End: l.steps}}
	if cfg.Recipe == "code" {
		epochs, warmup := int(math.Ceil(cfg.Epochs)), int(cfg.Optim.WarmupEpochs)
		p.perEpoch = true
		p.rate = Schedule{Decay: "reference", Base: l.baseLR(), Floor: cfg.Optim.MinLR, Warmup: warmup, Steps: epochs}
		p.beta = Ramp{Form: "sigmoid", Target: cfg.Loss.Beta, Start: warmup, End: epochs, Steepness: 0.02}
	}
	if cfg.Method == "independent" {
		p.beta.Target = 0
	}
	if w != nil {
		d, err := describerOf(dev, spec, l.store, w)
		if err != nil {
			return nil, err
		}
		p.glance = newGlance(d)
	}
	return l, l.compile(dev, p)
}

// rates are per step in recipe "paper", per epoch in recipe "code".
func (p *pretraining) rates(done int) (lr, beta float64) {
	at := done
	if p.perEpoch {
		at = p.loop.epoch(done)
	}
	return p.rate.At(at), p.beta.At(at)
}

// inputs are keep [V,K] and restore [V,N]. In recipe "paper" the views of a study share one mask, for its alignment loss
// pairs tokens by place; in recipe "code" each view has its own. Then come the text's, if there are any. The loss is a mean
// over studies.
func (p *pretraining) inputs(rng *rand.Rand, b hostBatch) (own []any, weight float64) {
	v, n := len(b.places), p.spec.NumPatches()
	k := p.cfg.Visible(n)
	keep, restore := make([]int32, 0, v*k), make([]int32, 0, v*n)
	var keepStudy, restoreStudy []int32
	for i, at := range b.places {
		if i == 0 || at.row < 0 || at.row != b.places[i-1].row || p.cfg.Recipe == "code" {
			keepStudy, restoreStudy = mask(rng, n, k)
		}
		keep, restore = append(keep, keepStudy...), append(restore, restoreStudy...)
	}
	own = []any{tensors.FromFlatDataAndDimensions(keep, v, k), tensors.FromFlatDataAndDimensions(restore, v, n)}
	if p.writer != nil {
		own = append(own, p.writer.inputs(rng, b)...)
	}
	return own, float64(len(b.studies))
}

func (p *pretraining) loss(o graphOps, b graphBatch, own []node) losses {
	batch := pretrainBatch{image: b.image, view: b.view, keep: own[0], restore: own[1], study: b.study}
	if p.writer != nil {
		batch.text = &textBatch{own[2], own[3], own[4], own[5]}
	}
	return buildPretrain(o, p.cfg, p.spec, batch, b.beta).losses
}

// score is none: the last parameters are the run's result. What is asked of the text decoder is only told.
func (p *pretraining) score(ctx context.Context, _ int) (s epochScore, err error) {
	s.value = math.NaN()
	if p.glance != nil {
		s.text = make([]float64, 2)
		s.text[0], s.text[1], err = p.glance.ask(ctx)
	}
	return s, err
}
