package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/mvmae/mvmae/cmd/internal/cli"
	"github.com/mvmae/mvmae/internal/hint"
	"github.com/mvmae/mvmae/model"
	"github.com/mvmae/mvmae/train"
	"github.com/mvmae/mvmae/train/data"
	"github.com/mvmae/mvmae/train/report"
)

// recipeFlags choose a config: a recipe, then settings over it.
type recipeFlags struct {
	Recipe string   `help:"Recipe: paper, code, one of an experiment (see config --list), or a TOML file." default:"paper"`
	Set    []string `help:"Setting over the recipe, as in optim.base_lr=1e-3. May be repeated." placeholder:"KEY=VALUE" sep:"none"`
}

// load reads the recipe, then the flags that were given (as key=value; one without a value was not), then the settings.
func (f recipeFlags) load(flags ...string) (train.Config, error) {
	given := slices.DeleteFunc(flags, func(s string) bool { return strings.HasSuffix(s, "=") })
	cfg, err := train.LoadConfig(f.Recipe, append(given, f.Set...))
	return cfg, cli.Exit(cli.ExitUsage, err)
}

// deviceFlag chooses where graphs run.
type deviceFlag struct {
	Device string `help:"Where to compute: ${enum}." enum:"cpu,cuda,auto" default:"auto"`
}

func (f deviceFlag) open(out *cli.Output) (*train.Device, error) {
	return openDevices(out, f.Device, 1)
}

func openDevices(out *cli.Output, kind string, n int) (*train.Device, error) {
	dev, err := train.OpenDevices(kind, n)
	if err != nil {
		return nil, cli.Exit(cli.ExitMissing, err)
	}
	fmt.Fprintf(out.Stderr, "device: %s\n", dev)
	return dev, nil
}

// runOrFile names what a run begins with: another run's folder, or a file of weights.
type runOrFile string

// Validate wants it to be there.
func (p runOrFile) Validate() error {
	_, err := os.Stat(string(p))
	return err
}

// openPack opens a pack and says what is odd about it.
func openPack(dir string, out *cli.Output) (*data.Pack, error) {
	pack, err := data.Open(dir)
	if err == nil && pack.Leaking > 0 {
		fmt.Fprintf(out.Stderr, "warning: %d studies are not used: they have an image whose pixels are held out in another split\n", pack.Leaking)
	}
	return pack, err
}

// packOf opens the pack that a run was made on.
func packOf(run *train.Run, out *cli.Output) (*data.Pack, error) {
	pack, err := openPack(run.Info.Data, out)
	return pack, hint.Wrap(err, "the run reads the pack where it was: %s", run.Info.Data)
}

// devicesFlag lets training steps run on several devices.
type devicesFlag struct {
	deviceFlag
	Devices count `help:"Number of devices to spread each batch over." default:"1"`
}

// count is a number of devices.
type count int

// Validate wants one at least.
func (n count) Validate() error {
	if n < 1 {
		return fmt.Errorf("expected 1 or more, not %d", n)
	}
	return nil
}

func (f devicesFlag) open(out *cli.Output) (*train.Device, error) {
	return openDevices(out, f.Device, int(f.Devices))
}

// newRunDir is the given folder, or a new one under runs/ that tells its kind and time.
func newRunDir(out, kind string) string {
	if out != "" {
		return out
	}
	return filepath.Join("runs", kind+"-"+time.Now().UTC().Format("20060102-150405"))
}

// startRun makes the run folder of a pack. The run begins with the network of init, a run folder or a file of weights, or with
// random weights.
func startRun(dir, kind string, pack *data.Pack, packDir, init string, encoder *model.EncoderFile, dev *train.Device, cfg train.Config) (*train.Run, error) {
	abs, err := filepath.Abs(packDir)
	if err != nil {
		return nil, err
	}
	info := train.RunInfo{
		Kind: kind, Data: abs, DataDigest: pack.Digest(), Preprocessing: pack.Recipe.String(), Device: dev.String(), PluginDigest: dev.PluginDigest, Encoder: encoder,
	}
	if init != "" {
		if init, err = filepath.Abs(init); err != nil {
			return nil, err
		}
		if err := info.BeginWith(init, cfg); err != nil {
			return nil, err
		}
	}
	return train.CreateRun(dir, info, cfg)
}

// PretrainCmd trains encoder and decoder.
type PretrainCmd struct {
	Data   string    `help:"Folder that pack wrote." required:"" type:"existingdir" placeholder:"DIR"`
	Method string    `help:"Method: mvmae; independent, which is mvmae without the alignment loss; mvmae-v2t, which is mvmae with reports (default: the recipe's)." enum:",mvmae,independent,mvmae-v2t" default:""`
	Preset string    `help:"Size of the network: tiny, small, base or large (default: the recipe's)." enum:",tiny,small,base,large" default:"" xor:"size"`
	Init   runOrFile `help:"Network to begin with, whose size it is: a run, or a .safetensors or .pth file (default: random weights)." placeholder:"RUN|FILE" xor:"size"`
	Out    string    `help:"Run folder to make (default: a new one under runs/)." placeholder:"RUN"`
	recipeFlags
	devicesFlag
}

// Run starts a pretraining run.
func (c *PretrainCmd) Run(ctx context.Context, out *cli.Output) error {
	cfg, err := c.load("method="+c.Method, "preset="+c.Preset)
	if err != nil {
		return err
	}
	pack, err := openPack(c.Data, out)
	if err != nil {
		return err
	}
	defer pack.Close()
	dev, err := c.open(out)
	if err != nil {
		return err
	}
	run, err := startRun(newRunDir(c.Out, "pretrain"), "pretrain", pack, c.Data, string(c.Init), nil, dev, cfg)
	if err != nil {
		return err
	}
	return pretrain(ctx, out, dev, run, pack)
}

// steps shows how far a run is, step by step. The caller calls done.
func steps(out *cli.Output, run *train.Run, dev *train.Device, note func(train.Status) string) (report func(train.Status), done func()) {
	var progress *cli.Progress
	fmt.Fprintf(out.Stderr, "%s: compiling for %s\n", run.Info.Kind, dev)
	report = func(s train.Status) {
		if progress == nil {
			progress = out.Progress(run.Info.Kind+" (images)", int64(s.Steps)*int64(s.BatchViews))
			progress.Resume(int64(s.Step-1) * int64(s.BatchViews))
		}
		progress.Add(int64(s.BatchViews))
		progress.Note(fmt.Sprintf("step %d/%d, epoch %.1f, lr %.2e, loss %.4f", s.Step, s.Steps, s.Epoch, s.LR, s.Loss) + note(s))
	}
	return report, func() {
		if progress != nil {
			progress.Done()
		}
	}
}

// leavePage writes the page of a run that has ended with err, or was stopped. Without it the run is as good.
func leavePage(dev *train.Device, run *train.Run, pack *data.Pack, err error) {
	if err != nil && !errors.Is(err, train.ErrInterrupted) {
		return
	}
	if err := report.LeavePage(dev, run, pack); err != nil {
		slog.Warn("the run has no page", "error", err)
	}
}

// pretrain runs a run to its end.
func pretrain(ctx context.Context, out *cli.Output, dev *train.Device, run *train.Run, pack *data.Pack) error {
	var last train.Status
	report, done := steps(out, run, dev, func(s train.Status) string {
		last = s
		note := fmt.Sprintf(" (reconstruction %.4f, alignment %.4f", s.Reconstruction, s.Alignment)
		if s.Text > 0 {
			note += fmt.Sprintf(", text %.3f", s.Text)
		}
		return note + ")"
	})
	err := train.Pretrain(ctx, dev, run, pack, report)
	done()
	leavePage(dev, run, pack, err)
	if err != nil {
		return err
	}
	if last.Step == 0 {
		out.Printf("%s was complete already\n", run.Dir)
		return out.Result(map[string]any{"run": run.Dir, "complete": true})
	}
	out.Printf("pretrained %s: %d steps, reconstruction %.4f, alignment %.4f, %.0f images/s\n", run.Dir, last.Steps, last.Reconstruction, last.Alignment, last.ImagesPerSec)
	return out.Result(struct {
		Run  string            `json:"run"`
		Last train.StepMetrics `json:"last"`
	}{run.Dir, last.StepMetrics})
}

// ResumeCmd goes on with a run that was stopped.
type ResumeCmd struct {
	Dir string `arg:"" name:"run" help:"Run folder, or the folder of the runs that --seeds made." type:"existingdir"`
	cacheFlag
	devicesFlag
}

// Run goes on from the last checkpoint. A probe of recipe "paper", which is short, begins again.
func (c *ResumeCmd) Run(ctx context.Context, out *cli.Output) error {
	runs, several, err := train.OpenRuns(c.Dir)
	if err != nil {
		return err
	}
	run := runs[0]
	pack, err := packOf(run, out)
	if err != nil {
		return err
	}
	defer pack.Close()
	dev, err := c.open(out)
	if err != nil {
		return err
	}
	if dev.PluginDigest != run.Info.PluginDigest {
		fmt.Fprintf(out.Stderr, "warning: the run began with another XLA plugin (%.12s, now %.12s): results may differ in the last bits\n",
			run.Info.PluginDigest, dev.PluginDigest)
	}
	if run.Info.Kind == "pretrain" {
		return pretrain(ctx, out, dev, run, pack)
	}
	fit, err := c.fitter(run)
	if err != nil {
		return err
	}
	if several {
		return fitSeeds(ctx, out, dev, pack, c.Dir, runs, fit)
	}
	rep, err := fit.run(ctx, out, dev, run, pack)
	if err != nil {
		return err
	}
	return leave(out, run, rep)
}

// fitter is how a classifier of the run's kind is trained.
func (c *ResumeCmd) fitter(run *train.Run) (fitter, error) {
	switch {
	case run.Info.Encoder != nil:
		e, err := openEncoder(run.Info.Encoder.Path, c.Device, c.Cache)
		return probeWith(e), err
	case run.Info.Kind == "probe":
		return probe, nil
	}
	return finetune, nil
}
