package main

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/mvmae/mvmae/cmd/internal/cli"
	"github.com/mvmae/mvmae/train/report"
)

// ReportCmd compares runs.
type ReportCmd struct {
	Runs []string `arg:"" name:"run" help:"Run folders of probe, finetune and supervised." type:"existingdir"`
	Out  string   `help:"Folder for the tables and figures." required:"" placeholder:"DIR" type:"path"`
}

// Run draws every table and figure of the paper that the runs have numbers for.
func (c *ReportCmd) Run(_ context.Context, out *cli.Output) error {
	comparison, err := report.Compare(c.Runs)
	if err != nil {
		return err
	}
	for _, left := range comparison.Left {
		fmt.Fprintf(out.Stderr, "left out: %s\n", left)
	}
	files, err := comparison.Write(c.Out)
	if err != nil {
		return err
	}
	out.Printf("wrote %s and %d files beside it\n", filepath.Join(c.Out, report.MarkdownFile), len(files)-1)
	return out.Result(struct {
		Out   string   `json:"out"`
		Files []string `json:"files"`
		Left  []string `json:"left_out"`
	}{c.Out, files, append([]string{}, comparison.Left...)})
}
