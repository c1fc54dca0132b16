package main

import (
	"context"
	"os"

	"github.com/mvmae/mvmae/benchmarks/load"
	"github.com/mvmae/mvmae/benchmarks/paired"
	"github.com/mvmae/mvmae/dicom/cxr"
	"github.com/mvmae/mvmae/export"
)

// What the overhead is measured with: a network and a view so small that the way to them is most of the work.
const (
	overheadPreset  = "nano"
	overheadSide    = 64
	overheadClients = 16
	overheadStudies = 2000
)

// runOverhead measures what a request costs beside its study: the servers' processor time less that of the engine alone, which
// is called with the same object in a process of its own.
func runOverhead(ctx context.Context, set settings) error {
	report := paired.NewReport("serve")
	report.Variant = "overhead"
	python, err := paired.Python(folder)
	if err != nil {
		return err
	}
	if err := report.AskPeers(ctx, python, peerVersions); err != nil {
		return err
	}
	if err := writeModel(overheadPreset, cxr.Mimic, export.FP32); err != nil {
		return err
	}
	program, err := buildServer(ctx)
	if err != nil {
		return err
	}
	study, err := load.Study(1, overheadSide)
	if err != nil {
		return err
	}
	engine, err := startWorker(ctx, "engine", overheadPreset, export.FP32, overheadClients, overheadStudies)
	if err != nil {
		return err
	}
	defer engine.Close()
	file := modelOf(overheadPreset, cxr.Mimic, export.FP32)
	s, err := startOurs(ctx, program, file, "--max-studies", "64")
	if err != nil {
		return err
	}
	defer s.stop()
	servers := []*server{s}
	for _, name := range set.peers {
		peer, err := startPeer(ctx, python, name, file)
		if err != nil {
			return err
		}
		defer peer.stop()
		servers = append(servers, peer)
	}
	const alone = "engine alone"
	contenders := []paired.Contender{{Name: alone, Round: engine.Round}}
	for _, s := range servers {
		contenders = append(contenders, paired.Contender{Name: s.name, Round: func(ctx context.Context) (paired.Sample, error) {
			return s.round(ctx, overheadClients, overheadStudies, study)
		}})
	}
	samples, err := paired.Run(ctx, os.Stderr, set.rounds, contenders...)
	if err != nil {
		return err
	}
	for _, list := range samples { // thousands of times that nobody reads
		for i := range list {
			list[i].Extra = map[string]float64{"memory": list[i].Extra["memory"]}
		}
	}
	report.Parts["overhead"] = samples
	report.Printf("Preset %s; studies of one %dx%d view, %d clients, %d rounds of %d studies. Peers: %s.\n\n"+
		"| program | studies/s | CPU ms a study | more than the engine alone |\n|---|---|---|---|\n",
		overheadPreset, overheadSide, overheadSide, overheadClients, set.rounds, overheadStudies, report.Peers["Python"])
	for _, c := range contenders {
		var more []float64
		for i, sample := range samples[c.Name] {
			more = append(more, cpuMS(sample)-cpuMS(samples[alone][i]))
		}
		spread := paired.SpreadOf(more)
		report.Printf("| %s | %v | %.4f | **%.4f (%.4f to %.4f)** |\n", c.Name, samples.Of(c.Name, paired.Sample.Rate), samples.Of(c.Name, cpuMS).Median,
			spread.Median, spread.Q1, spread.Q3)
	}
	return report.Write()
}
