// Nih asks of real radiographs whether pretraining helps: pneumonia on a part of ChestX-ray14, from the published files to a
// served model, by the project's own programs. Run it from the repository's root:
//
//	go run ./benchmarks/nih -data DIR
//
// The comparison is a cross-validation by patient. In every fold, each network is trained on the fold's training patients alone,
// pretraining included; its epoch is chosen on the validation patients; and the test patients are scored once. AUROC is
// taken within each fold and averaged, overall and within each projection: in this dataset the projection tells of pneumonia, so only
// the scores within a projection are free of that. Images of 256x256 pixels all, and no model is given anything but pixels: size, pixel
// spacing and patient number, which also tell, cannot leak in.
//
// What is done already is kept in benchmarks/.work/nih, so that a stopped run goes on.
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
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/mvmae/mvmae/benchmarks/paired"
	"github.com/mvmae/mvmae/model"
	"github.com/mvmae/mvmae/model/metrics"
)

const (
	label  = "Pneumonia"
	folds  = 4
	shares = "0.6,0.15,0.25"
	source = paired.Folder + "/nih" // this folder
)

var (
	pneumonia  = model.LabelIndex(label)
	workDir    = filepath.Join(paired.WorkDir, "nih")
	bin        = filepath.Join(paired.WorkDir, "bin")
	resampling = metrics.Resampling{Replicates: 2000, Seed: 1}
)

func main() {
	dir := flag.String("data", "../shared/data/nih", "folder of the dataset")
	count := flag.Int("folds", folds, fmt.Sprintf("how many of the %d folds to do", folds))
	jobs := flag.Int("jobs", 1, "folds trained at the same time")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *dir, min(*count, folds), *jobs); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, dir string, count, jobs int) error {
	report := paired.NewReport("nih")
	python, err := paired.Python(source)
	if err != nil {
		return err
	}
	if out, err := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", bin+"/", "./cmd/...").CombinedOutput(); err != nil {
		return fmt.Errorf("build: %w\n%s", err, out)
	}
	list := make([]fold, count)
	training, ctxTraining := errgroup.WithContext(ctx)
	training.SetLimit(jobs)
	for i := range list {
		list[i] = fold{number: i + 1, data: dir, python: python}
		training.Go(func() error { return list[i].train(ctxTraining) })
	}
	if err := training.Wait(); err != nil {
		return err
	}
	projections, err := readProjections(dir)
	if err != nil {
		return err
	}
	for i := range list {
		if err := list[i].score(ctx, projections); err != nil {
			return fmt.Errorf("fold %d: %w", list[i].number, err)
		}
	}
	if err := report.AskPeers(ctx, python, "import skimage, sklearn; print(f'scikit-image {skimage.__version__}, scikit-learn {sklearn.__version__}')"); err != nil {
		return err
	}
	if report.Scores, err = tell(report, list); err != nil {
		return err
	}
	if err := serveCheck(ctx, report, list[0], projections); err != nil {
		return err
	}
	return report.Write()
}

// command runs a program and returns its standard output.
func command(ctx context.Context, program string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w\n%s", program, strings.Join(args, " "), err, stderr.String())
	}
	return out, nil
}

// once runs a command that makes out, unless the same one has made it before. What a stopped one left is deleted first.
func once(ctx context.Context, out, program string, args ...string) error {
	args = append(args, "--out", out)
	line, marker := program+" "+strings.Join(args, " "), out+".done"
	if doc, err := os.ReadFile(marker); err == nil && string(doc) == line {
		return nil
	}
	if err := os.RemoveAll(out); err != nil {
		return err
	}
	fmt.Fprintln(os.Stderr, time.Now().UTC().Format(time.TimeOnly), line)
	if _, err := command(ctx, program, args...); err != nil {
		return err
	}
	return os.WriteFile(marker, []byte(line), 0o644)
}
