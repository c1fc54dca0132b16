package main

import (
	"errors"
	"time"

	"github.com/mvmae/mvmae/serve"
)

// device is the flags of how a model is run.
type device struct {
	Device     string        `default:"cpu" enum:"cpu,cuda,auto" help:"Where the model runs: cpu, cuda or auto."`
	CPUThreads int           `name:"cpu-threads" default:"1" help:"Threads of one run on the CPU."`
	Instances  int           `placeholder:"N" help:"Runs at a time (default: as many as the cores have threads for; 2 on CUDA)."`
	MaxBatch   int           `placeholder:"N" help:"Images of a run (default: 1 on the CPU, 32 on CUDA)."`
	BatchDelay time.Duration `placeholder:"TIME" help:"How long an image may wait for others while the device is busy (default: 2ms on CUDA)."`
}

func (d device) validate() error {
	var errs []error
	for _, f := range []struct {
		flag         string
		value, least int64
	}{{"--cpu-threads", int64(d.CPUThreads), 1}, {"--instances", int64(d.Instances), 0}, {"--max-batch", int64(d.MaxBatch), 0}, {"--batch-delay", int64(d.BatchDelay), 0}} {
		if f.value < f.least {
			errs = append(errs, errors.New(f.flag+" is too small"))
		}
	}
	return errors.Join(errs...)
}

func (d device) options() serve.Options {
	return serve.Options{
		Device: d.Device, Threads: d.CPUThreads,
		Policy: serve.Policy{MaxBatch: d.MaxBatch, MaxDelay: d.BatchDelay, Instances: d.Instances},
	}
}
