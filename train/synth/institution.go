package synth

// Institution is a hospital: what its detectors, its workstations and its technologists make of a patient's shadow.
type Institution struct {
	Name string // "mimic", "chexpert", "padchest", "nih": the layout that its files have; "dicom" for the plain one

	Detector Detector
	Display  Display
	Markers  Markers
	Views    []Protocol // shares sum to 1
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
	Edge     float64 // gain of the edge enhancement; 0 for none
	Inverted float64 // share of images stored as MONOCHROME1
}

// Markers is what is burned into an institution's images.
type Markers struct {
	Side     float64 // share of images with the letter of a side
	Position float64 // share of supine images that say so: "AP", "PORTABLE"
}

// Protocol is a set of views that a study may consist of.
type Protocol struct {
	Share float64
	Views []Projection
}

// usual is the mix of views of the plain world: 1.5 on average, as in the four datasets (1.40) with fewer single views,
// because the methods compared here live on pairs.
var usual = []Protocol{
	{0.48, []Projection{PA, LL}},
	{0.39, []Projection{PA}},
	{0.05, []Projection{LL}},
	{0.04, []Projection{PA, PA}},
	{0.04, []Projection{PA, LL, PA}},
}

// Plain is the institution of `synth --layout dicom`.
var Plain = Institution{
	Name:     "dicom",
	Detector: Detector{FieldMM: 400, Dose: 1},
	Display:  Display{Bits: 12, Gamma: 1, Inverted: 0.12},
	Views:    usual,
}

// Institutions are the four that the datasets' layouts stand for.
var Institutions = []Institution{
	{Name: "mimic", Detector: Plain.Detector, Display: Plain.Display, Views: usual},
	{Name: "chexpert", Detector: Plain.Detector, Display: Plain.Display, Views: usual},
	{Name: "padchest", Detector: Plain.Detector, Display: Plain.Display, Views: usual},
	{Name: "nih", Detector: Plain.Detector, Display: Plain.Display, Views: usual},
}
