package train

import (
	"context"
	"fmt"
	"time"

	"github.com/mvmae/mvmae/train/data"
)

// Measured is a step of Measure.
type Measured struct {
	StepMetrics
	Views   int
	Seconds float64 // from the end of the step before: with the wait for its batch
}

// Measure makes n steps of a pretraining run and times them, for benchmarks; it also returns what the step was planned to take. beforehand has all batches made before the first step; else
// they are made beside the steps, as Pretrain does it. The run folder is left as it was.
func Measure(ctx context.Context, dev *Device, run *Run, pack *data.Pack, n int, beforehand bool) (steps []Measured, plan Plan, err error) {
	defer recoverGraph(&err)
	l, err := newPretraining(dev, run, pack)
	if err != nil {
		return nil, plan, fmt.Errorf("measure: %w", err)
	}
	batches, stop := l.load(ctx)
	defer stop()
	if beforehand {
		ready := make(chan []hostBatch, n)
		for range n {
			batch, ok := <-batches
			if !ok {
				return nil, plan, fmt.Errorf("measure: the run has fewer than %d steps", n)
			}
			ready <- batch
		}
		batches = ready
	}
	last := time.Now()
	for len(steps) < n && ctx.Err() == nil {
		batch, ok := <-batches
		if !ok {
			return nil, plan, fmt.Errorf("measure: the run has fewer than %d steps", n)
		}
		m, views, err := l.step(batch)
		if err != nil {
			return steps, l.plan, fmt.Errorf("measure: %w", err)
		}
		now := time.Now()
		steps = append(steps, Measured{m, views, now.Sub(last).Seconds()})
		last = now
	}
	return steps, l.plan, context.Cause(ctx)
}
