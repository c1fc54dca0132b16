package load

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"mime/multipart"
	"strconv"

	"github.com/suyashkumar/dicom/pkg/tag"

	"github.com/mvmae/mvmae/dicom"
)

// Study is the multipart body of a study of so many views, one or two, of side x side pixels.
func Study(views, side int) ([]byte, error) {
	files, err := Files(views, side)
	if err != nil {
		return nil, err
	}
	return Form(files...)
}

// Files are the views' DICOM objects.
func Files(views, side int) (files [][]byte, err error) {
	for i, position := range []string{"PA", "LL"}[:views] {
		var file bytes.Buffer
		if err := dicom.Write(&file, dicom.ExplicitVRLittleEndian, object(i, side, position)); err != nil {
			return nil, err
		}
		files = append(files, file.Bytes())
	}
	return files, nil
}

// ContentType is that of a Form.
const ContentType = "multipart/form-data; boundary=benchmark"

// Form is the multipart body of files.
func Form(files ...[]byte) ([]byte, error) {
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	if err := form.SetBoundary("benchmark"); err != nil {
		return nil, err
	}
	for i, file := range files {
		part, err := form.CreateFormFile("file", strconv.Itoa(i)+".dcm")
		if err != nil {
			return nil, err
		}
		if _, err := part.Write(file); err != nil {
			return nil, err
		}
	}
	err := form.Close()
	return body.Bytes(), err
}

// object is a picture of smooth shapes with noise.
func object(i, side int, position string) []dicom.Element {
	rng := rand.New(rand.NewPCG(uint64(i), 2))
	pixels := make([]byte, 2*side*side)
	for p := range side * side {
		x, y := float64(p%side)/float64(side), float64(p/side)/float64(side)
		v := 30000 + 20000*math.Sin(float64(7+i)*x)*math.Cos(5*y) + 400*rng.NormFloat64()
		binary.LittleEndian.PutUint16(pixels[2*p:], uint16(v))
	}
	return []dicom.Element{
		{Tag: tag.SOPClassUID, Value: "1.2.840.10008.5.1.4.1.1.1.1"}, {Tag: tag.SOPInstanceUID, Value: fmt.Sprint("1.2.3.", i+1)},
		{Tag: tag.StudyInstanceUID, Value: "1.2.3"}, {Tag: tag.SeriesInstanceUID, Value: "1.2.3.4"}, {Tag: tag.PatientID, Value: "1"},
		{Tag: tag.Modality, Value: "DX"}, {Tag: tag.BodyPartExamined, Value: "CHEST"}, {Tag: tag.ViewPosition, Value: position},
		{Tag: tag.PhotometricInterpretation, Value: "MONOCHROME2"}, {Tag: tag.SamplesPerPixel, Value: 1},
		{Tag: tag.Rows, Value: side}, {Tag: tag.Columns, Value: side},
		{Tag: tag.BitsAllocated, Value: 16}, {Tag: tag.BitsStored, Value: 16}, {Tag: tag.HighBit, Value: 15},
		{Tag: tag.PixelRepresentation, Value: 0}, {Tag: tag.PixelData, VR: "OW", Value: pixels},
	}
}
