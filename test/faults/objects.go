package faults

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"mime/multipart"
	"net/textproto"
	"os"
	"path/filepath"
	"strings"

	"github.com/suyashkumar/dicom/pkg/tag"

	"github.com/mvmae/mvmae/dicom"
)

const (
	digitalXRay = "1.2.840.10008.5.1.4.1.1.1.1"
	smallSide   = 96 // pixels
)

// object is one view, as it is sent.
type object struct {
	study, sop string
	data       []byte
}

// newObject makes a view of noise, side x side.
func newObject(study string, number, side int, rng *rand.Rand) object {
	sop := fmt.Sprintf("%s.%d", study, number)
	pixels := make([]byte, 2*side*side)
	for i := 0; i < len(pixels); i += 2 {
		v := rng.IntN(4096)
		pixels[i], pixels[i+1] = byte(v), byte(v>>8)
	}
	view := [...]string{"PA", "LL", "AP"}[number%3]
	var file bytes.Buffer
	err := dicom.Write(&file, dicom.ExplicitVRLittleEndian, []dicom.Element{
		{Tag: tag.SOPClassUID, Value: digitalXRay}, {Tag: tag.SOPInstanceUID, Value: sop}, {Tag: tag.StudyInstanceUID, Value: study},
		{Tag: tag.SeriesInstanceUID, Value: study + ".9"}, {Tag: tag.Modality, Value: "DX"}, {Tag: tag.BodyPartExamined, Value: "CHEST"},
		{Tag: tag.ViewPosition, Value: view}, {Tag: tag.PhotometricInterpretation, Value: "MONOCHROME2"},
		{Tag: tag.SamplesPerPixel, Value: 1}, {Tag: tag.Rows, Value: side}, {Tag: tag.Columns, Value: side},
		{Tag: tag.BitsAllocated, Value: 16}, {Tag: tag.BitsStored, Value: 12}, {Tag: tag.HighBit, Value: 11},
		{Tag: tag.PixelRepresentation, Value: 0}, {Tag: tag.PixelData, VR: "OW", Value: pixels},
	})
	if err != nil {
		panic(err) // nothing of it is variable
	}
	return object{study, sop, file.Bytes()}
}

// form is a request of /v1/studies that holds objects.
func form(objects []object) (contentType string, body []byte, err error) {
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	err = writeParts(w, objects, func(o object) (io.Writer, error) { return w.CreateFormFile("file", o.sop) })
	return w.FormDataContentType(), b.Bytes(), err
}

// related is a request of STOW-RS that holds objects (PS3.18 10.5).
func related(objects []object) (contentType string, body []byte, err error) {
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	header := textproto.MIMEHeader{"Content-Type": {"application/dicom"}}
	err = writeParts(w, objects, func(object) (io.Writer, error) { return w.CreatePart(header) })
	return `multipart/related; type="application/dicom"; boundary=` + w.Boundary(), b.Bytes(), err
}

func writeParts(w *multipart.Writer, objects []object, begin func(object) (io.Writer, error)) error {
	for _, o := range objects {
		part, err := begin(o)
		if err != nil {
			return err
		}
		if _, err := part.Write(o.data); err != nil {
			return err
		}
	}
	return w.Close()
}

// checkFiles compares each stored file with its name, which is the digest of its transfer syntax and data set. It returns how
// many there are.
func checkFiles(data string) (n int, err error) {
	err = filepath.WalkDir(filepath.Join(data, "studies"), func(path string, e fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".dcm") {
			return err
		}
		file, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		p, err := dicom.ParsePrefix(file, dicom.DefaultLimits())
		if err != nil {
			return err
		}
		sum := sha256.New()
		sum.Write(append([]byte(p.TransferSyntaxUID), 0))
		sum.Write(file[p.DataSet:])
		if digest := hex.EncodeToString(sum.Sum(nil)); digest+".dcm" != e.Name() {
			return fmt.Errorf("a stored object is not what it was when it was accepted: %s", path)
		}
		n++
		return nil
	})
	return n, err
}
