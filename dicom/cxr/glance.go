package cxr

import "math"

// glanceSize is the side of a glance.
const glanceSize = 16

// Glance is what a picture looks like from afar: the mean ranks of its gray values in 16 x 16 fields, less their mean, of
// length 1. Contrast, brightness and any other monotone change of the values make hardly a difference; inversion changes
// the sign. It is all zeros where there is nothing to see.
type Glance [glanceSize * glanceSize]float64

// NewGlance glances at a stored picture, [StoredSize, StoredSize].
func NewGlance(stored []byte) (g Glance) {
	var levels [256]int
	for _, v := range stored {
		levels[v]++
	}
	var rank [256]int // twice the middle of the pixels of a level, in the order of values
	sum := 0
	for i, n := range levels {
		rank[i] = 2*sum + n
		sum += n
	}
	const field = StoredSize / glanceSize
	for i := range len(stored) / field {
		of := 0
		for _, v := range stored[i*field:][:field] {
			of += rank[v]
		}
		g[i/StoredSize*glanceSize+i%glanceSize] += float64(of)
	}
	g.normalise()
	return g
}

func (g *Glance) normalise() {
	var mean, squares float64
	for _, v := range g {
		mean += v / float64(len(g))
	}
	for i := range g {
		g[i] -= mean
		squares += g[i] * g[i]
	}
	if squares < 1e-6 { // one value, but for rounding
		*g = Glance{}
		return
	}
	for i := range g {
		g[i] /= math.Sqrt(squares)
	}
}

// turned is the glance at the picture turned clockwise by a quarter.
func (g *Glance) turned() (t Glance) {
	for y := range glanceSize {
		for x := range glanceSize {
			t[x*glanceSize+glanceSize-1-y] = g[y*glanceSize+x]
		}
	}
	return t
}

// template is the mean of many glances, of length 10,000.
type template [glanceSize * glanceSize]int16

// like is the correlation with a template, in [-1,1].
func (g *Glance) like(t *template) (sum float64) {
	for i, v := range g {
		sum += v * float64(t[i])
	}
	return sum / 10_000
}

// The thresholds of what is seen at a glance, of correlations but for the last three: set by hand after a look at the 410
// frontal views of ChestX-ray14 at hand and a phantom, for one or two false alarms in a hundred at most.
const (
	alike        = 0.3  // less is no chest, and nothing is said
	clearly      = 0.05 // by this much more like its negative, or itself turned
	moreLateral  = 0.13 // by this much more like a lateral than like a frontal
	moreFrontal  = 0.2
	lowContrast  = 32 // of 256 levels
	borderShare  = 8  // an eighth of the picture
	flatTolerate = 4  // of 255: so far may most pixels of a flat row lie from its commonest value
)

// seen is what a glance tells of a chest.
type seen struct {
	inverted, rotated bool
	frontal           float64 // more like a frontal than like a lateral, by so much
}

// glimpse compares a stored picture, its negative and both in every orientation with the mean chest of either view.
func glimpse(stored []byte) seen {
	g := NewGlance(stored)
	var upright, turned [2]float64 // the best likeness: of the picture, of its negative
	var frontal float64
	for quarter := range 4 {
		f, l := g.like(&frontalTemplate), g.like(&lateralTemplate)
		if quarter == 0 {
			upright, frontal = [2]float64{max(f, l), max(-f, -l)}, f-l
		} else {
			turned = [2]float64{max(turned[0], f, l), max(turned[1], -f, -l)}
		}
		g = g.turned()
	}
	positive, negative := max(upright[0], turned[0]), max(upright[1], turned[1])
	if max(positive, negative) < alike {
		return seen{}
	}
	s := seen{inverted: negative > positive+clearly}
	sign := 0
	if s.inverted {
		sign, frontal = 1, -frontal
	}
	if s.rotated = turned[sign] > upright[sign]+clearly; !s.rotated {
		s.frontal = frontal
	}
	return s
}

// contradicts says whether the picture looks like the other view.
func (s seen) contradicts(v View) bool {
	return v == Frontal && s.frontal < -moreLateral || v == Lateral && s.frontal > moreFrontal
}

// bordered says whether the flat rows above and below are an eighth of the picture or more. A chest goes through both edges
// of the field, so these were never exposed; beside it there is often nothing but air.
func bordered(stored []byte) bool {
	rows := 0
	for rows < StoredSize && flat(stored[rows*StoredSize:][:StoredSize]) {
		rows++
	}
	for end := len(stored); rows < StoredSize && flat(stored[end-StoredSize:end]); end -= StoredSize {
		rows++
	}
	return rows >= StoredSize/borderShare
}

// flat says whether nineteen in twenty pixels of a row have one value, or nearly.
func flat(row []byte) bool {
	var levels [256]int
	for _, v := range row {
		levels[v]++
	}
	common := 0
	for v, n := range levels {
		if n > levels[common] {
			common = v
		}
	}
	near := 0
	for _, n := range levels[max(0, common-flatTolerate):min(256, common+flatTolerate+1)] {
		near += n
	}
	return near*20 >= len(row)*19
}
