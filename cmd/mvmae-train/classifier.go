package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"

	"github.com/mvmae/mvmae/cmd/internal/cli"
	"github.com/mvmae/mvmae/internal/hint"
	"github.com/mvmae/mvmae/model"
	"github.com/mvmae/mvmae/train"
	"github.com/mvmae/mvmae/train/data"
	"github.com/mvmae/mvmae/train/eval"
)

// ProbeCmd trains a linear classifier on a frozen encoder.
type ProbeCmd struct {
	Data string    `help:"Folder that pack wrote." required:"" type:"existingdir" placeholder:"DIR"`
	Init runOrFile `help:"Pretraining run, or .safetensors or .pth file, whose encoder to use (default: random weights, as a baseline)." placeholder:"RUN|FILE" xor:"encoder"`
	encoderFlags
	Out string `help:"Run folder to make (default: a new one under runs/)." placeholder:"RUN"`
	// Preset is for random weights only: a pretrained encoder has its own.
	Preset string `help:"Size of the network without --init: tiny, small, base or large (default: the recipe's)." enum:",tiny,small,base,large" default:""`
	classifierFlags
	deviceFlag
}

// Run starts a probe.
func (c *ProbeCmd) Run(ctx context.Context, out *cli.Output) error {
	cfg, err := c.load("preset=" + c.Preset)
	if err != nil {
		return err
	}
	if c.Encoder == "" {
		return classifier{"probe", c.Data, string(c.Init), c.Out, c.Seeds, cfg, devicesFlag{c.deviceFlag, 1}, nil}.start(ctx, out, probe)
	}
	if err := cfg.CanProbeEncoder(); err != nil { // before there is a run folder
		return cli.Exit(cli.ExitUsage, err)
	}
	e, err := openEncoder(c.Encoder, c.Device, c.Cache)
	if err != nil {
		return err
	}
	return classifier{"probe", c.Data, "", c.Out, c.Seeds, cfg, devicesFlag{c.deviceFlag, 1}, &e.File}.start(ctx, out, probeWith(e))
}

// FinetuneCmd trains all weights of a classifier that begins with a pretrained encoder.
type FinetuneCmd struct {
	Data string    `help:"Folder that pack wrote." required:"" type:"existingdir" placeholder:"DIR"`
	Init runOrFile `help:"Pretraining run, or .safetensors or .pth file, whose encoder to begin with." required:"" placeholder:"RUN|FILE"`
	Out  string    `help:"Run folder to make (default: a new one under runs/)." placeholder:"RUN"`
	classifierFlags
	devicesFlag
}

// Run starts a finetuning run.
func (c *FinetuneCmd) Run(ctx context.Context, out *cli.Output) error {
	cfg, err := c.load()
	if err != nil {
		return err
	}
	return classifier{"finetune", c.Data, string(c.Init), c.Out, c.Seeds, cfg, c.devicesFlag, nil}.start(ctx, out, finetune)
}

// SupervisedCmd is finetune from random weights: the baseline without pretraining.
type SupervisedCmd struct {
	Data   string `help:"Folder that pack wrote." required:"" type:"existingdir" placeholder:"DIR"`
	Preset string `help:"Size of the network: tiny, small, base or large (default: the recipe's)." enum:",tiny,small,base,large" default:""`
	Out    string `help:"Run folder to make (default: a new one under runs/)." placeholder:"RUN"`
	classifierFlags
	devicesFlag
}

// Run starts a supervised run.
func (c *SupervisedCmd) Run(ctx context.Context, out *cli.Output) error {
	cfg, err := c.load("preset=" + c.Preset)
	if err != nil {
		return err
	}
	return classifier{"supervised", c.Data, "", c.Out, c.Seeds, cfg, c.devicesFlag, nil}.start(ctx, out, finetune)
}

// classifierFlags are those of probe, finetune and supervised alike.
type classifierFlags struct {
	Labels int `help:"Labelled training studies to learn from, chosen by seed; fewer are a part of more (default: all)." placeholder:"N"`
	Seeds  int `help:"Runs to make, with seeds from the recipe's on, each in a folder of its own in RUN; the result is their mean and spread. The same command, or resume RUN, goes on where it was stopped." default:"1" placeholder:"K"`
	recipeFlags
}

// load reads the recipe with the flags that were given.
func (f classifierFlags) load(flags ...string) (train.Config, error) {
	if f.Seeds < 1 {
		return train.Config{}, cli.Exit(cli.ExitUsage, fmt.Errorf("--seeds %d: want 1 or more", f.Seeds))
	}
	if f.Labels != 0 {
		flags = append(flags, fmt.Sprint("labels=", f.Labels))
	}
	return f.recipeFlags.load(flags...)
}

// classifier is a run of probe, finetune or supervised that is about to start, or several that differ in their seed.
type classifier struct {
	kind, data, init, out string
	seeds                 int
	cfg                   train.Config
	device                devicesFlag
	encoder               *model.EncoderFile // of an ONNX file; nil for a network of this project
}

// fitter trains a classifier to the end of its run.
type fitter func(context.Context, *cli.Output, *train.Device, *train.Run, *data.Pack) (eval.Report, error)

// run trains and leaves the run's page.
func (fit fitter) run(ctx context.Context, out *cli.Output, dev *train.Device, run *train.Run, pack *data.Pack) (eval.Report, error) {
	rep, err := fit(ctx, out, dev, run, pack)
	leavePage(dev, run, pack, err)
	return rep, err
}

// start makes the run folder and trains. A pretrained encoder has its own size and method.
func (c classifier) start(ctx context.Context, out *cli.Output, fit fitter) error {
	if info, err := os.Stat(c.init); err == nil && info.IsDir() {
		from, err := train.OpenRun(c.init)
		if err != nil {
			return err
		}
		c.cfg.Preset, c.cfg.ImageSize, c.cfg.Method = from.Config.Preset, from.Config.ImageSize, from.Config.Method
	}
	pack, err := openPack(c.data, out)
	if err != nil {
		return err
	}
	defer pack.Close()
	dev, err := c.device.open(out)
	if err != nil {
		return err
	}
	dir := newRunDir(c.out, c.kind)
	if c.seeds > 1 {
		return c.startSeeds(ctx, out, dev, pack, dir, fit)
	}
	run, err := startRun(dir, c.kind, pack, c.data, c.init, c.encoder, dev, c.cfg)
	if err != nil {
		return err
	}
	rep, err := fit.run(ctx, out, dev, run, pack)
	if err != nil {
		return err
	}
	return leave(out, run, rep)
}

// startSeeds makes the folders of all runs in dir, or takes those that are there, and trains one run after the other.
func (c classifier) startSeeds(ctx context.Context, out *cli.Output, dev *train.Device, pack *data.Pack, dir string, fit fitter) error {
	var runs []*train.Run
	for range c.seeds {
		run, err := c.seedRun(filepath.Join(dir, fmt.Sprint("seed-", c.cfg.Seed)), pack, dev)
		if err != nil {
			return fmt.Errorf("seed %d: %w", c.cfg.Seed, err)
		}
		runs = append(runs, run)
		c.cfg.Seed++
	}
	return fitSeeds(ctx, out, dev, pack, dir, runs, fit)
}

// seedRun makes the folder of one of several runs, or opens it.
func (c classifier) seedRun(dir string, pack *data.Pack, dev *train.Device) (*train.Run, error) {
	run, err := train.OpenRun(dir)
	if err != nil {
		return startRun(dir, c.kind, pack, c.data, c.init, c.encoder, dev, c.cfg)
	}
	if run.Info.Kind != c.kind || run.Config != c.cfg || run.Info.DataDigest != pack.Digest() {
		return nil, hint.Wrap(fmt.Errorf("%s holds a run of another config, kind or pack", dir), "name another folder with --out")
	}
	return run, nil
}

// fitSeeds trains the runs of dir that have not ended, and leaves what all of them scored.
func fitSeeds(ctx context.Context, out *cli.Output, dev *train.Device, pack *data.Pack, dir string, runs []*train.Run, fit fitter) error {
	var seeds []uint64
	var reports []eval.Report
	for _, run := range runs {
		seed := run.Config.Seed
		rep, err := fit.seed(ctx, out, dev, run, pack)
		if errors.Is(err, train.ErrInterrupted) {
			return hint.Wrap(fmt.Errorf("seed %d: %w", seed, err), `go on with "mvmae-train resume %s"`, dir)
		}
		if err != nil {
			return fmt.Errorf("seed %d: %w", seed, err)
		}
		seeds, reports = append(seeds, seed), append(reports, rep)
	}
	all := eval.OverSeeds(seeds, reports)
	doc, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return err
	}
	err = model.WriteFileAtomic(filepath.Join(dir, "seeds.json"), func(w io.Writer) error {
		_, err := w.Write(append(doc, '\n'))
		return err
	})
	if err != nil {
		return err
	}
	out.Printf("%s %s\n%s", runs[0].Info.Kind, dir, all.Table())
	return out.Result(struct {
		Run   string     `json:"run"`
		Seeds eval.Seeds `json:"seeds"`
	}{dir, all})
}

// seed is the report of one of several runs: the folder's, if the run has ended.
func (fit fitter) seed(ctx context.Context, out *cli.Output, dev *train.Device, run *train.Run, pack *data.Pack) (rep eval.Report, err error) {
	if run.Finished() {
		doc, err := os.ReadFile(filepath.Join(run.Dir, model.RunEvaluation))
		if err == nil {
			err = json.Unmarshal(doc, &rep)
		}
		return rep, err
	}
	fmt.Fprintf(out.Stderr, "%s: seed %d\n", run.Info.Kind, run.Config.Seed)
	return fit.run(ctx, out, dev, run, pack)
}

// finetune trains a classifier's weights to the end of a run, from a pretrained encoder or from random ones.
func finetune(ctx context.Context, out *cli.Output, dev *train.Device, run *train.Run, pack *data.Pack) (eval.Report, error) {
	score := ""
	report, done := steps(out, run, dev, func(s train.Status) string {
		if s.Score != nil {
			score = fmt.Sprintf(", validation macro AUROC %.4f", *s.Score)
		}
		return score
	})
	defer done()
	return train.Finetune(ctx, dev, run, pack, report)
}

// leave says where a classifier is and what it scored.
func leave(out *cli.Output, run *train.Run, rep eval.Report) error {
	out.Printf("%s %s\n%s", run.Info.Kind, run.Dir, rep.Table())
	return out.Result(struct {
		Run    string      `json:"run"`
		Report eval.Report `json:"report"`
	}{run.Dir, rep})
}

func probe(ctx context.Context, out *cli.Output, dev *train.Device, run *train.Run, pack *data.Pack) (eval.Report, error) {
	return showProbe(out, func(report func(train.ProbeStatus)) (eval.Report, error) {
		return train.Probe(ctx, dev, run, pack, report)
	})
}

// showProbe shows how far a probe is.
func showProbe(out *cli.Output, fit func(report func(train.ProbeStatus)) (eval.Report, error)) (eval.Report, error) {
	var progress *cli.Progress
	stage, done := "", 0
	defer func() {
		if progress != nil {
			progress.Done()
		}
	}()
	return fit(func(s train.ProbeStatus) {
		if s.Stage != stage {
			if progress != nil {
				progress.Done()
			}
			titles := map[string]string{"embed": "probe: encode (images)", "train": "probe: train head (epochs)"}
			progress, stage, done = out.Progress(titles[s.Stage], int64(s.Total)), s.Stage, 0
		}
		progress.Add(int64(s.Done - done))
		done = s.Done
		if s.Stage == "train" && !math.IsInf(s.MacroAUROC, -1) {
			progress.Note(fmt.Sprintf("best validation macro AUROC %.4f", s.MacroAUROC))
		}
	})
}
