package dicom

import "github.com/suyashkumar/dicom/pkg/tag"

// keptTags are the elements that stay when identities go, at any level: none is in PS3.15 table E.1-1, and none is text that
// somebody typed, but for the meanings of codes.
var keptTags = []tag.Tag{
	// What the object is.
	tag.SpecificCharacterSet, tag.ImageType, tag.SOPClassUID, tag.Modality, tag.PresentationIntentType, tag.ConversionType,
	tag.SeriesNumber, tag.InstanceNumber, tag.AcquisitionNumber,
	// What it shows, and how.
	tag.BodyPartExamined, tag.ViewPosition, tag.PatientOrientation, tag.Laterality, tag.ImageLaterality, tag.PositionerType,
	tag.AnatomicRegionSequence, tag.AnatomicRegionModifierSequence, tag.ViewCodeSequence, tag.ViewModifierCodeSequence,
	tag.CodeValue, tag.CodingSchemeDesignator, tag.CodingSchemeVersion, tag.CodeMeaning,
	tag.KVP, tag.ExposureTime, tag.XRayTubeCurrent, tag.Exposure, tag.ExposureInuAs, tag.DistanceSourceToDetector,
	tag.DistanceSourceToPatient, tag.EstimatedRadiographicMagnificationFactor, tag.ImagerPixelSpacing, tag.Grid, tag.DetectorType,
	// Its pixels.
	tag.SamplesPerPixel, tag.PhotometricInterpretation, tag.PlanarConfiguration, tag.NumberOfFrames, tag.Rows, tag.Columns,
	tag.PixelSpacing, tag.PixelAspectRatio, tag.BitsAllocated, tag.BitsStored, tag.HighBit, tag.PixelRepresentation,
	tag.SmallestImagePixelValue, tag.LargestImagePixelValue, tag.PixelPaddingValue, tag.PixelPaddingRangeLimit,
	tag.BurnedInAnnotation, tag.RecognizableVisualFeatures, tag.PixelSpacingCalibrationType,
	tag.PixelIntensityRelationship, tag.PixelIntensityRelationshipSign,
	tag.RedPaletteColorLookupTableDescriptor, tag.GreenPaletteColorLookupTableDescriptor, tag.BluePaletteColorLookupTableDescriptor,
	tag.RedPaletteColorLookupTableData, tag.GreenPaletteColorLookupTableData, tag.BluePaletteColorLookupTableData,
	tag.SegmentedRedPaletteColorLookupTableData, tag.SegmentedGreenPaletteColorLookupTableData,
	tag.SegmentedBluePaletteColorLookupTableData,
	tag.LossyImageCompression, tag.LossyImageCompressionRatio, tag.LossyImageCompressionMethod,
	tag.ExtendedOffsetTable, tag.ExtendedOffsetTableLengths, tag.EncapsulatedPixelDataValueTotalLength,
	// How they are shown.
	tag.ModalityLUTSequence, tag.ModalityLUTType, tag.VOILUTSequence, tag.LUTDescriptor, tag.LUTData, tag.RescaleIntercept,
	tag.RescaleSlope, tag.RescaleType, tag.WindowCenter, tag.WindowWidth, tag.VOILUTFunction, tag.PresentationLUTShape,
}

// emptyTags must be there (type 2 of PS3.3) and must not be told (action Z).
var emptyTags = []tag.Tag{
	tag.StudyDate, tag.StudyTime, tag.AccessionNumber, tag.ReferringPhysicianName, tag.Manufacturer,
	tag.PatientName, tag.PatientBirthDate, tag.PatientSex, tag.StudyID,
}

// uidTags get new UIDs (action U).
var uidTags = []tag.Tag{tag.SOPInstanceUID, tag.StudyInstanceUID, tag.SeriesInstanceUID, tag.FrameOfReferenceUID}

// describingTags keep their descriptors only (action C).
var describingTags = []tag.Tag{tag.StudyDescription, tag.SeriesDescription, tag.AcquisitionDeviceProcessingDescription}

// descriptors are the words that stay in descriptions: body parts, the views that package cxr reads there, positions.
var descriptors = []string{
	"CHEST", "THORAX", "TORAX", "LUNG", "LUNGS", "RIBS", "ABDOMEN", "SPINE",
	"AP", "PA", "FRONTAL", "ANTEROPOSTERIOR", "POSTEROANTERIOR", "LAT", "LATERAL", "LL", "RL", "LLAT", "RLAT", "LEFT", "RIGHT",
	"OBL", "OBLIQUE", "OBLIQUES", "LAO", "RAO", "LPO", "RPO", "LLO", "RLO", "DECUB", "DECUBITUS", "LLD", "RLD", "AXIAL", "LORDOTIC",
	"SWIMMERS", "COSTAL", "XTABLE", "X", "CROSS", "TABLE",
	"PORTABLE", "BEDSIDE", "ERECT", "UPRIGHT", "SUPINE", "STANDING", "SITTING", "VIEW", "VIEWS", "GRID", "XRAY", "RAY", "CR", "DX", "AND",
}
