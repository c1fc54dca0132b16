package synth

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path"
	"strconv"
	"strings"

	"github.com/mvmae/mvmae/model"
)

// chexpertLayout is CheXpert (the small release: tables beside the images) and CheXpert Plus above it (one table with reports,
// and labels as JSON lines) for the same images.
type chexpertLayout struct{}

const chexpertSmall = "CheXpert-v1.0-small"

var chexpertHeader = []string{"Path", "Sex", "Age", "Frontal/Lateral", "AP/PA",
	"No Finding", "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion", "Edema", "Consolidation", "Pneumonia",
	"Atelectasis", "Pneumothorax", "Pleural Effusion", "Pleural Other", "Fracture", "Support Devices"}

var chexpertPlusHeader = []string{"path_to_image", "path_to_dcm", "frontal_lateral", "ap_pa", "deid_patient_id", "patient_report_date_order", "report",
	"section_narrative", "section_clinical_history", "section_history", "section_comparison", "section_technique", "section_procedure_comments",
	"section_findings", "section_impression", "section_end_of_impression", "section_summary", "section_accession_number", "age", "sex", "race",
	"ethnicity", "interpreter_needed", "insurance_type", "recent_bmi", "deceased", "split"}

func (chexpertLayout) names(s *Study) (patient, study string) {
	patient = fmt.Sprintf("patient%05d", s.Patient.index+1)
	return patient, fmt.Sprintf("%s/study%d", patient, s.Visit+1)
}

// image is train/patient00001/study1/view1_frontal.
func (l chexpertLayout) image(s *Study, i int) string {
	_, study := l.names(s)
	return path.Join(s.Patient.split("train", "valid", "test"), study, fmt.Sprintf("view%d_%s", i+1, strings.ToLower(chexpertView(s, i))))
}

func chexpertView(s *Study, i int) string {
	if s.Views[i].Projection == LL {
		return "Lateral"
	}
	return "Frontal"
}

func (l chexpertLayout) file(s *Study, i, size int, pixels []uint16) (string, []byte, error) {
	body, err := jpegOf(s.Views[i].gray8(pixels, size))
	return path.Join(chexpertSmall, l.image(s, i)+".jpg"), body, err
}

func (l chexpertLayout) tables(studies []*Study, _ int) (files map[string][]byte, err error) {
	files = map[string][]byte{}
	plus := [][]string{chexpertPlusHeader}
	small := map[string][][]string{"train": {chexpertHeader}, "valid": {chexpertHeader}, "test": {chexpertHeader}}
	sections := map[string]*bytes.Buffer{"impression": {}, "findings": {}, "report": {}}
	for _, s := range studies {
		report := s.Report()
		labels := s.labels(report)
		described := report.Described
		described[noFinding] = model.Blank
		for i := range s.Views {
			split := s.Patient.split("train", "valid", "test")
			small[split] = append(small[split], l.smallRow(s, i, labels))
			plus = append(plus, l.plusRow(s, i, report))
			for name, set := range map[string]model.LabelSet{"impression": labels, "findings": described, "report": together(labels, described)} {
				if err := writeLine(sections[name], l.image(s, i)+".jpg", set); err != nil {
					return nil, err
				}
			}
		}
	}
	for split, rows := range small {
		if len(rows) == 1 {
			continue // a small phantom may lack one
		}
		name := path.Join(chexpertSmall, split+".csv")
		if files[name], err = csvOf(name, rows); err != nil {
			return nil, err
		}
	}
	for section, lines := range sections {
		files["chexbert_labels/"+section+"_fixed.json"] = lines.Bytes()
	}
	const name = "df_chexpert_plus_240401.csv"
	files[name], err = csvOf(name, plus)
	return files, err
}

func (l chexpertLayout) smallRow(s *Study, i int, labels model.LabelSet) []string {
	row := record(chexpertHeader, map[string]string{
		"Path": path.Join(chexpertSmall, l.image(s, i)+".jpg"), "Sex": sexName(s), "Age": strconv.Itoa(min(90, s.age())),
		"Frontal/Lateral": chexpertView(s, i), "AP/PA": chexpertAPPA(s, i),
	})
	for c, name := range chexpertHeader {
		if label := model.LabelIndex(name); label >= 0 {
			row[c] = state(labels[label])
		}
	}
	return row
}

func chexpertAPPA(s *Study, i int) string {
	if s.Views[i].Projection == LL {
		return ""
	}
	return string(s.Views[i].Projection)
}

func sexName(s *Study) string {
	if s.Patient.Sex == "F" {
		return "Female"
	}
	return "Male"
}

func (l chexpertLayout) plusRow(s *Study, i int, r Report) []string {
	patient, _ := l.names(s)
	at := l.image(s, i)
	history := fmt.Sprintf("%d years of age, %s, with %s.", min(90, s.age()), strings.ToLower(sexName(s)), s.complaint())
	text := "CLINICAL HISTORY: " + history + "\n\nCOMPARISON: None.\n\n"
	if r.Findings != "" {
		text += "FINDINGS:\n" + r.Findings + "\n\n"
	}
	return record(chexpertPlusHeader, map[string]string{
		"path_to_image": at + ".jpg", "path_to_dcm": at + ".dcm", "frontal_lateral": chexpertView(s, i), "ap_pa": chexpertAPPA(s, i),
		"deid_patient_id": patient, "patient_report_date_order": strconv.Itoa(s.Visit + 1), "report": text + "IMPRESSION:\n\n" + r.Impression,
		"section_clinical_history": history, "section_comparison": "None.", "section_findings": r.Findings, "section_impression": r.Impression,
		"age": fmt.Sprintf("%d.0", min(90, s.age())), "sex": sexName(s), "deceased": "No", "split": s.Patient.split("train", "valid", "test"),
	})
}

// together is what two sections say: a positive outweighs a doubt, a doubt a denial, anything silence.
func together(a, b model.LabelSet) model.LabelSet {
	rank := map[model.LabelState]int{model.Blank: 0, model.Negative: 1, model.Uncertain: 2, model.Positive: 3}
	for i := range a {
		if rank[b[i]] > rank[a[i]] {
			a[i] = b[i]
		}
	}
	return a
}

// writeLine writes an image's labels as CheXpert Plus has them: the path, then 1.0, 0.0, -1.0 or null.
func writeLine(b *bytes.Buffer, image string, labels model.LabelSet) error {
	at, err := json.Marshal(image)
	if err != nil {
		return err
	}
	fmt.Fprintf(b, `{"path_to_image": %s`, at)
	for _, name := range chexpertHeader {
		if label := model.LabelIndex(name); label >= 0 {
			value := state(labels[label])
			if value == "" {
				value = "null"
			}
			fmt.Fprintf(b, `, %q: %s`, name, value)
		}
	}
	b.WriteString("}\n")
	return nil
}
