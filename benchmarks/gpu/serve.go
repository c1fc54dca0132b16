package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/mvmae/mvmae/benchmarks/load"
	"github.com/mvmae/mvmae/benchmarks/made"
	"github.com/mvmae/mvmae/benchmarks/paired"
	"github.com/mvmae/mvmae/dicom/cxr"
	"github.com/mvmae/mvmae/export"
	"github.com/mvmae/mvmae/export/exporttest"
	"github.com/mvmae/mvmae/model/ort"
)

// logitTolerance is how much a logit may differ from the CPU's of the fp32 file.
var logitTolerance = map[string]float64{"fp32": 1e-3, "fp16": 5e-2}

// modelFile writes the model of a case, once: random weights.
func modelFile(preset, precision string) (string, error) {
	dir, err := work()
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, preset+"-"+precision+".onnx")
	return path, made.Model(path, preset, cxr.Mimic, export.Graph{Precision: export.Precision(precision)})
}

type modelParams struct {
	Preset    string `json:"preset"`
	Precision string `json:"precision"`
	Device    string `json:"device"`
	Batches   []int  `json:"batches"`
	Rounds    int    `json:"rounds"`
}

// modelValues is what ONNX Runtime alone does.
type modelValues struct {
	modelParams
	OfTheDevice string      `json:"device_used"`
	Version     string      `json:"onnxruntime"`
	Difference  float64     `json:"largest_logit_difference"` // from the fp32 file on the CPU
	Tolerance   float64     `json:"tolerance"`
	Rates       []batchRate `json:"rates"`
}

type batchRate struct {
	Batch        int     `json:"batch"`
	ImagesPerSec float64 `json:"images_per_sec"`
	RunMS        float64 `json:"run_ms"` // median
}

func measureModel(ctx context.Context, p modelParams) (any, error) {
	reference, err := modelFile(p.Preset, "fp32")
	if err != nil {
		return nil, err
	}
	path, err := modelFile(p.Preset, p.Precision)
	if err != nil {
		return nil, err
	}
	cpu, err := ort.Open(reference, ort.Options{Threads: 4})
	if err != nil {
		return nil, err
	}
	defer cpu.Close()
	m, err := ort.Open(path, ort.Options{Device: p.Device})
	if err != nil {
		return nil, err
	}
	defer m.Close()
	v := modelValues{modelParams: p, OfTheDevice: m.Device(), Tolerance: logitTolerance[p.Precision]}
	if v.Version, _, err = ort.Version(); err != nil {
		return nil, err
	}
	const compared = 8
	spec := m.Metadata().Spec
	images, views := exporttest.Inputs(compared, spec)
	want, err := cpu.Run(ctx, images, views)
	if err != nil {
		return nil, err
	}
	got, err := m.Run(ctx, images, views)
	if err != nil {
		return nil, err
	}
	for i := range compared {
		for j := range got.Logits[i] {
			if d := math.Abs(float64(got.Logits[i][j] - want.Logits[i][j])); !(d <= v.Difference) {
				v.Difference = d
			}
		}
	}
	for _, n := range p.Batches {
		rate, err := modelRate(ctx, m, n, p.Rounds)
		if err != nil {
			return v, fmt.Errorf("batch %d: %w", n, err)
		}
		v.Rates = append(v.Rates, rate)
	}
	if !(v.Difference <= v.Tolerance) {
		return v, fmt.Errorf("a logit differs by %g from the CPU's, more than %g", v.Difference, v.Tolerance)
	}
	return v, nil
}

// modelRate times runs of n images, after one that is not timed.
func modelRate(ctx context.Context, m *ort.Model, n, rounds int) (batchRate, error) {
	images, views := exporttest.Inputs(n, m.Metadata().Spec)
	var seconds []float64
	for i := range rounds + 1 {
		began := time.Now()
		if _, err := m.Run(ctx, images, views); err != nil {
			return batchRate{}, err
		}
		if i > 0 {
			seconds = append(seconds, time.Since(began).Seconds())
		}
	}
	median := middle(seconds)
	return batchRate{n, float64(n) / median, 1000 * median}, nil
}

type serveParams struct {
	Preset    string `json:"preset"`
	Precision string `json:"precision"`
	Device    string `json:"device"`
	Batch     int    `json:"max_batch"`
	Delay     string `json:"batch_delay"`
	Clients   int    `json:"clients"`
	Studies   int    `json:"studies"`
	Side      int    `json:"side"` // of a view, in pixels
}

// serveValues is what the server does with studies of two views, from DICOM over HTTP to the answer.
type serveValues struct {
	serveParams
	StudiesPerSec float64 `json:"studies_per_sec"`
	P50           float64 `json:"p50_ms"`
	P95           float64 `json:"p95_ms"`
	CPUMS         float64 `json:"cpu_ms_per_study"`
	HostMB        float64 `json:"host_mb"`
}

func measureServe(ctx context.Context, p serveParams) (any, error) {
	path, err := modelFile(p.Preset, p.Precision)
	if err != nil {
		return nil, err
	}
	dir, err := work()
	if err != nil {
		return nil, err
	}
	study, err := load.Study(2, p.Side)
	if err != nil {
		return nil, err
	}
	s, err := startServer(ctx, dir, filepath.Join(filepath.Dir(dir), "mvmae-serve"), "up", "--model", path, "--device", p.Device, "--listen", "127.0.0.1:0",
		"--max-batch", strconv.Itoa(p.Batch), "--batch-delay", p.Delay, "--max-studies", strconv.Itoa(2*p.Clients))
	if err != nil {
		return nil, withLog(err, filepath.Join(dir, "mvmae-serve.log"))
	}
	defer s.stop()
	send := func(ctx context.Context) error {
		doc, err := s.classify(ctx, study)
		if err != nil {
			return err
		}
		var answer struct{ Probabilities map[string]float64 }
		if err := json.Unmarshal(doc, &answer); err != nil || len(answer.Probabilities) == 0 {
			return fmt.Errorf("an answer without probabilities: %.200s", doc)
		}
		return nil
	}
	if _, err := load.Run(ctx, p.Clients, 2*p.Clients, send); err != nil { // warm-up, which also fills the batches
		return nil, withLog(err, filepath.Join(dir, "mvmae-serve.log"))
	}
	before, err := s.cpuSeconds()
	if err != nil {
		return nil, err
	}
	began := time.Now()
	times, err := load.Run(ctx, p.Clients, p.Studies, send)
	if err != nil {
		return nil, withLog(err, filepath.Join(dir, "mvmae-serve.log"))
	}
	v := serveValues{serveParams: p, StudiesPerSec: float64(p.Studies) / time.Since(began).Seconds(), P50: paired.Quantile(times, 0.5), P95: paired.Quantile(times, 0.95)}
	after, err := s.cpuSeconds()
	if err != nil {
		return nil, err
	}
	v.CPUMS = 1000 * (after - before) / float64(p.Studies)
	v.HostMB, err = residentMB(s.pid())
	return v, err
}

// withLog adds the end of a server's log to an error.
func withLog(err error, log string) error {
	doc, readErr := os.ReadFile(log)
	if readErr != nil {
		return err
	}
	return fmt.Errorf("%w: %s", err, tail(string(doc)))
}
