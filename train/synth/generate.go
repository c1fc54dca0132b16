package synth

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/mvmae/mvmae/dicom"
	"github.com/mvmae/mvmae/dicom/codec"
	"github.com/mvmae/mvmae/internal/hint"
	"github.com/mvmae/mvmae/model"
	"github.com/suyashkumar/dicom/pkg/tag"
	"golang.org/x/sync/errgroup"
)

// DefaultSize is the side of an image, pixels; ChestX-ray14's are twice as large.
const DefaultSize = 512

// Config says what Generate makes.
type Config struct {
	Studies int // at least 1; the last patient's later visits are cut off
	// At is the institution whose patients they are, and whose layout the files have; nil means Plain.
	At   *Institution
	Seed uint64 // of the world: the same seed begins with the same patients whatever the number of studies
	Size int    // side of the images, pixels; 0 means DefaultSize, and twice that for ChestX-ray14
	Out  string // folder to make
	// Compress stores the plain layout's images in RLE Lossless, not natively.
	Compress bool
	DICOM    bool // of the layout mimic: MIMIC-CXR's DICOM files, not MIMIC-CXR-JPG's pictures
	Workers  int  // 0 means one for each core; the result does not depend on it
}

// Limits of Config.Size.
const (
	minSize = 64
	maxSize = 4096
)

// ErrConfig marks a Config that Generate cannot follow.
var ErrConfig = errors.New("invalid phantom")

func (c *Config) complete() error {
	if c.At == nil {
		c.At = &Plain
	}
	if c.Size == 0 {
		c.Size = DefaultSize
		if c.At.Name == "nih" {
			c.Size = 2 * DefaultSize
		}
	}
	if c.Workers == 0 {
		c.Workers = runtime.GOMAXPROCS(0)
	}
	_, known := layouts(*c)[c.At.Name]
	switch {
	case !known:
		return fmt.Errorf("%w: an institution of the name %q has no layout", ErrConfig, c.At.Name)
	case c.Compress && c.At.Name != Plain.Name, c.DICOM && c.At.Name != "mimic":
		return fmt.Errorf("%w: compressed files are of the layout dicom, DICOM files in the place of pictures of the layout mimic", ErrConfig)
	case c.Studies < 1:
		return fmt.Errorf("%w: %d studies; at least 1 is needed", ErrConfig, c.Studies)
	case c.Size < minSize || c.Size > maxSize:
		return fmt.Errorf("%w: images of %d pixels; from %d to %d can be made", ErrConfig, c.Size, minSize, maxSize)
	case c.Out == "":
		return fmt.Errorf("%w: no output folder", ErrConfig)
	}
	return nil
}

// Summary counts what was made.
type Summary struct {
	Patients  int            `json:"patients"`
	Studies   int            `json:"studies"`
	Images    int            `json:"images"`
	Positives map[string]int `json:"positives"` // studies by label
}

// Generate writes a phantom: studies as their institution's dataset has them, and two tables of the truth.
//
//	dicom     dicom/<patient>/<study>/<n>.dcm (DX objects), labels.csv (the truth: what index dicom reads)
//	mimic     files/p10/p10000032/s50414267/<image>.jpg, s50414267.txt, three tables
//	chexpert  CheXpert-v1.0-small/{train,valid,test}{.csv,/patient00001/study1/view1_frontal.jpg}; CheXpert Plus's table and labels
//	padchest  0/<image>.png (16 bits), one table
//	nih       images_001/images/00000001_000.png, one table, two lists
//
//	truth.csv          a row per finding: what, where, how severe, how well each view shows it
//	truth_labels.csv   a row per study: the 14 labels as 1.0 or 0.0; in the layout dicom this is labels.csv
//
// Out appears when all of it is written; a folder that holds something is refused. The bytes follow from the configuration, but
// for Workers and Out. progress, which may be nil, is told after each study; calls do not overlap.
func Generate(ctx context.Context, cfg Config, progress func(done, total int)) (Summary, error) {
	if err := cfg.complete(); err != nil {
		return Summary{}, err
	}
	if err := vacant(cfg.Out); err != nil {
		return Summary{}, err
	}
	if err := os.MkdirAll(filepath.Dir(cfg.Out), 0o777); err != nil {
		return Summary{}, fmt.Errorf("make phantom: %w", err)
	}
	partial, err := os.MkdirTemp(filepath.Dir(cfg.Out), "."+filepath.Base(cfg.Out)+"-partial-")
	if err != nil {
		return Summary{}, fmt.Errorf("make phantom: %w", err)
	}
	defer os.RemoveAll(partial) // after the rename there is nothing there
	studies, patients := census(cfg.At, cfg.Seed, cfg.Studies)
	rows, err := writeStudies(ctx, cfg, partial, studies, progress)
	if err != nil {
		return Summary{}, err
	}
	if err := writeTables(cfg, partial, studies, rows); err != nil {
		return Summary{}, err
	}
	if err := publish(partial, cfg.Out); err != nil {
		return Summary{}, err
	}
	return summarise(studies, patients), nil
}

// vacant reports an error unless dir is missing or empty.
func vacant(dir string) error {
	entries, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("make phantom: %w", err)
	case len(entries) > 0:
		return hint.Wrap(fmt.Errorf("make phantom in %s: the folder is not empty", dir), "choose a new folder, or remove %s", dir)
	}
	return nil
}

// publish makes the finished folder appear under its name.
func publish(partial, out string) error {
	if err := os.Chmod(partial, 0o755); err != nil { // MkdirTemp's folders are private
		return fmt.Errorf("make phantom: %w", err)
	}
	if err := os.Remove(out); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("make phantom: %w", err)
	}
	if err := os.Rename(partial, out); err != nil {
		return fmt.Errorf("make phantom: %w", err)
	}
	return nil
}

// census draws the first n studies of an institution in a seed's world and the number of patients they belong to.
func census(at *Institution, seed uint64, n int) (studies []*Study, patients int) {
	for len(studies) < n {
		p := NewPatient(at, seed, patients)
		patients++
		for v := 0; v < p.Visits && len(studies) < n; v++ {
			studies = append(studies, NewStudy(p, v))
		}
	}
	return studies, patients
}

// writeStudies renders and writes all views and returns each study's rows of the truth table.
func writeStudies(ctx context.Context, cfg Config, dir string, studies []*Study, progress func(done, total int)) ([][][]string, error) {
	how := layouts(cfg)[cfg.At.Name]
	rows := make([][][]string, len(studies))
	var mu sync.Mutex
	done := 0
	work := make(chan int)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer close(work)
		for i := range studies {
			select {
			case work <- i:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	})
	for range cfg.Workers {
		g.Go(func() error {
			pictures, details := newRenderer(cfg.Size), newRenderer(contrastSize)
			for i := range work {
				if err := studies[i].write(dir, pictures, how); err != nil {
					return err
				}
				rows[i] = studies[i].truth(details, how)
				mu.Lock()
				done++
				if progress != nil {
					progress(done, len(studies))
				}
				mu.Unlock()
			}
			return nil
		})
	}
	return rows, g.Wait()
}

// write makes the study's images.
func (s *Study) write(dir string, r *renderer, how layout) error {
	for i := range s.Views {
		at, body, err := how.file(s, i, r.size, s.render(r, &s.Views[i]))
		if err != nil {
			return fmt.Errorf("make phantom: view %d of visit %d of %s: %w", i+1, s.Visit+1, s.Patient.ID, err)
		}
		if err := writeFiles(dir, map[string][]byte{at: body}); err != nil {
			return err
		}
	}
	return nil
}

// dicom is view i as a DICOM file.
func (s *Study) dicom(i, size int, stored []uint16, compress bool) ([]byte, error) {
	var file bytes.Buffer
	syntax, pixels := dicom.ExplicitVRLittleEndian, dicom.Element{Tag: tag.PixelData, VR: "OW", Value: stored}
	if compress {
		syntax, pixels = dicom.RLELossless, dicom.Element{Tag: tag.PixelData, VR: "OB", Value: codec.EncodeRLE(stored, size)}
	}
	err := dicom.Write(&file, syntax, append(s.object(i, size), pixels))
	return file.Bytes(), err
}

// dicomLayout is a folder of DICOM studies, with the truth for labels.
type dicomLayout struct{ compress bool }

func (dicomLayout) names(s *Study) (patient, study string) { return s.Patient.ID, s.UID() }

func (l dicomLayout) file(s *Study, i, size int, pixels []uint16) (string, []byte, error) {
	body, err := s.dicom(i, size, pixels, l.compress)
	return path.Join("dicom", s.Patient.ID, "V"+strconv.Itoa(s.Visit+1), strconv.Itoa(i+1)+".dcm"), body, err
}

func (l dicomLayout) tables(studies []*Study, _ int) (map[string][]byte, error) {
	body, err := truthLabels(studies, l)
	return map[string][]byte{"labels.csv": body}, err
}

var truthHeader = []string{"study_instance_uid", "patient_id", "label", "finding", "laterality", "severity", "x_mm", "y_mm", "z_mm",
	"pa_contrast", "ap_contrast", "ll_contrast", "shown_in"}

// truth returns the study's rows of truth.csv, by its layout's names. shown_in names the views taken that show the finding.
func (s *Study) truth(r *renderer, how layout) (rows [][]string) {
	patient, study := how.names(s)
	number := func(x float64) string { return strconv.FormatFloat(x, 'f', 2, 64) }
	projections := []Projection{PA, AP, LL}
	for _, v := range s.Views {
		if !slices.Contains(projections, v.Projection) {
			projections = append(projections, v.Projection)
		}
	}
	contrasts := s.contrasts(r, projections)
	for i, f := range s.Findings {
		contrast := contrasts[i]
		var shown []string
		for _, projection := range s.shownIn(contrast) {
			shown = append(shown, string(projection))
		}
		rows = append(rows, []string{study, patient, f.Label, f.Kind, string(f.Side), number(f.Severity),
			number(f.X), number(f.Y), number(f.Z), number(contrast[PA]), number(contrast[AP]), number(contrast[LL]), strings.Join(shown, " ")})
	}
	return rows
}

// truthLabels is a table of what the studies have.
func truthLabels(studies []*Study, how layout) ([]byte, error) {
	rows := [][]string{append([]string{"study_instance_uid", "patient_id"}, model.Labels[:]...)}
	for _, s := range studies {
		patient, study := how.names(s)
		row := []string{study, patient}
		for _, label := range s.Labels() {
			row = append(row, state(label))
		}
		rows = append(rows, row)
	}
	return csvOf("labels.csv", rows)
}

func writeTables(cfg Config, dir string, studies []*Study, truth [][][]string) error {
	how := layouts(cfg)[cfg.At.Name]
	files, err := how.tables(studies, cfg.Size)
	if err == nil && files["labels.csv"] == nil {
		files["truth_labels.csv"], err = truthLabels(studies, how)
	}
	if err == nil {
		files["truth.csv"], err = csvOf("truth.csv", append([][]string{truthHeader}, slices.Concat(truth...)...))
	}
	if err != nil {
		return fmt.Errorf("make phantom: %w", err)
	}
	return writeFiles(dir, files)
}

func summarise(studies []*Study, patients int) Summary {
	sum := Summary{Patients: patients, Studies: len(studies), Positives: map[string]int{}}
	for _, s := range studies {
		sum.Images += len(s.Views)
		for i, state := range s.Labels() {
			if state == model.Positive {
				sum.Positives[model.Labels[i]]++
			}
		}
	}
	return sum
}
