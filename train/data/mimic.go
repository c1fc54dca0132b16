package data

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/mvmae/mvmae/internal/hint"
	"github.com/mvmae/mvmae/model"
)

// The tables of MIMIC-CXR-JPG (Johnson et al. 2019), each as it is or compressed (.gz).
const (
	mimicMetadata = "mimic-cxr-2.0.0-metadata.csv"
	mimicLabels   = "mimic-cxr-2.0.0-chexpert.csv"
	mimicSplit    = "mimic-cxr-2.0.0-split.csv"
)

var mimicColumns = []string{
	"dicom_id", "subject_id", "study_id", "PerformedProcedureStepDescription", "ViewPosition", "Rows", "Columns", "StudyDate", "StudyTime",
	"ProcedureCodeSequence_CodeMeaning", "ViewCodeSequence_CodeMeaning", "PatientOrientationCodeSequence_CodeMeaning",
}

// mimicReports are the folders that may hold the reports: beside the images, or as their own archive unpacks.
var mimicReports = []string{"files", "mimic-cxr-reports/files", "reports"}

// IndexMIMIC indexes MIMIC-CXR-JPG, or MIMIC-CXR with its DICOM files: the tables of metadata, labels and splits, the reports
// (files/p10/p10000032/s50414267.txt), and the images by name, wherever they lie under opt.Root. The tables tell neither sex
// nor age.
func IndexMIMIC(ctx context.Context, opt IndexOptions) (*Index, Remarks, error) {
	return indexTables(ctx, opt, layout{name: "mimic", rows: mimicRows,
		key:  func(at string) string { return withoutExt(path.Base(at)) },
		cure: "put the folder files/ beside " + mimicMetadata})
}

func mimicRows(ctx context.Context, opt IndexOptions, remarks *Remarks) (images []Image, err error) {
	t, err := findTable(opt.Root, mimicMetadata)
	if err != nil {
		return nil, err
	}
	defer t.close()
	if err := t.need("dicom_id", "subject_id", "study_id", "ViewPosition"); err != nil {
		return nil, err
	}
	t.known(mimicColumns, remarks)
	labels, err := mimicStudies(ctx, opt, remarks)
	if err != nil {
		return nil, err
	}
	splits, err := mimicSplits(ctx, opt, remarks)
	if err != nil {
		return nil, err
	}
	studies := map[string]Image{} // labels and report, read once
	err = t.each(ctx, remarks, func() error {
		img := Image{Dataset: opt.Dataset, PatientID: t.get("subject_id"), StudyID: t.get("study_id"), ImageID: t.get("dicom_id")}
		if opt.Shares == nil {
			img.Split = unlisted
			if split, listed := splits[img.ImageID]; listed {
				img.Split = split
			}
		}
		study, seen := studies[img.StudyID]
		if !seen {
			study.ImageID, study.Labels = img.ImageID, model.AbsentLabels()
			if known, ok := labels[img.StudyID]; ok {
				study.Labels = known
			} else {
				remarks.note("study_without_labels", "studies that the table of labels does not name", "s"+img.StudyID)
			}
			if err := study.readMIMICReport(opt.Root, img.PatientID, img.StudyID, remarks); err != nil {
				return err
			}
			studies[img.StudyID] = study
		}
		img.Labels, img.Report = study.Labels, study.Report
		img.setView(t.get("ViewPosition"), remarks)
		images = append(images, img)
		return nil
	})
	return images, err
}

// mimicStudies reads the labels of each study.
func mimicStudies(ctx context.Context, opt IndexOptions, remarks *Remarks) (map[string]model.LabelSet, error) {
	t, err := findTable(opt.Root, mimicLabels)
	if err != nil {
		return nil, err
	}
	defer t.close()
	if err := t.need(append([]string{"study_id"}, model.Labels[:]...)...); err != nil {
		return nil, err
	}
	t.known(append([]string{"subject_id", "study_id"}, model.Labels[:]...), remarks)
	studies := map[string]model.LabelSet{}
	return studies, t.each(ctx, remarks, func() (err error) {
		studies[t.get("study_id")], err = t.labels()
		return err
	})
}

// labels reads the 14 columns of a CheXpert table's current row.
func (t *table) labels() (labels model.LabelSet, err error) {
	for i, name := range model.Labels {
		if labels[i], err = parseState(t.get(name)); err != nil {
			return labels, fmt.Errorf("%s:%d: %s: %w", t.path, t.line(), name, err)
		}
	}
	return labels, nil
}

func mimicSplits(ctx context.Context, opt IndexOptions, remarks *Remarks) (map[string]Split, error) {
	if opt.Shares != nil {
		return nil, nil
	}
	t, err := findTable(opt.Root, mimicSplit)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, hint.Wrap(err, "put the dataset's %s.gz beside its other tables, or split without it: --split-shares 0.8,0.1,0.1", mimicSplit)
	}
	if err != nil {
		return nil, err
	}
	defer t.close()
	if err := t.need("dicom_id", "split"); err != nil {
		return nil, err
	}
	splits := map[string]Split{}
	return splits, t.each(ctx, remarks, func() error {
		split, err := ParseSplit(t.get("split"))
		if err != nil {
			return fmt.Errorf("%s:%d: %w", t.path, t.line(), err)
		}
		splits[t.get("dicom_id")] = split
		return nil
	})
}

// readMIMICReport reads a study's report, where there is one.
func (img *Image) readMIMICReport(root, patient, study string, remarks *Remarks) error {
	at := path.Join("p"+patient[:min(2, len(patient))], "p"+patient, "s"+study+".txt")
	for _, folder := range mimicReports {
		text, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(path.Join(folder, at))))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case err != nil:
			return fmt.Errorf("read report: %w", err)
		}
		img.setReport(mimicText(string(text)), remarks)
		return nil
	}
	remarks.note("no_report", "studies without a report", at)
	return nil
}

var (
	mimicHeading   = regexp.MustCompile(`(?m)^[ \t]*([A-Z][A-Z /,&()-]*):`)
	mimicParagraph = regexp.MustCompile(`\n[ \t]*\n`)
)

// mimicText is what a radiologist concludes: the impression, without one the findings, without these the last paragraph.
func mimicText(report string) string {
	headings := mimicHeading.FindAllStringSubmatchIndex(report, -1)
	for _, want := range []string{"IMPRESSION", "FINDINGS"} {
		for i, at := range slices.Backward(headings) {
			end := len(report)
			if i+1 < len(headings) {
				end = headings[i+1][0]
			}
			text := strings.TrimSpace(report[at[1]:end])
			if strings.Contains(report[at[2]:at[3]], want) && text != "" {
				return text
			}
		}
	}
	paragraphs := mimicParagraph.Split(strings.TrimSpace(report), -1)
	return paragraphs[len(paragraphs)-1]
}
