package data

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

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

	// TablesOnly looks for no image: the index says what the tables say, and cannot be packed.
	TablesOnly bool

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

// layout is how a dataset lies in its folder.
type layout struct {
	name string
	// rows reads the tables: every image that they name, but for Path and Bytes, and for Split where opt.Shares decides it. The
	// split is unlisted where the official one does not name the image.
	rows func(ctx context.Context, opt IndexOptions, remarks *Remarks) ([]Image, error)
	key  func(path string) string // of an image file: the ImageID of its row
	cure string                   // when there is no image file
}

const unlisted = Split(len(Splits))

// indexTables indexes a dataset that has tables: rows first, then the files that they name.
func indexTables(ctx context.Context, opt IndexOptions, l layout) (*Index, Remarks, error) {
	opt.Dataset = cmp.Or(opt.Dataset, l.name)
	x, remarks := &Index{Dataset: opt.Dataset}, Remarks{}
	var err error
	if x.Images, err = l.images(ctx, opt, &remarks); err == nil {
		err = finishIndex(x, opt, &remarks)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("index %s: %w", l.name, err)
	}
	return x, remarks, nil
}

func (l layout) images(ctx context.Context, opt IndexOptions, remarks *Remarks) ([]Image, error) {
	if err := opt.check(); err != nil {
		return nil, err
	}
	images, err := l.rows(ctx, opt, remarks)
	if err != nil {
		return nil, err
	}
	images = firstRows(images, remarks)
	agree(images, remarks)
	if opt.Shares != nil {
		for i := range images {
			images[i].Split = opt.Shares.splitOf(opt.Seed, opt.Dataset, images[i].PatientID, opt.Fold)
		}
	}
	if !opt.TablesOnly {
		if images, err = l.findImages(ctx, opt, images, remarks); err != nil {
			return nil, err
		}
	}
	return slices.DeleteFunc(images, func(img Image) bool {
		if img.Split == unlisted {
			remarks.refuse("not_in_a_list", "images that the official split does not name", img.ImageID)
		}
		return img.Split == unlisted
	}), nil
}

// firstRows leaves out rows without identifiers and those of an image that has an earlier row.
func firstRows(images []Image, remarks *Remarks) []Image {
	seen := map[string]bool{}
	return slices.DeleteFunc(images, func(img Image) bool {
		switch {
		case img.PatientID == "" || img.StudyID == "" || img.ImageID == "":
			remarks.refuse("no_identifier", "rows without an identifier of image, study or patient", fmt.Sprintf("%q", img.ImageID))
			return true
		case seen[img.ImageID]:
			remarks.refuse("duplicate_row", "rows of an image that has an earlier row", img.ImageID)
			return true
		}
		seen[img.ImageID] = true
		return false
	})
}

// agree gives the images of a study one patient, one report and one set of labels, those of its first row, and remarks where
// the tables say otherwise. A study of two patients makes them one patient everywhere, so that no split can part them.
func agree(images []Image, remarks *Remarks) {
	first := map[string]*Image{} // of each study
	same := map[string]string{}  // patients, by the name that an earlier study of theirs gives them
	root := func(patient string) string {
		for same[patient] != "" {
			patient = same[patient]
		}
		return patient
	}
	for i := range images {
		img := &images[i]
		f, ok := first[img.StudyID]
		if !ok {
			first[img.StudyID] = img
			continue
		}
		if a, b := root(f.PatientID), root(img.PatientID); a != b {
			same[b] = a
			remarks.note("study_of_two_patients", "images of a study that names another patient: the two are taken for one", img.ImageID)
		}
		if f.Labels != img.Labels {
			remarks.note("study_of_two_labels", "images whose labels are not those of their study's first image, which are used", img.ImageID)
		}
		if f.Report != img.Report {
			remarks.note("study_of_two_reports", "images whose report is not that of their study's first image, which is used", img.ImageID)
		}
		img.Labels, img.Report, img.Patient = f.Labels, f.Report, f.Patient
	}
	for i := range images {
		images[i].PatientID = root(images[i].PatientID)
	}
}

// findImages gives the rows their files, and leaves out rows that have none.
func (l layout) findImages(ctx context.Context, opt IndexOptions, images []Image, remarks *Remarks) ([]Image, error) {
	files := map[string]imageFile{} // by key
	if err := walkImages(opt.Root, func(f imageFile) error {
		key := l.key(f.path)
		if first, twice := files[key]; twice {
			remarks.note("duplicate_file", "image files whose name another folder holds too", f.path+", used: "+first.path)
			return nil
		}
		files[key] = f
		return ctx.Err()
	}); err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return nil, hint.Wrap(fmt.Errorf("%s: no image files", opt.Root), "%s", l.cure)
	}
	meter := startMeter(opt.Progress, len(images))
	tabled := map[string]bool{}
	kept := slices.DeleteFunc(images, func(img Image) bool {
		meter.Add(1)
		tabled[img.ImageID] = true
		f, there := files[img.ImageID]
		switch {
		case !there:
			remarks.refuse("missing_image", "rows whose image file is not there", img.ImageID)
		case f.bytes == 0:
			remarks.refuse("empty_image", "rows whose image file is empty", f.path)
		}
		return f.bytes == 0
	})
	for i := range kept {
		f := files[kept[i].ImageID]
		kept[i].Path, kept[i].Bytes = f.path, f.bytes
	}
	for _, key := range slices.Sorted(maps.Keys(files)) {
		if !tabled[key] {
			remarks.note("not_in_table", "image files without a row in the table", files[key].path)
		}
	}
	return kept, nil
}

type imageFile struct {
	path  string // relative to the root, with slashes
	bytes int64
}

// walkImages calls do for every image file under root, in the order of the paths. Links are followed, each folder once.
func walkImages(root string, do func(imageFile) error) error {
	been := map[string]bool{} // folders, by where they really lie
	var walk func(at string) error
	walk = func(at string) error {
		dir := filepath.Join(root, filepath.FromSlash(at))
		real, err := filepath.EvalSymlinks(dir)
		if err != nil || been[real] {
			return err
		}
		been[real] = true
		entries, err := os.ReadDir(dir)
		if err != nil {
			return err
		}
		for _, e := range entries {
			name := path.Join(at, e.Name())
			mode, image := e.Type(), isImage(name)
			if mode.IsRegular() && !image {
				continue
			}
			var bytes int64
			if !mode.IsDir() {
				info, err := os.Stat(filepath.Join(dir, e.Name()))
				if err != nil {
					continue // a link to nothing: its row will say so
				}
				mode, bytes = info.Mode(), info.Size()
			}
			switch {
			case mode.IsDir():
				err = walk(name)
			case image:
				err = do(imageFile{name, bytes})
			}
			if err != nil {
				return err
			}
		}
		return nil
	}
	return walk(".")
}

func isImage(name string) bool {
	switch strings.ToLower(path.Ext(name)) {
	case ".png", ".jpg", ".jpeg", ".dcm":
		return true
	}
	return false
}

// withoutExt is a key of images that come in several formats.
func withoutExt(name string) string { return strings.TrimSuffix(name, path.Ext(name)) }

// setView takes the view from a table's word, and remarks one that says nothing.
func (img *Image) setView(word string, remarks *Remarks) {
	img.View, img.Evidence = cxr.ViewFromTable(word), cxr.EvidenceTable
	if img.View == cxr.Unknown {
		img.Evidence = cxr.EvidenceNone
		remarks.note("unknown_view", "rows whose view is neither frontal nor lateral", fmt.Sprintf("%s: %q", img.ImageID, word))
	}
}

// setReport takes a report's text with its white space made even.
func (img *Image) setReport(text string, remarks *Remarks) {
	if !utf8.ValidString(text) {
		remarks.note("report_not_utf8", "reports with bytes that are not UTF-8, each replaced by U+FFFD", img.ImageID)
		text = strings.ToValidUTF8(text, "\ufffd")
	}
	img.Report = strings.Join(strings.Fields(text), " ")
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
