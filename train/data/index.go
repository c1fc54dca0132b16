package data

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/parquet-go/parquet-go"

	"github.com/mvmae/mvmae/dicom/cxr"
	"github.com/mvmae/mvmae/internal/hint"
	"github.com/mvmae/mvmae/model"
)

// IndexFormat is the version of the index this program writes and the newest it reads.
const IndexFormat = 3

// Image is one row of an index: one picture of one study.
type Image struct {
	Dataset   string // patients of different datasets are different patients
	PatientID string
	StudyID   string
	ImageID   string
	Path      string // relative to the index's root, with slashes; empty in a de-identified pack
	Bytes     int64  // the file's size when it was indexed: packing refuses a file that has changed since
	View      cxr.View
	Evidence  cxr.Evidence // how the view is known
	Split     Split
	Labels    model.LabelSet // of the study: the same for all its images
	Patient   Patient        // at the time of the study
	Report    string         // of the study, UTF-8: what a model may learn to write; empty where there is none
}

// Index is a table of images with where they lie.
type Index struct {
	Dataset string
	Root    string    // absolute; empty in a pack
	Created time.Time // to the second; zero in a pack, whose bytes depend on nothing but its input
	Images  []Image
}

// row is an Image as Parquet holds it. A label column holds the number of a model.LabelState; labelStates goes into the
// file's metadata for its other readers.
type row struct {
	Dataset   string `parquet:"dataset,dict"`
	PatientID string `parquet:"patient_id"`
	StudyID   string `parquet:"study_id"`
	ImageID   string `parquet:"image_id"`
	Path      string `parquet:"path"`
	Bytes     int64  `parquet:"bytes"`
	View      string `parquet:"view,dict"`
	Evidence  string `parquet:"evidence,dict"`
	Split     string `parquet:"split,dict"`
	Sex       string `parquet:"patient_sex,dict"`
	Age       int32  `parquet:"patient_age"`
	Report    string `parquet:"report"`

	Atelectasis               int8 `parquet:"label_atelectasis"`
	Cardiomegaly              int8 `parquet:"label_cardiomegaly"`
	Consolidation             int8 `parquet:"label_consolidation"`
	Edema                     int8 `parquet:"label_edema"`
	EnlargedCardiomediastinum int8 `parquet:"label_enlarged_cardiomediastinum"`
	Fracture                  int8 `parquet:"label_fracture"`
	LungLesion                int8 `parquet:"label_lung_lesion"`
	LungOpacity               int8 `parquet:"label_lung_opacity"`
	NoFinding                 int8 `parquet:"label_no_finding"`
	PleuralEffusion           int8 `parquet:"label_pleural_effusion"`
	PleuralOther              int8 `parquet:"label_pleural_other"`
	Pneumonia                 int8 `parquet:"label_pneumonia"`
	Pneumothorax              int8 `parquet:"label_pneumothorax"`
	SupportDevices            int8 `parquet:"label_support_devices"`
}

const labelStates = "1 positive, 0 negative, -1 uncertain, -2 not mentioned, -3 not a label of this dataset"

// labels are the label columns in the order of model.Labels.
func (r *row) labels() [model.NumLabels]*int8 {
	return [...]*int8{
		&r.Atelectasis, &r.Cardiomegaly, &r.Consolidation, &r.Edema, &r.EnlargedCardiomediastinum, &r.Fracture, &r.LungLesion,
		&r.LungOpacity, &r.NoFinding, &r.PleuralEffusion, &r.PleuralOther, &r.Pneumonia, &r.Pneumothorax, &r.SupportDevices,
	}
}

func rowOf(img Image) row {
	r := row{
		Dataset: img.Dataset, PatientID: img.PatientID, StudyID: img.StudyID, ImageID: img.ImageID, Path: img.Path,
		Bytes: img.Bytes, View: img.View.String(), Evidence: string(img.Evidence), Split: img.Split.String(),
		Sex: img.Patient.Sex, Age: int32(img.Patient.Age), Report: img.Report,
	}
	for i, column := range r.labels() {
		*column = int8(img.Labels[i])
	}
	return r
}

func (r *row) image() (Image, error) {
	img := Image{
		Dataset: r.Dataset, PatientID: r.PatientID, StudyID: r.StudyID, ImageID: r.ImageID, Path: r.Path,
		Bytes: r.Bytes, Evidence: cxr.Evidence(r.Evidence), Patient: Patient{Sex: r.Sex, Age: int(r.Age)}, Report: r.Report,
	}
	if !utf8.ValidString(img.Report) {
		return Image{}, errors.New("its report is not UTF-8")
	}
	if img.Patient != NewPatient(r.Sex, int(r.Age)) {
		return Image{}, fmt.Errorf("patient_sex is %q and patient_age %d: want F, M or nothing and 0 to %d", r.Sex, r.Age, MaxAge)
	}
	switch r.View {
	case cxr.Frontal.String():
		img.View = cxr.Frontal
	case cxr.Lateral.String():
		img.View = cxr.Lateral
	case cxr.Unknown.String():
		img.View = cxr.Unknown
	default:
		return Image{}, fmt.Errorf("unknown view %q", r.View)
	}
	var err error
	if img.Split, err = ParseSplit(r.Split); err != nil {
		return Image{}, err
	}
	for i, column := range r.labels() {
		state := model.LabelState(*column)
		if state > model.Positive || state < model.Absent {
			return Image{}, fmt.Errorf("label %s is %d: want %s", model.Labels[i], state, labelStates)
		}
		img.Labels[i] = state
	}
	return img, nil
}

// encodeIndex makes the bytes of an index; the same index gives the same bytes.
func encodeIndex(x *Index) ([]byte, error) {
	rows := make([]row, len(x.Images))
	for i, img := range x.Images {
		rows[i] = rowOf(img)
	}
	counts, err := json.Marshal(Count(x.Images))
	if err != nil {
		return nil, err
	}
	metadata := []parquet.WriterOption{
		parquet.Compression(&parquet.Zstd),
		parquet.KeyValueMetadata("mvmae.format_version", strconv.Itoa(IndexFormat)),
		parquet.KeyValueMetadata("mvmae.dataset", x.Dataset),
		parquet.KeyValueMetadata("mvmae.counts", string(counts)),
		parquet.KeyValueMetadata("mvmae.label_states", labelStates),
	}
	if x.Root != "" {
		metadata = append(metadata, parquet.KeyValueMetadata("mvmae.root", x.Root))
	}
	if !x.Created.IsZero() {
		metadata = append(metadata, parquet.KeyValueMetadata("mvmae.created", x.Created.UTC().Format(time.RFC3339)))
	}
	var body bytes.Buffer
	if err := parquet.Write(&body, rows, metadata...); err != nil {
		return nil, err
	}
	return body.Bytes(), nil
}

// WriteIndex writes x to path, whole or not at all.
func WriteIndex(path string, x *Index) error {
	body, err := encodeIndex(x)
	if err != nil {
		return fmt.Errorf("write index %s: %w", path, err)
	}
	err = model.WriteFileAtomic(path, func(w io.Writer) error {
		_, err := w.Write(body)
		return err
	})
	if err != nil {
		return hint.Wrap(fmt.Errorf("index: %w", err), "create the folder, or choose one you can write to")
	}
	return nil
}

// ReadIndex reads the index at path. It does not audit it.
func ReadIndex(path string) (*Index, error) {
	body, err := os.ReadFile(path)
	if err == nil {
		var x *Index
		if x, err = decodeIndex(body); err == nil {
			return x, nil
		}
	}
	return nil, hint.Wrap(fmt.Errorf("read index %s: %w", path, noPath(err)), `make it with "mvmae-train index"`)
}

func decodeIndex(body []byte) (x *Index, err error) {
	// The Parquet reader panics on some corrupt files.
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("corrupt Parquet file: %v", p)
		}
	}()
	file, err := parquet.OpenFile(bytes.NewReader(body), int64(len(body)))
	if err != nil {
		return nil, fmt.Errorf("not a Parquet file: %w", err)
	}
	text := func(key string) string { v, _ := file.Lookup("mvmae." + key); return v }
	version, err := strconv.Atoi(text("format_version"))
	if err != nil {
		return nil, errors.New("a Parquet file, but not an index: it holds no mvmae.format_version")
	}
	if version != IndexFormat {
		return nil, fmt.Errorf("index format %d: this program reads format %d", version, IndexFormat)
	}
	if want := parquet.SchemaOf(row{}); !parquet.EqualNodes(file.Schema(), want) {
		return nil, errors.New("its columns are not those of an index")
	}
	x = &Index{Dataset: text("dataset"), Root: text("root")}
	if created := text("created"); created != "" {
		if x.Created, err = time.Parse(time.RFC3339, created); err != nil {
			return nil, fmt.Errorf("created: %w", err)
		}
	}
	rows, err := parquet.Read[row](bytes.NewReader(body), int64(len(body)))
	if err != nil {
		return nil, err
	}
	x.Images = make([]Image, len(rows))
	for i := range rows {
		if x.Images[i], err = rows[i].image(); err != nil {
			return nil, fmt.Errorf("row %d: %w", i, err)
		}
	}
	return x, nil
}

// noPath takes the path out of a file system error whose caller has named it.
func noPath(err error) error {
	var at *fs.PathError
	if errors.As(err, &at) {
		return at.Err
	}
	return err
}
