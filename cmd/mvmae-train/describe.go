package main

import (
	"context"

	"github.com/mvmae/mvmae/cmd/internal/cli"
	"github.com/mvmae/mvmae/train"
	"github.com/mvmae/mvmae/train/data"
)

// DescribeCmd shows what a text decoder writes, and whether it looks at the image.
type DescribeCmd struct {
	Dir        string     `arg:"" name:"run" help:"Pretraining run of method mvmae-v2t, finished or not." type:"existingdir"`
	Against    string     `help:"A second run on the same pack, as one with --set text.blind=true: paired differences with their intervals." type:"existingdir" placeholder:"RUN"`
	Split      data.Split `help:"Studies to describe: validate or test." default:"validate"`
	Samples    int        `help:"Reports to write, at most 16." default:"8"`
	Replicates int        `help:"Bootstrap replicates behind the intervals; 0 for none." default:"1000"`
	deviceFlag
}

// Run describes held-out studies of the run's own pack.
func (c *DescribeCmd) Run(ctx context.Context, out *cli.Output) error {
	run, err := train.OpenRun(c.Dir)
	if err != nil {
		return err
	}
	pack, err := packOf(run, out)
	if err != nil {
		return err
	}
	defer pack.Close()
	dev, err := c.open(out)
	if err != nil {
		return err
	}
	opt := train.DescribeOptions{Split: c.Split, Samples: c.Samples, Replicates: c.Replicates}
	result := struct {
		train.Description
		Against string            `json:"against,omitempty"`
		Less    *train.TextScores `json:"less,omitempty"` // the run's scores less those of Against
	}{Against: c.Against}
	if result.Description, err = train.Describe(ctx, dev, run, pack, opt); err != nil {
		return err
	}
	out.Printf("%s", result.Markdown())
	if c.Against != "" {
		second, err := train.OpenRun(c.Against)
		if err != nil {
			return err
		}
		opt.Samples = 0
		other, err := train.Describe(ctx, dev, second, pack, opt)
		if err != nil {
			return err
		}
		less, err := result.Description.Less(other, c.Replicates)
		if err != nil {
			return err
		}
		result.Less = &less
		out.Printf("\nLess %s (tokens right %v, %v nats a token), paired: tokens right %v, nats a token %v\n",
			c.Against, other.Own.Accuracy, other.Own.CrossEntropy, less.Accuracy, less.CrossEntropy)
	}
	return out.Result(result)
}
