package synth

import (
	"math"
	"math/rand/v2"
)

// Projection is how a view was taken; its text is the value of ViewPosition (0018,5101).
type Projection string

const (
	PA  Projection = "PA"  // upright, the source behind the patient, the detector before the chest
	AP  Projection = "AP"  // supine in bed, a mobile tube above, the detector under the back
	LL  Projection = "LL"  // left lateral: upright, the left side against the detector
	RAO Projection = "RAO" // right anterior oblique: half turned from PA, the right breast against the detector
	LAO Projection = "LAO" // left anterior oblique
)

// Projections are all that can be taken.
var Projections = []Projection{PA, AP, LL, RAO, LAO}

// Frontal reports whether the beam runs from front to back or back to front.
func (p Projection) Frontal() bool { return p == PA || p == AP }

// pose is how the patient is held during an exposure.
type pose int

const (
	onHips pose = iota // upright, the hands on the hips: the shoulder blades leave the lungs
	raised             // upright, the arms over the head
	supine             // in bed, the arms beside the body
)

// setup is how a projection is taken.
type setup struct {
	pose     pose
	u, n     vec     // the detector's rows run along u, the beam along n
	sourceMM float64 // from tube to detector
	exposure float64 // the automatic exposure gives a thicker body more
	scatter  float64 // part of the scatter that reaches the detector

	orientation   []string // of rows and columns: PatientOrientation
	code, meaning string   // SNOMED CT
}

// setupOf gives a stand's geometry. A frontal or oblique image shows the patient as if facing the reader, a lateral one with
// the face to the left.
func setupOf(p Projection) setup {
	half := math.Sqrt(0.5)
	stand := setup{pose: onHips, u: vec{x: 1}, n: vec{y: -1}, sourceMM: 1800, exposure: 1, scatter: 0.14,
		orientation: []string{"L", "F"}, code: "272479007", meaning: "postero-anterior"}
	switch p {
	case AP:
		// At a metre, without a grid: the heart, now far from the detector, is magnified by a fifth.
		return setup{pose: supine, u: vec{x: 1}, n: vec{y: 1}, sourceMM: 1050, exposure: 0.8, scatter: 0.24,
			orientation: []string{"L", "F"}, code: "399348003", meaning: "antero-posterior"}
	case LL:
		stand.pose, stand.u, stand.n, stand.exposure = raised, vec{y: 1}, vec{x: 1}, 3
		stand.orientation, stand.code, stand.meaning = []string{"P", "F"}, "399173006", "left lateral"
	case RAO:
		stand.pose, stand.u, stand.n, stand.exposure = raised, vec{half, -half, 0}, vec{-half, -half, 0}, 1.6
		stand.orientation, stand.code, stand.meaning = []string{"LA", "F"}, "399356000", "right anterior oblique"
	case LAO:
		stand.pose, stand.u, stand.n, stand.exposure = raised, vec{half, half, 0}, vec{half, -half, 0}, 1.6
		stand.orientation, stand.code, stand.meaning = []string{"LP", "F"}, "399135007", "left anterior oblique"
	}
	return stand
}

// View is one exposure of a study: its projection, the institution's detector and display, and the small errors of
// positioning.
type View struct {
	Projection Projection
	setup      setup
	detector   Detector
	display    Display

	turn       float64 // about the long axis, radians
	lean       float64 // towards the detector, radians
	roll       float64 // in the image plane, radians
	shift      vec     // of the patient, mm
	toDetector float64 // distance from the body's centre to the detector, mm
	exposure   float64 // photons relative to a good exposure
	scatter    float64 // part of the scatter that reaches the detector
	gamma      float64 // of the display curve
	black      float64 // display limits' error, as a part of the range
	white      float64
	field      field
	marks      []mark
	inverted   bool   // MONOCHROME1
	coded      bool   // the device writes the view as a code too
	noise      uint64 // seed
}

// Inverted reports whether the view is stored as MONOCHROME1.
func (v *View) Inverted() bool { return v.inverted }

// Bits is the number of bits stored.
func (v *View) Bits() int { return v.display.Bits }

// field is what the collimator leaves open of the detector, mm from its middle; the zero field is all of it.
type field struct {
	left, right, top, bottom float64
	shutter                  bool // what lies outside is blackened, not left white
}

// centred is a faultless exposure of a patient by the plain institution's detector.
func centred(p *Patient, projection Projection) View {
	a, s := &p.anatomy, setupOf(projection)
	v := View{
		Projection: projection, setup: s, detector: Plain.Detector, display: Plain.Display,
		shift:      vec{z: 22 * a.scale}, // the detector's centre lies below the hila
		toDetector: a.scale*(100*a.depth+a.wall) + 10,
		exposure:   s.exposure, scatter: s.scatter, gamma: 1,
	}
	switch projection {
	case LL:
		v.toDetector = a.scale*(140+a.wall) + 10
	case RAO, LAO:
		v.toDetector = a.scale*(125+a.wall) + 10
	case AP:
		v.toDetector = a.scale*(104*a.depth+0.85*a.wall) + 25 // the mattress, the cassette's tray
		v.shift.z = 12 * a.scale
	}
	return v
}

// newView draws how an exposure of an institution departs from that.
func newView(p *Patient, projection Projection, rng *rand.Rand) View {
	normal := func(sd float64) float64 { return sd * clamp(gauss(rng), -2.5, 2.5) }
	const degree = math.Pi / 180
	v := centred(p, projection)
	v.detector, v.display = p.at.Detector, p.at.Display
	loose := 1.0
	if projection == AP {
		loose = 2 // nobody stands straight in bed
	}
	v.turn, v.lean, v.roll = normal(2.5*degree*loose), normal(2*degree*loose), normal(1.5*degree*loose)
	v.shift = v.shift.add(vec{normal(8), normal(8), normal(9)}.scale(mix(1, loose, 0.5)))
	v.exposure *= v.detector.Dose * exp(normal(0.35))
	v.scatter *= exp(normal(0.25))
	v.gamma = v.display.Gamma * exp(normal(0.18))
	v.black, v.white = normal(0.04), normal(0.05)
	v.inverted = rng.Float64() < v.display.Inverted
	v.coded = rng.Float64() < 0.7
	v.noise = rng.Uint64()
	if rng.Float64() < p.at.Collimated {
		v.field = newField(rng, v.detector.FieldMM/2)
		v.field.shutter = rng.Float64() < p.at.Shutter
	}
	v.marks = p.at.Markers.marks(rng, &v)
	return v
}

// newField draws a collimator's opening in a detector of a half side: a strip is lost at some of its edges.
func newField(rng *rand.Rand, half float64) field {
	edge := func(most float64) float64 { return half - most*rng.Float64() }
	return field{left: edge(34), right: edge(34), top: edge(26), bottom: edge(44)}
}
