package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/mvmae/mvmae/cmd/internal/cli"
	"github.com/mvmae/mvmae/internal/hint"
	"github.com/mvmae/mvmae/train/data"
)

// IndexCmd makes the table of a dataset's images.
type IndexCmd struct {
	NIH   IndexNIHCmd   `cmd:"" name:"nih" help:"Index ChestX-ray14: Data_Entry_2017_v2020.csv, split lists, images."`
	DICOM IndexDICOMCmd `cmd:"" name:"dicom" help:"Index a folder of DICOM studies, with the labels of its labels.csv."`
}

type indexFlags struct {
	Root        string       `help:"Folder of the dataset." required:"" type:"existingdir" placeholder:"DIR"`
	Out         string       `help:"Index to write." required:"" type:"path" placeholder:"NAME.parquet"`
	Dataset     string       `help:"Name of the dataset in the index (default: the layout's)." placeholder:"NAME"`
	SplitShares *data.Shares `help:"Shares of the patients for train, validate and test, in place of the layout's own rule." placeholder:"0.8,0.1,0.1"`
	Seed        uint64       `help:"Seed of the split." default:"1"`
	Fold        data.Fold    `help:"Part of a cross-validation: the split turned by so much, for a test share of one part." placeholder:"I/N"`
	Labels      []string     `help:"Labels to keep; the others become absent (default: all)." placeholder:"NAME,..."`
}

// IndexNIHCmd indexes ChestX-ray14.
type IndexNIHCmd struct{ indexFlags }

// Run is the command.
func (c *IndexNIHCmd) Run(ctx context.Context, out *cli.Output) error {
	return c.run(ctx, out, data.IndexNIH)
}

// IndexDICOMCmd indexes a folder of DICOM files.
type IndexDICOMCmd struct{ indexFlags }

// Run is the command.
func (c *IndexDICOMCmd) Run(ctx context.Context, out *cli.Output) error {
	return c.run(ctx, out, data.IndexDICOM)
}

func (c *indexFlags) run(ctx context.Context, out *cli.Output, index func(context.Context, data.IndexOptions) (*data.Index, data.Remarks, error)) error {
	if err := os.MkdirAll(filepath.Dir(c.Out), 0o755); err != nil { // before the work, not after it
		return hint.Wrap(fmt.Errorf("write index %s: %w", c.Out, err), "choose a folder you can write to")
	}
	progress := &progressOf{out: out, title: "index (files)"}
	x, remarks, err := index(ctx, data.IndexOptions{
		Root: c.Root, Dataset: c.Dataset, Shares: c.SplitShares, Seed: c.Seed, Fold: c.Fold, Labels: c.Labels, Progress: progress.start,
	})
	progress.done()
	if err != nil {
		return err
	}
	if err := data.WriteIndex(c.Out, x); err != nil {
		return err
	}
	counts := data.Count(x.Images)
	out.Printf("%s\n%sleakage audit: no patient is in two splits, no study in two patients, no image there twice\nwrote %s\n",
		counts.Table(), remarks.Text(remarksShown), c.Out)
	err = out.Result(struct {
		Index   string       `json:"index"`
		Dataset string       `json:"dataset"`
		Counts  data.Counts  `json:"counts"`
		Remarks data.Remarks `json:"remarks"`
	}{c.Out, x.Dataset, counts, remarks})
	if err != nil {
		return err
	}
	return refusedError("index "+c.Out, remarks)
}

// remarksShown are the items of each remark that are printed; --json has all.
const remarksShown = 20

// refusedError is the exit code of work that is done but for some inputs.
func refusedError(what string, remarks data.Remarks) error {
	n := remarks.Refused()
	if n == 0 {
		return nil
	}
	err := fmt.Errorf("%s: done, but %d inputs were left out", what, n)
	return cli.Exit(cli.ExitRefused, hint.Wrap(err, "the lines above say which and why; --json lists all"))
}

// progressOf shows the progress of work that tells its size only once it has begun.
type progressOf struct {
	out   *cli.Output
	title string
	shown *cli.Progress
}

func (p *progressOf) start(total int64) data.Meter {
	p.shown = p.out.Progress(p.title, total)
	return p.shown
}

func (p *progressOf) done() {
	if p.shown != nil {
		p.shown.Done()
	}
}
