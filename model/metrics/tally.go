package metrics

import (
	"cmp"
	"fmt"
	"math"
	"slices"
)

// ECEBins is the number of equal bins of [0,1] over which the expected calibration error is taken.
const ECEBins = 15

// class indexes a pair of counts.
const (
	negative = 0
	positive = 1
)

// Tally counts the studies of one label by distinct score. Every metric needs the scores only in order and the two
// classes only as counts, so one tally serves them all, and a bootstrap replicate is the same tally with other counts.
type Tally struct {
	scores []float64  // [G] distinct, descending
	counts [][2]int32 // [G] negatives, positives
}

// NewTally counts studies with the given scores and truth, which must be of one length. Scores must not be NaN; Brier
// and the calibration bins also want them in [0,1].
func NewTally(scores []float64, truth []bool) Tally {
	if len(scores) != len(truth) {
		panic(fmt.Sprintf("metrics: %d scores for %d studies", len(scores), len(truth)))
	}
	t, _ := rank(scores, truth)
	return t
}

// rank makes the tally of the given studies and says in which of its counts each study is: group*2 + class.
func rank(scores []float64, truth []bool) (t Tally, slot []uint32) {
	order := make([]int, len(scores))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(i, j int) int { return cmp.Compare(scores[j], scores[i]) })
	slot = make([]uint32, len(scores))
	for _, i := range order {
		g := len(t.scores) - 1
		if g < 0 || t.scores[g] != scores[i] {
			t.scores = append(t.scores, scores[i])
			t.counts = append(t.counts, [2]int32{})
			g++
		}
		class := negative
		if truth[i] {
			class = positive
		}
		t.counts[g][class]++
		slot[i] = uint32(g*2 + class)
	}
	return t, slot
}

// Counts returns the number of negative and of positive studies.
func (t Tally) Counts() (neg, pos int) {
	for _, c := range t.counts {
		neg += int(c[negative])
		pos += int(c[positive])
	}
	return neg, pos
}

// AUROC is the probability that a positive study scores above a negative one, a tie counting one half. It is undefined
// unless both classes occur. The sum is kept in integers, so equal rankings give equal bits.
func (t Tally) AUROC() float64 {
	var neg, pos, twice int64 // twice the number of pairs in the right order
	for _, c := range t.counts {
		n, p := int64(c[negative]), int64(c[positive])
		twice += n * (2*pos + p)
		neg += n
		pos += p
	}
	if neg == 0 || pos == 0 {
		return math.NaN()
	}
	return float64(twice) / float64(2*neg*pos)
}

// AveragePrecision is the sum over distinct thresholds, descending, of the step in recall times the precision there. It
// is undefined without positives.
func (t Tally) AveragePrecision() float64 {
	var called, hits int
	var sum float64
	for _, c := range t.counts {
		p := int(c[positive])
		called += int(c[negative]) + p
		if p == 0 {
			continue
		}
		hits += p
		sum += float64(p) * float64(hits) / float64(called)
	}
	if hits == 0 {
		return math.NaN()
	}
	return sum / float64(hits)
}

// F1 is 2TP/(2TP+FP+FN) when a study is called positive from the threshold upwards (score >= threshold). It is 0 when
// nothing is positive and nothing is called so, as scikit-learn has it, and undefined without studies.
func (t Tally) F1(threshold float64) float64 {
	var called, hits, pos, all int
	for g, c := range t.counts {
		n, p := int(c[negative]), int(c[positive])
		all += n + p
		pos += p
		if t.scores[g] >= threshold {
			called += n + p
			hits += p
		}
	}
	if all == 0 {
		return math.NaN()
	}
	return f1(hits, called, pos)
}

// f1 rewrites 2TP/(2TP+FP+FN) as 2TP/(called+positives).
func f1(hits, called, pos int) float64 {
	if called+pos == 0 {
		return 0
	}
	return float64(2*hits) / float64(called+pos)
}

// BestF1 returns the threshold with the highest F1, and that F1. Of equal cuts the highest wins, which calls the fewest
// studies. The threshold lies half-way between the lowest score called and the next score below (below the lowest: 0), so
// that rounding elsewhere, in another runtime say, does not move a study across it; it has four decimals where the gap has
// room for them. Both results are undefined without positives.
func (t Tally) BestF1() (threshold, best float64) {
	_, pos := t.Counts()
	if pos == 0 {
		return math.NaN(), math.NaN()
	}
	var called, hits int
	cut := 0
	best = -1
	for g, c := range t.counts {
		called += int(c[negative] + c[positive])
		hits += int(c[positive])
		if f := f1(hits, called, pos); f > best {
			cut, best = g, f
		}
	}
	return t.between(cut), best
}

// between returns a threshold that calls the scores up to the cut-th and none below.
func (t Tally) between(cut int) float64 {
	above, below := t.scores[cut], 0.0
	if cut+1 < len(t.scores) {
		below = t.scores[cut+1]
	}
	middle := (above + below) / 2
	for _, threshold := range []float64{math.Round(middle*1e4) / 1e4, middle} {
		if below < threshold && threshold <= above {
			return threshold
		}
	}
	return above
}

// Brier is the mean of (score - truth)^2, undefined without studies.
func (t Tally) Brier() float64 {
	var sum float64
	var all int
	for g, c := range t.counts {
		s := t.scores[g]
		sum += float64(c[negative])*s*s + float64(c[positive])*(1-s)*(1-s)
		all += int(c[negative] + c[positive])
	}
	return sum / float64(all) // 0/0 without studies
}

// Bin is one bin of a reliability diagram.
type Bin struct {
	Studies   int     `json:"studies"`
	Positives int     `json:"positives"`
	ScoreSum  float64 `json:"score_sum"`
}

// Bins divide studies by score: bin i holds the scores from i/15 up to (i+1)/15, and 1 is in the last. Bins of several
// labels add up to their pooled calibration.
type Bins [ECEBins]Bin

// Bins returns the reliability diagram of the label.
func (t Tally) Bins() (b Bins) {
	for g, c := range t.counts {
		bin := &b[min(ECEBins-1, int(t.scores[g]*ECEBins))]
		n := int(c[negative] + c[positive])
		bin.Studies += n
		bin.Positives += int(c[positive])
		bin.ScoreSum += float64(n) * t.scores[g]
	}
	return b
}

// Add adds the studies of o to b.
func (b *Bins) Add(o *Bins) {
	for i := range b {
		b[i].Studies += o[i].Studies
		b[i].Positives += o[i].Positives
		b[i].ScoreSum += o[i].ScoreSum
	}
}

// ECE is the expected calibration error: the sum over bins of (share of the studies) * |mean score - share of positives|,
// undefined without studies. The number of studies in a bin cancels out.
func (b *Bins) ECE() float64 {
	var sum float64
	var all int
	for i := range b {
		sum += math.Abs(b[i].ScoreSum - float64(b[i].Positives))
		all += b[i].Studies
	}
	return sum / float64(all) // 0/0 without studies
}
