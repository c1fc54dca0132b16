package synth

import (
	"bytes"
	_ "embed"
	"encoding/csv"
	"math"
	"math/rand/v2"
	"strconv"
	"sync"

	"github.com/mvmae/mvmae/model"
)

// worlds.csv says how often a label occurs in a dataset's studies, alone and with each other. An uncertain label counts half.
// It is counted in the real tables ("go test ./test/tables -run Worlds -update"); MIMIC-CXR's rates are the published ones.
//
//go:embed worlds.csv
var worldsCSV []byte

// rates are a dataset's shares of studies.
type rates struct {
	alone               [model.NumLabels]float64 // NaN where the dataset has no such label
	both                [model.NumLabels][model.NumLabels]float64
	uncertain, negative [model.NumLabels]float64
}

var (
	noFinding = model.LabelIndex("No Finding")
	devices   = model.LabelIndex("Support Devices")
)

var worldRates = sync.OnceValue(func() map[string]*rates {
	rows, err := csv.NewReader(bytes.NewReader(worldsCSV)).ReadAll()
	if err != nil {
		panic("worlds.csv: " + err.Error()) // it is part of the program
	}
	all := map[string]*rates{}
	for _, row := range rows[1:] {
		r := all[row[0]]
		if r == nil {
			r = &rates{}
			for i := range r.alone {
				r.alone[i] = math.NaN()
				for j := range r.both[i] {
					r.both[i][j] = math.NaN()
				}
			}
			all[row[0]] = r
		}
		share, err := strconv.ParseFloat(row[3], 64)
		if err != nil {
			panic("worlds.csv: " + err.Error())
		}
		a, b := model.LabelIndex(row[1]), model.LabelIndex(row[2])
		switch row[2] {
		case "":
			r.alone[a] = share
		case "uncertain":
			r.uncertain[a] = share
		case "negative":
			r.negative[a] = share
		default:
			r.both[a][b], r.both[b][a] = share, share
		}
	}
	return all
})

// world draws what a study of one institution has, so that labels occur as often, and with each other as often, as in the
// dataset whose layout it writes.
//
// A share of the studies is healthy: nothing but, at times, a device. In the rest each finding has a normal variable and
// is present where that falls below a threshold. The variables' correlations are those that give the table's pairs
// (tetrachoric correlations); thresholds and the share of the healthy are fitted on fixed draws.
type world struct {
	healthy   float64
	device    float64 // share of the healthy who have one
	threshold [model.NumLabels]float64
	root      [model.NumLabels][model.NumLabels]float64 // lower triangle L of the correlations, L*L'
}

// worlds are fitted when they are first asked for.
var worlds = map[string]func() *world{
	"mimic":    sync.OnceValue(func() *world { return fit("mimic") }),
	"chexpert": sync.OnceValue(func() *world { return fit("chexpert") }),
	"padchest": sync.OnceValue(func() *world { return fit("padchest") }),
	"nih":      sync.OnceValue(func() *world { return fit("nih") }),
}

// ratesOf completes a dataset's rates with those of its nearest neighbour: MIMIC-CXR's pairs have CheXpert's correlations, and
// ChestX-ray14 as many fractures, wide mediastina and devices as PadChest.
func ratesOf(name string) (own, other *rates) {
	own = worldRates()[name]
	neighbour := map[string]string{"mimic": "chexpert", "nih": "padchest"}[name]
	if neighbour == "" {
		return own, own
	}
	other = worldRates()[neighbour]
	complete := *own
	for i, share := range complete.alone {
		if math.IsNaN(share) {
			complete.alone[i] = other.alone[i]
		}
	}
	return &complete, other
}

// fitDraws is the number of studies that a world is fitted on: the standard error of a share of a half is 0.3 %.
const fitDraws = 25000

func fit(name string) *world {
	own, other := ratesOf(name)
	w := &world{healthy: 0.8 * own.alone[noFinding]}
	w.device = own.both[noFinding][devices] / own.alone[noFinding]
	if math.IsNaN(w.device) { // as much rarer among the healthy as there
		w.device = own.alone[devices] * other.both[noFinding][devices] / other.alone[noFinding] / other.alone[devices]
	}
	var ill [model.NumLabels]float64 // share of the ill who have it
	for i := range ill {
		ill[i] = w.amongIll(own, i, 0)
	}
	draws := make([][model.NumLabels]float64, fitDraws)
	rng := stream(1, streamWorld)
	for i := range draws {
		for j := range draws[i] {
			draws[i][j] = (gauss(rng) + gauss(rng)) * math.Sqrt(0.5) // as a patient's and a visit's
		}
	}
	for range 8 {
		w.correlate(own, other)
		for i, share := range ill {
			w.threshold[i] = quantile(share)
		}
		var count [model.NumLabels]float64
		for i := range draws {
			for l, has := range w.ill(&draws[i], rand.New(rand.NewPCG(uint64(i), 1))) {
				if has {
					count[l]++
				}
			}
		}
		for l := range count {
			got := count[l] / fitDraws
			switch want := w.amongIll(own, l, w.healthy); {
			case l == noFinding: // of the ill as drawn: these are healthy too
				w.healthy = clamp(w.healthy+own.alone[l]-w.healthy-(1-w.healthy)*got, 0, 0.95)
			case got > 0:
				ill[l] = clamp(ill[l]*want/got, 1e-5, 0.97)
			}
		}
	}
	return w
}

// amongIll is the share of the ill who must have finding l.
func (w *world) amongIll(r *rates, l int, healthy float64) float64 {
	share := r.alone[l]
	if l == devices {
		share -= healthy * w.device
	}
	return share / (1 - healthy)
}

// correlate sets the root of the correlations among the ill.
func (w *world) correlate(own, other *rates) {
	var r [model.NumLabels][model.NumLabels]float64
	for a := range r {
		r[a][a] = 1
		for b := range a {
			if a == noFinding || b == noFinding {
				continue
			}
			from := own
			if math.IsNaN(own.both[a][b]) {
				from = other
			}
			joint := from.both[a][b]
			if math.IsNaN(joint) { // together in no study
				joint = 0
			}
			healthy := min(w.healthy, from.alone[noFinding]*0.9)
			r[a][b] = tetrachoric(w.amongIll(from, a, healthy), w.amongIll(from, b, healthy), joint/(1-healthy))
		}
	}
	// Correlations that were each found on their own may contradict each other: all are weakened until they do not.
	for keep := 1.0; ; keep *= 0.97 {
		if root, ok := cholesky(&r, keep); ok {
			w.root = root
			return
		}
	}
}

// cholesky returns the root of a matrix whose entries beside the diagonal are weakened; ok is false where it has none.
func cholesky(r *[model.NumLabels][model.NumLabels]float64, keep float64) (root [model.NumLabels][model.NumLabels]float64, ok bool) {
	for i := range root {
		for j := range i + 1 {
			sum := r[i][j]
			if i != j {
				sum *= keep
			}
			for k := range j {
				sum -= root[i][k] * root[j][k]
			}
			if i != j {
				root[i][j] = sum / root[j][j]
			} else if sum < 0.02 {
				return root, false
			} else {
				root[i][i] = math.Sqrt(sum)
			}
		}
	}
	return root, true
}

// ill says what an ill study has, of its standard normal variables. The entry of No Finding tells that it has nothing.
func (w *world) ill(own *[model.NumLabels]float64, rng *rand.Rand) (has [model.NumLabels]bool) {
	for i := range has {
		z := 0.0
		for j := range i + 1 {
			z += w.root[i][j] * own[j]
		}
		has[i] = i != noFinding && z < w.threshold[i]
	}
	showPneumonia(&has, rng)
	has[noFinding] = true
	for i, present := range has {
		if present && i != noFinding && i != devices {
			has[noFinding] = false
		}
	}
	return has
}

// present draws what a study has.
func (w *world) present(rng *rand.Rand, own *[model.NumLabels]float64) [model.NumLabels]bool {
	// The variable of No Finding is free for this.
	if own[noFinding] < quantile(w.healthy) {
		var has [model.NumLabels]bool
		has[devices] = rng.Float64() < w.device
		return has
	}
	return w.ill(own, rng)
}

var pneumoniaLabels = [...]int{model.LabelIndex("Pneumonia"), model.LabelIndex("Consolidation"), model.LabelIndex("Lung Opacity")}

// showPneumonia makes a pneumonia show as a consolidation or an opacity.
func showPneumonia(has *[model.NumLabels]bool, rng *rand.Rand) {
	pneumonia, dense, faint := pneumoniaLabels[0], pneumoniaLabels[1], pneumoniaLabels[2]
	if has[pneumonia] && !has[dense] && !has[faint] {
		if rng.Float64() < 0.5 {
			faint = dense
		}
		has[faint] = true
	}
}

// quantile is that of the standard normal distribution.
func quantile(p float64) float64 { return math.Sqrt2 * math.Erfinv(2*p-1) }

// tetrachoric is the correlation of two normal variables that are below the quantiles of a and b together as often as joint.
func tetrachoric(a, b, joint float64) float64 {
	lo, hi := -0.95, 0.95
	for range 30 {
		mid := (lo + hi) / 2
		if below(a, b, mid) < joint {
			lo = mid
		} else {
			hi = mid
		}
	}
	return (lo + hi) / 2
}

// below is the probability that two standard normal variables of correlation r are below the quantiles of a and b: a*b without
// a correlation, and its derivative by r is the density, here integrated over the angle asin(r) (Drezner and Wesolowsky 1990).
func below(a, b, r float64) float64 {
	const steps = 24
	h, k := quantile(a), quantile(b)
	top, sum := math.Asin(r), 0.0
	for i := range steps {
		s := math.Sin(top * (float64(i) + 0.5) / steps)
		sum += exp(-(h*h + k*k - 2*h*k*s) / (2 * (1 - s*s)))
	}
	return a*b + sum*top/steps/(2*math.Pi)
}
