package data

import (
	"bytes"
	"fmt"
	"image"
	"image/png"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/suyashkumar/dicom/pkg/tag"

	"github.com/mvmae/mvmae/dicom"
)

// writeFile writes body under root and returns root.
func writeFile(t testing.TB, root, name string, body []byte) {
	t.Helper()
	at := filepath.Join(root, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(at, body, 0o644); err != nil {
		t.Fatal(err)
	}
}

// pixels are size*size bytes that depend on the seed alone, smooth enough to look at and different for every seed.
func pixels(seed uint64, size int) []byte {
	rng := rand.New(rand.NewPCG(seed, 1))
	a, b, c := rng.Float64(), rng.Float64(), 20+rng.Float64()*200
	pix := make([]byte, size*size)
	for y := range size {
		for x := range size {
			pix[y*size+x] = byte(c/2 + c/4*(a*float64(x)+b*float64(y))/float64(size) + 4*rng.Float64())
		}
	}
	return pix
}

func pngOf(t testing.TB, pix []byte, size int) []byte {
	t.Helper()
	var b bytes.Buffer
	img := &image.Gray{Pix: pix, Stride: size, Rect: image.Rect(0, 0, size, size)}
	if err := png.Encode(&b, img); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

const nihHeader = "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position," +
	"OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"

// nihRow is a line of the table; the file's name tells patient and number, as the real ones do.
func nihRow(patient, number int, findings, view string) string {
	return fmt.Sprintf("%08d_%03d.png,%s,%d,%d,58,M,%s,2682,2749,0.143,0.143", patient, number, findings, number, patient, view)
}

// writeNIH writes a ChestX-ray14 tree: a table of the rows, the lists, and a 64x64 picture for each row.
func writeNIH(t *testing.T, rows, trainVal, test []string) string {
	t.Helper()
	root := t.TempDir()
	writeFile(t, root, nihTable, []byte(nihHeader+"\n"+strings.Join(rows, "\n")+"\n"))
	writeFile(t, root, nihTrainValList, []byte(strings.Join(trainVal, "\n")))
	writeFile(t, root, nihTestList, []byte(strings.Join(test, "\n")+"\n"))
	for i, r := range rows {
		name, _, _ := strings.Cut(r, ",")
		writeFile(t, root, "images/"+name, pngOf(t, pixels(uint64(i), 64), 64))
	}
	return root
}

// dx is a small DX file; view may be empty.
type dx struct {
	patient, study, instance, view, modality string
	seed                                     uint64
	size                                     int
}

func (d dx) bytes(t testing.TB) []byte {
	t.Helper()
	if d.modality == "" {
		d.modality = "DX"
	}
	if d.size == 0 {
		d.size = 64
	}
	size := uint16(d.size)
	var b bytes.Buffer
	err := dicom.Write(&b, dicom.ExplicitVRLittleEndian, []dicom.Element{
		{Tag: tag.SOPClassUID, VR: "UI", Value: "1.2.840.10008.5.1.4.1.1.1.1"},
		{Tag: tag.SOPInstanceUID, VR: "UI", Value: d.instance},
		{Tag: tag.StudyInstanceUID, VR: "UI", Value: d.study},
		{Tag: tag.SeriesInstanceUID, VR: "UI", Value: d.study + ".1"},
		{Tag: tag.PatientID, VR: "LO", Value: d.patient},
		{Tag: tag.Modality, VR: "CS", Value: d.modality},
		{Tag: tag.BodyPartExamined, VR: "CS", Value: "CHEST"},
		{Tag: tag.PresentationIntentType, VR: "CS", Value: "FOR PRESENTATION"},
		{Tag: tag.ViewPosition, VR: "CS", Value: d.view},
		{Tag: tag.SamplesPerPixel, VR: "US", Value: 1},
		{Tag: tag.PhotometricInterpretation, VR: "CS", Value: "MONOCHROME2"},
		{Tag: tag.Rows, VR: "US", Value: size},
		{Tag: tag.Columns, VR: "US", Value: size},
		{Tag: tag.BitsAllocated, VR: "US", Value: 8},
		{Tag: tag.BitsStored, VR: "US", Value: 8},
		{Tag: tag.HighBit, VR: "US", Value: 7},
		{Tag: tag.PixelRepresentation, VR: "US", Value: 0},
		{Tag: tag.PixelData, VR: "OB", Value: pixels(d.seed, d.size)},
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
