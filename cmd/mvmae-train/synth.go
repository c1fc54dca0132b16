package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image/png"
	"os"
	"strings"

	"github.com/mvmae/mvmae/cmd/internal/cli"
	"github.com/mvmae/mvmae/model"
	"github.com/mvmae/mvmae/train/synth"
)

// SynthCmd makes synthetic studies.
type SynthCmd struct {
	Layout   string `help:"How the studies are laid out: ${enum}." enum:"dicom,mimic,chexpert,padchest,nih" default:"dicom"`
	Studies  int    `help:"Number of studies." required:"" xor:"studies" placeholder:"N"`
	Seed     uint64 `help:"Seed of the patients." default:"1"`
	Size     int    `help:"Pixels on a side of the images (default: 512; 1024 for nih, as there)."`
	Compress bool   `help:"Layout dicom: store the images in RLE Lossless rather than natively."`
	DICOM    bool   `help:"Layout mimic: DICOM files, as MIMIC-CXR has them, rather than JPEG." name:"dicom-files"`
	Out      string `help:"Folder to make." required:"" xor:"out" type:"path" placeholder:"DIR"`
	Sheet    string `help:"Draw this contact sheet of the phantom world instead, a PNG file." required:"" xor:"studies,out" type:"path" placeholder:"FILE"`
}

// Run is the command.
func (c *SynthCmd) Run(ctx context.Context, out *cli.Output) error {
	if c.Sheet != "" {
		return c.sheet(out)
	}
	at, err := synth.InstitutionOf(c.Layout)
	if err != nil {
		return cli.Exit(cli.ExitUsage, err)
	}
	progress := &progressOf{out: out, title: "synth (studies)"}
	cfg := synth.Config{At: at, Studies: c.Studies, Seed: c.Seed, Size: c.Size, Compress: c.Compress, DICOM: c.DICOM, Out: c.Out}
	sum, err := synth.Generate(ctx, cfg, func(done, total int) {
		if done == 1 {
			progress.start(int64(total))
		}
		progress.shown.Add(1)
	})
	progress.done()
	if errors.Is(err, synth.ErrConfig) {
		return cli.Exit(cli.ExitUsage, err)
	}
	if err != nil {
		return err
	}
	out.Printf("%s%d images in %d studies of %d patients\nwrote %s\n", positives(sum), sum.Images, sum.Studies, sum.Patients, c.Out)
	return out.Result(struct {
		Out string `json:"out"`
		synth.Summary
	}{c.Out, sum})
}

// sheet draws the contact sheet.
func (c *SynthCmd) sheet(out *cli.Output) error {
	var file bytes.Buffer
	encoder := png.Encoder{CompressionLevel: png.BestCompression}
	if err := encoder.Encode(&file, synth.Sheet()); err != nil {
		return fmt.Errorf("draw sheet: %w", err)
	}
	if err := os.WriteFile(c.Sheet, file.Bytes(), 0o644); err != nil {
		return fmt.Errorf("draw sheet: %w", err)
	}
	out.Printf("wrote %s\n", c.Sheet)
	return out.Result(struct {
		Sheet string `json:"sheet"`
	}{c.Sheet})
}

// positives is a table of the labels' counts.
func positives(sum synth.Summary) string {
	var table strings.Builder
	for _, label := range model.Labels {
		n := sum.Positives[label]
		fmt.Fprintf(&table, "%-28s%6d%7.1f %%\n", label, n, 100*float64(n)/float64(sum.Studies))
	}
	return table.String()
}
