package peers

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"

	"github.com/suyashkumar/dicom/pkg/tag"

	"github.com/mvmae/mvmae/dicom"
	"github.com/mvmae/mvmae/train/synth"
)

// Base is one way to store the phantom natively.
type Base struct {
	Name              string
	Allocated, Stored int
	Signed            bool
	Photometric       string
	Samples           int
	Frames            int // the phantom, then its negatives
	Rows, Columns     int
	value             func(v, sample int) int // from 12 bits
	Window            int                     // of the display recipe: all stored values
	View              int                     // 0 is the frontal, 1 the lateral view
	quiet             bool
}

// Bases are the ways the corpus has, of rows x columns pixels.
func Bases(rows, columns int) []Base {
	same := func(v, _ int) int { return v }
	gray := func(name string, allocated, stored int, signed bool, value func(v, _ int) int) Base {
		return Base{Name: name, Allocated: allocated, Stored: stored, Signed: signed, Photometric: "MONOCHROME2", Samples: 1, Frames: 1,
			Rows: rows, Columns: columns, value: value, Window: 1 << stored}
	}
	inverted := gray("mono1-12", 16, 12, false, func(v, _ int) int { return 4095 - v })
	inverted.Photometric = "MONOCHROME1"
	colour := gray("rgb-8", 8, 8, false, func(v, s int) int { return (v >> 4) * (4 - s) / 4 })
	colour.Photometric, colour.Samples = "RGB", 3
	palette := gray("palette-8", 8, 8, false, func(v, _ int) int { return v >> 4 })
	palette.Photometric = "PALETTE COLOR"
	film := gray("frames-16", 16, 16, false, func(v, _ int) int { return v<<4 | v&15 })
	film.Frames = 3
	return []Base{
		gray("mono2-8", 8, 8, false, func(v, _ int) int { return v >> 4 }),
		gray("mono2-12", 16, 12, false, same),
		gray("mono2-16", 16, 16, false, func(v, _ int) int { return v<<4 | v&15 }),
		gray("mono2-12s", 16, 12, true, func(v, _ int) int { return v - 2048 }),
		gray("mono2-16s", 16, 16, true, func(v, _ int) int { return v<<4 - 32768 }),
		inverted, colour, palette, film,
	}
}

// Quiet is a way of 16 bits with the noise of a real detector's pixels, 1.5 of 255: the phantom's own is that of a few large
// pixels, which in millions of small ones is far too much.
func Quiet(rows, columns int) Base {
	b := Bases(rows, columns)[2]
	b.Name, b.quiet = "quiet-16", true
	return b
}

// render draws the phantom of a base, a square of side x side.
func (b Base) render(side int) []uint16 {
	study := synth.NewStudy(synth.NewPatient(&synth.Plain, 7, 0), 0)
	if !b.quiet {
		return synth.RenderView(study, b.View, side)
	}
	const times, noise = 4, 1.5 * 4096 / 256
	small := (side + times - 1) / times
	from := synth.RenderView(study, b.View, small)
	rng := rand.New(rand.NewPCG(7, 0))
	out := make([]uint16, side*side)
	at := func(i int) (int, float64) { // linear between the centres of the pixels
		u := min(max((float64(i)+0.5)/times-0.5, 0), float64(small-1))
		k := min(int(u), small-2)
		return k, u - float64(k)
	}
	for y := range side {
		r, fy := at(y)
		for x := range side {
			c, fx := at(x)
			row := func(r int) float64 {
				return float64(from[r*small+c])*(1-fx) + float64(from[r*small+c+1])*fx
			}
			v := row(r)*(1-fy) + row(r+1)*fy + noise*rng.NormFloat64()
			out[y*side+x] = uint16(min(max(v, 0), 4095))
		}
	}
	return out
}

// WriteBases writes the phantom into dir as NAME.dcm in every base.
func WriteBases(dir string, bases []Base) error {
	type drawing struct {
		side, view int // the side is the longer one of the base
		quiet      bool
	}
	phantoms := map[drawing][]uint16{}
	for _, b := range bases {
		d := drawing{max(b.Rows, b.Columns), b.View, b.quiet}
		if phantoms[d] == nil {
			phantoms[d] = b.render(d.side)
		}
		var file bytes.Buffer
		if err := dicom.Write(&file, dicom.ExplicitVRLittleEndian, b.elements(phantoms[d], d.side)); err != nil {
			return fmt.Errorf("write %s: %w", b.Name, err)
		}
		if err := os.WriteFile(filepath.Join(dir, b.Name+".dcm"), file.Bytes(), 0o666); err != nil {
			return err
		}
	}
	return nil
}

// elements are those of a chest radiograph with the upper left part of the phantom, a square of side x side.
func (b Base) elements(phantom []uint16, side int) []dicom.Element {
	var pixels []byte
	for frame := range b.Frames {
		for y := range b.Rows {
			for _, v := range phantom[y*side:][:b.Columns] {
				for s := range b.Samples {
					w := b.value(int(v), s) & (1<<b.Stored - 1)
					if frame > 0 {
						w = 1<<b.Stored - 1 - w
					}
					if b.Allocated == 8 {
						pixels = append(pixels, byte(w))
					} else {
						pixels = binary.LittleEndian.AppendUint16(pixels, uint16(w))
					}
				}
			}
		}
	}
	vr, representation := "OW", 0
	if b.Allocated == 8 {
		vr = "OB"
	}
	if b.Signed {
		representation = 1
	}
	center := b.Window / 2
	if b.Signed {
		center = 0
	}
	elements := []dicom.Element{
		{Tag: tag.SOPClassUID, Value: "1.2.840.10008.5.1.4.1.1.1.1"}, {Tag: tag.SOPInstanceUID, Value: fmt.Sprint("2.25.7", b.View)},
		{Tag: tag.StudyInstanceUID, Value: "2.25.8"}, {Tag: tag.SeriesInstanceUID, Value: "2.25.9"},
		{Tag: tag.PatientID, Value: "PHANTOM"}, {Tag: tag.PatientName, Value: "PHANTOM"}, {Tag: tag.Modality, Value: "DX"},
		{Tag: tag.BodyPartExamined, Value: "CHEST"}, {Tag: tag.ViewPosition, Value: [2]string{"PA", "LL"}[b.View]},
		{Tag: tag.SamplesPerPixel, Value: b.Samples}, {Tag: tag.PhotometricInterpretation, Value: b.Photometric},
		{Tag: tag.Rows, Value: b.Rows}, {Tag: tag.Columns, Value: b.Columns}, {Tag: tag.BitsAllocated, Value: b.Allocated},
		{Tag: tag.BitsStored, Value: b.Stored}, {Tag: tag.HighBit, Value: b.Stored - 1},
		{Tag: tag.PixelRepresentation, Value: representation},
		{Tag: tag.WindowCenter, Value: fmt.Sprint(center)}, {Tag: tag.WindowWidth, Value: fmt.Sprint(b.Window)},
		{Tag: tag.PixelData, VR: vr, Value: pixels},
	}
	if b.Samples > 1 {
		elements = append(elements, dicom.Element{Tag: tag.PlanarConfiguration, Value: 0})
	}
	if b.Frames > 1 {
		elements = append(elements, dicom.Element{Tag: tag.NumberOfFrames, Value: fmt.Sprint(b.Frames)})
	}
	if b.Photometric == "PALETTE COLOR" {
		elements = append(elements, palette()...)
	}
	return elements
}

// palette is the lookup tables of PS3.3 C.7.6.3.1.5 from blue to yellow: 256 entries of 16 bits, of which the
// lower eight are zero: GDCM clears them.
func palette() (elements []dicom.Element) {
	var up, down []byte
	for i := range 256 {
		up = binary.LittleEndian.AppendUint16(up, uint16(i<<8))
		down = binary.LittleEndian.AppendUint16(down, uint16((255-i*3/4)<<8))
	}
	for _, c := range []struct {
		descriptor, data tag.Tag
		entries          []byte
	}{
		{tag.RedPaletteColorLookupTableDescriptor, tag.RedPaletteColorLookupTableData, up},
		{tag.GreenPaletteColorLookupTableDescriptor, tag.GreenPaletteColorLookupTableData, up},
		{tag.BluePaletteColorLookupTableDescriptor, tag.BluePaletteColorLookupTableData, down},
	} {
		elements = append(elements, dicom.Element{Tag: c.descriptor, VR: "US", Value: []int{256, 0, 16}},
			dicom.Element{Tag: c.data, VR: "OW", Value: c.entries})
	}
	return elements
}
