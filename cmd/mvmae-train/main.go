// Command mvmae-train makes models: synthetic studies, tables and packs of datasets, pretraining, probes and evaluation.
package main

import (
	"errors"

	"github.com/mvmae/mvmae/cmd/internal/cli"
	"github.com/mvmae/mvmae/train"
)

type commands struct {
	Demo       DemoCmd       `cmd:"" help:"Synthetic studies to a classified DICOM study, in minutes."`
	Synth      SynthCmd      `cmd:"" help:"Make synthetic studies: a chest phantom as DICOM files."`
	Index      IndexCmd      `cmd:"" help:"List a dataset's images with views, labels and splits."`
	Pack       PackCmd       `cmd:"" help:"Preprocess indexed images into a memory-mapped pack."`
	Deidentify DeidentifyCmd `cmd:"" help:"Take identities out of DICOM images; pixels stay."`
	Pretrain   PretrainCmd   `cmd:"" help:"Pretrain a masked autoencoder on a pack."`
	Probe      ProbeCmd      `cmd:"" help:"Train a linear classifier on a frozen encoder."`
	Finetune   FinetuneCmd   `cmd:"" help:"Train a pretrained encoder and its classifier together."`
	Supervised SupervisedCmd `cmd:"" help:"Train encoder and classifier from random weights."`
	Eval       EvalCmd       `cmd:"" help:"Score a run or a model file on held-out studies."`
	Describe   DescribeCmd   `cmd:"" help:"Let a run of method mvmae-v2t write reports of held-out studies, and judge them."`
	Resume     ResumeCmd     `cmd:"" help:"Go on with a run that was stopped."`
	Watch      WatchCmd      `cmd:"" help:"Show a run in the browser, also while it trains."`
	Report     ReportCmd     `cmd:"" help:"Compare runs: every table and figure of the paper."`
	Reproduce  ReproduceCmd  `cmd:"" help:"All of the experiments of the paper, on synthetic studies."`
	Config     ConfigCmd     `cmd:"" help:"Print a recipe with every key."`
}

func main() {
	train.KeepMemory()
	cli.Main("mvmae-train", "Train multi-view masked autoencoders on chest radiographs.", &commands{}, exitCode)
}

// exitCode knows the errors of package train that have codes of their own.
func exitCode(err error) int {
	if errors.Is(err, train.ErrInterrupted) {
		return cli.ExitInterrupted
	}
	return 0
}
