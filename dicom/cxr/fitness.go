package cxr

import (
	"fmt"
	"slices"
	"strings"

	"github.com/mvmae/mvmae/dicom"
	"github.com/suyashkumar/dicom/pkg/tag"
)

// fitness refuses what is no chest radiograph, and says whether the header names the chest. The modality decides, not the
// SOP class: real archives hold CR pixels in Secondary Capture objects.
func fitness(h dicom.Header, modalities []string) (named bool, err error) {
	if modalities == nil {
		modalities = []string{"CR", "DX"}
	}
	modality := strings.ToUpper(h.String(tag.Modality))
	switch class := h.String(tag.SOPClassUID); {
	case slices.Contains([]string{"SR", "PR", "KO"}, modality):
		return false, &Refusal{CodeNotImage, "modality " + modality}
	case strings.HasPrefix(class, "1.2.840.10008.5.1.4.1.1.88."): // PS3.4 B.5: structured reports, key objects
		return false, &Refusal{CodeNotImage, "a structured report or key object selection"}
	case strings.HasPrefix(class, "1.2.840.10008.5.1.4.1.1.11."):
		return false, &Refusal{CodeNotImage, "a presentation state"}
	case !slices.Contains(modalities, modality):
		return false, &Refusal{CodeModality, fmt.Sprintf("modality %s is none of %s", dicom.Quote(modality, modalityTerms), strings.Join(modalities, ", "))}
	}
	switch intent := strings.ToUpper(h.String(tag.PresentationIntentType)); {
	case intent == "FOR PROCESSING":
		return false, &Refusal{CodeForProcessing, "PresentationIntentType is FOR PROCESSING"}
	case intent != "FOR PRESENTATION" && h.String(tag.SOPClassUID) == "1.2.840.10008.5.1.4.1.1.1.1.1":
		return false, &Refusal{CodeForProcessing, "the SOP class is Digital X-Ray Image Storage - For Processing"}
	}
	if part := strings.ToUpper(h.String(tag.BodyPartExamined)); part != "" && part != "UNKNOWN" {
		if !namesChest(part) {
			return false, &Refusal{CodeBodyPart, "BodyPartExamined is " + dicom.Quote(part, bodyPartTerms)}
		}
		named = true
	}
	for _, region := range h.Items(tag.AnatomicRegionSequence) {
		code, meaning := strings.ToUpper(region.String(tag.CodeValue)), strings.ToUpper(region.String(tag.CodeMeaning))
		switch {
		case code == "" && meaning == "":
		case chestRegions[code] || namesChest(meaning):
			named = true
		default:
			return false, &Refusal{CodeBodyPart, "AnatomicRegionSequence names no part of the chest"}
		}
	}
	return named, nil
}

// modalityTerms are those of PS3.3 C.7.3.1.1.1 that a chest study is likely to come with or be mistaken for.
var modalityTerms = []string{"CR", "CT", "DR", "DX", "ES", "IO", "IVUS", "KO", "MG", "MR", "NM", "OT", "PR", "PT", "PX", "RF", "RG",
	"RTDOSE", "RTIMAGE", "RTPLAN", "RTSTRUCT", "SC", "SEG", "SM", "SR", "US", "XA", "XC"}

// bodyPartTerms are terms of PS3.16 annex L, the parts that radiographs are made of.
var bodyPartTerms = []string{"ABDOMEN", "ABDOMENPELVIS", "ANKLE", "ARM", "BREAST", "CALCANEUS", "CLAVICLE", "COCCYX", "CSPINE", "CTSPINE",
	"ELBOW", "EXTREMITY", "EYE", "FACE", "FEMUR", "FINGER", "FOOT", "FOREARM", "HAND", "HEAD", "HIP", "HUMERUS", "JAW", "KNEE", "LEG",
	"LSPINE", "LSSPINE", "MAXILLA", "NECK", "NOSE", "ORBIT", "PATELLA", "PELVIS", "RIB", "SACRUM", "SCAPULA", "SHOULDER", "SINUS",
	"SIJOINT", "SKULL", "SPINE", "SSPINE", "STERNUM", "TIBIA", "TLSPINE", "TMJOINT", "TOE", "TSPINE", "WHOLEBODY", "WRIST", "ZYGOMA"}

// namesChest accepts CHEST of PS3.16 annex L and the words that sites and other languages have for it.
func namesChest(part string) bool {
	for _, word := range []string{"CHEST", "THORAX", "TORAX", "TÓRAX", "LUNG"} {
		if strings.Contains(part, word) {
			return true
		}
	}
	return false
}

// chestRegions are the codes of PS3.16 CID 4009 and annex L that include the lungs: SNOMED CT, then the SNOMED RT of
// older files.
var chestRegions = map[string]bool{
	"816094009": true, "51185008": true, "T-D3000": true, // chest, thorax
	"43799004": true, "T-D3200": true, // thoracic cavity
	"39607008": true, "T-28000": true, // lung
	"416550000": true, "R-FAB55": true, // chest and abdomen
	"416775004": true, "R-FAB56": true, // chest, abdomen and pelvis
}
