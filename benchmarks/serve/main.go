// Serve compares whole study servers on one ViT-B model with random weights: mvmae-serve; FastAPI with uvicorn, BentoML and
// LitServe, which all read studies with pydicom and OpenCV; and, as the upper bound, a bare loop around ONNX Runtime that
// gets finished inputs. Studies have two views of 2048x2048 pixels. Run it from the repository's root:
//
//	go run ./benchmarks/serve
//
// Other measurements, of mvmae-serve or of single stages:
//
//	go run ./benchmarks/serve -encoding 90.pylibjpeg                the same, with compressed studies ("make peers" encodes them)
//	go run ./benchmarks/serve -overhead                             what a request costs beside decoding and network
//	go run ./benchmarks/serve -compressed -preset tiny              every kind of transfer syntax, mvmae-serve alone
//	go run ./benchmarks/serve -soak 10m -precisions int8            half as many studies again as it can do, mvmae-serve alone
//
// One load program drives all of them, over loopback only, with a fixed number of studies a round. The servers' answers are
// compared first.
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
	"slices"
	"strings"
	"time"

	"github.com/mvmae/mvmae/benchmarks/load"
	"github.com/mvmae/mvmae/benchmarks/made"
	"github.com/mvmae/mvmae/benchmarks/paired"
	"github.com/mvmae/mvmae/dicom/cxr"
	"github.com/mvmae/mvmae/export"
	"github.com/mvmae/mvmae/model"
)

const (
	folder       = paired.Folder + "/serve"
	peerVersions = `from importlib.metadata import version; print(", ".join(f"{p} {version(p)}" for p in ("fastapi", "uvicorn", "bentoml", "litserve", "onnxruntime", "pydicom")))`
	ours         = "mvmae-serve"
	bareLoop     = "bare loop"
)

// tolerances of a probability between two servers. OpenCV rounds its area average in float32, so a pixel may differ by one; and
// int8 quantises what a batch holds by its extremes, so an image's numbers depend on the others of its batch.
var tolerances = map[export.Precision]float64{export.FP32: 1e-3, export.INT8: 5e-2}

// settings are the command's flags.
type settings struct {
	rounds     int
	preset     string
	precisions []export.Precision
	peers      []string
	encoding   string
}

func main() {
	var set settings
	flag.IntVar(&set.rounds, "rounds", 10, "rounds")
	flag.StringVar(&set.preset, "preset", "base", "size of the network")
	precisions := flag.String("precisions", "fp32,int8", "of the model, separated by commas")
	peers := flag.String("peers", "FastAPI,BentoML,LitServe", "to compare with, separated by commas")
	flag.StringVar(&set.encoding, "encoding", "", "of the studies, as package test/peers names them; none is native")
	modelOnly := flag.Bool("model-only", false, "only write the model files, to "+paired.WorkDir)
	compressed := flag.Bool("compressed", false, "measure compressed studies against native ones")
	overhead := flag.Bool("overhead", false, "measure what a request costs beside its study")
	soak := flag.Duration("soak", 0, "send half as many studies again as the server can do, for so long")
	worker := flag.String("worker", "", "be a contender in a process of its own: bare or engine")
	clients := flag.Int("clients", 1, "of the worker")
	studies := flag.Int("studies", 1, "of the worker's rounds")
	flag.Parse()
	for name := range strings.SplitSeq(*precisions, ",") {
		set.precisions = append(set.precisions, export.Precision(name))
	}
	set.peers = strings.Split(*peers, ",")
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	var err error
	switch {
	case *worker != "":
		err = work(ctx, *worker, modelOf(set.preset, cxr.Mimic, set.precisions[0]), *clients, *studies)
	case *modelOnly:
		err = set.writeModels()
	case *compressed:
		err = runCompressed(ctx, set.preset, set.rounds)
	case *overhead:
		err = runOverhead(ctx, set)
	case *soak > 0:
		err = runSoak(ctx, set, *soak)
	default:
		err = run(ctx, set)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func (set settings) writeModels() error {
	for _, precision := range set.precisions {
		if err := writeModel(set.preset, cxr.Mimic, precision); err != nil {
			return err
		}
	}
	return nil
}

func modelOf(preset string, recipe cxr.Recipe, precision export.Precision) string {
	return filepath.Join(paired.WorkDir, fmt.Sprintf("%s-%s-%s.onnx", preset, recipe, precision))
}

// buildServer builds mvmae-serve.
func buildServer(ctx context.Context) (string, error) {
	program := filepath.Join(paired.WorkDir, "mvmae-serve")
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", program, "./cmd/mvmae-serve").CombinedOutput(); err != nil {
		return "", fmt.Errorf("build mvmae-serve: %w\n%s", err, out)
	}
	return program, nil
}

// studiesOf are the studies of a round, by number of clients and precision: a round is to last some seconds.
func studiesOf(clients int, precision export.Precision) int {
	n := map[int]int{1: 6, 4: 12}[clients]
	if precision == export.INT8 {
		n *= 2
	}
	return n
}

func run(ctx context.Context, set settings) error {
	report := paired.NewReport("serve")
	report.Variant = strings.Trim(set.encoding, ".")
	python, err := paired.Python(folder)
	if err != nil {
		return err
	}
	if err := report.AskPeers(ctx, python, peerVersions); err != nil {
		return err
	}
	if err := set.writeModels(); err != nil {
		return err
	}
	program, err := buildServer(ctx)
	if err != nil {
		return err
	}
	study, what, err := set.study(ctx)
	if err != nil {
		return err
	}
	report.Printf("%s, random weights; studies of two %s, sent as multipart over loopback; %d rounds.\n"+
		"Peers: %s; one process or worker each, the two views as one batch on all cores. Bare loop: ONNX Runtime in Go, finished inputs, no HTTP.\n"+
		"Quantiles are of all rounds' studies; memory is resident, of all processes, at the end of a round.\n\n"+
		"| model | clients | program | studies/s | p50 ms | p95 ms | p99 ms | CPU ms a study | memory MB |\n|---|---|---|---|---|---|---|---|---|\n",
		set.preset, what, set.rounds, report.Peers["Python"])
	for _, precision := range set.precisions {
		if err := runPrecision(ctx, report, set, precision, program, python, study); err != nil {
			return err
		}
	}
	return report.Write()
}

// study is the study that all servers are sent, and what it is.
func (set settings) study(ctx context.Context) (study []byte, what string, err error) {
	if set.encoding == "" {
		study, err = load.Study(2, 2048)
		return study, "2048x2048 16-bit views, native", err
	}
	dir, err := os.MkdirTemp("", "mvmae-serve")
	if err != nil {
		return nil, "", err
	}
	if err := buildDecoder(dir); err != nil { // the folder stays: the server uses the decoder
		return nil, "", err
	}
	list, err := encodeStudies(ctx, dir, set.encoding)
	if err != nil {
		return nil, "", err
	}
	i := slices.IndexFunc(list, func(e encoding) bool { return e.name != "native" })
	return list[i].study, fmt.Sprintf("%dx%d 16-bit views with the noise of a real detector, %s, %.1f MB a study", compressedRows, compressedColumns, list[i].name,
		float64(len(list[i].study))/1e6), nil
}

// runPrecision adds the rows of one model.
func runPrecision(ctx context.Context, report *paired.Report, set settings, precision export.Precision, program, python string, study []byte) error {
	file := modelOf(set.preset, cxr.Mimic, precision)
	s, err := startOurs(ctx, program, file)
	if err != nil {
		return err
	}
	defer s.stop()
	servers := []*server{s}
	for _, name := range set.peers {
		if name == "" {
			continue
		}
		peer, err := startPeer(ctx, python, name, file)
		if err != nil {
			return err
		}
		defer peer.stop()
		if err := sameAnswer(ctx, study, s, peer, tolerances[precision]); err != nil {
			return err
		}
		servers = append(servers, peer)
	}
	for _, s := range servers {
		memory, err := memoryMB(s.cmd.Process.Pid)
		if err != nil {
			return err
		}
		fmt.Fprintf(os.Stderr, "%s, %s: ready after %v with %.0f MB\n", precision, s.name, s.ready.Round(time.Millisecond), memory)
		report.Peers[fmt.Sprintf("ready %s %s", precision, s.name)] = s.ready.String()
	}
	for _, clients := range []int{1, 4} {
		if err := measure(ctx, report, set, precision, clients, study, servers); err != nil {
			return err
		}
	}
	for _, s := range servers {
		report.Printf("| %s | | %s | ready after %v | | | | | |\n", precision, s.name, s.ready.Round(time.Millisecond))
	}
	return nil
}

// measure adds the rows of one number of clients.
func measure(ctx context.Context, report *paired.Report, set settings, precision export.Precision, clients int, study []byte, servers []*server) error {
	n := studiesOf(clients, precision)
	bare, err := startWorker(ctx, "bare", set.preset, precision, clients, n)
	if err != nil {
		return err
	}
	defer bare.Close()
	contenders := []paired.Contender{{Name: bareLoop, Round: bare.Round}}
	for _, s := range servers {
		contenders = append(contenders, paired.Contender{Name: s.name, Round: func(ctx context.Context) (paired.Sample, error) { return s.round(ctx, clients, n, study) }})
	}
	samples, err := paired.Run(ctx, os.Stderr, set.rounds, contenders...)
	if err != nil {
		return err
	}
	report.Parts[fmt.Sprintf("%s, %d clients", precision, clients)] = samples
	row := func(name, cells string) { report.Printf("| %s | %d | %s | %s |\n", precision, clients, name, cells) }
	names := []string{bareLoop}
	for _, s := range servers {
		names = append(names, s.name)
	}
	for _, name := range names {
		ms := times(samples[name])
		row(name, fmt.Sprintf("%v | %.0f | %.0f | %.0f | %.0f | %.0f", samples.Of(name, paired.Sample.Rate), paired.Quantile(ms, 0.5), paired.Quantile(ms, 0.95),
			paired.Quantile(ms, 0.99), samples.Of(name, cpuMS).Median, samples.Of(name, func(s paired.Sample) float64 { return s.Extra["memory"] }).Median))
	}
	median := func(s paired.Sample) float64 { return paired.Quantile(times([]paired.Sample{s}), 0.5) }
	for _, name := range names {
		if name != ours {
			row(fmt.Sprintf("**%s / %s**", ours, name), fmt.Sprintf("**%v** | **%v** | | | %v | ", samples.Ratio(ours, name, paired.Sample.Rate),
				samples.Ratio(ours, name, median), samples.Ratio(ours, name, cpuMS)))
		}
	}
	return nil
}

// cpuMS is processor time a study, in ms.
func cpuMS(s paired.Sample) float64 { return 1000 / s.PerCPU() }

// writeModel exports a network that was never trained, once.
func writeModel(preset string, recipe cxr.Recipe, precision export.Precision) error {
	return made.Model(modelOf(preset, recipe, precision), preset, recipe, export.Graph{Precision: precision})
}

// sameAnswer compares the servers' probabilities for one study.
func sameAnswer(ctx context.Context, study []byte, a, b *server, tolerance float64) error {
	var answers [2]struct{ Probabilities map[string]float64 }
	for i, s := range []*server{a, b} {
		doc, err := s.classify(ctx, study)
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
			return fmt.Errorf("%s: %s says %.5f, %s %.5f: they do not do the same work", label, a.name, p, b.name, q)
		}
	}
	return nil
}
