package main

import (
	"context"
	"runtime"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/mvmae/mvmae/benchmarks/load"
	"github.com/mvmae/mvmae/benchmarks/paired"
)

// cores limits what runs at a time to the number of cores.
type cores chan struct{}

func newCores() cores { return make(cores, runtime.NumCPU()) }

// both runs the two views of a study.
func (c cores) both(view func(int) error) error {
	var group errgroup.Group
	for i := range 2 {
		group.Go(func() error {
			c <- struct{}{}
			defer func() { <-c }()
			return view(i)
		})
	}
	return group.Wait()
}

// round is one round of load.
func round(ctx context.Context, s *load.Server, clients int, study []byte) (paired.Sample, error) {
	before, err := s.CPUSeconds()
	if err != nil {
		return paired.Sample{}, err
	}
	began, n := time.Now(), studiesOf[clients]
	extra, err := load.Run(ctx, clients, n, func(ctx context.Context) error {
		_, err := s.Classify(ctx, study)
		return err
	})
	if err != nil {
		return paired.Sample{}, err
	}
	sample := paired.Sample{Seconds: time.Since(began).Seconds(), Done: float64(n), Extra: extra}
	after, err := s.CPUSeconds()
	if err != nil {
		return sample, err
	}
	sample.CPUSeconds = after - before
	extra["rss"], err = load.ResidentMB(s.PID())
	return sample, err
}
