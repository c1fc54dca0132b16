package data

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/suyashkumar/dicom/pkg/tag"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/mvmae/mvmae/dicom"
	"github.com/mvmae/mvmae/dicom/cxr"
	"github.com/mvmae/mvmae/internal/hint"
	"github.com/mvmae/mvmae/model"
)

// labelTable is the optional table of a folder of DICOM studies: study_instance_uid, patient_id (may be missing) and any of
// the 14 labels by their exact names, each 1.0 (positive), 0.0 (negative), -1.0 (uncertain) or empty (not mentioned).
const labelTable = "labels.csv"

// IndexDICOM indexes every DICOM file under opt.Root, by its header alone: patient, study and view as dicom/cxr finds them,
// labels from labels.csv in opt.Root if there is one. A study that the table does not name has unknown labels. Patients are
// split by opt.Shares, 0.8, 0.1 and 0.1 if nil. Of several files with one SOP Instance UID the first by path is used.
func IndexDICOM(ctx context.Context, opt IndexOptions) (*Index, Remarks, error) {
	if opt.Dataset == "" {
		opt.Dataset = "dicom"
	}
	if opt.Shares == nil {
		opt.Shares = &Shares{0.8, 0.1, 0.1}
	}
	remarks := Remarks{}
	x, err := indexDICOM(ctx, opt, &remarks)
	if err == nil {
		err = finishIndex(x, opt, &remarks)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("index dicom: %w", err)
	}
	return x, remarks, nil
}

func indexDICOM(ctx context.Context, opt IndexOptions, remarks *Remarks) (*Index, error) {
	if err := opt.check(); err != nil {
		return nil, err
	}
	labels, err := readLabels(filepath.Join(opt.Root, labelTable))
	if err != nil {
		return nil, err
	}
	files, err := findFiles(opt.Root, remarks)
	if err != nil {
		return nil, err
	}
	headers, err := readHeaders(ctx, opt, files)
	if err != nil {
		return nil, err
	}
	x := &Index{Dataset: opt.Dataset}
	firstPath := map[string]string{} // of each SOP Instance UID
	unlabelled := map[string]bool{}
	for i, h := range headers {
		switch at := files[i].path; {
		case errors.Is(h.err, errOther):
			remarks.note("other_file", "files that are not DICOM", at)
			continue
		case h.err != nil:
			code, detail := refusalOf(h.err)
			remarks.refuse(code, "files "+refusalText(code), at+": "+detail)
			continue
		case firstPath[h.ImageID] != "":
			remarks.refuse("duplicate_instance", "files with the SOP Instance UID of an earlier file", at+" = "+firstPath[h.ImageID])
			continue
		}
		img := h.Image
		img.Dataset, img.Path, img.Bytes = opt.Dataset, files[i].path, files[i].bytes
		named, err := labels.label(&img)
		if err != nil {
			return nil, err
		}
		if missing := missingID(img); missing != "" {
			remarks.refuse("no_identifier", "files without an identifier", img.Path+": no "+missing)
			continue
		}
		if labels != nil && !named && !unlabelled[img.StudyID] {
			unlabelled[img.StudyID] = true
			remarks.note("study_without_labels", "studies that "+labelTable+" does not name", path.Dir(img.Path))
		}
		firstPath[img.ImageID] = img.Path
		img.Split = opt.Shares.splitOf(opt.Seed, opt.Dataset, img.PatientID, opt.Fold)
		x.Images = append(x.Images, img)
	}
	for _, study := range slices.Sorted(maps.Keys(labels)) {
		if l := labels[study]; !l.used {
			remarks.note("labels_without_study", "rows of "+labelTable+" whose study has no usable file", fmt.Sprintf("line %d", l.line))
		}
	}
	return x, nil
}

func missingID(img Image) string {
	switch "" {
	case img.PatientID:
		return "PatientID"
	case img.StudyID:
		return "StudyInstanceUID"
	case img.ImageID:
		return "SOPInstanceUID"
	}
	return ""
}

type studyLabels struct {
	labels  model.LabelSet
	patient string // may be empty
	line    int
	used    bool
}

// labelsByStudy is the label table by StudyInstanceUID; nil if there is none.
type labelsByStudy map[string]*studyLabels

// label gives an image its study's labels, and the patient if the file names none. It says whether the table names the
// study.
func (l labelsByStudy) label(img *Image) (named bool, err error) {
	img.Labels = model.AbsentLabels()
	known, ok := l[img.StudyID]
	if !ok {
		return false, nil
	}
	if img.PatientID == "" {
		img.PatientID = known.patient
	}
	if known.patient != "" && known.patient != img.PatientID {
		return true, fmt.Errorf("%s:%d: study %s is of patient %s, its files say %s", labelTable, known.line,
			Hashed(img.Dataset, img.StudyID), Hashed(img.Dataset, known.patient), Hashed(img.Dataset, img.PatientID))
	}
	img.Labels = known.labels
	known.used = true
	return true, nil
}

func readLabels(path string) (labelsByStudy, error) {
	t, err := openTable(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer t.close()
	const study, patient = "study_instance_uid", "patient_id"
	if err := t.need(study); err != nil {
		return nil, err
	}
	known := append([]string{study, patient}, model.Labels[:]...)
	for _, name := range t.header {
		if name != "" && !slices.Contains(known, name) {
			return nil, unknownColumn(path, name, known)
		}
	}
	labels := labelsByStudy{}
	for {
		if err := t.next(); errors.Is(err, io.EOF) {
			return labels, nil
		} else if err != nil {
			return nil, err
		}
		l := &studyLabels{labels: model.AbsentLabels(), patient: t.get(patient), line: t.line()}
		for i, name := range model.Labels {
			if _, ok := t.columns[name]; !ok {
				continue
			}
			if l.labels[i], err = parseState(t.get(name)); err != nil {
				return nil, fmt.Errorf("%s:%d: %s: %w", path, l.line, name, err)
			}
		}
		uid := t.get(study)
		if first, twice := labels[uid]; twice {
			return nil, fmt.Errorf("%s:%d: the study of line %d is there again", path, l.line, first.line)
		}
		labels[uid] = l
	}
}

func unknownColumn(path, name string, known []string) error {
	err := fmt.Errorf("%s: unknown column %q", path, name)
	if near := hint.Nearest(name, known); near != "" {
		return hint.Wrap(err, "did you mean %q?", near)
	}
	return hint.Wrap(err, "its columns may be %s", strings.Join(known, ", "))
}

// parseState reads CheXpert's notation.
func parseState(text string) (model.LabelState, error) {
	switch text {
	case "1.0", "1":
		return model.Positive, nil
	case "0.0", "0":
		return model.Negative, nil
	case "-1.0", "-1":
		return model.Uncertain, nil
	case "":
		return model.Blank, nil
	}
	return 0, fmt.Errorf("%q is no label state: want 1.0, 0.0, -1.0 or nothing", text)
}

// findFiles lists the regular files under root, by path. Links to files count, links to folders are remarked.
func findFiles(root string, remarks *Remarks) ([]imageFile, error) {
	var files []imageFile
	tree := os.DirFS(root)
	err := fs.WalkDir(tree, ".", func(at string, d fs.DirEntry, err error) error {
		if err != nil {
			if at == "." {
				return hint.Wrap(err, "--root must be a folder of DICOM files")
			}
			remarks.refuse(codeUnreadable, "files "+refusalText(codeUnreadable), at+": "+noPath(err).Error())
			return nil
		}
		if d.IsDir() || at == labelTable {
			return nil
		}
		info, err := fs.Stat(tree, at) // follows links
		switch {
		case err != nil:
			remarks.refuse(codeUnreadable, "files "+refusalText(codeUnreadable), at+": "+noPath(err).Error())
		case info.IsDir():
			remarks.note("linked_folder", "links to folders, not followed", at)
		case info.Mode().IsRegular():
			files = append(files, imageFile{at, info.Size()})
		}
		return nil
	})
	return files, err
}

// header is what a file says of itself.
type header struct {
	Image // PatientID, StudyID, ImageID, View, Evidence
	err   error
}

var errOther = errors.New("not DICOM, and not called so")

func readHeaders(ctx context.Context, opt IndexOptions, files []imageFile) ([]header, error) {
	meter := startMeter(opt.Progress, len(files))
	headers := make([]header, len(files))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for i, f := range files {
		g.Go(func() error {
			headers[i].Image, headers[i].err = readHeader(opt, f)
			meter.Add(1)
			return ctx.Err()
		})
	}
	return headers, g.Wait()
}

// readHeader maps the file instead of reading it: of a large image only the pages of its header are touched.
func readHeader(opt IndexOptions, file imageFile) (img Image, err error) {
	f, err := os.Open(filepath.Join(opt.Root, filepath.FromSlash(file.path)))
	if err != nil {
		return Image{}, &cxr.Refusal{Code: codeUnreadable, Detail: noPath(err).Error()}
	}
	defer f.Close()
	named := strings.EqualFold(path.Ext(file.path), ".dcm")
	if file.bytes == 0 {
		if named {
			return Image{}, &cxr.Refusal{Code: codeUnreadable, Detail: "the file is empty"}
		}
		return Image{}, errOther
	}
	body, err := unix.Mmap(int(f.Fd()), 0, int(file.bytes), unix.PROT_READ, unix.MAP_PRIVATE)
	if err != nil {
		return Image{}, &cxr.Refusal{Code: codeUnreadable, Detail: err.Error()}
	}
	defer unix.Munmap(body)
	// A file that shrinks, or a disk that fails, while it is mapped is a fault.
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			img, err = Image{}, &cxr.Refusal{Code: codeUnreadable, Detail: fmt.Sprint(p)}
		}
	}()
	if !named && !isDICOM(body) {
		return Image{}, errOther
	}
	parsed, err := dicom.Parse(body, opt.Limits)
	if err != nil {
		return Image{}, err
	}
	img = Image{
		PatientID: parsed.String(tag.PatientID), StudyID: parsed.String(tag.StudyInstanceUID), ImageID: parsed.String(tag.SOPInstanceUID),
		Patient: NewPatient(parsed.String(tag.PatientSex), parseAge(parsed.String(tag.PatientAge))),
	}
	img.View, img.Evidence, err = cxr.Examine(parsed)
	return img, err
}
