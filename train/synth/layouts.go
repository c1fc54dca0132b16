package synth

import (
	"bytes"
	"compress/gzip"
	"encoding/csv"
	"fmt"
	"image"
	"image/jpeg"
	"image/png"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/mvmae/mvmae/internal/hint"
	"github.com/mvmae/mvmae/model"
)

// layout writes studies as a dataset has them.
type layout interface {
	// names are the patient's and the study's in the dataset's tables.
	names(s *Study) (patient, study string)
	// file is view i as it lies in the dataset: where, and what; pixels are the stored values, row by row.
	file(s *Study, i, size int, pixels []uint16) (path string, body []byte, err error)
	// tables are all other files but the phantom's own.
	tables(studies []*Study, size int) (map[string][]byte, error)
}

// layouts are those of the institutions, by name.
func layouts(cfg Config) map[string]layout {
	return map[string]layout{
		"dicom":    dicomLayout{cfg.Compress},
		"mimic":    mimicLayout{cfg.DICOM},
		"chexpert": chexpertLayout{},
		"padchest": padchestLayout{},
		"nih":      nihLayout{},
	}
}

// InstitutionOf finds the institution whose files have a layout: one of Institutions, or Plain for "dicom".
func InstitutionOf(layout string) (*Institution, error) {
	names := []string{Plain.Name}
	if layout == Plain.Name {
		return &Plain, nil
	}
	for i := range Institutions {
		if Institutions[i].Name == layout {
			return &Institutions[i], nil
		}
		names = append(names, Institutions[i].Name)
	}
	return nil, hint.Wrap(fmt.Errorf("%w: unknown layout %q", ErrConfig, layout), "the layouts are %s", strings.Join(names, ", "))
}

// shares of the patients in the layouts' lists of splits: so large that a small phantom has all three. The real lists test
// fewer.
const (
	trainShare    = 0.7
	validateShare = 0.1
)

// split says which of a dataset's splits a patient is in.
func (p *Patient) split(train, validate, test string) string {
	switch u := stream(p.seed, streamSplit, p.index).Float64(); {
	case u < trainShare:
		return train
	case u < trainShare+validateShare:
		return validate
	default:
		return test
	}
}

// age is the patient's at the study.
func (s *Study) age() int { return s.Patient.Age + s.Time.Year() - s.Patient.first.Year() }

// labels are what the institution's labeller makes of a report.
func (s *Study) labels(r Report) model.LabelSet {
	return r.opinion.label(s.Patient.at, stream(s.Patient.seed, streamLabeller, s.Patient.index, uint64(s.Visit)))
}

// brighter are stored values that grow with density, as the datasets' pictures have them whatever the device stored.
func (v *View) brighter(pixels []uint16) []uint16 {
	if !v.inverted {
		return pixels
	}
	out := make([]uint16, len(pixels))
	for i, p := range pixels {
		out[i] = v.full() - p
	}
	return out
}

// full is the highest stored value.
func (v *View) full() uint16 { return 1<<v.Bits() - 1 }

// gray8 is a picture of 8 bits.
func (v *View) gray8(pixels []uint16, size int) *image.Gray {
	img := image.NewGray(image.Rect(0, 0, size, size))
	full := uint32(v.full())
	for i, p := range v.brighter(pixels) {
		img.Pix[i] = byte((uint32(p)*255 + full/2) / full)
	}
	return img
}

// gray16 is a picture of 16 bits that holds the stored values as they are.
func (v *View) gray16(pixels []uint16, size int) *image.Gray16 {
	img := image.NewGray16(image.Rect(0, 0, size, size))
	for i, p := range v.brighter(pixels) {
		img.Pix[2*i], img.Pix[2*i+1] = byte(p>>8), byte(p)
	}
	return img
}

func jpegOf(img image.Image) ([]byte, error) {
	var b bytes.Buffer
	err := jpeg.Encode(&b, img, &jpeg.Options{Quality: 95}) // as MIMIC-CXR-JPG's
	return b.Bytes(), err
}

func pngOf(img image.Image) ([]byte, error) {
	var b bytes.Buffer
	err := (&png.Encoder{CompressionLevel: png.BestSpeed}).Encode(&b, img)
	return b.Bytes(), err
}

// csvOf is a table; zipped, without a time or name, if its name ends in .gz.
func csvOf(name string, rows [][]string) ([]byte, error) {
	var b bytes.Buffer
	if err := csv.NewWriter(&b).WriteAll(rows); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if !strings.HasSuffix(name, ".gz") {
		return b.Bytes(), nil
	}
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	z.Write(b.Bytes()) // into memory
	err := z.Close()
	return zipped.Bytes(), err
}

// record is a row of a table by the names of its columns; a column that nobody names is empty.
func record(header []string, values map[string]string) []string {
	row := make([]string, len(header))
	for name, value := range values {
		i := slices.Index(header, name)
		if i < 0 {
			panic("no column " + name)
		}
		row[i] = value
	}
	return row
}

// state is CheXpert's notation: 1.0, 0.0, -1.0 or nothing.
func state(s model.LabelState) string {
	if s == model.Blank {
		return ""
	}
	return strconv.FormatFloat(float64(s), 'f', 1, 64)
}

// writeFiles writes files under dir.
func writeFiles(dir string, files map[string][]byte) error {
	for _, name := range slices.Sorted(maps.Keys(files)) {
		at := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(at), 0o777); err != nil {
			return fmt.Errorf("make phantom: %w", err)
		}
		if err := os.WriteFile(at, files[name], 0o666); err != nil {
			return fmt.Errorf("make phantom: %w", err)
		}
	}
	return nil
}

// number is an identifier of a given range that no other value of i below the prime has.
func number(from, prime, seed, i uint64) string {
	return strconv.FormatUint(from+(i*6364136223%prime+hash(seed, streamSplit, from)%prime)%prime, 10)
}
