package fuse

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"

	"github.com/mvmae/mvmae/internal/hint"
	"github.com/mvmae/mvmae/model"
)

// The kinds of Calibration.
const (
	NoCalibration = "none"        // probabilities are taken as they are
	Temperature   = "temperature" // the logit of the fused probability is scaled (Guo et al. 2017)
	Platt         = "platt"       // it is scaled and shifted (Platt 1999)
)

// Calibration corrects the fused probabilities of a study: p becomes sigmoid(scale·logit(p) + shift), by label and by the
// number of views that were fused, for the mean of several views is less extreme than one view. Fit makes one. A kind that this program
// does not know is refused, because leaving a calibration out would change the findings without a word.
type Calibration struct {
	Kind string `json:"kind"`
	// ByViews are the corrections of studies of one view, of two and so on; the last is also that of all larger studies.
	ByViews []Correction `json:"by_views,omitempty"`
}

// Correction holds a line for the logit of each label: scales above 0, so that no two studies change their order.
type Correction struct {
	Scale [model.NumLabels]float64 `json:"scale"`
	Shift [model.NumLabels]float64 `json:"shift"`
}

// identity changes nothing.
func identity() (c Correction) {
	for l := range c.Scale {
		c.Scale[l] = 1
	}
	return c
}

// ParseKind reads a kind of calibration.
func ParseKind(name string) (string, error) {
	switch name {
	case NoCalibration, Temperature, Platt:
		return name, nil
	}
	return "", hint.Wrap(fmt.Errorf("unknown calibration %q", name), "this program knows %q, %q and %q; a newer one may know more", NoCalibration, Temperature, Platt)
}

// Validate refuses an unknown kind and lines that do not rise.
func (c Calibration) Validate() error {
	if _, err := ParseKind(c.Kind); err != nil || c.Kind == NoCalibration {
		return err
	}
	if len(c.ByViews) == 0 {
		return fmt.Errorf("calibration %q without by_views", c.Kind)
	}
	for i, r := range c.ByViews {
		for l := range r.Scale {
			if !(r.Scale[l] > 0) || math.IsInf(r.Scale[l], 0) || math.IsNaN(r.Shift[l]) || math.IsInf(r.Shift[l], 0) {
				return fmt.Errorf("calibration %q: %s with %d views: scale %g and shift %g: want numbers, the scale above 0",
					c.Kind, model.Labels[l], i+1, r.Scale[l], r.Shift[l])
			}
		}
	}
	return nil
}

// ParseCalibration reads the JSON document of a model file.
func ParseCalibration(doc []byte) (Calibration, error) {
	var c Calibration
	if err := json.Unmarshal(doc, &c); err != nil {
		return Calibration{}, fmt.Errorf("calibration: %w", err)
	}
	if err := c.Validate(); err != nil {
		return Calibration{}, err
	}
	return c, nil
}

// Apply returns the calibrated probabilities of a study fused from the given number of views, at least one. It wants a valid
// calibration. Probabilities of 0 and 1 stay what they are.
func (c Calibration) Apply(probability [model.NumLabels]float32, views int) [model.NumLabels]float32 {
	if c.Kind == NoCalibration {
		return probability
	}
	r := c.ByViews[min(views, len(c.ByViews))-1]
	for l, p := range probability {
		probability[l] = float32(Sigmoid(r.Scale[l]*logit(float64(p)) + r.Shift[l]))
	}
	return probability
}

// logit is ln(p/(1-p)): infinite at 0 and 1.
func logit(p float64) float64 { return math.Log(p) - math.Log1p(-p) }

// Sample is a study to fit a calibration to.
type Sample struct {
	Patient     string
	Probability [model.NumLabels]float32 // fused
	Views       int                      // that were fused
	Labels      model.LabelSet
}

// maxViews is the number of corrections that are fitted: of one view, of two, and of three or more.
const maxViews = 3

// ErrOneClass says that there is nothing to calibrate on: every label is known as positive alone, or as negative alone.
var ErrOneClass = errors.New("no label has both classes among the studies to calibrate on")

// Fit makes a calibration of a kind from held-out studies, best validation, by the likeliest line of each label. A prior keeps it
// near what is known otherwise where studies are few: the line of all studies near the identity, and the line of each number
// of views near that of all. A label keeps its probabilities, and is named in untouched, if it lacks one of the classes or if
// lines fitted to some patients do not clearly predict the others better than no line: a head that is calibrated is left alone.
func Fit(kind string, studies []Sample) (c Calibration, untouched []string, err error) {
	c = Calibration{Kind: kind}
	if kind == NoCalibration {
		return c, nil, nil
	}
	for range maxViews {
		c.ByViews = append(c.ByViews, identity())
	}
	if err := c.Validate(); err != nil {
		return Calibration{}, nil, err
	}
	fold := map[string]int{} // a patient's number, in order of appearance
	for _, s := range studies {
		if _, seen := fold[s.Patient]; !seen {
			fold[s.Patient] = len(fold)
		}
	}
	fittable := false
	for l, name := range model.Labels {
		var all []point
		var classes [2]int
		for _, s := range studies {
			y, known := s.Labels[l].Target()
			if !known {
				continue
			}
			p := min(max(float64(s.Probability[l]), 1e-7), 1-1e-7) // a float32 next to 1 has no finite logit
			all = append(all, point{logit(p), float64(y), min(s.Views, maxViews), fold[s.Patient] % folds})
			classes[int(y)]++
		}
		if classes[0] == 0 || classes[1] == 0 {
			untouched = append(untouched, name)
			continue
		}
		fittable = true
		if !helps(all, kind) {
			untouched = append(untouched, name)
			continue
		}
		for views, fitted := range fitLines(all, kind) {
			c.ByViews[views].Scale[l], c.ByViews[views].Shift[l] = fitted.scale, fitted.shift
		}
	}
	if !fittable {
		return Calibration{}, untouched, ErrOneClass
	}
	return c, untouched, nil
}

// point is what a study says of one label.
type point struct {
	x, y  float64 // logit and truth
	views int     // maxViews stands for more
	fold  int
}

// folds is the number of parts of the patients that cross-validation holds out in turn.
const folds = 5

// helps says whether lines make the truth of studies that they were not fitted to more likely, by more than the standard error of
// that gain: of two explanations that chance does not tell apart, the simpler is taken (Breiman et al. 1984).
func helps(points []point, kind string) bool {
	var gain, squares float64
	for held := range folds {
		var others []point
		for _, p := range points {
			if p.fold != held {
				others = append(others, p)
			}
		}
		lines := fitLines(others, kind)
		for _, p := range points {
			if p.fold == held {
				at := lines[p.views-1]
				d := logLikelihood(at.scale*p.x+at.shift, p.y) - logLikelihood(p.x, p.y)
				gain, squares = gain+d, squares+d*d
			}
		}
	}
	return gain > math.Sqrt(squares)
}

// logLikelihood is ln sigmoid(x) for a positive and ln(1-sigmoid(x)) for a negative.
func logLikelihood(x, y float64) float64 {
	if y == 0 {
		x = -x
	}
	return -math.Log1p(math.Exp(-x))
}

// fitLines returns the line of each number of views.
func fitLines(points []point, kind string) (lines [maxViews]line) {
	pooled := fitLine(points, kind, line{1, 0}, pooledSpread)
	for views := range lines {
		var of []point
		for _, p := range points {
			if p.views == views+1 {
				of = append(of, p)
			}
		}
		lines[views] = fitLine(of, kind, pooled, viewsSpread)
	}
	return lines
}

type line struct{ scale, shift float64 }

// The standard deviations of the priors: wide for a label's line over all studies, as miscalibration can be large; narrow for
// how the numbers of views differ, which is what fusion does to the logit's spread.
const (
	pooledSpread = 2
	viewsSpread  = 0.3
)

// The bounds of a scale. A line that would fall says that the scores are worse than none: no calibration cures that.
const minScale, maxScale = 0.05, 20

// fitLine returns the line of the highest posterior probability, by Newton's method: the prior is normal around a line, the
// likelihood logistic, so there is one maximum. A temperature has no shift.
func fitLine(points []point, kind string, around line, spread float64) line {
	at, precision := around, 1/(spread*spread)
	for range 100 {
		ga, gb := precision*(at.scale-around.scale), precision*(at.shift-around.shift)
		haa, hab, hbb := precision, 0.0, precision
		for _, p := range points {
			q := Sigmoid(at.scale*p.x + at.shift)
			w := q * (1 - q)
			ga, gb = ga+(q-p.y)*p.x, gb+q-p.y
			haa, hab, hbb = haa+w*p.x*p.x, hab+w*p.x, hbb+w
		}
		var da, db float64
		if kind == Temperature {
			da = ga / haa
		} else {
			det := haa*hbb - hab*hab
			da, db = (hbb*ga-hab*gb)/det, (haa*gb-hab*ga)/det
		}
		// A full step may leave where the curvature was measured: at most one unit of the prior at a time.
		shrink := min(1, pooledSpread/math.Hypot(da, db))
		next := line{min(max(at.scale-shrink*da, minScale), maxScale), at.shift - shrink*db}
		done := math.Abs(next.scale-at.scale)+math.Abs(next.shift-at.shift) < 1e-10
		if at = next; done {
			break
		}
	}
	return at
}
