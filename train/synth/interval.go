package synth

// interval is the part of a ray inside a solid, as parameters along the ray; empty when hi <= lo.
type interval struct{ lo, hi float64 }

func (a interval) and(b interval) interval { return interval{max(a.lo, b.lo), min(a.hi, b.hi)} }
func (a interval) length() float64         { return max(0, a.hi-a.lo) }

// above keeps the part of a ray higher than a floor: the source is rise above it and the ray climbs by slope.
func above(a interval, rise, slope float64) interval {
	switch {
	case slope > 0:
		a.lo = max(a.lo, -rise/slope)
	case slope < 0:
		a.hi = min(a.hi, -rise/slope)
	case rise <= 0:
		a.hi = a.lo
	}
	return a
}

// union returns the length that the intervals cover together. It sorts them.
func union(ivs []interval) float64 {
	for i := 1; i < len(ivs); i++ {
		for j := i; j > 0 && ivs[j].lo < ivs[j-1].lo; j-- {
			ivs[j], ivs[j-1] = ivs[j-1], ivs[j]
		}
	}
	total, end := 0.0, 0.0
	for _, iv := range ivs {
		if iv.hi > max(iv.lo, end) {
			total += iv.hi - max(iv.lo, end)
			end = iv.hi
		}
	}
	return total
}

// segments are disjoint intervals: what is left of a lung once solids are cut out of it.
type segments struct {
	iv [8]interval
	n  int
}

// cut removes b from all segments. A ray meets so few solids that eight pieces suffice; a ninth would be dropped.
func (s *segments) cut(b interval) {
	if b.hi <= b.lo {
		return
	}
	n := s.n
	for i := range n {
		a := &s.iv[i]
		if b.hi <= a.lo || b.lo >= a.hi {
			continue
		}
		if b.lo > a.lo && b.hi < a.hi && s.n < len(s.iv) {
			s.iv[s.n] = interval{b.hi, a.hi}
			s.n++
		}
		if b.lo > a.lo {
			a.hi = b.lo
		} else {
			a.lo = min(b.hi, a.hi)
		}
	}
}

func (s *segments) length() (sum float64) {
	for _, a := range s.iv[:s.n] {
		sum += a.length()
	}
	return sum
}

// overlap returns the length of the segments inside b.
func (s *segments) overlap(b interval) (sum float64) {
	for _, a := range s.iv[:s.n] {
		sum += a.and(b).length()
	}
	return sum
}

// fading integrates 1-r*r of a soft solid over the segments inside clip, where the solid spans span and 1-r*r peaks at
// peak: along a ray it is the parabola peak*(1-t*t), t from -1 to 1 over span.
func (s *segments) fading(span, clip interval, peak float64) (sum float64) {
	mid, h := (span.lo+span.hi)/2, (span.hi-span.lo)/2
	clip = clip.and(span)
	for _, a := range s.iv[:s.n] {
		part := a.and(clip)
		if part.hi <= part.lo {
			continue
		}
		t0, t1 := (part.lo-mid)/h, (part.hi-mid)/h
		sum += peak * h * ((t1 - t0) - (t1*t1*t1-t0*t0*t0)/3)
	}
	return sum
}
