package paired

import (
	"context"
	"errors"
	"io"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestRun_TakesTurnsAndDropsTheFirstRound(t *testing.T) {
	var order string
	contender := func(name string, seconds float64) Contender {
		calls := 0.0
		return Contender{name, func(context.Context) (Sample, error) {
			order += name
			calls++
			return Sample{Seconds: seconds * calls, CPUSeconds: 1, Done: 6}, nil
		}}
	}
	samples, err := Run(t.Context(), io.Discard, 2, contender("a", 1), contender("b", 2))
	if err != nil {
		t.Fatal(err)
	}
	if order != "abbaab" {
		t.Errorf("order %s, want abbaab", order)
	}
	// Rounds 2 and 3 count: a has rates 3 and 2, b half of that, so the ratio is 2 in each round.
	if diff := cmp.Diff(Spread{2.5, 2.25, 2.75, 2, 3}, samples.Of("a", Sample.Rate)); diff != "" {
		t.Errorf("rates of a (-want +got)\n%s", diff)
	}
	if diff := cmp.Diff(Spread{2, 2, 2, 2, 2}, samples.Ratio("a", "b", Sample.Rate)); diff != "" {
		t.Errorf("ratio (-want +got)\n%s", diff)
	}
}

func TestRun_FailureNamesTheContender(t *testing.T) {
	broken := errors.New("broken")
	_, err := Run(t.Context(), io.Discard, 1, Contender{"a", func(context.Context) (Sample, error) { return Sample{}, broken }})
	if !errors.Is(err, broken) || err.Error() != "a, round 0: broken" {
		t.Errorf("got error %v", err)
	}
}

func TestQuantile_IsLinearBetweenNeighbours(t *testing.T) {
	for _, c := range []struct {
		x    []float64
		q    float64
		want float64
	}{
		{[]float64{7}, 0.95, 7},
		{[]float64{3, 1, 2}, 0.5, 2},
		{[]float64{4, 1, 3, 2}, 0.5, 2.5},
		{[]float64{0, 10}, 0.95, 9.5},
		{[]float64{5, 1}, 1, 5},
	} {
		if got := Quantile(c.x, c.q); got != c.want {
			t.Errorf("Quantile(%v, %v) is %v, want %v", c.x, c.q, got, c.want)
		}
	}
}
