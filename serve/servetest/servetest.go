// Package servetest makes DICOM objects for the tests of package serve and of the programs around it.
package servetest

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/suyashkumar/dicom/pkg/tag"

	"github.com/mvmae/mvmae/dicom"
)

// Side is the number of rows and of columns of every Object.
const Side = 64

// Object is one chest radiograph. The zero value is a frontal view of study "1.2.3" with the UID "1.2.3.1".
type Object struct {
	Study    string // StudyInstanceUID; "-" leaves it out
	SOP      string // SOPInstanceUID
	Patient  string // PatientID
	Modality string // DX when empty
	BodyPart string // CHEST when empty
	View     string // ViewPosition, PA when empty; "-" leaves it out
	Syntax   string // transfer syntax UID; explicit VR little endian when empty
	Seed     uint64 // of the picture
}

// Study is a study of two views, frontal and lateral, of pictures that seed decides.
func Study(uid string, seed uint64) []Object {
	return []Object{
		{Study: uid, SOP: uid + ".1", View: "PA", Seed: seed},
		{Study: uid, SOP: uid + ".2", View: "LL", Seed: seed + 1},
	}
}

// Bytes is the object as a Part 10 file.
func (o Object) Bytes(tb testing.TB) []byte {
	tb.Helper()
	or := func(s, fallback string) string {
		if s == "" {
			return fallback
		}
		return s
	}
	rng := rand.New(rand.NewPCG(o.Seed, 0))
	pixels := make([]byte, 2*Side*Side)
	for i := range Side * Side {
		// Smooth blobs with some noise: 12 bits.
		x, y := i%Side, i/Side
		v := (x*y*int(o.Seed%7+1)+rng.IntN(64))%4000 + 1
		pixels[2*i], pixels[2*i+1] = byte(v), byte(v>>8)
	}
	elems := []dicom.Element{
		{Tag: tag.SOPClassUID, Value: "1.2.840.10008.5.1.4.1.1.1.1"},
		{Tag: tag.SOPInstanceUID, Value: or(o.SOP, "1.2.3.1")},
		{Tag: tag.SeriesInstanceUID, Value: "1.2.3.4"},
		{Tag: tag.Modality, Value: or(o.Modality, "DX")},
		{Tag: tag.BodyPartExamined, Value: or(o.BodyPart, "CHEST")},
		{Tag: tag.PatientID, Value: o.Patient},
		{Tag: tag.PatientName, Value: "DOE^JANE"},
		{Tag: tag.PhotometricInterpretation, Value: "MONOCHROME2"},
		{Tag: tag.SamplesPerPixel, Value: 1},
		{Tag: tag.Rows, Value: Side}, {Tag: tag.Columns, Value: Side},
		{Tag: tag.BitsAllocated, Value: 16}, {Tag: tag.BitsStored, Value: 12}, {Tag: tag.HighBit, Value: 11},
		{Tag: tag.PixelRepresentation, Value: 0},
		{Tag: tag.PixelData, VR: "OW", Value: pixels},
	}
	if study := or(o.Study, "1.2.3"); study != "-" {
		elems = append(elems, dicom.Element{Tag: tag.StudyInstanceUID, Value: study})
	}
	if view := or(o.View, "PA"); view != "-" {
		elems = append(elems, dicom.Element{Tag: tag.ViewPosition, Value: view})
	}
	var file bytes.Buffer
	if err := dicom.Write(&file, or(o.Syntax, dicom.ExplicitVRLittleEndian), elems); err != nil {
		tb.Fatal(err)
	}
	return file.Bytes()
}
