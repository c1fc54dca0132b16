package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"image"
	"image/jpeg"
	"image/png"
	"os"
	"path/filepath"
	"slices"

	"github.com/suyashkumar/dicom/pkg/tag"

	"github.com/mvmae/mvmae/dicom"
	"github.com/mvmae/mvmae/dicom/codec/codectest"
	"github.com/mvmae/mvmae/dicom/cxr"
	"github.com/mvmae/mvmae/train/data"
	"github.com/mvmae/mvmae/train/synth"
)

// format is a kind of file that a dataset consists of.
type format struct {
	name          string
	at            string // the phantom's institution
	rows, columns int
	images        int // packed in a round: some second of work
	blur          int // times that the picture is smoothed: the phantom's noise is white, but a scintillator's is not
	encode        func(picture) ([]byte, error)
}

// formats are those of the datasets, and DICOM files. Pictures are smoothed until a file is as large as the dataset's on the
// mean, because that is what decoding costs: 1.5 MB in MIMIC-CXR-JPG (570 GB, 377,110 files), 2.0 in CheXpert (440 GB, 224,316),
// 6.4 in PadChest (1 TB, 160,868), 0.4 in ChestX-ray14 (42 GB, 112,120).
var formats = []format{
	{"mimic-jpeg", "mimic", 3056, 2544, 24, 2, jpegOf},
	{"chexpert-jpeg", "chexpert", 2828, 2320, 24, 1, jpegOf},
	{"chexpert-small-jpeg", "chexpert", 320, 390, 512, 0, jpegOf},
	{"padchest-png16", "padchest", 2500, 2000, 16, 0, png16Of},
	{"nih-png8", "nih", 1024, 1024, 96, 0, png8Of},
	{"dicom-native", "dicom", 3056, 2500, 48, 0, dicomOf(dicom.ExplicitVRLittleEndian)},
	{"dicom-rle", "dicom", 3056, 2500, 48, 0, dicomOf(dicom.RLELossless)},
	{"dicom-jpeg-lossless", "dicom", 3056, 2500, 24, 0, dicomOf(dicom.JPEGLosslessSV1)},
}

func choose(names []string) ([]format, error) {
	if len(names) == 0 {
		return formats, nil
	}
	var chosen []format
	for _, name := range names {
		i := slices.IndexFunc(formats, func(f format) bool { return f.name == name })
		if i < 0 {
			return nil, fmt.Errorf("no format %q", name)
		}
		chosen = append(chosen, formats[i])
	}
	return chosen, nil
}

// picture is a view of the phantom, cut to a format's size.
type picture struct {
	rows, columns, bits int
	samples             []uint16
}

// different is how many pictures of a format are drawn; the others are copies.
const different = 6

// tree makes the files of a format, once, and an index of them. It returns the index's path and the mean size of a file.
func (f format) tree(dir string) (index string, mean float64, err error) {
	root, err := filepath.Abs(filepath.Join(dir, f.name))
	if err != nil {
		return "", 0, err
	}
	index = root + ".parquet"
	if x, err := data.ReadIndex(index); err == nil && len(x.Images) == f.images {
		return index, meanBytes(x), nil
	}
	if err := os.MkdirAll(root, 0o755); err != nil {
		return "", 0, err
	}
	x := &data.Index{Dataset: f.name, Root: root}
	var bodies [different][]byte
	for i := range bodies {
		p, err := f.draw(uint64(i))
		if err != nil {
			return "", 0, err
		}
		if bodies[i], err = f.encode(p); err != nil {
			return "", 0, err
		}
	}
	for i := range f.images {
		name, body := fmt.Sprint(i), bodies[i%different]
		if err := os.WriteFile(filepath.Join(root, name), body, 0o644); err != nil {
			return "", 0, err
		}
		x.Images = append(x.Images, data.Image{
			Dataset: f.name, PatientID: name, StudyID: name, ImageID: name, Path: name, Bytes: int64(len(body)),
			View: cxr.Frontal, Evidence: cxr.EvidenceTable, Split: data.Train,
		})
	}
	return index, meanBytes(x), data.WriteIndex(index, x)
}

func meanBytes(x *data.Index) (mean float64) {
	for _, img := range x.Images {
		mean += float64(img.Bytes) / float64(len(x.Images))
	}
	return mean
}

// draw renders the first view of a patient at full size, with the noise of the institution's detector, and keeps the middle.
func (f format) draw(patient uint64) (picture, error) {
	at, err := synth.InstitutionOf(f.at)
	if err != nil {
		return picture{}, err
	}
	side := max(f.rows, f.columns)
	view := synth.NewStudy(synth.NewPatient(at, 1, int(patient)), 0)
	whole := synth.RenderView(view, 0, side)
	p := picture{rows: f.rows, columns: f.columns, bits: view.Views[0].Bits()}
	top, left := (side-f.rows)/2, (side-f.columns)/2
	for y := range f.rows {
		p.samples = append(p.samples, whole[(top+y)*side+left:][:f.columns]...)
	}
	for range f.blur {
		p.smooth()
	}
	return p, nil
}

// smooth takes the mean of each pixel and its neighbour below and to the right.
func (p picture) smooth() {
	for _, step := range []int{1, p.columns} {
		for i := range len(p.samples) - step {
			p.samples[i] = uint16((uint32(p.samples[i]) + uint32(p.samples[i+step]) + 1) / 2)
		}
	}
}

// gray is the picture in 8 bits.
func (p picture) gray() *image.Gray {
	img := image.NewGray(image.Rect(0, 0, p.columns, p.rows))
	for i, v := range p.samples {
		img.Pix[i] = byte(v >> max(0, p.bits-8))
	}
	return img
}

// jpegOf is a JPEG of quality 95, as MIMIC-CXR-JPG's files.
func jpegOf(p picture) ([]byte, error) {
	var file bytes.Buffer
	err := jpeg.Encode(&file, p.gray(), &jpeg.Options{Quality: 95})
	return file.Bytes(), err
}

func png8Of(p picture) ([]byte, error) {
	var file bytes.Buffer
	err := png.Encode(&file, p.gray())
	return file.Bytes(), err
}

// png16Of is a PNG of the stored values as they are.
func png16Of(p picture) ([]byte, error) {
	img := image.NewGray16(image.Rect(0, 0, p.columns, p.rows))
	for i, v := range p.samples {
		binary.BigEndian.PutUint16(img.Pix[2*i:], v)
	}
	var file bytes.Buffer
	err := png.Encode(&file, img)
	return file.Bytes(), err
}

func dicomOf(syntax string) func(picture) ([]byte, error) {
	return func(p picture) ([]byte, error) {
		var pixels []byte
		switch syntax {
		case dicom.RLELossless:
			pixels = codectest.RLE(p.samples, 1, 2)
		case dicom.JPEGLosslessSV1:
			pixels = codectest.LosslessJPEG(codectest.JPEG{Rows: p.rows, Columns: p.columns, Components: 1, Precision: p.bits, Predictor: 1}, p.samples)
		default:
			for _, v := range p.samples {
				pixels = binary.LittleEndian.AppendUint16(pixels, v)
			}
		}
		var file bytes.Buffer
		err := dicom.Write(&file, syntax, []dicom.Element{
			{Tag: tag.SOPClassUID, Value: "1.2.840.10008.5.1.4.1.1.1.1"},
			{Tag: tag.SOPInstanceUID, Value: fmt.Sprintf("1.2.%d.%d", p.samples[0], p.samples[len(p.samples)/2])},
			{Tag: tag.Modality, Value: "DX"},
			{Tag: tag.BodyPartExamined, Value: "CHEST"},
			{Tag: tag.SamplesPerPixel, Value: 1},
			{Tag: tag.PhotometricInterpretation, Value: "MONOCHROME2"},
			{Tag: tag.Rows, Value: p.rows},
			{Tag: tag.Columns, Value: p.columns},
			{Tag: tag.BitsAllocated, Value: 16},
			{Tag: tag.BitsStored, Value: p.bits},
			{Tag: tag.HighBit, Value: p.bits - 1},
			{Tag: tag.PixelRepresentation, Value: 0},
			{Tag: tag.PixelData, VR: "OW", Value: pixels},
		})
		return file.Bytes(), err
	}
}
