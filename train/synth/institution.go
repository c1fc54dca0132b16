package synth

// Institution is a hospital: what its detectors, its workstations and its technologists make of a patient's shadow.
type Institution struct {
	Name string // "mimic", "chexpert", "padchest", "nih": the layout that its files have; "dicom" for the plain one

	Detector   Detector
	Display    Display
	Markers    Markers
	Collimated float64 // share of images whose edges lie outside the field
	Shutter    float64 // share of those that the device blackens there; the others are white
	Views      []Protocol
}

// Detector is how an institution's detectors record.
type Detector struct {
	FieldMM float64 // side of the square detector
	BlurMM  float64 // standard deviation of the point spread: scintillator and focal spot
	Dose    float64 // photons relative to quanta
}

// Display is how an institution turns signals into stored values.
type Display struct {
	Bits     int     // stored
	Gamma    float64 // of the look-up table
	Film     float64 // part of a film's S-shaped curve in it
	Edge     float64 // gain of the edge enhancement; 0 for none
	Inverted float64 // share of images stored as MONOCHROME1
}

// Markers is what is burned into an institution's images.
type Markers struct {
	Side     float64 // share of images with the letter of a side,
	Left     float64 // of frontal ones the share in which it is L
	Position float64 // share of supine and oblique images that say so
	Supine   string  // in this word
	HeightMM float64 // of the side's letter
}

// Protocol is a set of views that a study may consist of, and the share of studies that do.
type Protocol struct {
	Share float64
	Views []Projection
}

// Plain is the institution of `synth --layout dicom`: 1.5 views a study, as in the four datasets (1.40) with fewer single
// views, because the methods compared here live on pairs.
var Plain = Institution{
	Name:       "dicom",
	Detector:   Detector{FieldMM: 400, BlurMM: 0.3, Dose: 1},
	Display:    Display{Bits: 12, Gamma: 1, Inverted: 0.12},
	Markers:    Markers{Side: 0.6, Left: 0.5, Position: 0.7, Supine: "AP SUPINE", HeightMM: 14},
	Collimated: 0.25, Shutter: 0.5,
	Views: []Protocol{
		{0.46, []Projection{PA, LL}},
		{0.28, []Projection{PA}},
		{0.12, []Projection{AP}},
		{0.04, []Projection{LL}},
		{0.03, []Projection{PA, PA}},
		{0.03, []Projection{PA, LL, PA}},
		{0.02, []Projection{PA, LL, RAO}},
		{0.02, []Projection{PA, LAO}},
	},
}

// Institutions are the four that the datasets' layouts stand for. Their values are chosen to differ, as those hospitals'
// images do at a glance: bits, inversion and processing after what the datasets publish, the rest by choice.
var Institutions = []Institution{
	{
		Name:       "mimic",
		Detector:   Detector{FieldMM: 430, BlurMM: 0.25, Dose: 1},
		Display:    Display{Bits: 12, Gamma: 0.9, Film: 0.2, Edge: 0.3, Inverted: 0.15},
		Markers:    Markers{Side: 0.8, Left: 0.85, Position: 0.8, Supine: "PORTABLE", HeightMM: 13},
		Collimated: 0.35, Shutter: 0.9,
		Views: mimicViews,
	},
	{
		Name:       "chexpert",
		Detector:   Detector{FieldMM: 400, BlurMM: 0.3, Dose: 1.2},
		Display:    Display{Bits: 12, Gamma: 1.15, Film: 0.1, Edge: 0.9, Inverted: 0.3},
		Markers:    Markers{Side: 0.7, Left: 0.3, Position: 0.6, Supine: "AP", HeightMM: 17},
		Collimated: 0.2, Shutter: 1,
		Views: chexpertViews,
	},
	{
		Name:       "padchest",
		Detector:   Detector{FieldMM: 410, BlurMM: 0.65, Dose: 0.5}, // storage phosphor plates
		Display:    Display{Bits: 14, Gamma: 1, Edge: 0.15, Inverted: 0.45},
		Markers:    Markers{Side: 0.5, Left: 0.5, Position: 0.5, Supine: "SUPINO", HeightMM: 11},
		Collimated: 0.6, Shutter: 0.3,
		Views: padchestViews,
	},
	{
		Name:       "nih",
		Detector:   Detector{FieldMM: 430, BlurMM: 0.4, Dose: 0.8},
		Display:    Display{Bits: 8, Gamma: 1, Film: 0.7, Edge: 0.45},
		Markers:    Markers{Side: 0.9, Left: 0.6, Position: 0.9, Supine: "PORTABLE", HeightMM: 20},
		Collimated: 0.15, Shutter: 1,
		Views: nihViews,
	},
}
