package synth

import (
	"math"
	"math/rand/v2"

	"github.com/mvmae/mvmae/model"
)

// Finding is one process in one patient, placed in three dimensions.
type Finding struct {
	Label    string // one of model.Labels
	Kind     string // what it is, e.g. "nodule"
	Side     Side
	Severity float64 // from just visible, 0, to gross, 1
	X, Y, Z  float64 // its centre, mm: to the patient's left, back and head of the point between the hila

	side int // of its centre: an index into sides
	seed uint64
}

// The hidden causes that make findings occur together.
const (
	illness   = iota // of any kind; weighs on all
	failure          // of the heart
	infection        // of the lung
	injury           // or an operation
	numCauses
)

// incidence is how often a finding occurs in a study, and how far each cause explains it.
//
// A finding is present where a standard normal variable falls below the prevalence's quantile. The variable is a weighted
// sum of the causes' and one of its own, so the prevalence is exact whatever the weights, and the weights alone decide what
// occurs with what: oedema with a large heart and effusions, pneumothorax with broken ribs.
type incidence struct {
	label      string
	prevalence float64
	weights    [numCauses]float64
}

// Incidences are chosen, not measured: every label between 8 and 32 %, so that a test split of 100 studies has positives of
// each. The order among them is roughly that of Irvin et al. 2019 (CheXpert, table 1), where effusions, opacities and
// devices are frequent and fractures, pleural thickening and lesions are rare (down to 1.3 %). No Finding is not drawn: it
// is the absence of all but Support Devices, as there (a third of the studies here).
var incidences = []incidence{
	{"Atelectasis", 0.16, [numCauses]float64{0.4, 0.2, 0.25, 0.1}},
	{"Cardiomegaly", 0.20, [numCauses]float64{0.3, 0.7, 0, 0}},
	{"Consolidation", 0.12, [numCauses]float64{0.35, 0, 0.65, 0}},
	{"Edema", 0.14, [numCauses]float64{0.35, 0.75, 0, 0}},
	{"Enlarged Cardiomediastinum", 0.11, [numCauses]float64{0.3, 0.35, 0, 0.3}},
	{"Fracture", 0.10, [numCauses]float64{0.25, 0, 0, 0.7}},
	{"Lung Lesion", 0.11, [numCauses]float64{0.3, 0, 0, 0}},
	{"Lung Opacity", 0.14, [numCauses]float64{0.35, 0, 0.55, 0}},
	{"Pleural Effusion", 0.24, [numCauses]float64{0.4, 0.55, 0.2, 0.1}},
	{"Pleural Other", 0.09, [numCauses]float64{0.25, 0, 0, 0.1}},
	{"Pneumonia", 0.12, [numCauses]float64{0.35, 0, 0.8, 0}},
	{"Pneumothorax", 0.11, [numCauses]float64{0.25, 0, 0, 0.7}},
	{"Support Devices", 0.30, [numCauses]float64{0.45, 0.2, 0, 0.3}},
}

// latent holds a draw of every cause and of every finding's own variable.
type latent struct {
	cause [numCauses]float64
	own   [model.NumLabels]float64
}

func newLatent(rng *rand.Rand) (l latent) {
	for i := range l.cause {
		l.cause[i] = gauss(rng)
	}
	for i := range l.own {
		l.own[i] = gauss(rng)
	}
	return l
}

// present draws which findings a study has. Half of the variance is the patient's own: much of what was there last time is
// there again.
func present(at *Institution, rng *rand.Rand, chronic latent) [model.NumLabels]bool {
	acute := newLatent(rng)
	blend := func(a, b float64) float64 { return (a + b) * math.Sqrt(0.5) }
	if world, ok := worlds[at.Name]; ok {
		for i := range acute.own {
			acute.own[i] = blend(chronic.own[i], acute.own[i])
		}
		return world().present(rng, &acute.own)
	}
	var has [model.NumLabels]bool
	for i, inc := range incidences {
		z, rest := 0.0, 1.0
		for c, w := range inc.weights {
			z += w * blend(chronic.cause[c], acute.cause[c])
			rest -= w * w
		}
		z += math.Sqrt(rest) * blend(chronic.own[i], acute.own[i])
		has[model.LabelIndex(inc.label)] = z < quantile(inc.prevalence)
	}
	showPneumonia(&has, rng)
	return has
}

// newFindings draws a study's findings, in the order of incidences.
func newFindings(at *Institution, rng *rand.Rand, a *anatomy, chronic latent) []Finding {
	has := map[string]bool{}
	for i, present := range present(at, rng, chronic) {
		has[model.Labels[i]] = present
	}
	d := newDrawer(rng, a)
	for _, inc := range incidences {
		if has[inc.label] {
			d.draw(inc.label, has)
		}
	}
	return d.found
}

// Labels returns the truth of a study, model.Labels' order: Positive or Negative.
func (s *Study) Labels() (set model.LabelSet) {
	healthy := true
	for i := range set {
		set[i] = model.Negative
	}
	for _, f := range s.Findings {
		set[model.LabelIndex(f.Label)] = model.Positive
		healthy = healthy && f.Label == "Support Devices"
	}
	if healthy {
		set[model.LabelIndex("No Finding")] = model.Positive
	}
	return set
}

// drawer places findings in one body.
type drawer struct {
	rng   *rand.Rand
	body  *builder
	found []Finding
	wet   [2]bool // sides with an effusion: no pneumothorax there
}

func newDrawer(rng *rand.Rand, a *anatomy) *drawer {
	d := &drawer{rng: rng, body: &builder{anatomy: a}}
	d.body.mediastinum()
	for side := range sides {
		d.body.lung(side)
	}
	return d
}

// mildness skews severities: above 1 to the mild, below 1 to the gross. With the spreads of newAnatomy it sets how hard the
// phantom is (docs/phantom.md).
const mildness = 0.7

// add appends a finding.
func (d *drawer) add(label, kind string, side int, at vec) *Finding {
	d.found = append(d.found, Finding{
		Label: label, Kind: kind, Side: sides[side].name, side: side,
		Severity: pow(d.rng.Float64(), mildness),
		X:        at.x, Y: at.y, Z: at.z,
		seed: d.rng.Uint64(),
	})
	return &d.found[len(d.found)-1]
}

func (d *drawer) side() int { return d.rng.IntN(2) }

// inLung draws a point in aerated lung between two heights (mean body), not nearer to the pleura than the level within.
func (d *drawer) inLung(side int, zLo, zHi, within float64) vec {
	wide, y, deep := d.body.cage(0)
	for range 1000 {
		p := d.body.at(sides[side].sign*d.rng.Float64()*wide, y+deep*(2*d.rng.Float64()-1), mix(zLo, zHi, d.rng.Float64()))
		if d.body.aeratedAt(side, p, within) {
			return p
		}
	}
	return d.body.at(sides[side].sign*75, 20, 20) // always lung
}

func (d *drawer) draw(label string, has map[string]bool) {
	b, rng := d.body, d.rng
	switch label {
	case "Atelectasis":
		side := d.side()
		kind := "plate"
		if rng.Float64() < 0.4 {
			kind = "volume loss"
		}
		d.add(label, kind, side, d.inLung(side, b.dome[side]-10, b.dome[side]+55, 0.85))
	case "Cardiomegaly":
		d.add(label, "large heart", 1, b.at(24, -24, -62)).Side = Midline
	case "Enlarged Cardiomediastinum":
		d.add(label, "wide mediastinum", 0, b.at(0, 0, 50)).Side = Midline
	case "Edema":
		d.add(label, "oedema", 0, b.at(0, 10, 0)).Side = Both
	case "Consolidation":
		if !has["Pneumonia"] {
			side := d.side()
			d.add(label, "dense region", side, d.inLung(side, -110, 70, 0.8))
			d.hide(0.2)
		}
	case "Lung Opacity":
		if !has["Pneumonia"] || has["Consolidation"] {
			side := d.side()
			d.add(label, "haze", side, d.inLung(side, -110, 90, 0.8))
		}
	case "Pneumonia":
		d.pneumonia(has)
	case "Lung Lesion":
		side := d.side()
		kind, within := "nodule", 0.9
		if rng.Float64() < 0.4 {
			kind, within = "mass", 0.75
		}
		d.add(label, kind, side, d.inLung(side, -140, 100, within))
		d.hide(0.2)
	case "Pleural Effusion":
		d.effusion(has)
	case "Pleural Other":
		side := d.side()
		kind := "pleural thickening"
		if rng.Float64() < 0.4 {
			kind = "calcified plaques"
		}
		d.add(label, kind, side, d.body.pleura(side, mix(-90, 70, rng.Float64()), mix(1.0, 2.3, rng.Float64())))
	case "Pneumothorax":
		side := d.side()
		if d.wet[side] {
			side = 1 - side
		}
		if !d.wet[side] {
			d.add(label, "air", side, b.at(sides[side].sign*95, 5, 70))
		}
	case "Fracture":
		d.fracture()
	case "Support Devices":
		d.devices()
	}
}

// hide moves the last finding behind the heart in a share of cases: there a lateral view shows what a frontal one hides.
func (d *drawer) hide(share float64) {
	if d.rng.Float64() >= share {
		return
	}
	f := &d.found[len(d.found)-1]
	for range 200 {
		p := d.body.at(mix(18, 48, d.rng.Float64()), mix(25, 60, d.rng.Float64()), mix(-95, -45, d.rng.Float64()))
		if d.body.aeratedAt(1, p, 0.95) {
			f.side, f.Side, f.X, f.Y, f.Z = 1, Left, p.x, p.y, p.z
			return
		}
	}
}

// pneumonia is patches in one zone; it carries the label of what it looks like too: dense patches or a haze.
func (d *drawer) pneumonia(has map[string]bool) {
	side := d.side()
	at := d.inLung(side, -120, 60, 0.75)
	f := d.add("Pneumonia", "patches", side, at)
	looks, kind := "Lung Opacity", "patches, faint"
	if has["Consolidation"] {
		looks, kind = "Consolidation", "patches, dense"
	}
	f.Kind = kind
	also := *f
	also.Label, also.Kind = looks, "the same patches"
	d.found = append(d.found, also)
}

// effusion leaves a side free for a pneumothorax.
func (d *drawer) effusion(has map[string]bool) {
	first := d.side()
	both := d.rng.Float64() < 0.35 && !has["Pneumothorax"]
	for i, side := range [2]int{first, 1 - first} {
		if i == 1 && !both {
			break
		}
		z := d.body.dome[side] - 70
		d.add("Pleural Effusion", "fluid", side, d.body.at(sides[side].sign*70, 60, z))
		d.wet[side] = true
	}
}

func (d *drawer) fracture() {
	rng := d.rng
	if rng.Float64() < 0.25 {
		i := 4 + rng.IntN(7)
		f := d.add("Fracture", "vertebral compression", 0, d.body.at(d.body.spineX(vertebraZ(i)), d.body.spineY(vertebraZ(i)), vertebraZ(i)))
		f.Side = Midline
		return
	}
	side := d.side()
	rib := 2 + rng.IntN(6)
	angle := mix(0.5, 2.3, rng.Float64())
	kind := "displaced ribs"
	if rng.Float64() < 0.4 {
		kind = "healing ribs"
	}
	d.add("Fracture", kind, side, d.body.ribAt(side, rib, angle))
}

// devices are one or two of the usual.
func (d *drawer) devices() {
	kinds := []string{"pacemaker", "central line", "sternal wires", "feeding tube", "endotracheal tube", "chest tube"}
	first := d.rng.IntN(len(kinds))
	chosen := []string{kinds[first]}
	if d.rng.Float64() < 0.35 {
		chosen = append(chosen, kinds[(first+1+d.rng.IntN(len(kinds)-1))%len(kinds)])
	}
	for _, kind := range chosen {
		switch kind {
		case "pacemaker":
			d.add("Support Devices", kind, 1, d.body.at(92, -78, 78))
		case "central line":
			d.add("Support Devices", kind, 0, d.body.at(-22, -10, 45))
		case "sternal wires":
			d.add("Support Devices", kind, 0, d.body.at(0, -80, 0)).Side = Midline
		case "feeding tube":
			d.add("Support Devices", kind, 0, d.body.at(2, 30, 20)).Side = Midline
		case "endotracheal tube":
			d.add("Support Devices", kind, 0, d.body.at(0, 16, 110)).Side = Midline
		case "chest tube":
			side := d.side()
			d.add("Support Devices", kind, side, d.body.at(sides[side].sign*108, 30, 0))
		}
	}
}
