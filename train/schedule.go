package train

import (
	"fmt"
	"math"
)

// Schedule is a learning rate over time. Decay names its form:
//
//   - "cosine": a line from 0 to Base over Warmup steps, then half a cosine towards Floor (He et al. 2022). Step 0 has
//     rate 0 and Floor is not quite reached.
//   - "cosine_plus1": the same, but the line runs from Base/Warmup, so that no step is lost.
//   - "reference": the published MVMAE code: from Base/2 to Base, then half a cosine; its unit is the epoch.
type Schedule struct {
	Decay  string
	Base   float64
	Floor  float64
	Warmup int
	Steps  int
}

// At is the learning rate of step t, from 0.
func (s Schedule) At(t int) float64 {
	w := float64(s.Warmup)
	if t < s.Warmup {
		switch s.Decay {
		case "cosine":
			return s.Base * float64(t) / w
		case "cosine_plus1":
			return s.Base * float64(t+1) / w
		case "reference":
			return s.Base * (0.5 + 0.5*float64(t)/w)
		}
		panic(fmt.Errorf("unknown learning-rate decay %q", s.Decay))
	}
	return s.Floor + (s.Base-s.Floor)/2*(1+math.Cos(math.Pi*float64(t-s.Warmup)/float64(s.Steps-s.Warmup)))
}

// Ramp is the weight of the alignment loss over time. Form names its shape:
//
//   - "cosine": 0 until Start, then half a cosine up to Target at End.
//   - "sigmoid": the published code's curve, with its quirk: Start is taken off t although the midpoint already holds it,
//     so the curve is late by Start and reaches neither 0 nor Target.
type Ramp struct {
	Form       string
	Target     float64
	Start, End int
	Steepness  float64 // of the sigmoid
}

// At is the weight at time t.
func (r Ramp) At(t int) float64 {
	switch r.Form {
	case "cosine":
		x := math.Min(math.Max(float64(t-r.Start)/float64(r.End-r.Start), 0), 1)
		return r.Target / 2 * (1 - math.Cos(math.Pi*x))
	case "sigmoid":
		middle := math.Trunc(float64(r.Start) + float64(r.End-r.Start)/2)
		x := 0
		if t >= r.Start {
			x = min(t, r.End) - r.Start
		}
		return r.Target / (1 + math.Exp(-r.Steepness*(float64(x)-middle)))
	}
	panic(fmt.Errorf("unknown form of the beta ramp %q", r.Form))
}
