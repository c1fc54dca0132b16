package cxr

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/suyashkumar/dicom/pkg/tag"

	"github.com/mvmae/mvmae/dicom"
)

// bare is a chest radiograph whose header says nothing of its view.
func bare() []dicom.Element {
	return without(chest(randomPicture(1, 4, 5, 0, 255), 8, false, "MONOCHROME2"), tag.ViewPosition)
}

func text(t tag.Tag, values ...string) dicom.Element { return dicom.Element{Tag: t, Value: values} }

func codes(t tag.Tag, designator string, values ...string) dicom.Element {
	var items []dicom.Item
	for _, v := range values {
		items = append(items, dicom.Item{text(tag.CodeValue, v), text(tag.CodingSchemeDesignator, designator)})
	}
	return dicom.Element{Tag: t, Value: items}
}

func TestView_Evidence(t *testing.T) {
	position := func(s string) dicom.Element { return text(tag.ViewPosition, s) }
	code := func(designator string, values ...string) dicom.Element {
		return codes(tag.ViewCodeSequence, designator, values...)
	}
	orientation := func(values ...string) dicom.Element { return text(tag.PatientOrientation, values...) }
	processing := func(s string) dicom.Element { return text(tag.AcquisitionDeviceProcessingDescription, s) }
	series := func(s string) dicom.Element { return text(tag.SeriesDescription, s) }
	study := func(s string) dicom.Element { return text(tag.StudyDescription, s) }
	type answer struct {
		View     View
		Evidence Evidence
		Conflict bool
	}
	for _, c := range []struct {
		name  string
		elems []dicom.Element
		want  answer
	}{
		{"nothing", nil, answer{Unknown, EvidenceNone, false}},
		{"PA", []dicom.Element{position("PA")}, answer{Frontal, EvidenceViewPosition, false}},
		{"padded, any case", []dicom.Element{position(" ap ")}, answer{Frontal, EvidenceViewPosition, false}},
		{"RL is lateral", []dicom.Element{position("RL")}, answer{Lateral, EvidenceViewPosition, false}},
		{"LL", []dicom.Element{position("LL")}, answer{Lateral, EvidenceViewPosition, false}},
		{"LLD is unknown, whatever else", []dicom.Element{position("LLD"), series("CHEST AP")}, answer{Unknown, EvidenceViewPosition, false}},
		{"oblique is unknown, whatever else", []dicom.Element{position("RAO"), code("SCT", "272479007")}, answer{Unknown, EvidenceViewPosition, false}},
		{"AP LLD", []dicom.Element{position("AP LLD")}, answer{Unknown, EvidenceViewPosition, false}},
		{"nonsense falls through", []dicom.Element{position("X"), code("SCT", "272479007")}, answer{Frontal, EvidenceViewCode, false}},
		{"empty falls through", []dicom.Element{position(""), code("SCT", "399067008")}, answer{Lateral, EvidenceViewCode, false}},
		{"SCT AP", []dicom.Element{code("SCT", "399348003")}, answer{Frontal, EvidenceViewCode, false}},
		{"SCT left lateral", []dicom.Element{code("SCT", "399173006")}, answer{Lateral, EvidenceViewCode, false}},
		{"SCT right lateral", []dicom.Element{code("SCT", "399198007")}, answer{Lateral, EvidenceViewCode, false}},
		{"SNM3 PA", []dicom.Element{code("SNM3", "R-10214")}, answer{Frontal, EvidenceViewCode, false}},
		{"SRT PA", []dicom.Element{code("SRT", "R-40888")}, answer{Frontal, EvidenceViewCode, false}},
		{"SRT AP, lower case", []dicom.Element{code("SRT", "r-10206")}, answer{Frontal, EvidenceViewCode, false}},
		{"SRT lateral", []dicom.Element{code("SRT", "R-102CD")}, answer{Lateral, EvidenceViewCode, false}},
		{"SRT left lateral", []dicom.Element{code("99SDM", "R-10236")}, answer{Lateral, EvidenceViewCode, false}},
		{"SRT right lateral", []dicom.Element{code("SRT", "R-10232")}, answer{Lateral, EvidenceViewCode, false}},
		{"SCT left anterior oblique", []dicom.Element{code("SCT", "399135007"), series("PA")}, answer{Unknown, EvidenceViewCode, false}},
		{"second item", []dicom.Element{code("SCT", "1", "399067008")}, answer{Lateral, EvidenceViewCode, false}},
		{"unknown code falls through", []dicom.Element{code("SCT", "1"), orientation("L", "F")}, answer{Frontal, EvidencePatientOrientation, false}},
		{"R\\F", []dicom.Element{orientation("R", "F")}, answer{Frontal, EvidencePatientOrientation, false}},
		{"a\\f", []dicom.Element{orientation("a", "f")}, answer{Lateral, EvidencePatientOrientation, false}},
		{"P\\F", []dicom.Element{orientation("P", "F")}, answer{Lateral, EvidencePatientOrientation, false}},
		{"upside down", []dicom.Element{orientation("L", "H")}, answer{Unknown, EvidenceNone, false}},
		{"oblique directions", []dicom.Element{orientation("LA", "F")}, answer{Unknown, EvidenceNone, false}},
		{"one direction", []dicom.Element{orientation("L")}, answer{Unknown, EvidenceNone, false}},
		{"processing description", []dicom.Element{processing("CHEST AP PORT X-WISE GRID")}, answer{Frontal, EvidenceProcessingDescription, false}},
		{"series description", []dicom.Element{series("W034 Thorax lat.")}, answer{Lateral, EvidenceSeriesDescription, false}},
		{"processing before series", []dicom.Element{series("LATERAL"), processing("PA")}, answer{Frontal, EvidenceProcessingDescription, true}},
		{"both words decide nothing", []dicom.Element{series("CHEST PA+LAT")}, answer{Unknown, EvidenceNone, false}},
		{"both words, then the study's", []dicom.Element{series("CHEST PA/LAT"), study("XR CHEST 1 VIEW AP")}, answer{Frontal, EvidenceStudyDescription, false}},
		{"words within words", []dicom.Element{series("PALATE BILATERAL RAPID")}, answer{Unknown, EvidenceNone, false}},
		{"lateral decubitus", []dicom.Element{series("CHEST LATERAL DECUBITUS"), study("CHEST AP")}, answer{Unknown, EvidenceSeriesDescription, false}},
		{"cross-table lateral", []dicom.Element{series("CROSS TABLE LATERAL")}, answer{Unknown, EvidenceSeriesDescription, false}},
		{"X-table lateral", []dicom.Element{series("X-TABLE LATERAL")}, answer{Unknown, EvidenceSeriesDescription, false}},
		{"study is the last resort", []dicom.Element{study("CHEST LATERAL"), series("chest")}, answer{Lateral, EvidenceStudyDescription, false}},
		{"agreement", []dicom.Element{position("PA"), orientation("L", "F"), series("CHEST AP")}, answer{Frontal, EvidenceViewPosition, false}},
		{"conflict", []dicom.Element{position("PA"), code("SCT", "399067008")}, answer{Frontal, EvidenceViewPosition, true}},
		{"a later oblique is no conflict", []dicom.Element{position("PA"), series("obl")}, answer{Frontal, EvidenceViewPosition, false}},
	} {
		img := mustRead(t, Mimic, with(bare(), c.elems...))
		got := answer{img.View, img.Evidence, strings.Contains(strings.Join(img.Flags, " "), FlagViewConflict)}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got)\n%s", c.name, diff)
		}
	}
}

func TestViewFromTable_GroupsOfTheFourDataSets(t *testing.T) {
	for want, values := range map[View][]string{
		Frontal: {"AP", "PA", "ANTEROPOSTERIOR", "POSTEROANTERIOR", "AP_horizontal", "Frontal", " pa "},
		Lateral: {"LATERAL", "LL", "RL", "L", "Lateral"},
		Unknown: {"", "nan", "UNK", "AP AXIAL", "XTABLE LATERAL", "SWIMMERS", "LAO", "RAO", "LPO", "AP LLD", "PA RLD", "COSTAL",
			"EXCLUDE", "R", "horizontal"},
	} {
		for _, s := range values {
			if got := ViewFromTable(s); got != want {
				t.Errorf("%q: %s, want %s", s, got, want)
			}
		}
	}
}

// A DICOM ViewPosition and the same word in a data set's table mean the same view, else training and serving differ.
func TestView_PositionAsInTheTables(t *testing.T) {
	for _, s := range []string{"AP", "PA", "LL", "RL", "LATERAL", "ANTEROPOSTERIOR", "AP_horizontal", "AP AXIAL", "SWIMMERS", "UNK", "COSTAL"} {
		if img := mustRead(t, Mimic, with(bare(), text(tag.ViewPosition, s))); img.View != ViewFromTable(s) {
			t.Errorf("%q: %s in DICOM, %s in a table", s, img.View, ViewFromTable(s))
		}
	}
}

func TestFromDICOM_Refuses(t *testing.T) {
	good := chest(randomPicture(1, 4, 5, 0, 255), 8, false, "MONOCHROME2")
	region := func(value, meaning string) dicom.Element {
		return dicom.Element{Tag: tag.AnatomicRegionSequence, Value: []dicom.Item{{text(tag.CodeValue, value), text(tag.CodeMeaning, meaning)}}}
	}
	for _, c := range []struct {
		name  string
		elems []dicom.Element
		code  string // "" for accepted
	}{
		{"good", good, ""},
		{"CR in a Secondary Capture", with(good, text(tag.Modality, "CR"), text(tag.SOPClassUID, "1.2.840.10008.5.1.4.1.1.7")), ""},
		{"modality in lower case", with(good, text(tag.Modality, "dx ")), ""},
		{"CT", with(good, text(tag.Modality, "CT")), CodeModality},
		{"DR without the option", with(good, text(tag.Modality, "DR")), CodeModality},
		{"mammography", with(good, text(tag.Modality, "MG")), CodeModality},
		{"no modality", without(good, tag.Modality), CodeModality},
		{"SR", with(good, text(tag.Modality, "SR")), CodeNotImage},
		{"PR", with(good, text(tag.Modality, "PR")), CodeNotImage},
		{"KO", with(good, text(tag.Modality, "KO")), CodeNotImage},
		{"key objects that say DX", with(good, text(tag.SOPClassUID, "1.2.840.10008.5.1.4.1.1.88.59")), CodeNotImage},
		{"presentation state that says DX", with(good, text(tag.SOPClassUID, "1.2.840.10008.5.1.4.1.1.11.1")), CodeNotImage},
		{"knee", with(good, text(tag.BodyPartExamined, "KNEE")), CodeBodyPart},
		{"ribs", with(good, text(tag.BodyPartExamined, "RIB")), CodeBodyPart},
		{"portable chest", with(good, text(tag.BodyPartExamined, "PORT CHEST")), ""},
		{"Spanish", with(good, text(tag.BodyPartExamined, "torax")), ""},
		{"region knee", with(without(good, tag.BodyPartExamined), region("72696002", "Knee")), CodeBodyPart},
		{"region knee beside CHEST", with(good, region("T-D9200", "Knee")), CodeBodyPart},
		{"region chest, old code", with(without(good, tag.BodyPartExamined), region("T-D3000", "")), ""},
		{"region chest, new code", with(without(good, tag.BodyPartExamined), region("816094009", "")), ""},
		{"region in words only", with(without(good, tag.BodyPartExamined), region("", "Entire thorax")), ""},
		{"raw detector data", with(good, text(tag.PresentationIntentType, "FOR PROCESSING")), CodeForProcessing},
		{"for presentation", with(good, text(tag.PresentationIntentType, "FOR PRESENTATION")), ""},
		{"no pixels", without(good, tag.PixelData), string(dicom.CodeNoPixelData)},
		{"cut pixels", with(good, dicom.Element{Tag: tag.PixelData, VR: "OB", Value: make([]byte, 18)}), string(dicom.CodeTruncated)},
		{"palette", with(good, text(tag.PhotometricInterpretation, "PALETTE COLOR")), string(dicom.CodeMalformed)},
		{"CT without pixels is a CT", with(without(good, tag.PixelData), text(tag.Modality, "CT")), CodeModality},
	} {
		img, err := FromDICOM(encode(t, dicom.ExplicitVRLittleEndian, c.elems), Mimic, dicom.DefaultLimits())
		var r *Refusal
		switch {
		case c.code == "" && err != nil:
			t.Errorf("%s: %v", c.name, err)
		case c.code == "" && len(img.Flags) > 0:
			t.Errorf("%s: flags %v", c.name, img.Flags)
		case c.code != "" && (!errors.As(err, &r) || r.Code != c.code || r.Detail == ""):
			t.Errorf("%s: %v, want code %s", c.name, err, c.code)
		}
	}
}

func TestExamine_SaysWhatFromDICOMWould(t *testing.T) {
	for name, elems := range map[string][]dicom.Element{
		"PA":        chest(randomPicture(1, 4, 5, 0, 255), 8, false, "MONOCHROME2"),
		"no view":   bare(),
		"by words":  with(bare(), text(tag.SeriesDescription, "LAT")),
		"CT":        with(bare(), text(tag.Modality, "CT")),
		"knee":      with(bare(), text(tag.BodyPartExamined, "KNEE")),
		"no pixels": with(without(bare(), tag.PixelData), text(tag.Modality, "SR")),
	} {
		data := encode(t, dicom.ExplicitVRLittleEndian, elems)
		f, err := dicom.Parse(data, dicom.DefaultLimits())
		if err != nil {
			t.Fatal(err)
		}
		view, evidence, examined := Examine(f)
		img, read := FromDICOM(data, Mimic, dicom.DefaultLimits())
		if read != nil {
			img = &Image{View: Unknown, Evidence: EvidenceNone}
		}
		if diff := cmp.Diff(read, examined); diff != "" || view != img.View || evidence != img.Evidence {
			t.Errorf("%s: %s from %s, want %s from %s; refusal (-want +got)\n%s", name, view, evidence, img.View, img.Evidence, diff)
		}
	}
}

func TestFromDICOM_NoBodyPartIsAWarning(t *testing.T) {
	for _, value := range []any{nil, "", "UNKNOWN"} {
		img := mustRead(t, Mimic, with(bare(), dicom.Element{Tag: tag.BodyPartExamined, Value: value}))
		if diff := cmp.Diff([]string{FlagNoBodyPart}, img.Flags); diff != "" {
			t.Errorf("%v: flags (-want +got)\n%s", value, diff)
		}
	}
}

func TestOptions_MoreModalities(t *testing.T) {
	file := encode(t, dicom.ExplicitVRLittleEndian, with(bare(), text(tag.Modality, "RG")))
	if _, err := (Options{Recipe: Mimic, Modalities: []string{"CR", "DX", "DR", "RG"}}).FromDICOM(file); err != nil {
		t.Error(err)
	}
}

func TestRefusal_NamesNoPatient(t *testing.T) {
	secret := "Doe^Jane"
	elems := with(bare(), text(tag.PatientName, secret), text(tag.PatientID, secret), text(tag.BodyPartExamined, "KNEE"))
	_, err := FromDICOM(encode(t, dicom.ExplicitVRLittleEndian, elems), Mimic, dicom.DefaultLimits())
	if err == nil || strings.Contains(err.Error(), secret) {
		t.Errorf("%v", err)
	}
}
