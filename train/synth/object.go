package synth

import (
	"crypto/sha256"
	"fmt"
	"math/big"
	"strconv"

	"github.com/mvmae/mvmae/dicom"
	"github.com/suyashkumar/dicom/pkg/tag"
)

const (
	dxForPresentation = "1.2.840.10008.5.1.4.1.1.1.1" // Digital X-Ray Image Storage - For Presentation
	kvp               = "120"
)

// UID returns the study's instance UID. All UIDs follow from seed, patient and visit.
func (s *Study) UID() string { return s.uid("study", 0) }

// uid derives a UID from a name-based UUID (PS3.5 B.2, RFC 9562 version 8).
func (s *Study) uid(kind string, n int) string {
	name := fmt.Sprintf("mvmae phantom %d/%d/%d/%s/%d", s.Patient.seed, s.Patient.index, s.Visit, kind, n)
	sum := sha256.Sum256([]byte(name))
	sum[6] = sum[6]&0x0f | 0x80
	sum[8] = sum[8]&0x3f | 0x80
	return "2.25." + new(big.Int).SetBytes(sum[:16]).String()
}

// object is view i as a Digital X-Ray image (PS3.3 A.26), size x size pixels, but for the pixels.
func (s *Study) object(i, size int) []dicom.Element {
	elems := append(s.patientElements(), s.imageElements(i, size)...)
	return append(elems, s.viewElements(&s.Views[i])...)
}

// patientElements are the Patient, General Study and Equipment modules.
func (s *Study) patientElements() []dicom.Element {
	p := s.Patient
	age := p.Age + s.Time.Year() - p.first.Year()
	return []dicom.Element{
		{Tag: tag.SpecificCharacterSet, Value: "ISO_IR 192"},
		{Tag: tag.PatientName, Value: "PHANTOM^" + p.ID},
		{Tag: tag.PatientID, Value: p.ID},
		{Tag: tag.PatientBirthDate},
		{Tag: tag.PatientSex, Value: p.Sex},
		{Tag: tag.PatientAge, Value: fmt.Sprintf("%03dY", age)},
		{Tag: tag.StudyInstanceUID, Value: s.UID()},
		{Tag: tag.StudyDate, Value: s.Time.Format("20060102")},
		{Tag: tag.StudyTime, Value: s.Time.Format("150405")},
		{Tag: tag.StudyID, Value: strconv.Itoa(s.Visit + 1)},
		{Tag: tag.StudyDescription, Value: "CHEST"},
		{Tag: tag.AccessionNumber},
		{Tag: tag.ReferringPhysicianName},
		{Tag: tag.Manufacturer, Value: "MVMAE"},
		{Tag: tag.ManufacturerModelName, Value: "chest phantom"},
	}
}

// imageElements are the Series, Image, DX Series, DX Image, Detector and VOI LUT modules.
func (s *Study) imageElements(i, size int) []dicom.Element {
	v := &s.Views[i]
	photometric, shape, sign := "MONOCHROME2", "IDENTITY", -1
	if v.inverted {
		photometric, shape, sign = "MONOCHROME1", "INVERSE", 1
	}
	_, _, perMM := newCamera(v, size).project(vec{})
	pitch := v.detector.FieldMM / float64(size)
	spacing := func(mm float64) []string {
		text := strconv.FormatFloat(mm, 'g', 8, 64)
		return []string{text, text}
	}
	return []dicom.Element{
		{Tag: tag.SOPClassUID, Value: dxForPresentation},
		{Tag: tag.SOPInstanceUID, Value: s.uid("image", i)},
		{Tag: tag.SeriesInstanceUID, Value: s.uid("series", i)},
		{Tag: tag.SeriesNumber, Value: strconv.Itoa(i + 1)},
		{Tag: tag.InstanceNumber, Value: "1"},
		{Tag: tag.Modality, Value: "DX"},
		{Tag: tag.PresentationIntentType, Value: "FOR PRESENTATION"},
		{Tag: tag.ImageType, Value: []string{"DERIVED", "PRIMARY"}},
		{Tag: tag.AcquisitionDate, Value: s.Time.Format("20060102")},
		{Tag: tag.ContentDate, Value: s.Time.Format("20060102")},
		{Tag: tag.ContentTime, Value: s.Time.Format("150405")},
		{Tag: tag.SamplesPerPixel, Value: 1},
		{Tag: tag.PhotometricInterpretation, Value: photometric},
		{Tag: tag.Rows, Value: size},
		{Tag: tag.Columns, Value: size},
		{Tag: tag.BitsAllocated, Value: 16},
		{Tag: tag.BitsStored, Value: v.Bits()},
		{Tag: tag.HighBit, Value: v.Bits() - 1},
		{Tag: tag.PixelRepresentation, Value: 0},
		{Tag: tag.PixelIntensityRelationship, Value: "LOG"},
		{Tag: tag.PixelIntensityRelationshipSign, VR: "SS", Value: sign},
		{Tag: tag.RescaleIntercept, Value: "0"},
		{Tag: tag.RescaleSlope, Value: "1"},
		{Tag: tag.RescaleType, Value: "US"},
		{Tag: tag.PresentationLUTShape, Value: shape},
		{Tag: tag.WindowCenter, Value: strconv.Itoa(1 << (v.Bits() - 1))},
		{Tag: tag.WindowWidth, Value: strconv.Itoa(1 << v.Bits())},
		{Tag: tag.LossyImageCompression, Value: "00"},
		{Tag: tag.BurnedInAnnotation, Value: "NO"},
		{Tag: tag.DetectorType, Value: "SCINTILLATOR"},
		{Tag: tag.ImagerPixelSpacing, Value: spacing(pitch)},
		{Tag: tag.PixelSpacing, Value: spacing(1 / perMM)},
		{Tag: tag.PixelSpacingCalibrationType, Value: "GEOMETRY"},
		{Tag: tag.PixelSpacingCalibrationDescription, Value: "in the plane of the lung hila"},
		{Tag: tag.KVP, Value: kvp},
		{Tag: tag.DistanceSourceToDetector, Value: strconv.Itoa(int(v.setup.sourceMM))},
		{Tag: tag.AcquisitionContextSequence, VR: "SQ", Value: []dicom.Item{}},
	}
}

// viewElements are the DX Anatomy Imaged and DX Positioning modules. Not every device codes the view.
func (s *Study) viewElements(v *View) []dicom.Element {
	elems := []dicom.Element{
		{Tag: tag.BodyPartExamined, Value: "CHEST"},
		{Tag: tag.ImageLaterality, Value: "U"},
		{Tag: tag.AnatomicRegionSequence, Value: []dicom.Item{coded("51185008", "Chest")}},
		{Tag: tag.ViewPosition, Value: string(v.Projection)},
		{Tag: tag.PatientOrientation, Value: v.setup.orientation},
		{Tag: tag.PositionerType},
	}
	if v.coded {
		item := append(coded(v.setup.code, v.setup.meaning), dicom.Element{Tag: tag.ViewModifierCodeSequence, VR: "SQ", Value: []dicom.Item{}})
		elems = append(elems, dicom.Element{Tag: tag.ViewCodeSequence, Value: []dicom.Item{item}})
	}
	return elems
}

// coded is a SNOMED CT code (PS3.3 8.8).
func coded(value, meaning string) dicom.Item {
	return dicom.Item{
		{Tag: tag.CodeValue, Value: value},
		{Tag: tag.CodingSchemeDesignator, Value: "SCT"},
		{Tag: tag.CodeMeaning, Value: meaning},
	}
}
