package data

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/csv"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/mvmae/mvmae/model"
)

// padchestTable is the table of PadChest (Bustos et al. 2020, release of 2019-02-01).
const padchestTable = "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv"

// padchestColumns are all columns of the table but its first, the number of the row, which has no name.
var padchestColumns = []string{
	"ImageID", "ImageDir", "StudyDate_DICOM", "StudyID", "PatientID", "PatientBirth", "PatientSex_DICOM", "ViewPosition_DICOM",
	"Projection", "MethodProjection", "Pediatric", "Modality_DICOM", "Manufacturer_DICOM", "PhotometricInterpretation_DICOM",
	"PixelRepresentation_DICOM", "PixelAspectRatio_DICOM", "SpatialResolution_DICOM", "BitsStored_DICOM", "WindowCenter_DICOM",
	"WindowWidth_DICOM", "Rows_DICOM", "Columns_DICOM", "XRayTubeCurrent_DICOM", "Exposure_DICOM", "ExposureInuAs_DICOM",
	"ExposureTime", "RelativeXRayExposure_DICOM", "ReportID", "Report", "MethodLabel", "Labels", "Localizations",
	"LabelsLocalizationsBySentence", "labelCUIS", "LocalizationsCUIS",
}

// padchestShares are the MVMAE paper's: PadChest has no official split.
var padchestShares = Shares{0.97, 0.015, 0.015}

// PadChestOptions say how PadChest's 174 findings become the 14.
type PadChestOptions struct {
	// First takes the first of the two targets that the MVMAE paper's table gives for 17 findings; the last is the default.
	First bool
	// ClearNoFinding takes No Finding from studies that have another of the 14 too. The paper's rule lets them have both.
	ClearNoFinding bool
}

// IndexPadChest indexes PadChest: its table, and its images by name, wherever they lie under opt.Root. A study's labels are
// those of all its images together; an image whose Labels are "nan" adds none. Patients are split by opt.Shares, 0.97, 0.015
// and 0.015 if nil.
func IndexPadChest(ctx context.Context, opt IndexOptions, how PadChestOptions) (*Index, Remarks, error) {
	if opt.Shares == nil {
		opt.Shares = &padchestShares
	}
	return indexTables(ctx, opt, layout{name: "padchest", key: path.Base,
		rows: func(ctx context.Context, opt IndexOptions, remarks *Remarks) ([]Image, error) {
			return padchestRows(ctx, opt, how, remarks)
		},
		cure: "unpack the archives to the folders that ImageDir names, beside " + padchestTable})
}

func padchestRows(ctx context.Context, opt IndexOptions, how PadChestOptions, remarks *Remarks) (images []Image, err error) {
	t, err := findTable(opt.Root, padchestTable)
	if err != nil {
		return nil, err
	}
	defer t.close()
	if err := t.need("ImageID", "StudyID", "PatientID", "Projection", "Labels"); err != nil {
		return nil, err
	}
	t.known(padchestColumns, remarks)
	studies := map[string]model.LabelSet{}
	err = t.each(ctx, remarks, func() error {
		img := padchestImage(t, opt.Dataset, remarks)
		labels := padchestLabels(t.get("Labels"), how.First, img.ImageID, remarks)
		if known, ok := studies[img.StudyID]; ok {
			labels = either(known, labels)
		}
		studies[img.StudyID] = labels
		images = append(images, img)
		return nil
	})
	for i := range images {
		images[i].Labels = studies[images[i].StudyID]
		if how.ClearNoFinding {
			clearNoFinding(&images[i].Labels)
		}
	}
	return images, err
}

func clearNoFinding(labels *model.LabelSet) {
	noFinding := model.LabelIndex("No Finding")
	for l, state := range labels {
		if l != noFinding && state == model.Positive {
			labels[noFinding] = model.Negative
		}
	}
}

// either is what two images of a study say together: what one of them shows is there.
func either(a, b model.LabelSet) model.LabelSet {
	for i := range a {
		a[i] = max(a[i], b[i])
	}
	return a
}

// padchestImage reads the table's current row, but for file, split and labels.
func padchestImage(t *table, dataset string, remarks *Remarks) Image {
	date, birth := t.get("StudyDate_DICOM"), t.get("PatientBirth")
	age := 0
	if born, err := strconv.ParseFloat(birth, 64); err == nil && len(date) >= 4 {
		year, _ := strconv.Atoi(date[:4])
		age = year - int(born)
	}
	img := Image{Dataset: dataset, PatientID: t.get("PatientID"), StudyID: t.get("StudyID"), ImageID: t.get("ImageID"),
		Patient: NewPatient(t.get("PatientSex_DICOM"), age)}
	img.setView(t.get("Projection"), remarks)
	if report := t.get("Report"); report != "nan" {
		img.setReport(report, remarks)
	}
	return img
}

// padchestLabels maps a row's Labels. The table's silence about its own findings means no; "nan" means that nobody knows.
func padchestLabels(list string, first bool, image string, remarks *Remarks) model.LabelSet {
	labels := model.AbsentLabels()
	findings, ok := parseList(list)
	if !ok {
		remarks.note("no_labels", "images without labels, which become absent", fmt.Sprintf("%s: %.40q", image, list))
		return labels
	}
	targets := padchestTargets()
	for _, target := range targets {
		labels[target[1]] = model.Negative
	}
	for _, finding := range findings {
		target, known := targets[strings.TrimSpace(finding)]
		switch {
		case !known:
			remarks.note("unknown_label", "images with an unknown finding, which is not used", fmt.Sprintf("%s: %q", image, finding))
		case first:
			labels[target[0]] = model.Positive
		default:
			labels[target[1]] = model.Positive
		}
	}
	return labels
}

// parseList reads a Python list of strings: ['a', "b's"].
func parseList(text string) (items []string, ok bool) {
	text = strings.TrimSpace(text)
	if len(text) < 2 || text[0] != '[' || text[len(text)-1] != ']' {
		return nil, false
	}
	for text = strings.TrimSpace(text[1 : len(text)-1]); text != ""; {
		quote := text[0]
		if quote != '\'' && quote != '"' {
			return nil, false
		}
		item, rest, closed := strings.Cut(text[1:], string(quote))
		if !closed {
			return nil, false
		}
		items = append(items, item)
		rest = strings.TrimSpace(rest)
		if rest != "" && rest[0] != ',' {
			return nil, false
		}
		text = strings.TrimSpace(strings.TrimPrefix(rest, ","))
	}
	return items, true
}

// padchest_labels.csv holds the MVMAE paper's published map from PadChest's findings to the 14: the finding without its spaces, and
// its target in the first and in the last row of the paper's table that names it.
//
//go:embed padchest_labels.csv
var padchestLabelsCSV []byte

// padchestTargets are indexes into model.Labels by finding: the first and the last.
var padchestTargets = sync.OnceValue(func() map[string][2]int {
	rows, err := csv.NewReader(bytes.NewReader(padchestLabelsCSV)).ReadAll()
	if err != nil {
		panic("padchest_labels.csv: " + err.Error()) // it is part of the program
	}
	targets := map[string][2]int{}
	for _, row := range rows[1:] {
		pair := [2]int{model.LabelIndex(row[1]), model.LabelIndex(row[2])}
		if slices.Contains(pair[:], -1) {
			panic("padchest_labels.csv: unknown label in " + strings.Join(row, ","))
		}
		targets[row[0]] = pair
	}
	return targets
})
