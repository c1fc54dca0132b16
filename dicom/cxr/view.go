package cxr

import (
	"slices"
	"strings"
	"unicode"

	"github.com/mvmae/mvmae/dicom"
	"github.com/suyashkumar/dicom/pkg/tag"
)

// View is what a radiograph shows the chest from. Its numbers are those of the model's view input.
type View uint8

const (
	Frontal View = 0 // AP or PA
	Lateral View = 1 // left or right
	Unknown View = 2 // obliques and decubitus too
)

func (v View) String() string {
	switch v {
	case Frontal:
		return "frontal"
	case Lateral:
		return "lateral"
	}
	return "unknown"
}

// Evidence is what a view was read from.
type Evidence string

// The ranks of evidence, the best first. The first that decides is taken.
const (
	EvidenceViewPosition          Evidence = "view_position"          // (0018,5101)
	EvidenceViewCode              Evidence = "view_code"              // ViewCodeSequence (0054,0220)
	EvidencePatientOrientation    Evidence = "patient_orientation"    // (0020,0020)
	EvidenceProcessingDescription Evidence = "processing_description" // AcquisitionDeviceProcessingDescription (0018,1400)
	EvidenceSeriesDescription     Evidence = "series_description"     // (0008,103E)
	EvidenceStudyDescription      Evidence = "study_description"      // (0008,1030): of the whole study, so the last resort

	EvidenceNone  Evidence = "none"  // nothing decided: the view is unknown
	EvidenceTable Evidence = "table" // a data set's table states the view
)

// viewOf reads the view from the best evidence that decides. conflict says that a lesser one names another view:
// the other of frontal and lateral, or a decubitus, oblique or lordotic one.
func viewOf(h dicom.Header) (view View, evidence Evidence, conflict bool) {
	described := func(t tag.Tag) func() (View, bool) {
		return func() (View, bool) { return viewOfWords(strings.Join(h.Strings(t), " ")) }
	}
	view, evidence = Unknown, EvidenceNone
	for _, rank := range []struct {
		evidence Evidence
		read     func() (View, bool)
	}{
		{EvidenceViewPosition, func() (View, bool) { return viewOfPosition(h.String(tag.ViewPosition)) }},
		{EvidenceViewCode, func() (View, bool) { return viewOfCodes(h.Items(tag.ViewCodeSequence)) }},
		{EvidencePatientOrientation, func() (View, bool) { return viewOfOrientation(h.Strings(tag.PatientOrientation)) }},
		{EvidenceProcessingDescription, described(tag.AcquisitionDeviceProcessingDescription)},
		{EvidenceSeriesDescription, described(tag.SeriesDescription)},
		{EvidenceStudyDescription, described(tag.StudyDescription)},
	} {
		switch v, ok := rank.read(); {
		case !ok:
		case evidence == EvidenceNone:
			view, evidence = v, rank.evidence
		case rank.evidence == EvidenceStudyDescription && v == Unknown: // the oblique may be another image of the study
		case v != view && view != Unknown:
			conflict = true
		}
	}
	return view, evidence, conflict
}

// ViewFromTable maps the view of a data set's table, in any case: MIMIC-CXR's ViewPosition, PadChest's Projection,
// CheXpert's frontal_lateral, ChestX-ray14's View Position. All but plain frontal and lateral views are unknown.
func ViewFromTable(s string) View {
	switch strings.ToUpper(strings.TrimSpace(s)) {
	case "AP", "PA", "ANTEROPOSTERIOR", "POSTEROANTERIOR", "AP_HORIZONTAL", "FRONTAL":
		return Frontal
	case "LATERAL", "LAT", "LL", "RL", "L":
		return Lateral
	}
	return Unknown
}

// viewOfPosition decides as the tables do, and reads what is no defined term (AP SUPINE) as a description. So it also
// decides that obliques and the like are unknown, which no description may then overrule.
func viewOfPosition(s string) (View, bool) {
	if v := ViewFromTable(s); v != Unknown {
		return v, true
	}
	return viewOfWords(s)
}

// viewOfCodes reads codes of PS3.16 CID 4010: SNOMED CT, then the SNOMED RT of older files (designators SRT, SNM3 and
// 99SDM). The two spell their codes so differently that the designator, which is often wrong, need not be asked. All
// projections of CID 4010 are here; codes from elsewhere decide nothing.
func viewOfCodes(items []dicom.Header) (View, bool) {
	for _, item := range items {
		switch strings.ToUpper(item.String(tag.CodeValue)) {
		case "272479007", "R-40888", "R-10214", // postero-anterior
			"399348003", "R-10206", // antero-posterior
			"399033003", "R-10202": // frontal
			return Frontal, true
		case "399067008", "R-102CD", // lateral
			"399173006", "R-10236", // left lateral
			"399198007", "R-10232": // right lateral
			return Lateral, true
		case "399182000", "R-102C1", // oblique
			"399135007", "R-10220", "399356000", "R-40985", // left, right anterior oblique
			"399006002", "R-10212", "399038007", "R-10210", // left, right posterior oblique
			"399184004", "R-10238", "399236003", "R-10234", // left, right oblique
			"399312000", "R-10208", "399059000", "R-10216", // antero-posterior, postero-anterior oblique
			"399160007", "R-10204", "260427002", "R-40783", // frontal, lateral oblique
			"399061009", "R-10241", "399004004", "R-10246", // axial, oblique axial
			"399132005", "R-10252", "399325008", "R-10254", // frontal-oblique, sagittal-oblique axial
			"399368009", "R-10226", "399099002", "R-10230", // medio-lateral, latero-medial oblique
			"260426006", "R-40782", // medial oblique
			"399260004", "R-10224", "399352003", "R-10228", // medial-lateral, lateral-medial
			"399162004", "R-10242", "399196006", "R-10244", // cranio-caudal, caudo-cranial
			"399288005", "R-10248", "399225005", "R-10250", // the same, oblique
			"399242004", "R-102C6", "399272005", "R-102C5", // acanthioparietal, parietoacanthial
			"399351005", "R-102C7", "399316002", "R-102C8", // orbitoparietal, parieto-orbital
			"399255003", "R-10256", "399360002", "R-10257", // submentovertical, verticosubmental
			"399335002", "R-102C4", "399071006", "R-102C3", // dorsoplantar, plantodorsal
			"399110001", "R-102C2", "260499007", "R-40810", // tangential, occlusal
			"30730003", "G-A145": // sagittal
			return Unknown, true
		}
	}
	return Unknown, false
}

// viewOfOrientation reads PatientOrientation: the directions in which rows and columns run (PS3.3 C.7.6.1.1.1). Rows of a
// frontal view run to the patient's left or right, those of a lateral to the front or back; columns run to the feet. Two
// letters for one direction are an oblique or a tilted view, and decide nothing.
func viewOfOrientation(directions []string) (View, bool) {
	if len(directions) != 2 || strings.ToUpper(directions[1]) != "F" {
		return Unknown, false
	}
	switch strings.ToUpper(directions[0]) {
	case "L", "R":
		return Frontal, true
	case "A", "P":
		return Lateral, true
	}
	return Unknown, false
}

// viewOfWords reads a description. One that names an oblique, decubitus or axial view decides that the view is unknown;
// one that names both a frontal and a lateral view decides nothing.
func viewOfWords(s string) (View, bool) {
	var frontal, lateral bool
	for _, w := range words(s) {
		switch {
		case isNeither(w):
			return Unknown, true
		case slices.Contains([]string{"AP", "PA", "FRONTAL", "ANTEROPOSTERIOR", "POSTEROANTERIOR"}, w):
			frontal = true
		case slices.Contains([]string{"LAT", "LATERAL", "LL", "RL", "LLAT", "RLAT"}, w):
			lateral = true
		}
	}
	switch {
	case frontal == lateral:
		return Unknown, false
	case lateral:
		return Lateral, true
	}
	return Frontal, true
}

// isNeither says whether a word names a view that is neither frontal nor lateral as the model knows them.
func isNeither(word string) bool {
	return slices.Contains([]string{"OBL", "OBLIQUE", "OBLIQUES", "LAO", "RAO", "LPO", "RPO", "LLO", "RLO", "DECUB", "DECUBITUS",
		"LLD", "RLD", "AXIAL", "LORDOTIC", "SWIMMERS", "XTABLE", "COSTAL"}, word)
}

// words splits a description at all but letters and digits, in upper case. X-table and cross table become one word.
func words(s string) []string {
	s = strings.ToUpper(s)
	s = strings.NewReplacer("X-TABLE", "XTABLE", "X TABLE", "XTABLE", "CROSS-TABLE", "XTABLE", "CROSS TABLE", "XTABLE").Replace(s)
	return strings.FieldsFunc(s, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) })
}
