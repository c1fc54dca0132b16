package synth

import (
	"math/rand/v2"

	"github.com/mvmae/mvmae/model"
)

// opinion is what a radiologist says of each label of a study, and of what: Positive, Negative, Uncertain, or Blank for
// silence.
type opinion struct {
	says    model.LabelSet
	about   [model.NumLabels]subject
	omitted [model.NumLabels]bool // there, and not spoken of
}

// subject is what a statement is about: the findings of one label together.
type subject struct {
	kind     string
	side     Side // Midline where it has none
	severity float64
	z        float64 // mm of the mean body
}

// habit is how often a radiologist speaks in which way of a label.
type habit struct {
	hedges float64 // of what is there: share called possible
	doubts float64 // of what is not there, in an ill study: share called possible
	denies float64 // of what is not there: share denied; the rest is silence
}

// omits is the share of what is there that a report leaves out (chosen).
const omits = 0.02

// habitOf follows the states of the dataset's labels, so that these come out as often as there: half of the uncertain have it.
// PadChest and ChestX-ray14 have no such states: what Spanish reports hedge and deny is chosen, after their commonest words.
func habitOf(at *Institution, label int) habit {
	r := worldRates()[at.Name]
	if r == nil || r.uncertain == [model.NumLabels]float64{} {
		switch model.Labels[label] {
		case "Consolidation", "Lung Opacity":
			return habit{hedges: 0.08, denies: 0.12}
		case "Pleural Effusion", "Pneumothorax", "Lung Lesion":
			return habit{hedges: 0.08, denies: 0.04}
		}
		return habit{hedges: 0.08}
	}
	share, half := r.alone[label], r.uncertain[label]/2
	return habit{
		hedges: half / share,
		doubts: half / max(half, 1-share-r.alone[noFinding]),
		denies: min(0.95, r.negative[label]/(1-share-half)),
	}
}

// opine draws what is said of a study.
func (s *Study) opine(rng *rand.Rand) (o opinion) {
	truth := s.Labels()
	ill := truth[noFinding] != model.Positive
	for l := range o.says {
		o.says[l] = model.Blank
		if l == noFinding {
			continue
		}
		h := habitOf(s.Patient.at, l)
		u, v := rng.Float64(), rng.Float64()
		o.about[l] = s.subject(l, rng)
		if truth[l] == model.Positive {
			// The faint are hedged most. Severities are the power 1.3 of a uniform draw: their mean is 1/2.3.
			switch {
			case u < omits:
				o.omitted[l] = true
			case v < h.hedges*(1+1/2.3-o.about[l].severity):
				o.says[l] = model.Uncertain
			default:
				o.says[l] = model.Positive
			}
			continue
		}
		switch {
		case ill && u < h.doubts:
			o.says[l] = model.Uncertain
		case v < h.denies:
			o.says[l] = model.Negative
		}
	}
	return o
}

// subject puts a label's findings together; of what is not there, a doubt has to be about something.
func (s *Study) subject(label int, rng *rand.Rand) subject {
	doubted := subject{side: sides[rng.IntN(2)].name, z: mix(-100, 60, rng.Float64())}
	about, found := subject{}, false
	for _, f := range s.Findings {
		if f.Label != model.Labels[label] {
			continue
		}
		switch {
		case !found:
			about, found = subject{f.Kind, f.Side, f.Severity, f.Z}, true
		case about.side != f.Side && about.side != Midline && f.Side != Midline:
			about.side = Both
			fallthrough
		default:
			about.severity = max(about.severity, f.Severity)
		}
	}
	if !found {
		return doubted
	}
	return about
}

// zone is where in the lung a subject lies.
func (s subject) zone() int {
	switch {
	case s.z < -40:
		return 0
	case s.z < 30:
		return 1
	default:
		return 2
	}
}

// degree is 0, 1 or 2.
func (s subject) degree() int { return min(2, int(3*s.severity)) }

// label is what an automatic labeller makes of a report: of the labels that are positive in the dataset a share
// labellerError is missed, and as many are positive that should not be. So the label is as common as it was. No Finding is
// derived: nothing but devices is there or possible.
func (o opinion) label(at *Institution, rng *rand.Rand) model.LabelSet {
	labels := o.says
	r, _ := ratesOf(at.Name)
	clear := true
	for l := range labels {
		if l == noFinding {
			continue
		}
		positive := r.alone[l] - r.uncertain[l]/2
		u := rng.Float64()
		switch e := labellerError[l] * errorScale(at); {
		case labels[l] == model.Positive && u < e:
			labels[l] = model.Blank
		case labels[l] != model.Positive && u < e*positive/(1-positive):
			labels[l] = model.Positive
		}
		if l != devices && (labels[l] == model.Positive || labels[l] == model.Uncertain) {
			clear = false
		}
	}
	labels[noFinding] = model.Blank
	if clear {
		labels[noFinding] = model.Positive
	}
	return labels
}

// labellerError is the share of the positive labels that are missed, and that of the positive ones that are false. Chosen: a
// labeller of reports rarely mistakes effusions and often lesions and pleural changes.
var labellerError = [model.NumLabels]float64{
	0.02, 0.03, 0.03, 0.02, 0.07, 0.03, 0.10,
	0.04, 0, 0.02, 0.10, 0.04, 0.02, 0.05,
}

// errorScale multiplies labellerError: ChestX-ray14's labeller is the oldest of the four, and its labels are the noisiest.
func errorScale(at *Institution) float64 {
	if at.Name == "nih" {
		return 2
	}
	return 1
}
