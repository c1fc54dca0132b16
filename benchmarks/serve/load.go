package main

import (
	"context"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/mvmae/mvmae/benchmarks/load"
	"github.com/mvmae/mvmae/benchmarks/paired"
)

// timeKey begins the keys of a sample's times.
const timeKey = "ms "

// times are the times of all studies of all rounds.
func times(samples []paired.Sample) (all []float64) {
	for _, s := range samples {
		for key, ms := range s.Extra {
			if strings.HasPrefix(key, timeKey) {
				all = append(all, ms)
			}
		}
	}
	return all
}

// timed is load.Run with the times as a sample keeps them.
func timed(ctx context.Context, clients, n int, study func(context.Context) error) (map[string]float64, error) {
	times, err := load.Run(ctx, clients, n, study)
	extra := map[string]float64{}
	for i, ms := range times {
		extra[timeKey+strconv.Itoa(i)] = ms
	}
	return extra, err
}

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
