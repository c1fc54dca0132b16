package data

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/mvmae/mvmae/internal/hint"
	"github.com/mvmae/mvmae/model"
)

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

// IndexNIH indexes ChestX-ray14: its table, its images, which lie under images/, images_001/ or images_001/images/ and so on,
// and its two split lists. The official test list is the test split; the rest is split 98 to 2 by patient into train and
// validate. With opt.Shares the lists are not read. Each image is a study of its own, as the MVMAE paper counts them.
func IndexNIH(ctx context.Context, opt IndexOptions) (*Index, Remarks, error) {
	return indexTables(ctx, opt, layout{name: "nih", rows: nihRows, key: path.Base,
		cure: "unpack the archives to images/ or images_001/ and so on, beside " + nihTable})
}

func nihRows(ctx context.Context, opt IndexOptions, remarks *Remarks) (images []Image, err error) {
	t, err := findTable(opt.Root, nihTable)
	if err != nil {
		return nil, err
	}
	defer t.close()
	if err := t.need("Image Index", "Finding Labels", "Patient ID", "View Position"); err != nil {
		return nil, err
	}
	t.known(nihColumns, remarks)
	official, err := nihSplits(opt, remarks)
	if err != nil {
		return nil, err
	}
	tabled := map[string]bool{}
	err = t.each(ctx, remarks, func() error {
		img := nihImage(t, opt.Dataset, remarks)
		tabled[img.ImageID] = true
		if opt.Shares == nil {
			test, listed := official[img.ImageID]
			switch {
			case !listed:
				img.Split = unlisted
			case test:
				img.Split = Test
			default:
				img.Split = Shares{Train: 0.98, Validate: 0.02}.splitOf(opt.Seed, opt.Dataset, img.PatientID, Fold{})
			}
		}
		images = append(images, img)
		return nil
	})
	for _, name := range slices.Sorted(maps.Keys(official)) {
		if !tabled[name] {
			remarks.note("listed_only", "images of the split lists without a row in the table", name)
		}
	}
	return images, err
}

// nihImage reads the table's current row, but for file and split.
func nihImage(t *table, dataset string, remarks *Remarks) Image {
	name := t.get("Image Index")
	img := Image{
		Dataset: dataset, PatientID: t.get("Patient ID"), ImageID: name, StudyID: strings.TrimSuffix(name, path.Ext(name)),
		Labels:  model.AbsentLabels(),
		Patient: NewPatient(t.get("Patient Gender"), parseAge(t.get("Patient Age"))),
	}
	img.setView(t.get("View Position"), remarks)
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
