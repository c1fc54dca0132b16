package synth

import (
	"math/big"
	"path"
	"strconv"
	"strings"

	"github.com/mvmae/mvmae/model"
)

// padchestLayout is PadChest: 16-bit PNG files in numbered folders, and one table.
type padchestLayout struct{}

const padchestTable = "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv"

var padchestHeader = []string{"", "ImageID", "ImageDir", "StudyDate_DICOM", "StudyID", "PatientID", "PatientBirth", "PatientSex_DICOM",
	"ViewPosition_DICOM", "Projection", "MethodProjection", "Pediatric", "Modality_DICOM", "Manufacturer_DICOM",
	"PhotometricInterpretation_DICOM", "PixelRepresentation_DICOM", "PixelAspectRatio_DICOM", "SpatialResolution_DICOM",
	"BitsStored_DICOM", "WindowCenter_DICOM", "WindowWidth_DICOM", "Rows_DICOM", "Columns_DICOM", "XRayTubeCurrent_DICOM",
	"Exposure_DICOM", "ExposureInuAs_DICOM", "ExposureTime", "RelativeXRayExposure_DICOM", "ReportID", "Report", "MethodLabel",
	"Labels", "Localizations", "LabelsLocalizationsBySentence", "labelCUIS", "LocalizationsCUIS"}

// digits are a number of some forty digits, as PadChest's identifiers.
func digits(s *Study, kind string, n int) string {
	return strings.TrimPrefix(s.uid(kind, n), "2.25.")
}

func (padchestLayout) names(s *Study) (patient, study string) {
	first := *s
	first.Visit = 0
	return digits(&first, "patient", 0), digits(s, "study", 0)
}

func (l padchestLayout) imageID(s *Study, i int) string {
	_, study := l.names(s)
	number, _ := new(big.Int).SetString(digits(s, "image", i), 10)
	letters := number.Text(36)
	return study + "_" + letters[len(letters)-6:] + ".png"
}

// The images lie in folders 0 to 54.
func padchestDir(s *Study) string { return strconv.FormatUint(s.Patient.index%55, 10) }

func (l padchestLayout) file(s *Study, i, size int, pixels []uint16) (string, []byte, error) {
	body, err := pngOf(s.Views[i].gray16(pixels, size))
	return path.Join(padchestDir(s), l.imageID(s, i)), body, err
}

// padchestView is Projection, and what most devices write of it.
func padchestView(s *Study, i int) (projection, position string) {
	switch v := s.Views[i].Projection; {
	case v == PA:
		projection, position = "PA", "POSTEROANTERIOR"
	case v == LL:
		projection, position = "L", "LATERAL"
	case v == AP && s.Patient.index%9 < 2: // 22 % of the AP images are not of a lying patient
		projection, position = "AP", "ANTEROPOSTERIOR"
	case v == AP:
		projection, position = "AP_horizontal", "nan"
	default:
		projection, position = "COSTAL", "OBLICUA"
	}
	if !s.Views[i].coded {
		position = "nan"
	}
	return projection, position
}

func (l padchestLayout) tables(studies []*Study, size int) (map[string][]byte, error) {
	rows := [][]string{padchestHeader}
	for _, s := range studies {
		patient, study := l.names(s)
		report := s.Report()
		labels := padchestFindings(report.opinion.about, s.labels(report))
		method := "RNN_model"
		if s.Patient.index%4 == 0 {
			method = "Physician"
		}
		for i := range s.Views {
			projection, position := padchestView(s, i)
			full := int(s.Views[i].full())
			rows = append(rows, record(padchestHeader, map[string]string{
				"": strconv.Itoa(len(rows) - 1), "ImageID": l.imageID(s, i), "ImageDir": padchestDir(s), "StudyDate_DICOM": s.Time.Format("20060102"),
				"StudyID": study, "PatientID": patient, "PatientBirth": strconv.Itoa(s.Time.Year()-s.age()) + ".0", "PatientSex_DICOM": s.Patient.Sex,
				"ViewPosition_DICOM": position, "Projection": projection, "MethodProjection": "Manual review of DICOM fields", "Pediatric": "No",
				"Modality_DICOM": "CR", "Manufacturer_DICOM": "MVMAE", "PhotometricInterpretation_DICOM": "MONOCHROME2",
				"PixelRepresentation_DICOM": "0", "PixelAspectRatio_DICOM": "None", "SpatialResolution_DICOM": "None",
				"BitsStored_DICOM": strconv.Itoa(bitsOf(full)), "WindowCenter_DICOM": strconv.Itoa((full + 1) / 2), "WindowWidth_DICOM": strconv.Itoa(full + 1),
				"Rows_DICOM": strconv.Itoa(size), "Columns_DICOM": strconv.Itoa(size), "XRayTubeCurrent_DICOM": "None", "Exposure_DICOM": "None",
				"ExposureInuAs_DICOM": "None", "ExposureTime": "None", "RelativeXRayExposure_DICOM": "None",
				"ReportID": number(1000000, 8999993, s.Patient.seed, 8*s.Patient.index+uint64(s.Visit)), "Report": " " + report.Impression,
				"MethodLabel": method, "Labels": labels, "Localizations": "[]", "LabelsLocalizationsBySentence": "[]", "labelCUIS": "[]", "LocalizationsCUIS": "[]",
			}))
		}
	}
	body, err := csvOf(padchestTable, rows)
	return map[string][]byte{padchestTable: body}, err
}

func bitsOf(full int) int { return len(strconv.FormatInt(int64(full), 2)) }

// padchestFindings is a Python list of PadChest's names, with the stray spaces of the real ones.
func padchestFindings(about [model.NumLabels]subject, labels model.LabelSet) string {
	var names []string
	for l, s := range labels {
		if l == noFinding || s != model.Positive && s != model.Uncertain {
			continue
		}
		name := "'" + of(spanish[l].labels, about[l].kind) + "'"
		if len(names) > 0 && l%2 == 1 {
			name = "' " + name[1:]
		}
		names = append(names, name)
	}
	if len(names) == 0 || labels[noFinding] == model.Positive {
		names = append([]string{"'normal'"}, names...)
	}
	return "[" + strings.Join(names, ", ") + "]"
}
