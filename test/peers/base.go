package peers

import (
	"bytes"
	"encoding/binary"
	"fmt"
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
	Rows, Columns     int
	value             func(v, sample int) int // from 12 bits
	Window            int                     // of the display recipe: all stored values
}

// Bases are the ways the corpus has, of rows x columns pixels.
func Bases(rows, columns int) []Base {
	same := func(v, _ int) int { return v }
	gray := func(name string, allocated, stored int, signed bool, value func(v, _ int) int) Base {
		return Base{Name: name, Allocated: allocated, Stored: stored, Signed: signed, Photometric: "MONOCHROME2", Samples: 1,
			Rows: rows, Columns: columns, value: value, Window: 1 << stored}
	}
	inverted := gray("mono1-12", 16, 12, false, func(v, _ int) int { return 4095 - v })
	inverted.Photometric = "MONOCHROME1"
	colour := gray("rgb-8", 8, 8, false, func(v, s int) int { return (v >> 4) * (4 - s) / 4 })
	colour.Photometric, colour.Samples = "RGB", 3
	return []Base{
		gray("mono2-8", 8, 8, false, func(v, _ int) int { return v >> 4 }),
		gray("mono2-12", 16, 12, false, same),
		gray("mono2-16", 16, 16, false, func(v, _ int) int { return v<<4 | v&15 }),
		gray("mono2-12s", 16, 12, true, func(v, _ int) int { return v - 2048 }),
		gray("mono2-16s", 16, 16, true, func(v, _ int) int { return v<<4 - 32768 }),
		inverted, colour,
	}
}

// WriteBases writes the phantom into dir as NAME.dcm in every base.
func WriteBases(dir string, bases []Base) error {
	phantoms := map[int][]uint16{} // the side is the longer one of the base
	for _, b := range bases {
		side := max(b.Rows, b.Columns)
		if phantoms[side] == nil {
			phantoms[side] = synth.RenderView(synth.NewStudy(synth.NewPatient(7, 0), 0), 0, side)
		}
		var file bytes.Buffer
		if err := dicom.Write(&file, dicom.ExplicitVRLittleEndian, b.elements(phantoms[side], side)); err != nil {
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
	for y := range b.Rows {
		for _, v := range phantom[y*side:][:b.Columns] {
			for s := range b.Samples {
				w := b.value(int(v), s) & (1<<b.Stored - 1)
				if b.Allocated == 8 {
					pixels = append(pixels, byte(w))
				} else {
					pixels = binary.LittleEndian.AppendUint16(pixels, uint16(w))
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
		{Tag: tag.SOPClassUID, Value: "1.2.840.10008.5.1.4.1.1.1.1"}, {Tag: tag.SOPInstanceUID, Value: "2.25.7"},
		{Tag: tag.StudyInstanceUID, Value: "2.25.8"}, {Tag: tag.SeriesInstanceUID, Value: "2.25.9"},
		{Tag: tag.PatientID, Value: "PHANTOM"}, {Tag: tag.PatientName, Value: "PHANTOM"}, {Tag: tag.Modality, Value: "DX"},
		{Tag: tag.BodyPartExamined, Value: "CHEST"}, {Tag: tag.ViewPosition, Value: "PA"},
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
	return elements
}
