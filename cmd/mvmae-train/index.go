package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/mvmae/mvmae/cmd/internal/cli"
	"github.com/mvmae/mvmae/internal/hint"
	"github.com/mvmae/mvmae/train/data"
)

// IndexCmd makes the table of a dataset's images.
type IndexCmd struct {
	MIMIC    IndexMIMICCmd    `cmd:"" name:"mimic" help:"Index MIMIC-CXR(-JPG): tables of metadata, labels and splits, reports, images."`
	CheXpert IndexCheXpertCmd `cmd:"" name:"chexpert" help:"Index CheXpert Plus, or CheXpert: tables, labels, images."`
	PadChest IndexPadChestCmd `cmd:"" name:"padchest" help:"Index PadChest: its table, images."`
	NIH      IndexNIHCmd      `cmd:"" name:"nih" help:"Index ChestX-ray14: Data_Entry_2017_v2020.csv, split lists, images."`
	DICOM    IndexDICOMCmd    `cmd:"" name:"dicom" help:"Index a folder of DICOM studies, with the labels of its labels.csv."`
}

type indexFlags struct {
	Root        string       `help:"Folder of the dataset." required:"" type:"existingdir" placeholder:"DIR"`
	Out         string       `help:"Index to write." type:"path" placeholder:"NAME.parquet"`
	Dataset     string       `help:"Name of the dataset in the index (default: the layout's)." placeholder:"NAME"`
	SplitShares *data.Shares `help:"Shares of the patients for train, validate and test, in place of the layout's own rule." placeholder:"0.8,0.1,0.1"`
	Seed        uint64       `help:"Seed of the split." default:"1"`
	Fold        data.Fold    `help:"Part of a cross-validation: the split turned by so much, for a test share of one part." placeholder:"I/N"`
	Labels      []string     `help:"Labels to keep; the others become absent (default: all)." placeholder:"NAME,..."`
}

// tablesFlags are those of the datasets that have tables of their own.
type tablesFlags struct {
	indexFlags
	TablesOnly bool `help:"Read and audit the tables without looking for an image, and write no index."`
}

// IndexMIMICCmd indexes MIMIC-CXR.
type IndexMIMICCmd struct{ tablesFlags }

// Run is the command.
func (c *IndexMIMICCmd) Run(ctx context.Context, out *cli.Output) error {
	return c.run(ctx, out, "mimic", c.TablesOnly, data.IndexMIMIC)
}

// IndexCheXpertCmd indexes CheXpert Plus or CheXpert.
type IndexCheXpertCmd struct {
	tablesFlags
	Chexbert string `help:"The part of the report that CheXpert Plus's labels are of: ${enum}." enum:"impression,findings,report" default:"impression"`
}

// Run is the command.
func (c *IndexCheXpertCmd) Run(ctx context.Context, out *cli.Output) error {
	return c.run(ctx, out, "chexpert", c.TablesOnly, func(ctx context.Context, opt data.IndexOptions) (*data.Index, data.Remarks, error) {
		return data.IndexCheXpert(ctx, opt, c.Chexbert)
	})
}

// IndexPadChestCmd indexes PadChest.
type IndexPadChestCmd struct {
	tablesFlags
	Mapping        string `help:"Which target of the paper's table 17 findings take that have two: ${enum}." enum:"first,last" default:"last"`
	ClearNoFinding bool   `help:"Take No Finding from studies that have another of the 14 too."`
}

// Run is the command.
func (c *IndexPadChestCmd) Run(ctx context.Context, out *cli.Output) error {
	how := data.PadChestOptions{First: c.Mapping == "first", ClearNoFinding: c.ClearNoFinding}
	return c.run(ctx, out, "padchest", c.TablesOnly, func(ctx context.Context, opt data.IndexOptions) (*data.Index, data.Remarks, error) {
		return data.IndexPadChest(ctx, opt, how)
	})
}

// IndexNIHCmd indexes ChestX-ray14.
type IndexNIHCmd struct{ tablesFlags }

// Run is the command.
func (c *IndexNIHCmd) Run(ctx context.Context, out *cli.Output) error {
	return c.run(ctx, out, "nih", c.TablesOnly, data.IndexNIH)
}

// IndexDICOMCmd indexes a folder of DICOM files.
type IndexDICOMCmd struct{ indexFlags }

// Run is the command.
func (c *IndexDICOMCmd) Run(ctx context.Context, out *cli.Output) error {
	return c.run(ctx, out, "dicom", false, data.IndexDICOM)
}

type indexer func(context.Context, data.IndexOptions) (*data.Index, data.Remarks, error)

func (c *indexFlags) run(ctx context.Context, out *cli.Output, layout string, tablesOnly bool, index indexer) error {
	switch {
	case tablesOnly && c.Out != "":
		return cli.Exit(cli.ExitUsage, hint.Wrap(errors.New("--tables-only writes no index"), "leave out --out"))
	case !tablesOnly && c.Out == "":
		return cli.Exit(cli.ExitUsage, hint.Wrap(errors.New("missing flags: --out=NAME.parquet"), "name the index to write"))
	case !tablesOnly:
		if err := os.MkdirAll(filepath.Dir(c.Out), 0o755); err != nil { // before the work, not after it
			return hint.Wrap(fmt.Errorf("write index %s: %w", c.Out, err), "choose a folder you can write to")
		}
	}
	progress := &progressOf{out: out, title: "index (files)"}
	x, remarks, err := index(ctx, data.IndexOptions{
		Root: c.Root, Dataset: c.Dataset, Shares: c.SplitShares, Seed: c.Seed, Fold: c.Fold, Labels: c.Labels, TablesOnly: tablesOnly,
		Progress: progress.start,
	})
	progress.done()
	if err != nil {
		return err
	}
	counts := data.Count(x.Images)
	paper, compared := data.AgainstPaper(layout, counts)
	out.Printf("%s\n%sleakage audit: no patient is in two splits, no study in two patients, no image there twice\n", counts.Table(), remarks.Text(remarksShown))
	if compared {
		out.Printf("%s", paper.Text())
	}
	if !tablesOnly {
		if err := data.WriteIndex(c.Out, x); err != nil {
			return err
		}
		out.Printf("wrote %s\n", c.Out)
	}
	err = out.Result(struct {
		Index   string           `json:"index,omitempty"`
		Dataset string           `json:"dataset"`
		Counts  data.Counts      `json:"counts"`
		Paper   *data.PaperAudit `json:"paper,omitempty"`
		Remarks data.Remarks     `json:"remarks"`
	}{c.Out, x.Dataset, counts, paper, remarks})
	if err != nil {
		return err
	}
	return refusedError("index "+c.Root, remarks)
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
