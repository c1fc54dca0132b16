package data

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/mvmae/mvmae/internal/hint"
	"github.com/mvmae/mvmae/model"
)

// chexpertPlusTable is the table of CheXpert Plus (Chambon et al. 2024).
const chexpertPlusTable = "df_chexpert_plus_240401.csv"

var chexpertPlusColumns = []string{
	"path_to_image", "path_to_dcm", "frontal_lateral", "ap_pa", "deid_patient_id", "patient_report_date_order", "report",
	"section_narrative", "section_clinical_history", "section_history", "section_comparison", "section_technique",
	"section_procedure_comments", "section_findings", "section_impression", "section_end_of_impression", "section_summary",
	"section_accession_number", "age", "sex", "race", "ethnicity", "interpreter_needed", "insurance_type", "recent_bmi", "deceased", "split",
}

// chexpertSmallTables are those of CheXpert (Irvin et al. 2019), each a split. The test set was published on its own.
var chexpertSmallTables = []struct {
	name  string
	split Split
}{{"train.csv", Train}, {"valid.csv", Validate}, {"test.csv", Test}, {"test_labels.csv", Test}}

var chexpertSmallColumns = append([]string{"Path", "Sex", "Age", "Frontal/Lateral", "AP/PA"}, model.Labels[:]...)

// ChexbertSections are the parts of CheXpert Plus's reports that were labelled: METHOD.md takes the impression.
var ChexbertSections = []string{"impression", "findings", "report"}

// IndexCheXpert indexes CheXpert Plus, or CheXpert where there is no Plus: the tables, and the images
// train/patient00001/study1/view1_frontal.jpg (or .png, .dcm), wherever these folders lie under opt.Root. The labels of
// CheXpert Plus are those of chexbert_labels/SECTION_fixed.json, its reports the impressions. The splits are the official
// ones: the column split, or the table a row is in.
func IndexCheXpert(ctx context.Context, opt IndexOptions, section string) (*Index, Remarks, error) {
	return indexTables(ctx, opt, layout{name: "chexpert", key: chexpertKey,
		rows: func(ctx context.Context, opt IndexOptions, remarks *Remarks) ([]Image, error) {
			t, err := findTable(opt.Root, chexpertPlusTable)
			if errors.Is(err, fs.ErrNotExist) {
				return chexpertSmallRows(ctx, opt, remarks)
			}
			if err != nil {
				return nil, err
			}
			defer t.close()
			return chexpertPlusRows(ctx, opt, t, cmp.Or(section, ChexbertSections[0]), remarks)
		},
		cure: "put the folders train/ and valid/ beside the table"})
}

// chexpertKey is split/patient/study/view, whatever lies before and whatever the format.
func chexpertKey(at string) string {
	parts := strings.Split(withoutExt(at), "/")
	return strings.Join(parts[max(0, len(parts)-4):], "/")
}

// chexpertImage reads what a path tells; ok is false where it is none of the dataset's.
func chexpertImage(dataset, at string) (img Image, ok bool) {
	img = Image{Dataset: dataset, ImageID: chexpertKey(at)}
	parts := strings.Split(img.ImageID, "/")
	if len(parts) != 4 || !strings.HasPrefix(parts[1], "patient") || !strings.HasPrefix(parts[2], "study") {
		return img, false
	}
	img.PatientID, img.StudyID = parts[1], parts[1]+"/"+parts[2]
	return img, true
}

func chexpertPerson(sex, age string) Patient {
	years, _ := strconv.ParseFloat(age, 64)
	switch sex {
	case "Female":
		sex = "F"
	case "Male":
		sex = "M"
	}
	return NewPatient(sex, int(years))
}

func chexpertSmallRows(ctx context.Context, opt IndexOptions, remarks *Remarks) (images []Image, err error) {
	found := false
	for _, source := range chexpertSmallTables {
		t, err := findTable(opt.Root, source.name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		found = true
		more, err := chexpertSmallTableRows(ctx, opt, t, source.split, remarks)
		t.close()
		if err != nil {
			return nil, err
		}
		images = append(images, more...)
	}
	if !found {
		return nil, hint.Wrap(fmt.Errorf("%s: neither %s nor train.csv", opt.Root, chexpertPlusTable), "--root must be the folder that holds one of them")
	}
	return images, nil
}

func chexpertSmallTableRows(ctx context.Context, opt IndexOptions, t *table, split Split, remarks *Remarks) (images []Image, err error) {
	if err := t.need("Path"); err != nil {
		return nil, err
	}
	t.known(chexpertSmallColumns, remarks)
	return images, t.each(ctx, remarks, func() error {
		img, ok := chexpertImage(opt.Dataset, t.get("Path"))
		if !ok {
			remarks.refuse("bad_path", "rows whose path is not split/patient/study/view", fmt.Sprintf("%s:%d", filepath.Base(t.path), t.line()))
			return nil
		}
		img.Split = split
		img.Patient = chexpertPerson(t.get("Sex"), t.get("Age"))
		_, word, _ := strings.Cut(path.Base(img.ImageID), "_") // the test set's table has the paths alone
		img.setView(cmp.Or(t.get("Frontal/Lateral"), word), remarks)
		if img.Labels, err = t.labels(); err != nil {
			return err
		}
		for i, name := range model.Labels {
			if _, ok := t.columns[name]; !ok {
				img.Labels[i] = model.Absent
			}
		}
		images = append(images, img)
		return nil
	})
}

func chexpertPlusRows(ctx context.Context, opt IndexOptions, t *table, section string, remarks *Remarks) (images []Image, err error) {
	if err := t.need("path_to_image", "frontal_lateral", "split"); err != nil {
		return nil, err
	}
	t.known(chexpertPlusColumns, remarks)
	labels, err := chexbertLabels(filepath.Join(opt.Root, "chexbert_labels", section+"_fixed.json"), remarks)
	if err != nil {
		return nil, err
	}
	return images, t.each(ctx, remarks, func() error {
		img, ok := chexpertImage(opt.Dataset, t.get("path_to_image"))
		if !ok {
			remarks.refuse("bad_path", "rows whose path is not split/patient/study/view", fmt.Sprintf("%s:%d", filepath.Base(t.path), t.line()))
			return nil
		}
		img.PatientID = cmp.Or(t.get("deid_patient_id"), img.PatientID)
		if opt.Shares == nil {
			switch t.get("split") {
			case "train":
				img.Split = Train
			case "valid", "validate":
				img.Split = Validate
			case "test":
				img.Split = Test
			default:
				img.Split = unlisted
			}
		}
		img.Patient = chexpertPerson(t.get("sex"), t.get("age"))
		img.setView(t.get("frontal_lateral"), remarks)
		img.setReport(t.get("section_impression"), remarks)
		known := false
		if img.Labels, known = labels[img.ImageID]; !known {
			img.Labels = model.AbsentLabels()
			remarks.note("image_without_labels", "images that the file of labels does not name", img.ImageID)
		}
		images = append(images, img)
		return nil
	})
}

// chexbertLabels reads JSON lines: path_to_image and the 14 labels, each 1, 0, -1 or null.
func chexbertLabels(at string, remarks *Remarks) (map[string]model.LabelSet, error) {
	f, err := os.Open(at)
	if err != nil {
		return nil, hint.Wrap(err, "unpack chexbert_labels beside %s; --chexbert names another of its files: %s", chexpertPlusTable, strings.Join(ChexbertSections, ", "))
	}
	defer f.Close()
	labels := map[string]model.LabelSet{}
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for number := 1; lines.Scan(); number++ {
		if len(bytes.TrimSpace(lines.Bytes())) == 0 {
			continue
		}
		image, set, err := chexbertLine(lines.Bytes())
		if err != nil {
			remarks.refuse("bad_label_line", "lines of labels that cannot be read", fmt.Sprintf("%s:%d: %v", filepath.Base(at), number, err))
			continue
		}
		labels[chexpertKey(image)] = set
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read %s: %w", at, err)
	}
	return labels, nil
}

func chexbertLine(line []byte) (image string, labels model.LabelSet, err error) {
	var fields map[string]any
	if err := json.Unmarshal(line, &fields); err != nil {
		return "", labels, err
	}
	image, _ = fields["path_to_image"].(string)
	if image == "" {
		return "", labels, errors.New("no path_to_image")
	}
	for i, name := range model.Labels {
		text := ""
		if number, ok := fields[name].(float64); ok {
			text = strconv.FormatFloat(number, 'g', -1, 64)
		} else if fields[name] != nil {
			text = fmt.Sprint(fields[name])
		}
		if labels[i], err = parseState(text); err != nil {
			return "", labels, fmt.Errorf("%s: %w", name, err)
		}
	}
	return image, labels, nil
}
