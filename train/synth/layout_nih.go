package synth

import (
	"bytes"
	"fmt"
	"path"
	"strconv"
	"strings"

	"github.com/mvmae/mvmae/model"
)

// nihLayout is ChestX-ray14: PNG files in a few large folders, a table, and two lists.
type nihLayout struct{}

// nihHeader has the two names with commas that are four fields of the real table.
var nihHeader = []string{"Image Index", "Finding Labels", "Follow-up #", "Patient ID", "Patient Age", "Patient Gender", "View Position",
	"OriginalImage[Width", "Height]", "OriginalImagePixelSpacing[x", "y]"}

// nihNames are ChestX-ray14's of the labels it has, by the kind of finding; "" is a label's default.
var nihNames = map[string]map[string]string{
	"Atelectasis": {"": "Atelectasis"}, "Cardiomegaly": {"": "Cardiomegaly"}, "Consolidation": {"": "Consolidation"}, "Edema": {"": "Edema"},
	"Pleural Effusion": {"": "Effusion"}, "Pneumonia": {"": "Pneumonia"}, "Pneumothorax": {"": "Pneumothorax"},
	"Lung Lesion": {"": "Nodule", "mass": "Mass"}, "Lung Opacity": {"": "Infiltration"}, "Pleural Other": {"": "Pleural_Thickening"},
}

func (nihLayout) names(s *Study) (patient, study string) {
	return strconv.FormatUint(s.Patient.index+1, 10), fmt.Sprintf("%08d_%03d", s.Patient.index+1, s.Visit)
}

// file puts the first 4,999 patients' images into images_001 and 10,000 into each folder after it, as the real archives have
// about so many images.
func (l nihLayout) file(s *Study, i, size int, pixels []uint16) (string, []byte, error) {
	_, study := l.names(s)
	folder := 1 + (s.Patient.index+5001)/10000
	body, err := pngOf(s.Views[i].gray8(pixels, size))
	return path.Join(fmt.Sprintf("images_%03d", folder), "images", study+".png"), body, err
}

func (l nihLayout) tables(studies []*Study, size int) (map[string][]byte, error) {
	rows := [][]string{nihHeader}
	lists := map[string]*bytes.Buffer{"train_val_list.txt": {}, "test_list.txt": {}}
	for _, s := range studies {
		patient, study := l.names(s)
		pitch := strconv.FormatFloat(s.Views[0].detector.FieldMM/float64(size), 'f', 3, 64)
		report := s.Report()
		rows = append(rows, record(nihHeader, map[string]string{
			"Image Index": study + ".png", "Finding Labels": nihFindings(report.opinion.about, s.labels(report)), "Follow-up #": strconv.Itoa(s.Visit),
			"Patient ID": patient, "Patient Age": strconv.Itoa(s.age()), "Patient Gender": s.Patient.Sex, "View Position": string(s.Views[0].Projection),
			"OriginalImage[Width": strconv.Itoa(size), "Height]": strconv.Itoa(size), "OriginalImagePixelSpacing[x": pitch, "y]": pitch,
		}))
		fmt.Fprintln(lists[s.Patient.split("train_val_list.txt", "train_val_list.txt", "test_list.txt")], study+".png")
	}
	const name = "Data_Entry_2017_v2020.csv"
	body, err := csvOf(name, rows)
	files := map[string][]byte{name: body}
	for name, list := range lists {
		files[name] = list.Bytes()
	}
	return files, err
}

// nihFindings joins names by bars. What ChestX-ray14 has no label for counts as nothing.
func nihFindings(about [model.NumLabels]subject, labels model.LabelSet) string {
	var names []string
	for l, s := range labels {
		if byKind, ok := nihNames[model.Labels[l]]; ok && (s == model.Positive || s == model.Uncertain) {
			names = append(names, of(byKind, about[l].kind))
		}
	}
	if len(names) == 0 {
		return "No Finding"
	}
	return strings.Join(names, "|")
}
