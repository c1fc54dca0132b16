package synth

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path"
	"strconv"
	"strings"

	"github.com/mvmae/mvmae/model"
)

// mimicLayout is MIMIC-CXR-JPG with the reports of MIMIC-CXR; with dicom the images are MIMIC-CXR's own DICOM files.
type mimicLayout struct{ dicom bool }

var mimicMetadata = []string{
	"dicom_id", "subject_id", "study_id", "PerformedProcedureStepDescription", "ViewPosition", "Rows", "Columns", "StudyDate", "StudyTime",
	"ProcedureCodeSequence_CodeMeaning", "ViewCodeSequence_CodeMeaning", "PatientOrientationCodeSequence_CodeMeaning",
}

func (mimicLayout) names(s *Study) (patient, study string) {
	const prime = 9999991 // eight digits, as theirs
	return number(10000000, prime, s.Patient.seed, s.Patient.index), number(50000000, prime, s.Patient.seed, 8*s.Patient.index+uint64(s.Visit))
}

// folder is files/p10/p10000032/s50414267.
func (l mimicLayout) folder(s *Study) string {
	patient, study := l.names(s)
	return path.Join("files", "p"+patient[:2], "p"+patient, "s"+study)
}

// imageID is five groups of eight hexadecimal digits.
func (mimicLayout) imageID(s *Study, i int) string {
	sum := sha256.Sum256([]byte(s.uid("mimic", i)))
	digits := hex.EncodeToString(sum[:20])
	return strings.Join([]string{digits[:8], digits[8:16], digits[16:24], digits[24:32], digits[32:]}, "-")
}

func (l mimicLayout) file(s *Study, i, size int, pixels []uint16) (string, []byte, error) {
	at := path.Join(l.folder(s), l.imageID(s, i))
	if l.dicom {
		body, err := s.dicom(i, size, pixels, false)
		return at + ".dcm", body, err
	}
	body, err := jpegOf(s.Views[i].gray8(pixels, size))
	return at + ".jpg", body, err
}

// Of two names of a lateral view MIMIC-CXR has both.
func mimicView(s *Study, i int) (position, meaning string) {
	switch v := s.Views[i].Projection; {
	case v == PA:
		return "PA", "postero-anterior"
	case v == LL && s.Patient.index%10 < 3:
		return "LL", "left lateral"
	case v == LL:
		return "LATERAL", "lateral"
	case v == AP:
		return "AP", "antero-posterior"
	default:
		return string(v), ""
	}
}

// procedure is what was asked for.
func (s *Study) procedure() string {
	for _, v := range s.Views {
		if v.Projection == AP {
			return "CHEST (PORTABLE AP)"
		}
	}
	if len(s.Views) > 1 {
		return "CHEST (PA AND LAT)"
	}
	return "CHEST (SINGLE VIEW)"
}

func (l mimicLayout) tables(studies []*Study, size int) (files map[string][]byte, err error) {
	files = map[string][]byte{}
	metadata := [][]string{mimicMetadata}
	splits := [][]string{{"dicom_id", "study_id", "subject_id", "split"}}
	labels := [][]string{append([]string{"subject_id", "study_id"}, model.Labels[:]...)}
	for _, s := range studies {
		patient, study := l.names(s)
		for i := range s.Views {
			position, meaning := mimicView(s, i)
			upright := "Erect"
			if s.Views[i].Projection == AP {
				upright = "Recumbent"
			}
			metadata = append(metadata, record(mimicMetadata, map[string]string{
				"dicom_id": l.imageID(s, i), "subject_id": patient, "study_id": study, "PerformedProcedureStepDescription": s.procedure(),
				"ViewPosition": position, "Rows": strconv.Itoa(size), "Columns": strconv.Itoa(size), "StudyDate": s.Time.AddDate(150, 0, 0).Format("20060102"),
				"StudyTime": s.Time.Format("150405.000"), "ProcedureCodeSequence_CodeMeaning": s.procedure(), "ViewCodeSequence_CodeMeaning": meaning,
				"PatientOrientationCodeSequence_CodeMeaning": upright,
			}))
			splits = append(splits, []string{l.imageID(s, i), study, patient, s.Patient.split("train", "validate", "test")})
		}
		report := s.Report()
		files[l.folder(s)+".txt"] = []byte(s.mimicReport(report))
		row := []string{patient, study}
		for _, label := range s.labels(report) {
			row = append(row, state(label))
		}
		labels = append(labels, row)
	}
	for name, rows := range map[string][][]string{
		"mimic-cxr-2.0.0-metadata.csv.gz": metadata, "mimic-cxr-2.0.0-split.csv.gz": splits, "mimic-cxr-2.0.0-chexpert.csv.gz": labels,
	} {
		if files[name], err = csvOf(name, rows); err != nil {
			return nil, err
		}
	}
	return files, nil
}

// mimicReport is the whole text, with the underlines that stand for what was removed.
func (s *Study) mimicReport(r Report) string {
	person := "man"
	if s.Patient.Sex == "F" {
		person = "woman"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "                                 FINAL REPORT\n EXAMINATION:  %s\n \n", s.procedure())
	fmt.Fprintf(&b, " INDICATION:  ___-year-old %s with %s.\n \n", person, s.complaint())
	fmt.Fprintf(&b, " COMPARISON:  %s\n \n", [...]string{"None.", "Chest radiograph from ___."}[min(1, s.Visit)])
	if r.Findings != "" {
		fmt.Fprintf(&b, " FINDINGS: \n \n %s\n \n", r.Findings)
	}
	fmt.Fprintf(&b, " IMPRESSION: \n \n %s\n", r.Impression)
	return b.String()
}

// complaint is why the study was made; it tells nothing.
func (s *Study) complaint() string {
	complaints := [...]string{"cough", "dyspnea", "chest pain", "fever", "weakness"}
	return complaints[(s.Patient.index+uint64(s.Visit))%uint64(len(complaints))]
}
