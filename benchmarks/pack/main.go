// Pack compares how fast `pack` makes images with how fast the trainer eats them, both on this machine's cores: whoever trains
// should never wait for a pack, so it has to be ten times faster. Run it from the repository's root:
//
//	go run ./benchmarks/pack
//
// The images are the phantom's, of the size and in the format of each dataset's files, and take turns with the trainer's own step
// of each preset (benchmarks/train). What pack does is all in: reading, decoding, preparing, digests, writing.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"

	"github.com/mvmae/mvmae/benchmarks/paired"
	"github.com/mvmae/mvmae/dicom/cxr"
	"github.com/mvmae/mvmae/train/data"
)

func main() {
	only := flag.String("formats", "", "measure these only, by name, with commas between")
	presets := flag.String("presets", "base,small,tiny", "presets to train; none for pack alone")
	rounds := flag.Int("rounds", 10, "rounds")
	worker := flag.String("worker", "", "pack this index, a round at a time")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	var err error
	if *worker != "" {
		err = work(ctx, *worker)
	} else {
		err = run(ctx, list(*only), list(*presets), *rounds)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func list(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ',' })
}

func run(ctx context.Context, only, presets []string, rounds int) error {
	measured, err := choose(only)
	if err != nil {
		return err
	}
	report := paired.NewReport("pack")
	report.Variant = strings.Join(append(only, presets...), "-")
	var contenders []paired.Contender
	start := func(name, program string, args ...string) error {
		p, err := paired.Start(ctx, program, args...)
		if err == nil {
			contenders = append(contenders, paired.Contender{Name: name, Round: p.Round})
		}
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	bytes := map[string]float64{}
	for _, f := range measured {
		index, mean, err := f.tree(filepath.Join(paired.WorkDir, "pack-trees"))
		if err != nil {
			return fmt.Errorf("make %s: %w", f.name, err)
		}
		bytes[f.name] = mean
		if err := start(f.name, self, "-worker", index); err != nil {
			return err
		}
	}
	trainer := filepath.Join(paired.WorkDir, "train")
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", trainer, "./"+paired.Folder+"/train").CombinedOutput(); err != nil {
		return fmt.Errorf("build the trainer's side: %w\n%s", err, out)
	}
	for _, preset := range presets {
		if err := start(preset, trainer, "-worker", preset); err != nil {
			return err
		}
	}
	samples, err := paired.Run(ctx, os.Stderr, rounds, contenders...)
	if err != nil {
		return err
	}
	report.Parts["pack"] = samples
	table(report, samples, measured, presets, bytes, rounds)
	return report.Write()
}

// table prints a line for each format, with its ratio to each preset's step by the clock and by processor time.
func table(report *paired.Report, samples paired.Samples, measured []format, presets []string, bytes map[string]float64, rounds int) {
	report.Printf("Pack on all cores beside the trainer's step, in turns; %d rounds. Bold: pack's images/s over the trainer's, by the clock and by processor time.\n\n",
		rounds)
	head, line := "| files | MB each | images/s | CPU ms an image | cores used |", "|---|---|---|---|---|"
	for _, preset := range presets {
		head, line = head+fmt.Sprintf(" times %s | CPU |", preset), line+"---|---|"
	}
	report.Printf("%s\n%s\n", head, line)
	for _, f := range measured {
		report.Printf("| %s | %.2f | %v | %v | %v |", f.name, bytes[f.name]/1e6, samples.Of(f.name, paired.Sample.Rate),
			samples.Of(f.name, func(s paired.Sample) float64 { return 1000 / s.PerCPU() }),
			samples.Of(f.name, func(s paired.Sample) float64 { return s.CPUSeconds / s.Seconds }))
		for _, preset := range presets {
			report.Printf(" **%v** | **%v** |", samples.Ratio(f.name, preset, paired.Sample.Rate), samples.Ratio(f.name, preset, paired.Sample.PerCPU))
		}
		report.Printf("\n")
	}
	for i, preset := range presets {
		if i == 0 {
			report.Printf("\n| the trainer's step | images/s | images/s of processor time |\n|---|---|---|\n")
		}
		report.Printf("| %s | %v | %v |\n", preset, samples.Of(preset, paired.Sample.Rate), samples.Of(preset, paired.Sample.PerCPU))
	}
}

// work packs an index anew in every round.
func work(ctx context.Context, index string) error {
	x, err := data.ReadIndex(index)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp(paired.WorkDir, "packed")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	w := paired.Worker{PerRound: 1, Amount: float64(len(x.Images))}
	for {
		out := filepath.Join(dir, "pack")
		got, err := data.MakePack(ctx, []string{index}, data.PackOptions{Out: out, Recipe: cxr.Mimic, Deidentify: true})
		if err != nil {
			return err
		}
		if got.Manifest.Images != len(x.Images) {
			return fmt.Errorf("%s: %d of %d images were packed: %s", index, got.Manifest.Images, len(x.Images), got.Remarks.Text(1))
		}
		if !w.Done() {
			return nil
		}
		if err := os.RemoveAll(out); err != nil {
			return err
		}
	}
}
