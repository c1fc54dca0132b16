package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/mvmae/mvmae/benchmarks/load"
	"github.com/mvmae/mvmae/benchmarks/paired"
	"github.com/mvmae/mvmae/dicom"
	"github.com/mvmae/mvmae/dicom/codec/external"
	"github.com/mvmae/mvmae/dicom/cxr"
	"github.com/mvmae/mvmae/export"
	"github.com/mvmae/mvmae/internal/codecprog"
	"github.com/mvmae/mvmae/test/peers"
)

// Sides of the compressed studies' views.
const compressedRows, compressedColumns = 3000, 2500

// compressedStudies are those of a round.
const compressedStudies = 6

// compressed are the encodings to measure, as package peers names them: one of every decoder.
var compressed = []string{"5.pylibjpeg", "70.dcmcjpeg", "80.dcmcjpls", "90.pylibjpeg", "91.pylibjpeg", "201.openjph", "203.openjph"}

// encoding is a study of two views in one transfer syntax.
type encoding struct {
	name  string
	study []byte
}

// runCompressed measures the server with studies of two quiet phantoms, natively and in every encoding, by both recipes.
func runCompressed(ctx context.Context, preset string, rounds int) error {
	report := paired.NewReport("serve")
	report.Variant = "compressed-" + preset
	program, err := buildServer(ctx)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "mvmae-serve")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := buildDecoder(dir); err != nil {
		return err
	}
	encodings, err := encodeStudies(ctx, dir, compressed...)
	if err != nil {
		return err
	}
	recipes := []cxr.Recipe{cxr.Mimic, cxr.Display}
	samples := map[cxr.Recipe]paired.Samples{}
	for _, recipe := range recipes {
		if samples[recipe], err = measureCompressed(ctx, program, preset, recipe, rounds, encodings); err != nil {
			return err
		}
		report.Parts[recipe.String()] = samples[recipe]
	}
	report.Printf("%s, random weights; studies of two %dx%d 16-bit views with the noise of a real detector, one client, over loopback; %d rounds of %d studies.\n"+
		"CPU is the server's and its decoders', of a study.\n\n| transfer syntax | MB a study |", preset, compressedRows, compressedColumns, rounds, compressedStudies)
	for _, recipe := range recipes {
		report.Printf(" `%s`: p50 ms | p95 ms | CPU ms |", recipe)
	}
	report.Printf("\n|---|---%s|\n", strings.Repeat("|---|---|---", len(recipes)))
	for _, e := range encodings {
		report.Printf("| %s | %.1f |", e.name, float64(len(e.study))/1e6)
		for _, recipe := range recipes {
			ms := times(samples[recipe][e.name])
			used := samples[recipe].Of(e.name, func(s paired.Sample) float64 { return 1000 / s.PerCPU() })
			report.Printf(" %.0f | %.0f | %.0f |", paired.Quantile(ms, 0.5), paired.Quantile(ms, 0.95), used.Median)
		}
		report.Printf("\n")
	}
	return report.Write()
}

// buildDecoder builds mvmae-codec into a folder, where mvmae-serve finds it.
func buildDecoder(dir string) error {
	decoder, complete, err := codecprog.Build(dir)
	if err == nil && !complete {
		err = errors.New(`mvmae-codec lacks a library: run "make codecs"`)
	}
	if err != nil {
		return err
	}
	return os.Setenv(external.ProgramEnv, decoder)
}

// encodeStudies has the peers encode a frontal and a lateral view.
func encodeStudies(ctx context.Context, dir string, names ...string) ([]encoding, error) {
	python, err := peers.Find()
	if err != nil {
		return nil, err
	}
	frontal, lateral := peers.Quiet(compressedRows, compressedColumns), peers.Quiet(compressedRows, compressedColumns)
	lateral.Name, lateral.View = "lateral", 1
	if err := peers.WriteBases(dir, []peers.Base{frontal, lateral}); err != nil {
		return nil, err
	}
	files, err := python.Encode(ctx, dir, dir, names...)
	if err != nil {
		return nil, err
	}
	views := map[string][2]string{"native": {frontal.Name + ".dcm", lateral.Name + ".dcm"}}
	for _, f := range files {
		if f.Error != "" {
			return nil, fmt.Errorf("%s: %s", f.File, f.Error)
		}
		name := strings.Split(dicom.SyntaxName(f.Syntax), ", ")[0] + " " + f.Arc()
		pair := views[name]
		pair[map[string]int{frontal.Name: 0, lateral.Name: 1}[f.Base]] = f.File
		views[name] = pair
	}
	var encodings []encoding
	for _, name := range slices.Sorted(maps.Keys(views)) {
		pair := views[name]
		var files [2][]byte
		for i, file := range pair {
			if files[i], err = os.ReadFile(filepath.Join(dir, file)); err != nil {
				return nil, err
			}
		}
		study, err := load.Form(files[:]...)
		if err != nil {
			return nil, err
		}
		encodings = append(encodings, encoding{name, study})
	}
	return encodings, nil
}

// measureCompressed has a server of a recipe answer studies of every encoding in turn.
func measureCompressed(ctx context.Context, program, preset string, recipe cxr.Recipe, rounds int, encodings []encoding) (paired.Samples, error) {
	if err := writeModel(preset, recipe, export.FP32); err != nil {
		return nil, err
	}
	s, err := startOurs(ctx, program, modelOf(preset, recipe, export.FP32))
	if err != nil {
		return nil, err
	}
	defer s.stop()
	var contenders []paired.Contender
	for _, e := range encodings {
		contenders = append(contenders, paired.Contender{Name: e.name, Round: func(ctx context.Context) (paired.Sample, error) {
			return s.round(ctx, 1, compressedStudies, e.study)
		}})
	}
	return paired.Run(ctx, os.Stderr, rounds, contenders...)
}
