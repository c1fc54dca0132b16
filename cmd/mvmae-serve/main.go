// Command mvmae-serve classifies chest radiograph studies, from files and over HTTP. It holds nothing of the training stack.
package main

import "github.com/mvmae/mvmae/cmd/internal/cli"

type commands struct {
	Up       UpCmd       `cmd:"" help:"Answer studies over HTTP."`
	Config   ConfigCmd   `cmd:"" help:"Show the settings that up would have, each with where it is from, as a file for --config."`
	Classify ClassifyCmd `cmd:"" help:"Answer the studies in files."`
	Queue    QueueCmd    `cmd:"" help:"Show the studies that a server could not answer, try them again or give them up."`
	Doctor   DoctorCmd   `cmd:"" help:"Say what this machine has of what serving needs, with the cure for what is missing."`
	Inspect  InspectCmd  `cmd:"" help:"Show what a model will see of a file: view, evidence, flags, pixels."`
}

func main() {
	cli.Main("mvmae-serve", "Classify DICOM chest radiograph studies with an exported model.", &commands{}, nil)
}
