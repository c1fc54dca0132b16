package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"image/png"
	"os"
	"strings"

	"github.com/mvmae/mvmae/cmd/internal/cli"
	"github.com/mvmae/mvmae/dicom"
	"github.com/mvmae/mvmae/dicom/codec"
	"github.com/mvmae/mvmae/dicom/codec/external"
	"github.com/mvmae/mvmae/dicom/cxr"
	"github.com/mvmae/mvmae/serve"
)

// InspectCmd shows what the model will see of one file: its view with the evidence for it, flags, and on demand the pixels
// at three points of the way. It prints no patient data. A file that must not be classified ends with its code and exit
// code 3.
type InspectCmd struct {
	accepted  `embed:""`
	Recipe    string `help:"How stored values become 8 bits: mimic or display, either with +fit." default:"mimic"`
	NPY       string `name:"npy" placeholder:"OUT" help:"Write the model's input, [1,224,224] float32."`
	PNG       string `name:"png" placeholder:"OUT" help:"Write the same as a picture of 224 x 224."`
	StoredNPY string `name:"stored-npy" placeholder:"OUT" help:"Write the file's stored values, [rows,columns] int32."`
	File      string `arg:"" help:"DICOM, PNG or JPEG file."`
}

// inspection is the document of --json.
type inspection struct {
	Recipe         string   `json:"recipe"`
	View           string   `json:"view,omitempty"`
	Evidence       string   `json:"evidence,omitempty"`
	Flags          []string `json:"flags"`
	Rows           int      `json:"rows,omitempty"`
	Columns        int      `json:"columns,omitempty"`
	BitsStored     int      `json:"bits_stored,omitempty"`
	Photometric    string   `json:"photometric,omitempty"`
	TransferSyntax string   `json:"transfer_syntax,omitempty"`
	// The identifiers as the first 12 hex digits of their SHA-256.
	Study    string `json:"study,omitempty"`
	Series   string `json:"series,omitempty"`
	Instance string `json:"instance,omitempty"`

	Refused *inspectRefusal `json:"refused,omitempty"`
}

type inspectRefusal struct {
	Code   string `json:"code"`
	Detail string `json:"detail"`
}

// Run is the command.
func (c *InspectCmd) Run(ctx context.Context, out *cli.Output) error {
	recipe, err := cxr.ParseRecipe(c.Recipe)
	if err != nil {
		return cli.Exit(cli.ExitUsage, err)
	}
	doc := inspection{Recipe: recipe.String(), Flags: []string{}}
	img, plane, err := c.read(ctx, recipe)
	var refusal *cxr.Refusal
	if errors.As(err, &refusal) {
		doc.Refused = &inspectRefusal{refusal.Code, refusal.Detail}
		if err := out.Result(doc); err != nil {
			return err
		}
		return cli.Exit(cli.ExitRefused, fmt.Errorf("inspect %s: %w", c.File, err))
	}
	if err != nil {
		return err
	}
	if err := c.export(img, plane); err != nil {
		return err
	}
	doc.View, doc.Evidence, doc.Flags = img.View.String(), string(img.Evidence), append(doc.Flags, img.Flags...)
	doc.Rows, doc.Columns, doc.BitsStored = img.Rows, img.Columns, img.BitsStored
	doc.Photometric, doc.TransferSyntax = img.Photometric, img.TransferSyntaxUID
	doc.Study, doc.Series, doc.Instance = serve.HashUID(img.StudyInstanceUID), serve.HashUID(img.SeriesInstanceUID), serve.HashUID(img.SOPInstanceUID)
	doc.print(out)
	return out.Result(doc)
}

// read reads a file of any of the three kinds, no more of it than the limit allows.
func (c *InspectCmd) read(ctx context.Context, recipe cxr.Recipe) (*cxr.Image, *codec.Plane, error) {
	data, err := readFile(c.File)
	if err != nil {
		return nil, nil, err
	}
	if cxr.IsPNG(data) || cxr.IsJPEG(data) {
		img, err := cxr.FromPicture(data, recipe)
		if err != nil || c.StoredNPY == "" {
			return img, nil, err
		}
		plane, _, err := cxr.DecodePicture(data)
		return img, plane, err
	}
	limits := dicom.DefaultLimits()
	f, err := dicom.Parse(data, limits)
	if unsound := (*dicom.Error)(nil); errors.As(err, &unsound) {
		return nil, nil, &cxr.Refusal{Code: string(unsound.Code), Detail: unsound.Detail}
	}
	if err != nil {
		return nil, nil, err
	}
	codecs := external.NewPool(external.Options{})
	defer codecs.Close()
	opt := cxr.Options{Recipe: recipe, Limits: limits, Modalities: c.Modalities, Codecs: codecs.Decoders(ctx)}
	img, err := opt.FromFile(f)
	if err != nil || c.StoredNPY == "" {
		return img, nil, err
	}
	pixels, err := f.Pixels()
	if err != nil {
		return nil, nil, err
	}
	plane, err := opt.Codecs.Decode(pixels)
	return img, plane, err
}

// export writes the files asked for.
func (c *InspectCmd) export(img *cxr.Image, plane *codec.Plane) error {
	if c.NPY != "" {
		input := make([]float32, cxr.CropSize*cxr.CropSize)
		cxr.Input(img.Stored, cxr.CropSize, input)
		if err := writeNPY(c.NPY, "<f4", []int{1, cxr.CropSize, cxr.CropSize}, input); err != nil {
			return err
		}
	}
	if c.StoredNPY != "" {
		if err := writeNPY(c.StoredNPY, "<i4", []int{plane.Rows, plane.Columns}, plane.Values()); err != nil {
			return err
		}
	}
	if c.PNG == "" {
		return nil
	}
	const margin = (cxr.StoredSize - cxr.CropSize) / 2
	stored := &image.Gray{Pix: img.Stored, Stride: cxr.StoredSize, Rect: image.Rect(0, 0, cxr.StoredSize, cxr.StoredSize)}
	var b bytes.Buffer
	if err := png.Encode(&b, stored.SubImage(stored.Rect.Inset(margin))); err != nil {
		return fmt.Errorf("encode %s: %w", c.PNG, err)
	}
	return os.WriteFile(c.PNG, b.Bytes(), 0o644)
}

// writeNPY writes values in NumPy's format, version 1.0.
func writeNPY(name, dtype string, shape []int, values any) error {
	dims := strings.Trim(strings.ReplaceAll(fmt.Sprint(shape), " ", ", "), "[]")
	header := fmt.Sprintf("{'descr': '%s', 'fortran_order': False, 'shape': (%s), }", dtype, dims)
	// The data starts at a multiple of 64 bytes; the header ends with a line feed.
	header += strings.Repeat(" ", 63-(10+len(header))%64) + "\n"
	var b bytes.Buffer
	b.WriteString("\x93NUMPY\x01\x00")
	binary.Write(&b, binary.LittleEndian, uint16(len(header)))
	b.WriteString(header)
	if err := binary.Write(&b, binary.LittleEndian, values); err != nil {
		return fmt.Errorf("encode %s: %w", name, err)
	}
	return os.WriteFile(name, b.Bytes(), 0o644)
}

// print writes the inspection for people.
func (d inspection) print(out *cli.Output) {
	flags := "none"
	if len(d.Flags) > 0 {
		flags = strings.Join(d.Flags, ", ")
	}
	out.Printf("view       %s, from %s\n", d.View, d.Evidence)
	out.Printf("flags      %s\n", flags)
	out.Printf("image      %d x %d, %d bits stored, %s\n", d.Rows, d.Columns, d.BitsStored, d.Photometric)
	if d.TransferSyntax != "" {
		out.Printf("syntax     %s (%s)\n", dicom.SyntaxName(d.TransferSyntax), d.TransferSyntax)
		out.Printf("study      %s  (hashed, as series and instance)\n", d.Study)
		out.Printf("series     %s\n", d.Series)
		out.Printf("instance   %s\n", d.Instance)
	}
	out.Printf("recipe     %s\n", d.Recipe)
}
