package data

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/mvmae/mvmae/dicom"
	"github.com/mvmae/mvmae/dicom/cxr"
	"github.com/mvmae/mvmae/internal/hint"
	"github.com/mvmae/mvmae/model"
)

// IndexOptions say what to index and how to split it.
type IndexOptions struct {
	Root    string
	Dataset string // the name in the index; empty means the layout's
	// Shares split by patient; nil means the layout's own rule. Seed draws the split, of which Fold is one turn.
	Shares *Shares
	Seed   uint64
	Fold   Fold
	// Labels are the names to keep; the others become absent, as if the dataset did not have them. Empty keeps all.
	Labels []string

	Limits dicom.Limits // of one file's header
	// Progress, which may be nil, is told the number of files once it is known and then of each file that is done.
	Progress func(total int64) Meter
}

// check refuses what fits no dataset.
func (opt IndexOptions) check() error {
	for _, name := range opt.Labels {
		if model.LabelIndex(name) < 0 {
			return hint.Wrap(fmt.Errorf("unknown label %q", name), "the labels are %s", strings.Join(model.Labels[:], ", "))
		}
	}
	return opt.Fold.check(opt.Shares)
}

// keepLabels makes the labels absent that are not asked for.
func (opt IndexOptions) keepLabels(images []Image) {
	if len(opt.Labels) == 0 {
		return
	}
	for i := range images {
		for l, name := range model.Labels {
			if !slices.Contains(opt.Labels, name) {
				images[i].Labels[l] = model.Absent
			}
		}
	}
}

// Meter is told of progress. It may be called from several goroutines.
type Meter interface {
	Resume(n int64) // n were done by an earlier run
	Add(n int64)
}

type noMeter struct{}

func (noMeter) Resume(int64) {}
func (noMeter) Add(int64)    {}

func startMeter(progress func(int64) Meter, total int) Meter {
	if progress == nil {
		return noMeter{}
	}
	return progress(int64(total))
}

// The tables of ChestX-ray14 (Wang et al. 2017, release of 2020).
const (
	nihTable        = "Data_Entry_2017_v2020.csv"
	nihTrainValList = "train_val_list.txt"
	nihTestList     = "test_list.txt"
)

// nihColumns are all columns of the table. The bracketed names of its header hold commas, so that they are two columns each.
var nihColumns = []string{
	"Image Index", "Finding Labels", "Follow-up #", "Patient ID", "Patient Age", "Patient Gender", "View Position",
	"OriginalImage[Width", "Height]", "OriginalImagePixelSpacing[x", "y]",
}

// nihLabels map the table's findings to ours; "" has no counterpart.
var nihLabels = map[string]string{
	"Atelectasis": "Atelectasis", "Cardiomegaly": "Cardiomegaly", "Consolidation": "Consolidation", "Edema": "Edema",
	"Effusion": "Pleural Effusion", "Pneumonia": "Pneumonia", "Pneumothorax": "Pneumothorax", "Nodule": "Lung Lesion",
	"Mass": "Lung Lesion", "Infiltration": "Lung Opacity", "Pleural_Thickening": "Pleural Other", "No Finding": "No Finding",
	"Emphysema": "", "Fibrosis": "", "Hernia": "",
}

// IndexNIH indexes ChestX-ray14: its table, its images under images/, images_*/ or images_*/images/, and its two split
// lists. The official test list is the test split; the rest is split 98 to 2 by patient into train and validate. With
// opt.Shares the lists are not read. Each image is a study of its own, as the MVMAE paper counts them.
func IndexNIH(ctx context.Context, opt IndexOptions) (*Index, Remarks, error) {
	if opt.Dataset == "" {
		opt.Dataset = "nih"
	}
	remarks := Remarks{}
	x, err := indexNIH(ctx, opt, &remarks)
	if err != nil {
		return nil, nil, fmt.Errorf("index nih: %w", err)
	}
	if err := finishIndex(x, opt, &remarks); err != nil {
		return nil, nil, fmt.Errorf("index nih: %w", err)
	}
	return x, remarks, nil
}

func indexNIH(ctx context.Context, opt IndexOptions, remarks *Remarks) (*Index, error) {
	if err := opt.check(); err != nil {
		return nil, err
	}
	t, err := openTable(filepath.Join(opt.Root, nihTable))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, hint.Wrap(err, "--root must be the folder that holds %s", nihTable)
	}
	if err != nil {
		return nil, err
	}
	defer t.close()
	if err := t.need("Image Index", "Finding Labels", "Patient ID", "View Position"); err != nil {
		return nil, err
	}
	for _, name := range t.header {
		if name != "" && !slices.Contains(nihColumns, name) {
			remarks.note("unknown_column", "unknown columns, not used", name)
		}
	}
	files, err := nihImages(opt.Root, remarks)
	if err != nil {
		return nil, err
	}
	official, err := nihSplits(opt, remarks)
	if err != nil {
		return nil, err
	}
	x := &Index{Dataset: opt.Dataset}
	meter := startMeter(opt.Progress, len(files))
	tabled := map[string]bool{}
	for {
		if err := t.next(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, err
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		name := t.get("Image Index")
		if tabled[name] {
			remarks.refuse("duplicate_row", "rows of an image that has an earlier row", fmt.Sprintf("%s, line %d", name, t.line()))
			continue
		}
		tabled[name] = true
		file, ok := files[name]
		if !ok {
			remarks.refuse("missing_image", "rows whose image file is not there", name)
			continue
		}
		img := nihImage(t, opt.Dataset, name, remarks)
		img.Path, img.Bytes = file.path, file.bytes
		if opt.Shares != nil {
			img.Split = opt.Shares.splitOf(opt.Seed, opt.Dataset, img.PatientID, opt.Fold)
		} else if test, listed := official[name]; !listed {
			remarks.refuse("not_in_a_list", "images in neither split list", name)
			continue
		} else if test {
			img.Split = Test
		} else {
			img.Split = Shares{Train: 0.98, Validate: 0.02}.splitOf(opt.Seed, opt.Dataset, img.PatientID, Fold{})
		}
		x.Images = append(x.Images, img)
		meter.Add(1)
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if !tabled[name] {
			remarks.note("not_in_table", "image files without a row in the table", files[name].path)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(official)) {
		if !tabled[name] {
			remarks.note("listed_only", "images of the split lists without a row in the table", name)
		}
	}
	return x, nil
}

// nihImage reads the table's current row, but for file and split.
func nihImage(t *table, dataset, name string, remarks *Remarks) Image {
	img := Image{
		Dataset: dataset, PatientID: t.get("Patient ID"), ImageID: name, StudyID: strings.TrimSuffix(name, path.Ext(name)),
		Evidence: cxr.EvidenceNone, Labels: model.AbsentLabels(),
		Patient: NewPatient(t.get("Patient Gender"), parseAge(t.get("Patient Age"))),
	}
	view := t.get("View Position")
	if img.View = cxr.ViewFromTable(view); img.View != cxr.Unknown {
		img.Evidence = cxr.EvidenceTable
	} else {
		remarks.note("unknown_view", "rows whose view is unknown", fmt.Sprintf("%s: %q", name, view))
	}
	for _, ours := range nihLabels { // the table's silence about its own findings means no
		if ours != "" {
			img.Labels[model.LabelIndex(ours)] = model.Negative
		}
	}
	for finding := range strings.SplitSeq(t.get("Finding Labels"), "|") {
		ours, known := nihLabels[finding]
		switch {
		case !known:
			remarks.note("unknown_label", "rows with an unknown finding, which is not used", fmt.Sprintf("%s: %q", name, finding))
		case ours != "":
			img.Labels[model.LabelIndex(ours)] = model.Positive
		}
	}
	return img
}

type imageFile struct {
	path  string // relative to the root, with slashes
	bytes int64
}

// nihImages finds the image files by name.
func nihImages(root string, remarks *Remarks) (map[string]imageFile, error) {
	folders := []string{"images"}
	for _, pattern := range []string{"images_*", "images_*/images"} {
		more, err := fs.Glob(os.DirFS(root), pattern)
		if err != nil {
			return nil, err
		}
		folders = append(folders, more...)
	}
	files := map[string]imageFile{}
	for _, folder := range folders {
		entries, err := os.ReadDir(filepath.Join(root, filepath.FromSlash(folder)))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			at := path.Join(folder, e.Name())
			info, err := os.Stat(filepath.Join(root, filepath.FromSlash(at))) // follows links
			if errors.Is(err, fs.ErrNotExist) {
				continue // a link to nothing: its row will say so
			}
			if err != nil {
				return nil, err
			}
			if info.IsDir() {
				continue
			}
			if other, twice := files[e.Name()]; twice {
				remarks.note("duplicate_file", "image files whose name another folder holds too", at+", used: "+other.path)
				continue
			}
			files[e.Name()] = imageFile{at, info.Size()}
		}
	}
	if len(files) == 0 {
		return nil, hint.Wrap(fmt.Errorf("%s: no image files", root), "unpack the archives to images/ or images_001/ and so on, beside %s", nihTable)
	}
	return files, nil
}

// nihSplits reads the official lists: true for test images, false for train_val. An image in both is an error.
func nihSplits(opt IndexOptions, remarks *Remarks) (map[string]bool, error) {
	if opt.Shares != nil {
		return nil, nil
	}
	official := map[string]bool{}
	for _, list := range []string{nihTrainValList, nihTestList} {
		f, err := os.Open(filepath.Join(opt.Root, list))
		if errors.Is(err, fs.ErrNotExist) {
			return nil, hint.Wrap(err, "put the dataset's %s beside its table, or split without it: --split-shares 0.8,0.1,0.1", list)
		}
		if err != nil {
			return nil, err
		}
		defer f.Close()
		lines := bufio.NewScanner(f)
		for lines.Scan() {
			name := strings.TrimSpace(lines.Text())
			if name == "" {
				continue
			}
			if _, twice := official[name]; twice && !official[name] && list == nihTestList {
				return nil, fmt.Errorf("%s: %s is in %s too", list, name, nihTrainValList)
			}
			official[name] = list == nihTestList
		}
		if err := lines.Err(); err != nil {
			return nil, fmt.Errorf("read %s: %w", list, err)
		}
	}
	return official, nil
}

// finishIndex completes, checks and audits an index.
func finishIndex(x *Index, opt IndexOptions, remarks *Remarks) (err error) {
	if x.Root, err = filepath.Abs(opt.Root); err != nil {
		return err
	}
	opt.keepLabels(x.Images)
	x.Created = time.Now().UTC().Truncate(time.Second)
	remarks.sort()
	if len(x.Images) == 0 {
		return hint.Wrap(fmt.Errorf("%s: no image to index", opt.Root), "%s", cmp.Or(strings.TrimSpace(remarks.Text(3)), "is it the right folder?"))
	}
	if err := Audit(x.Images); err != nil {
		return err
	}
	counts := Count(x.Images)
	for _, s := range Splits {
		if counts[s].Images == 0 {
			remarks.note("empty_split", "splits without an image", s.String())
		}
	}
	remarks.sort()
	return nil
}
