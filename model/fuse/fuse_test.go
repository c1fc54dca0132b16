package fuse_test

import (
	"encoding/json"
	"math"
	"math/big"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mvmae/mvmae/internal/hint"
	"github.com/mvmae/mvmae/model"
	"github.com/mvmae/mvmae/model/fuse"
)

type vector = [model.NumLabels]float32

// all is a vector of one value.
func all(x float32) (v vector) {
	for l := range v {
		v[l] = x
	}
	return v
}

func TestParseRule_RefusesUnknown(t *testing.T) {
	for name, known := range map[string]bool{
		"mean_probability": true, "mean_logit": true, "": false, "max": false, "Mean_Logit": false, "mean_logit ": false,
	} {
		r, err := fuse.ParseRule(name)
		if (err == nil) != known || known && string(r) != name {
			t.Errorf("%q: rule %q, error %v", name, r, err)
		}
		if !known && !strings.Contains(hint.Of(err), "mean_probability and mean_logit") {
			t.Errorf("%q: the hint %q does not name the rules", name, hint.Of(err))
		}
	}
}

func TestFuse_RulesDiffer(t *testing.T) {
	views := []vector{all(0), all(4)}
	views[1][2] = -4
	for _, c := range []struct {
		rule    fuse.Rule
		want    float64 // of the logits 0 and 4
		swapped float64 // of the logits 0 and -4
	}{
		{fuse.MeanProbability, (0.5 + 1/(1+math.Exp(-4))) / 2, (0.5 + 1/(1+math.Exp(4))) / 2},
		{fuse.MeanLogit, 1 / (1 + math.Exp(-2)), 1 / (1 + math.Exp(2))},
	} {
		want := all(float32(c.want))
		want[2] = float32(c.swapped)
		if diff := cmp.Diff(want, fuse.Fuse(c.rule, views)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.rule, diff)
		}
	}
}

func TestFuse_OneViewIsItsSigmoidUnderBothRules(t *testing.T) {
	var logits vector
	for l := range logits {
		logits[l] = float32(l*l)/7 - 9
	}
	p := fuse.Fuse(fuse.MeanProbability, []vector{logits})
	if diff := cmp.Diff(p, fuse.Fuse(fuse.MeanLogit, []vector{logits})); diff != "" {
		t.Errorf("rules differ on one view:\n%s", diff)
	}
	for l, x := range logits {
		if want := float32(1 / (1 + math.Exp(-float64(x)))); p[l] != want {
			t.Errorf("logit %v gives %v, want %v", x, p[l], want)
		}
	}
}

func TestFuse_ExtremeLogits(t *testing.T) {
	inf := float32(math.Inf(1))
	for _, rule := range []fuse.Rule{fuse.MeanProbability, fuse.MeanLogit} {
		for _, c := range []struct {
			logit, want float32
		}{
			{1e4, 1}, {inf, 1}, {-1e4, 0}, {-inf, 0}, {math.MaxFloat32, 1}, {-math.MaxFloat32, 0},
			{-80, 1.8048513878454153e-35}, // 1/(1+exp(80)) to float32: no underflow, full precision
		} {
			if got := fuse.Fuse(rule, []vector{all(c.logit), all(c.logit)})[5]; got != c.want {
				t.Errorf("%s of twice %v is %v, want %v", rule, c.logit, got, c.want)
			}
		}
		// In float32 the first sum would be infinite already.
		if got := fuse.Fuse(rule, []vector{all(3e38), all(3e38), all(-3e38), all(-3e38)})[0]; got != 0.5 {
			t.Errorf("%s of huge opposite logits is %v, want 0.5", rule, got)
		}
		bad := fuse.Fuse(rule, []vector{all(0), all(float32(math.NaN()))})
		if fuse.Finite(bad) || !fuse.Finite(all(0.5)) || fuse.Finite(all(inf)) {
			t.Errorf("%s: not-a-number logits gave %v and Finite does not tell", rule, bad)
		}
	}
}

// The reference is computed with 200 bits: exp by its series after halving the argument.
func TestSigmoid_IsAccurate(t *testing.T) {
	for x := -700.0; x <= 700; x += 1.37 {
		want, _ := bigSigmoid(x).Float64()
		if got := fuse.Sigmoid(x); math.Abs(got-want) > 4e-16*want {
			t.Errorf("sigmoid(%v) is %v, want %v", x, got, want)
		}
	}
}

func bigSigmoid(x float64) *big.Float {
	num := func(v float64) *big.Float { return new(big.Float).SetPrec(200).SetFloat64(v) }
	small := num(-x / 4096) // exact: a power of two
	exp, term := num(1), num(1)
	for k := 1.0; k < 60; k++ {
		term.Mul(term, small).Quo(term, num(k))
		exp.Add(exp, term)
	}
	for range 12 {
		exp.Mul(exp, exp)
	}
	return exp.Quo(num(1), exp.Add(exp, num(1)))
}

func TestFuse_PanicsOnTheCallersMistakes(t *testing.T) {
	for name, f := range map[string]func(){
		"no views":     func() { fuse.Fuse(fuse.MeanLogit, nil) },
		"unknown rule": func() { fuse.Fuse("max", []vector{all(0)}) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			f()
		}()
	}
}

func TestFindings_PositiveFromTheThresholdUpwards(t *testing.T) {
	p := all(0.25)
	var thresholds [model.NumLabels]float64
	for l := range thresholds {
		thresholds[l] = 0.5
	}
	thresholds[0], thresholds[1], thresholds[2] = 0.25, math.Nextafter(0.25, 1), 0
	findings := fuse.Findings(p, thresholds, nil)
	if len(findings) != model.NumLabels {
		t.Fatalf("%d findings", len(findings))
	}
	for l, f := range findings {
		want := fuse.Finding{Label: model.Labels[l], Probability: 0.25, Threshold: thresholds[l], Positive: l == 0 || l == 2}
		if f != want {
			t.Errorf("finding %d is %+v, want %+v", l, f, want)
		}
	}
	if f := fuse.Findings(p, thresholds, []string{"Atelectasis"})[0]; f.Positive || !f.Untrained {
		t.Errorf("an untrained label above its threshold is %+v", f)
	}
	data, err := json.Marshal(findings[0])
	if want := `{"label":"Atelectasis","probability":0.25,"threshold":0.25,"positive":true}`; err != nil || string(data) != want {
		t.Errorf("JSON %s, error %v", data, err)
	}
}

func TestParseCalibration_RefusesWhatItDoesNotKnow(t *testing.T) {
	for doc, want := range map[string]string{
		`{"kind":"none"}`:                       "",
		`{"kind":"none","note":"fitted later"}`: "",
		`{"kind":"isotonic","t":[1]}`:           `unknown calibration "isotonic"`,
		`{}`:                                    `unknown calibration ""`,
		`null`:                                  `unknown calibration ""`,
		`"none"`:                                "calibration: json:",
		``:                                      "calibration: unexpected end",
	} {
		c, err := fuse.ParseCalibration([]byte(doc))
		if want == "" {
			if err != nil || c.Apply(all(0.3), 2) != all(0.3) {
				t.Errorf("%s: error %v, 0.3 becomes %v", doc, err, c.Apply(all(0.3), 2))
			}
		} else if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", doc, err, want)
		}
	}
}
