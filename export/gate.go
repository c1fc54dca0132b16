package export

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/mvmae/mvmae/internal/hint"
	"github.com/mvmae/mvmae/model"
	"github.com/mvmae/mvmae/model/fuse"
	"github.com/mvmae/mvmae/model/metrics"
	"github.com/mvmae/mvmae/model/ort"
)

// MaxLoss is what a lower precision may lose of the macro AUROC, and of the macro Brier score: the upper end of the 95 %
// interval, so that the loss is shown to be small and not merely not shown to be large.
const MaxLoss = 0.002

// gateReplicates and gateSeed are of the bootstrap behind the intervals.
const gateReplicates, gateSeed = 1000, 1

// HeldOut are labelled studies that no training saw.
type HeldOut struct {
	Studies []HeldOutStudy
	// Image makes the model input of an image [S*S], as cxr.Input does. It is called from several goroutines.
	Image func(image int, dst []float32)
}

// HeldOutStudy is one of them. Patients of different data sets need different names.
type HeldOutStudy struct {
	Patient string
	Labels  model.LabelSet
	Images  []int   // numbers for HeldOut.Image
	Views   []int64 // of the images
}

func (h *HeldOut) images() (n int) {
	for _, s := range h.Studies {
		n += len(s.Images)
	}
	return n
}

// LossError says that a lower precision loses more than MaxLoss, or may.
type LossError struct {
	Precision Precision
	Check     model.PrecisionCheck
}

func (e *LossError) Error() string {
	c := e.Check
	return fmt.Sprintf("%s loses too much, or that it does not is not shown: macro AUROC %s, Brier score %s on %d studies of %d patients, at most %g allowed",
		e.Precision, interval(c.AUROCLoss), interval(c.BrierLoss), c.Studies, c.Patients, c.Limit)
}

// Hint says what can be done.
func (e *LossError) Hint() string {
	return "more held-out studies make the interval narrower (--data); fp16 loses less than int8; --force writes it all the same, with these figures. Nothing was written"
}

// interval is a loss for people.
func interval(i model.Interval) string {
	return fmt.Sprintf("%+.4f [%+.4f, %+.4f]", i.Value, i.Low, i.High)
}

// gate compares a run's graph in a lower precision with its float32 graph. Forced, it only measures.
func (r *run) gate(ctx context.Context, reference, lower *ort.Model, opts Options) (*model.PrecisionCheck, error) {
	if opts.HeldOut == nil || len(opts.HeldOut.Studies) == 0 {
		if opts.Force {
			return nil, nil
		}
		return nil, hint.Wrap(fmt.Errorf("precision %s has to be proven, and there are no held-out studies", opts.Precision),
			"name the pack of the run with --data, or write it unproven with --force")
	}
	h := opts.HeldOut
	total := 2 * h.images()
	opts.Progress("compare", 0, total)
	var rows [2][]metrics.Row
	var logits [2][][model.NumLabels]float32
	for i, m := range []*ort.Model{reference, lower} {
		var err error
		if rows[i], logits[i], err = r.score(ctx, m, h, func() { opts.Progress("compare", 1, total) }); err != nil {
			return nil, err
		}
	}
	check, err := losses(rows[0], rows[1])
	if err != nil {
		if opts.Force {
			return nil, nil
		}
		return nil, hint.Wrap(fmt.Errorf("precision %s has to be proven: %w", opts.Precision, err), "give --data a pack with more test studies, or write it unproven with --force")
	}
	for i := range logits[0] {
		for l := range logits[0][i] {
			check.LogitDifference = max(check.LogitDifference, math.Abs(float64(logits[0][i][l])-float64(logits[1][i][l])))
		}
	}
	if !check.Passed && !opts.Force {
		return nil, &LossError{opts.Precision, *check}
	}
	return check, nil
}

// score runs every image by itself, as the server does (a batch would share the ranges of dynamic quantisation), and fuses and
// calibrates each study as the metadata say.
func (r *run) score(ctx context.Context, m *ort.Model, h *HeldOut, done func()) ([]metrics.Row, [][model.NumLabels]float32, error) {
	rule, err := fuse.ParseRule(r.metadata.Fusion)
	if err != nil {
		return nil, nil, err
	}
	calibration, err := fuse.ParseCalibration(r.metadata.Calibration)
	if err != nil {
		return nil, nil, err
	}
	pixels := r.metadata.Spec.ImageSize * r.metadata.Spec.ImageSize
	views := make([][][model.NumLabels]float32, len(h.Studies))
	var mu sync.Mutex
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i, s := range h.Studies {
		group.Go(func() error {
			input := make([]float32, pixels)
			for j, image := range s.Images {
				h.Image(image, input)
				out, err := m.Run(ctx, input, s.Views[j:j+1])
				if err != nil {
					return fmt.Errorf("run a held-out image: %w", err)
				}
				if !fuse.Finite(out.Logits[0]) {
					return errors.New("a held-out image gave a logit that is not a finite number")
				}
				views[i] = append(views[i], out.Logits[0])
				mu.Lock()
				done()
				mu.Unlock()
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, nil, err
	}
	var rows []metrics.Row
	var logits [][model.NumLabels]float32
	for i, s := range h.Studies {
		row := metrics.Row{Patient: s.Patient, Labels: s.Labels}
		for l, p := range calibration.Apply(fuse.Fuse(rule, views[i]), len(views[i])) {
			row.Scores[l] = float64(p)
		}
		rows, logits = append(rows, row), append(logits, views[i]...)
	}
	return rows, logits, nil
}

// losses compares the rows of a lower precision with those of the reference, study by study.
func losses(reference, lower []metrics.Row) (*model.PrecisionCheck, error) {
	a, err := metrics.NewTable(reference)
	if err != nil {
		return nil, err
	}
	b, err := metrics.NewTable(lower)
	if err != nil {
		return nil, err
	}
	var none metrics.Thresholds // neither metric has one
	d, err := metrics.Difference(a, b, none, none, metrics.Resampling{Replicates: gateReplicates, Seed: gateSeed})
	if err != nil {
		return nil, err
	}
	auroc, brier := d[metrics.Macro][metrics.AUROC], d[metrics.Macro][metrics.Brier]
	if !auroc.Low.Defined() || !brier.Low.Defined() {
		return nil, errors.New("the held-out studies are of one patient, or no label has both classes among them")
	}
	c := &model.PrecisionCheck{
		Studies: a.Studies(), Patients: a.Patients(), Limit: MaxLoss,
		AUROCLoss: model.Interval{Value: float64(auroc.Value), Low: float64(auroc.Low), High: float64(auroc.High)},
		BrierLoss: model.Interval{Value: -float64(brier.Value), Low: -float64(brier.High), High: -float64(brier.Low)}, // a lower score is better
	}
	c.Passed = c.AUROCLoss.High <= MaxLoss && c.BrierLoss.High <= MaxLoss
	return c, nil
}
