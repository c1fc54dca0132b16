// Command flags measures how often the flags that package cxr reads from pixels are wrong, on real frontal radiographs
// (a folder of ChestX-ray14) and on the phantom, and makes the templates that they rest on.
//
//	go run ./benchmarks/flags --nih DIR          a table of error rates
//	go run ./benchmarks/flags --nih DIR --fit    writes dicom/cxr/gen_templates.go anew
//
// Templates are made of the patients whose number is even; the table is of the others.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/suyashkumar/dicom/pkg/tag"

	"github.com/mvmae/mvmae/dicom"
	"github.com/mvmae/mvmae/dicom/cxr"
	"github.com/mvmae/mvmae/train/synth"
)

// picture is a radiograph of 8 bits.
type picture struct {
	rows, columns int
	pixels        []byte
	view          cxr.View
	real, even    bool // of a patient; one whose number is even
	word          bool // there is one in it, as somebody saw
}

func main() {
	nih := flag.String("nih", "../shared/data/nih", "folder of ChestX-ray14, with images/*.png")
	fit := flag.Bool("fit", false, "write dicom/cxr/gen_templates.go")
	studies := flag.Int("studies", 400, "studies of the phantom")
	flag.Parse()
	if err := run(*nih, *studies, *fit); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run(nih string, studies int, fit bool) error {
	pictures, err := readNIH(nih)
	if err != nil {
		return err
	}
	phantoms, err := makePhantoms(studies)
	if err != nil {
		return err
	}
	if pictures = append(pictures, phantoms...); fit {
		return writeTemplates(pictures)
	}
	return table(slices.DeleteFunc(pictures, func(p picture) bool { return p.even }))
}

func readNIH(root string) ([]picture, error) {
	names, err := filepath.Glob(filepath.Join(root, "images", "*.png"))
	if err == nil && len(names) == 0 {
		err = fmt.Errorf("no images/*.png in %s", root)
	}
	if err != nil {
		return nil, err
	}
	var pictures []picture
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		plane, _, err := cxr.DecodePicture(data)
		if err != nil {
			return nil, err
		}
		p := picture{rows: plane.Rows, columns: plane.Columns, view: cxr.Frontal, real: true}
		for _, v := range plane.Values() {
			p.pixels = append(p.pixels, byte(v))
		}
		p.word = slices.Contains(strings.Fields(words), filepath.Base(name))
		p.even = even(strings.Split(filepath.Base(name), "_")[0])
		pictures = append(pictures, p)
	}
	return pictures, nil
}

// even is of a number in decimal.
func even(number string) bool { return strings.ContainsAny(number[len(number)-1:], "02468") }

// makePhantoms renders studies, whose stored pictures are taken: the flags are of those. Letters and black edges are what some flags
// are of, so the pictures have none, and an oblique one is of no view that they know.
func makePhantoms(studies int) ([]picture, error) {
	dir, err := os.MkdirTemp("", "flags-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	out := filepath.Join(dir, "phantom")
	at := synth.Plain
	at.Markers, at.Collimated = synth.Markers{}, 0
	cfg := synth.Config{At: &at, Studies: studies, Seed: 7, Size: cxr.StoredSize, Out: out}
	if _, err := synth.Generate(context.Background(), cfg, func(int, int) {}); err != nil {
		return nil, err
	}
	names, err := filepath.Glob(filepath.Join(out, "dicom", "*", "*", "*.dcm"))
	if err != nil {
		return nil, err
	}
	var pictures []picture
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		img, err := cxr.FromDICOM(data, cxr.Mimic, dicom.DefaultLimits())
		if err != nil {
			return nil, err
		}
		if img.View == cxr.Unknown {
			continue
		}
		pictures = append(pictures, picture{rows: cxr.StoredSize, columns: cxr.StoredSize, pixels: img.Stored, view: img.View, even: even(img.PatientID)})
	}
	return pictures, nil
}

// flags are those of the picture in a DICOM object that says its view is the one given.
func (p picture) flags(view cxr.View) ([]string, error) {
	position := map[cxr.View]string{cxr.Frontal: "PA", cxr.Lateral: "LL"}[view]
	var file bytes.Buffer
	err := dicom.Write(&file, dicom.ExplicitVRLittleEndian, []dicom.Element{
		{Tag: tag.SOPClassUID, Value: "1.2.840.10008.5.1.4.1.1.1.1"}, {Tag: tag.SOPInstanceUID, Value: "1.2.3"},
		{Tag: tag.Modality, Value: "DX"}, {Tag: tag.BodyPartExamined, Value: "CHEST"}, {Tag: tag.ViewPosition, Value: position},
		{Tag: tag.Rows, VR: "US", Value: p.rows}, {Tag: tag.Columns, VR: "US", Value: p.columns},
		{Tag: tag.SamplesPerPixel, VR: "US", Value: 1}, {Tag: tag.PhotometricInterpretation, Value: "MONOCHROME2"},
		{Tag: tag.BitsAllocated, VR: "US", Value: 8}, {Tag: tag.BitsStored, VR: "US", Value: 8},
		{Tag: tag.HighBit, VR: "US", Value: 7}, {Tag: tag.PixelRepresentation, VR: "US", Value: 0},
		{Tag: tag.PixelData, VR: "OB", Value: p.pixels}})
	if err != nil {
		return nil, err
	}
	img, err := cxr.FromDICOM(file.Bytes(), cxr.Mimic, dicom.DefaultLimits())
	if err != nil {
		return nil, err
	}
	return img.Flags, nil
}

// change makes another picture of the same size.
func (p picture) change(pixel func(y, x int) byte) picture {
	pixels := make([]byte, 0, len(p.pixels))
	for y := range p.rows {
		for x := range p.columns {
			pixels = append(pixels, pixel(y, x))
		}
	}
	p.pixels = pixels
	return p
}

func (p picture) at(y, x int) byte { return p.pixels[y*p.columns+x] }

// trials are the changes whose flag is known, for square pictures.
var trials = []struct {
	name, flag string
	change     func(p picture) picture
}{
	{"as it is", "", func(p picture) picture { return p }},
	{"negative", cxr.FlagInverted, func(p picture) picture { return p.change(func(y, x int) byte { return 255 - p.at(y, x) }) }},
	{"turned by 90", cxr.FlagRotated, func(p picture) picture { return p.change(func(y, x int) byte { return p.at(p.rows-1-x, y) }) }},
	{"turned by 180", cxr.FlagRotated, func(p picture) picture {
		return p.change(func(y, x int) byte { return p.at(p.rows-1-y, p.columns-1-x) })
	}},
	{"turned by 270", cxr.FlagRotated, func(p picture) picture { return p.change(func(y, x int) byte { return p.at(x, p.columns-1-y) }) }},
	{"a tenth of the range", cxr.FlagLowContrast, func(p picture) picture {
		return p.change(func(y, x int) byte {
			if y == 0 && x == 0 {
				return 255
			}
			return p.at(y, x) / 10
		})
	}},
	{"a tenth cut from each side", cxr.FlagCropped, func(p picture) picture {
		return p.change(func(y, x int) byte {
			if min(y, p.rows-1-y) < p.rows/10 || min(x, p.columns-1-x) < p.columns/10 {
				return 0
			}
			return p.at(y, x)
		})
	}},
}

func table(pictures []picture) error {
	fmt.Println("| pictures | change | flag | flagged | of | % |\n|---|---|---|---|---|---|")
	for _, group := range []struct {
		name string
		real bool
		view cxr.View
	}{{"ChestX-ray14, frontal", true, cxr.Frontal}, {"phantom, frontal", false, cxr.Frontal}, {"phantom, lateral", false, cxr.Lateral}} {
		of := slices.DeleteFunc(slices.Clone(pictures), func(p picture) bool { return p.real != group.real || p.view != group.view })
		if len(of) == 0 {
			return errors.New("no picture: more studies are needed")
		}
		for _, trial := range trials {
			counts, err := count(of, trial.change, group.view)
			if err != nil {
				return err
			}
			if trial.flag != "" {
				row(group.name, trial.name, trial.flag, counts[trial.flag], len(of))
				continue
			}
			for _, f := range []string{cxr.FlagInverted, cxr.FlagRotated, cxr.FlagViewMismatch, cxr.FlagLowContrast, cxr.FlagCropped} {
				row(group.name, trial.name, f, counts[f], len(of))
			}
		}
		if err := textTable(group.name, of, group.view); err != nil {
			return err
		}
		counts, err := count(of, trials[0].change, map[cxr.View]cxr.View{cxr.Frontal: cxr.Lateral, cxr.Lateral: cxr.Frontal}[group.view])
		if err != nil {
			return err
		}
		row(group.name, "the other view in the header", cxr.FlagViewMismatch, counts[cxr.FlagViewMismatch], len(of))
	}
	return nil
}

func row(group, change, name string, n, of int) {
	fmt.Printf("| %s | %s | %s | %d | %d | %.1f |\n", group, change, name, n, of, 100*float64(n)/float64(of))
}

// count is how many changed pictures have each flag.
func count(pictures []picture, change func(picture) picture, view cxr.View) (map[string]int, error) {
	counts := map[string]int{}
	for _, p := range pictures {
		flags, err := change(p).flags(view)
		if err != nil {
			return nil, err
		}
		for _, f := range flags {
			counts[f]++
		}
	}
	return counts, nil
}
