package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"

	"github.com/mvmae/mvmae/cmd/internal/cli"
	"github.com/mvmae/mvmae/dicom/codec/external"
	"github.com/mvmae/mvmae/dicom/cxr"
	"github.com/mvmae/mvmae/internal/hint"
	"github.com/mvmae/mvmae/train/data"
)

// PackCmd makes the pixels of indexes ready for training.
type PackCmd struct {
	Indexes    []string `arg:"" name:"index" help:"Indexes that mvmae-train index wrote." type:"existingfile"`
	Out        string   `help:"Folder to make." required:"" type:"path" placeholder:"DIR"`
	Recipe     string   `help:"How stored values become 8 bits: ${enum}." enum:"mimic,display,mimic+fit,display+fit" default:"mimic"`
	Deidentify bool     `help:"Write keyed hashes in place of identifiers, and no paths (the default). Text burned into pixels stays." default:"true" negatable:""`
	KeyFile    string   `help:"Key of the hashes: the same key gives a patient the same name in every pack (default: a random key, not kept)." type:"existingfile" placeholder:"FILE"`
}

// Run is the command.
func (c *PackCmd) Run(ctx context.Context, out *cli.Output) error {
	recipe, err := cxr.ParseRecipe(c.Recipe)
	if err != nil {
		return err
	}
	opt := data.PackOptions{Out: c.Out, Recipe: recipe, Deidentify: c.Deidentify}
	if c.KeyFile != "" {
		if !c.Deidentify {
			return cli.Exit(cli.ExitUsage, hint.Wrap(fmt.Errorf("--key-file has no use with --no-deidentify"), "leave one of them out"))
		}
		if opt.Key, err = os.ReadFile(c.KeyFile); err != nil {
			return fmt.Errorf("read key: %w", err)
		}
	}
	opt.Codecs = external.NewPool(external.Options{})
	defer opt.Codecs.Close()
	progress := &progressOf{out: out, title: "pack (images)"}
	opt.Progress = progress.start
	result, err := data.MakePack(ctx, c.Indexes, opt)
	progress.done()
	if err != nil {
		return err
	}
	m := result.Manifest
	for _, name := range slices.Sorted(maps.Keys(m.Datasets)) {
		out.Printf("%s\n%s\n", name, m.Datasets[name].Table())
	}
	out.Printf("%swrote %s: %d images of %d studies, recipe %s, %.1f MB\n", result.Remarks.Text(remarksShown), c.Out, m.Images, m.Studies, m.Recipe,
		float64(m.Pixels.Bytes)/1e6)
	err = out.Result(struct {
		Pack     string        `json:"pack"`
		Manifest data.Manifest `json:"manifest"`
		Remarks  data.Remarks  `json:"remarks"`
	}{c.Out, m, result.Remarks})
	if err != nil {
		return err
	}
	return refusedError("pack "+c.Out, result.Remarks)
}
