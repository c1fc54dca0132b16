// Precision compares what a ViT-B costs on one core in each precision that mvmae-export writes, and with the int8 models that
// onnxruntime.quantization makes of the same float32 model. Run it from the repository's root:
//
//	go run ./benchmarks/precision
//
// All run in one ONNX Runtime, a thread each, on the same image. Weights are random: they do not change the time.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/mvmae/mvmae/benchmarks/paired"
	"github.com/mvmae/mvmae/export"
	"github.com/mvmae/mvmae/export/exporttest"
	"github.com/mvmae/mvmae/model"
	"github.com/mvmae/mvmae/model/ort"
)

const (
	perRound = 4 // images
	peer     = paired.Folder + "/precision/peer.py"
	// The model that the others are compared with, and that the peer quantises.
	reference = "fp32, opset 17"
	dynamic   = "onnxruntime.quantization, dynamic"
	static    = "onnxruntime.quantization, static QDQ"
)

func main() {
	preset := flag.String("preset", "base", "size of the network")
	rounds := flag.Int("rounds", 15, "rounds")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *preset, *rounds); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

// contender is a model file that takes part.
type contender struct {
	name  string
	nodes int
	bytes int
	model *ort.Model
}

func run(ctx context.Context, preset string, rounds int) error {
	report := paired.NewReport("precision")
	report.Variant = preset
	if err := os.MkdirAll(paired.WorkDir, 0o755); err != nil {
		return err
	}
	spec, err := model.Preset(preset)
	if err != nil {
		return err
	}
	all, err := ours(spec)
	if err != nil {
		return err
	}
	theirs, err := peers(ctx)
	if err != nil {
		return err
	}
	all = append(all, theirs...)
	images, views := inputs(spec)
	logits := map[string][model.NumLabels]float32{}
	var contenders []paired.Contender
	for _, c := range all {
		defer c.model.Close()
		contenders = append(contenders, paired.Contender{Name: c.name, Round: func(ctx context.Context) (s paired.Sample, err error) {
			start, cpu := time.Now(), paired.CPUTime()
			for range perRound {
				out, err := c.model.Run(ctx, images, views)
				if err != nil {
					return s, err
				}
				logits[c.name] = out.Logits[0]
			}
			return paired.Sample{Seconds: time.Since(start).Seconds(), CPUSeconds: (paired.CPUTime() - cpu).Seconds(), Done: perRound}, nil
		}})
	}
	samples, err := paired.Run(ctx, os.Stderr, rounds, contenders...)
	if err != nil {
		return err
	}
	report.Parts[preset] = samples
	if version, _, err := ort.Version(); err == nil {
		report.Peers["ONNX Runtime"] = version
	}
	write(report, preset, rounds, all, samples, logits)
	return report.Write()
}

// write makes the table. Ratios are of processor time, which others on the machine disturb least.
func write(report *paired.Report, preset string, rounds int, all []contender, samples paired.Samples, logits map[string][model.NumLabels]float32) {
	report.Printf("Preset %s, random weights, one image at a time, one thread, ONNX Runtime %s; %d rounds of %d images. Images/s of processor time.\n\n",
		preset, report.Peers["ONNX Runtime"], rounds, perRound)
	report.Printf("| model | nodes | MB | images/s | times %s | times the dynamic peer | largest logit difference |\n|---|---|---|---|---|---|---|\n", reference)
	for _, c := range all {
		largest := 0.0
		for l, v := range logits[c.name] {
			largest = max(largest, math.Abs(float64(v)-float64(logits[reference][l])))
		}
		report.Printf("| %s | %d | %.0f | %v | **%v** | %v | %.4f |\n", c.name, c.nodes, float64(c.bytes)/1e6, samples.Of(c.name, paired.Sample.PerCPU),
			samples.Ratio(c.name, reference, paired.Sample.PerCPU), samples.Ratio(c.name, dynamic, paired.Sample.PerCPU), largest)
	}
}

// ours builds and opens the models of this project, and leaves the reference as a file for the peer.
func ours(spec model.Spec) (all []contender, err error) {
	weights := exporttest.Weights(spec)
	for _, c := range []struct {
		name  string
		graph export.Graph
	}{
		{reference, export.Graph{}},
		{"fp32, opset 23", export.Graph{Opset: 23}},
		{"fp32, opset 17, attention output", export.Graph{Attention: true}},
		{"fp16, opset 20", export.Graph{Precision: export.FP16, Opset: 20}},
		{"int8, opset 17", export.Graph{Precision: export.INT8, Opset: 17}},
		{"int8, opset 23", export.Graph{Precision: export.INT8, Opset: 23}},
	} {
		file, err := c.graph.Build(exporttest.Metadata(spec), weights)
		if err != nil {
			return nil, err
		}
		data, err := proto.Marshal(file)
		if err != nil {
			return nil, err
		}
		if c.name == reference {
			if err := os.WriteFile(file32(), data, 0o644); err != nil {
				return nil, err
			}
		}
		m, err := ort.OpenBytes(c.name, data, ort.Options{})
		if err != nil {
			return nil, err
		}
		all = append(all, contender{c.name, len(file.Graph.Node), len(data), m})
	}
	return all, nil
}

func file32() string { return filepath.Join(paired.WorkDir, "fp32.onnx") }

// peers quantises the reference with onnxruntime.quantization.
func peers(ctx context.Context) (all []contender, err error) {
	python, err := paired.Python(paired.Folder)
	if err != nil {
		return nil, err
	}
	paths := map[string]string{dynamic: filepath.Join(paired.WorkDir, "dynamic.onnx"), static: filepath.Join(paired.WorkDir, "static.onnx")}
	cmd := exec.CommandContext(ctx, python, peer, file32(), paths[dynamic], paths[static])
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("quantise with the peer: %w", err)
	}
	for _, name := range []string{dynamic, static} {
		m, err := ort.Open(paths[name], ort.Options{})
		if err != nil {
			return nil, err
		}
		contents, err := export.Inspect(paths[name])
		if err != nil {
			return nil, errors.Join(err, m.Close())
		}
		all = append(all, contender{name, contents.Nodes, contents.Bytes, m})
	}
	return all, nil
}

// inputs is one image of noise, frontal.
func inputs(s model.Spec) ([]float32, []int64) {
	images, views := exporttest.Inputs(1, s)
	return images, views
}
