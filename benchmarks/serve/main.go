// Serve compares whole study servers on one ViT-B model with random weights: mvmae-serve, FastAPI with uvicorn, pydicom,
// OpenCV and onnxruntime, and, as the upper bound, a bare loop around ONNX Runtime that gets finished inputs. Studies have
// two views of 2048x2048 pixels. Run it from the repository's root:
//
//	go run ./benchmarks/serve
//
// With -compressed it measures mvmae-serve alone, with studies in every kind of transfer syntax, which "make peers" can encode:
//
//	go run ./benchmarks/serve -compressed -preset tiny
//
// One load program drives all of them, over loopback only, with a fixed number of studies a round. The two servers' answers
// are compared first.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"

	"github.com/mvmae/mvmae/benchmarks/load"
	"github.com/mvmae/mvmae/benchmarks/made"
	"github.com/mvmae/mvmae/benchmarks/paired"
	"github.com/mvmae/mvmae/dicom/cxr"
	"github.com/mvmae/mvmae/export"
	"github.com/mvmae/mvmae/export/exporttest"
	"github.com/mvmae/mvmae/model"
	"github.com/mvmae/mvmae/model/ort"
)

const (
	peer         = paired.Folder + "/serve/server.py"
	peerVersions = "import fastapi, uvicorn, onnxruntime; print(f'FastAPI {fastapi.__version__}, uvicorn {uvicorn.__version__}, onnxruntime {onnxruntime.__version__}')"
	tolerance    = 1e-3 // of a probability: OpenCV rounds its area average in float32, so a pixel may differ by one
)

// studiesOf are the studies of a round, by number of clients.
var studiesOf = map[int]int{1: 6, 4: 12}

func main() {
	rounds := flag.Int("rounds", 10, "rounds")
	preset := flag.String("preset", "base", "size of the network")
	modelOnly := flag.Bool("model-only", false, "only write the model file, to "+paired.WorkDir)
	compressed := flag.Bool("compressed", false, "measure compressed studies against native ones")
	worker := flag.Int("worker", 0, "be the bare loop, with this many clients")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	var err error
	switch {
	case *modelOnly:
		err = writeModel(*preset, cxr.Mimic)
	case *worker > 0:
		err = work(ctx, *preset, *worker)
	case *compressed:
		err = runCompressed(ctx, *preset, *rounds)
	default:
		err = run(ctx, *preset, *rounds)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func modelFile(preset string) string { return modelOf(preset, cxr.Mimic) }

func modelOf(preset string, recipe cxr.Recipe) string {
	return filepath.Join(paired.WorkDir, preset+"-"+recipe.String()+".onnx")
}

// buildServer builds mvmae-serve.
func buildServer(ctx context.Context) (string, error) {
	program := filepath.Join(paired.WorkDir, "mvmae-serve")
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", program, "./cmd/mvmae-serve").CombinedOutput(); err != nil {
		return "", fmt.Errorf("build mvmae-serve: %w\n%s", err, out)
	}
	return program, nil
}

func run(ctx context.Context, preset string, rounds int) error {
	report := paired.NewReport("serve")
	python, err := paired.Python(paired.Folder)
	if err != nil {
		return err
	}
	if err := report.AskPeers(ctx, python, peerVersions); err != nil {
		return err
	}
	if err := writeModel(preset, cxr.Mimic); err != nil {
		return err
	}
	program, err := buildServer(ctx)
	if err != nil {
		return err
	}
	study, err := load.Study(2048)
	if err != nil {
		return err
	}
	ours, err := load.Start(ctx, paired.WorkDir, program, "up", "--model", modelFile(preset), "--listen", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer ours.Stop()
	theirs, err := load.Start(ctx, paired.WorkDir, python, peer, modelFile(preset), model.MetadataKey)
	if err != nil {
		return err
	}
	defer theirs.Stop()
	if err := sameAnswer(ctx, study, ours, theirs); err != nil {
		return err
	}
	report.Printf("%s, random weights; studies of two 2048x2048 16-bit views, sent as multipart over loopback; %d rounds.\n"+
		"Peer: %s, one process, the two views as one batch on all cores. Bare loop: ONNX Runtime in Go, finished inputs, no HTTP.\n\n"+
		"| clients | program | studies/s | p50 ms | p95 ms | CPU ms a study | RSS MB |\n|---|---|---|---|---|---|---|\n", preset, rounds, report.Peers["Python"])
	for _, clients := range []int{1, 4} {
		if err := measure(ctx, report, preset, rounds, clients, study, ours, theirs); err != nil {
			return err
		}
	}
	return report.Write()
}

// measure adds the rows of one number of clients.
func measure(ctx context.Context, report *paired.Report, preset string, rounds, clients int, study []byte, ours, theirs *load.Server) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	bare, err := paired.Start(ctx, self, "-worker", strconv.Itoa(clients), "-preset", preset)
	if err != nil {
		return err
	}
	defer bare.Close()
	samples, err := paired.Run(ctx, os.Stderr, rounds,
		paired.Contender{Name: "mvmae-serve", Round: func(ctx context.Context) (paired.Sample, error) { return round(ctx, ours, clients, study) }},
		paired.Contender{Name: "FastAPI", Round: func(ctx context.Context) (paired.Sample, error) { return round(ctx, theirs, clients, study) }},
		paired.Contender{Name: "bare loop", Round: bare.Round},
	)
	if err != nil {
		return err
	}
	report.Parts[fmt.Sprint(clients, " clients")] = samples
	for _, name := range []string{"mvmae-serve", "FastAPI", "bare loop"} {
		extra := func(key string) string {
			return fmt.Sprintf("%.0f", samples.Of(name, func(s paired.Sample) float64 { return s.Extra[key] }).Median)
		}
		report.Printf("| %d | %s | %v | %s | %s | %.0f | %s |\n", clients, name, samples.Of(name, paired.Sample.Rate), extra("p50"), extra("p95"),
			samples.Of(name, func(s paired.Sample) float64 { return 1000 / s.PerCPU() }).Median, extra("rss"))
	}
	report.Printf("| %d | **mvmae-serve / FastAPI** | **%v** | | | %v | |\n| %d | **mvmae-serve / bare loop** | **%v** | | | %v | |\n",
		clients, samples.Ratio("mvmae-serve", "FastAPI", paired.Sample.Rate), samples.Ratio("FastAPI", "mvmae-serve", invCPU),
		clients, samples.Ratio("mvmae-serve", "bare loop", paired.Sample.Rate), samples.Ratio("bare loop", "mvmae-serve", invCPU))
	return nil
}

// invCPU is processor time a study: its ratio says how many times less the second contender needs.
func invCPU(s paired.Sample) float64 { return 1 / s.PerCPU() }

// writeModel exports a network that was never trained, once.
func writeModel(preset string, recipe cxr.Recipe) error {
	return made.Model(modelOf(preset, recipe), preset, recipe, export.Graph{})
}

// sameAnswer compares the servers' probabilities for one study.
func sameAnswer(ctx context.Context, study []byte, a, b *load.Server) error {
	var answers [2]struct{ Probabilities map[string]float64 }
	for i, s := range []*load.Server{a, b} {
		doc, err := s.Classify(ctx, study)
		if err != nil {
			return err
		}
		if err := json.Unmarshal(doc, &answers[i]); err != nil {
			return err
		}
	}
	if len(answers[0].Probabilities) != model.NumLabels {
		return errors.New("the server's answer has not all labels")
	}
	for label, p := range answers[0].Probabilities {
		if q := answers[1].Probabilities[label]; !(math.Abs(p-q) <= tolerance) {
			return fmt.Errorf("%s: mvmae-serve says %.5f, the peer %.5f: they do not do the same work", label, p, q)
		}
	}
	return nil
}

// work is the bare loop: the views of a study run side by side on as many threads as there are cores.
func work(ctx context.Context, preset string, clients int) error {
	m, err := ort.Open(modelFile(preset), ort.Options{})
	if err != nil {
		return err
	}
	defer m.Close()
	images, _ := exporttest.Inputs(1, m.Metadata().Spec)
	cores := newCores()
	w := paired.Worker{PerRound: 1, Amount: float64(studiesOf[clients])}
	for {
		w.Extra, err = load.Run(ctx, clients, studiesOf[clients], func(ctx context.Context) error {
			return cores.both(func(view int) error {
				_, err := m.Run(ctx, images, []int64{int64(view)})
				return err
			})
		})
		if err != nil {
			return err
		}
		if w.Extra["rss"], err = load.ResidentMB(os.Getpid()); err != nil {
			return err
		}
		if !w.Done() {
			return nil
		}
	}
}
