package metrics_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/mvmae/mvmae/model/metrics"
)

var (
	exact = cmp.Options{
		cmp.Transformer("float64", func(v metrics.Value) float64 { return float64(v) }), cmpopts.EquateNaNs(),
	}
	// approx is for sums taken in another order.
	approx = append(cmp.Options{cmpopts.EquateApprox(0, 1e-12)}, exact...)
)

// sample is a random label: few distinct scores, so that ties are common, and now and then a single class.
func sample(r *rand.Rand) (scores []float64, truth []bool) {
	n, levels := 1+r.IntN(60), 1+r.IntN(40)
	prevalence := []float64{0, 0.05, 0.5, 0.9, 1}[r.IntN(5)]
	for range n {
		scores = append(scores, float64(r.IntN(levels+1))/float64(levels))
		truth = append(truth, r.Float64() < prevalence)
	}
	return scores, truth
}

// bruteAUROC compares every positive with every negative.
func bruteAUROC(scores []float64, truth []bool) float64 {
	var sum, pairs float64
	for i := range scores {
		for j := range scores {
			if !truth[i] || truth[j] {
				continue
			}
			pairs++
			switch {
			case scores[i] > scores[j]:
				sum++
			case scores[i] == scores[j]:
				sum += 0.5
			}
		}
	}
	return sum / pairs
}

// bruteConfusion counts hits, false alarms and misses of calling score >= threshold.
func bruteConfusion(scores []float64, truth []bool, threshold float64) (tp, fp, fn float64) {
	for i, s := range scores {
		switch {
		case s >= threshold && truth[i]:
			tp++
		case s >= threshold:
			fp++
		case truth[i]:
			fn++
		}
	}
	return tp, fp, fn
}

func bruteF1(scores []float64, truth []bool, threshold float64) float64 {
	tp, fp, fn := bruteConfusion(scores, truth, threshold)
	if tp+fp+fn == 0 {
		return 0
	}
	return 2 * tp / (2*tp + fp + fn)
}

// bruteAP is the definition: steps of recall times precision, thresholds descending.
func bruteAP(scores []float64, truth []bool) float64 {
	if !slices.Contains(truth, true) {
		return math.NaN()
	}
	thresholds := slices.Clone(scores)
	slices.Sort(thresholds)
	slices.Reverse(thresholds)
	var sum, before float64
	for _, t := range thresholds {
		tp, fp, fn := bruteConfusion(scores, truth, t)
		sum += (tp/(tp+fn) - before) * tp / (tp + fp)
		before = tp / (tp + fn)
	}
	return sum
}

// bruteECE is the definition, bin by bin.
func bruteECE(scores []float64, truth []bool) float64 {
	var sum float64
	for bin := range metrics.ECEBins {
		var n, score, pos float64
		for i, s := range scores {
			if min(metrics.ECEBins-1, int(math.Floor(metrics.ECEBins*s))) != bin {
				continue
			}
			n++
			score += s
			if truth[i] {
				pos++
			}
		}
		if n > 0 {
			sum += n / float64(len(scores)) * math.Abs(score/n-pos/n)
		}
	}
	return sum
}

func bruteBrier(scores []float64, truth []bool) float64 {
	var sum float64
	for i, s := range scores {
		y := 0.0
		if truth[i] {
			y = 1
		}
		sum += (s - y) * (s - y)
	}
	return sum / float64(len(scores))
}

func TestTally_AgreesWithTheDefinitions(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for range 500 {
		scores, truth := sample(r)
		threshold := r.Float64()
		tally := metrics.NewTally(scores, truth)
		bins := tally.Bins()
		got := []float64{tally.AUROC(), tally.AveragePrecision(), tally.F1(threshold), tally.Brier(), bins.ECE()}
		want := []float64{
			bruteAUROC(scores, truth), bruteAP(scores, truth), bruteF1(scores, truth, threshold),
			bruteBrier(scores, truth), bruteECE(scores, truth),
		}
		if diff := cmp.Diff(want, got, approx); diff != "" {
			t.Fatalf("auroc, average precision, f1, brier, ece of %v %v (-want +got):\n%s", scores, truth, diff)
		}
	}
}

func TestTallyBestF1_IsTheHighestOfAllCuts(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 1))
	for range 500 {
		scores, truth := sample(r)
		threshold, best := metrics.NewTally(scores, truth).BestF1()
		if !slices.Contains(truth, true) {
			if !math.IsNaN(threshold) || !math.IsNaN(best) {
				t.Fatalf("without positives: threshold %v, F1 %v", threshold, best)
			}
			continue
		}
		if got := bruteF1(scores, truth, threshold); got != best {
			t.Fatalf("F1 at %v is %v, not %v: %v %v", threshold, got, best, scores, truth)
		}
		for _, s := range scores {
			f := bruteF1(scores, truth, s)
			if f > best {
				t.Fatalf("F1 at %v is %v, better than %v at %v", s, f, best, threshold)
			}
			if f == best && s > threshold && bruteCalled(scores, s) < bruteCalled(scores, threshold) {
				t.Fatalf("%v ties with %v and calls fewer studies", s, threshold)
			}
		}
	}
}

func bruteCalled(scores []float64, threshold float64) (n int) {
	for _, s := range scores {
		if s >= threshold {
			n++
		}
	}
	return n
}

func TestTallyBestF1_ThresholdLiesInTheGap(t *testing.T) {
	next := func(x float64) float64 { return math.Nextafter(x, 1) }
	for _, c := range []struct {
		name   string
		scores []float64
		truth  []bool
		want   float64
	}{
		{"half-way", []float64{0.9, 0.5, 0.3, 0.1}, []bool{true, true, false, false}, 0.4},
		{"four decimals", []float64{0.9, 0.33333, 0.22222}, []bool{true, true, false}, 0.2778},
		{"no room for four decimals", []float64{0.9, 0.25000003, 0.25000001}, []bool{true, true, false}, 0.25000002},
		{"four decimals would meet the score below", []float64{0.9, 0.300002, 0.3}, []bool{true, true, false}, 0.300001},
		{"no room at all", []float64{next(0.3), 0.3}, []bool{true, false}, next(0.3)},
		{"everything called", []float64{0.8, 0.6}, []bool{true, true}, 0.3},
		{"everything called, lowest is zero", []float64{0.8, 0}, []bool{true, true}, 0},
		{"the higher of two equal cuts", []float64{0.9, 0.7, 0.5, 0.3}, []bool{true, false, false, true}, 0.8},
	} {
		if got, _ := metrics.NewTally(c.scores, c.truth).BestF1(); math.Abs(got-c.want) > 1e-16 {
			t.Errorf("%s: threshold %v, want %v", c.name, got, c.want)
		}
	}
}

func TestTally_UndefinedIsNaN(t *testing.T) {
	nan := math.NaN()
	for _, c := range []struct {
		name   string
		scores []float64
		truth  []bool
		want   []float64 // auroc, average precision, f1 at 0.5, brier, ece
	}{
		{"no studies", nil, nil, []float64{nan, nan, nan, nan, nan}},
		{"negatives only", []float64{0.5, 0}, []bool{false, false}, []float64{nan, nan, 0, 0.125, 0.25}},
		{"negatives only, none called", []float64{0.25, 0}, []bool{false, false}, []float64{nan, nan, 0, 0.03125, 0.125}},
		{"positives only", []float64{1, 0.5}, []bool{true, true}, []float64{nan, 1, 1, 0.125, 0.25}},
		{"both", []float64{1, 0}, []bool{true, false}, []float64{1, 1, 1, 0, 0}},
	} {
		tally := metrics.NewTally(c.scores, c.truth)
		bins := tally.Bins()
		got := []float64{tally.AUROC(), tally.AveragePrecision(), tally.F1(0.5), tally.Brier(), bins.ECE()}
		if diff := cmp.Diff(c.want, got, approx); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}

func TestTallyAUROC_OnlyTheOrderCounts(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 1))
	for range 200 {
		scores, truth := sample(r)
		mapped := make([]float64, len(scores))
		for i, s := range scores {
			mapped[i] = math.Exp(3*s) - 7
		}
		a, b := metrics.NewTally(scores, truth), metrics.NewTally(mapped, truth)
		if diff := cmp.Diff([]float64{a.AUROC(), a.AveragePrecision()}, []float64{b.AUROC(), b.AveragePrecision()}, exact); diff != "" {
			t.Fatalf("a monotone map changed auroc or average precision (-before +after):\n%s", diff)
		}
	}
}

func TestTallyAUROC_SwappedClassesMirror(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 1))
	for range 200 {
		scores, truth := sample(r)
		swapped, reversed := make([]bool, len(truth)), make([]float64, len(scores))
		for i := range truth {
			swapped[i], reversed[i] = !truth[i], 1-scores[i]
		}
		a := metrics.NewTally(scores, truth).AUROC()
		got := []float64{1 - metrics.NewTally(scores, swapped).AUROC(), metrics.NewTally(reversed, swapped).AUROC()}
		if diff := cmp.Diff([]float64{a, a}, got, approx); diff != "" {
			t.Fatalf("swapped classes, then scores too (-want +got):\n%s", diff)
		}
	}
}
