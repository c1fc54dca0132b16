package synth

import (
	"math"
	"math/rand/v2"
)

const (
	bitsStored = 12
	maxStored  = 1<<bitsStored - 1

	// quanta is the number of photons an unattenuated pixel of 0.84 mm (512 to a detector) records in a good exposure. Behind
	// lung (exp(-2)) that leaves 1.6 % noise, behind the heart 7 %.
	quanta = 28000

	scatterGrid  = 32  // scatter is smooth: it is computed on so many cells a side
	scatterReach = 2.5 // cells; some 35 mm
	bodyFrom     = 0.4 // a smaller line integral is air beside the patient
)

// expose turns line integrals into the logarithm of what the detector records, in place: quanta, scatter, noise.
// [size,size] in and out. Scatter rises with the number of photons that interact, sum*exp(-sum), spread over the
// neighbourhood: it greys the dense regions most, as in a chest film.
func expose(sum []float64, size int, v *View, noisy bool) {
	scatter := scattered(sum, size)
	rng := stream(v.noise, streamNoise)
	perPixel := photonsPerPixel(v, size)
	cells := float64(scatterGrid) / float64(size)
	for row := range size {
		y, fy := cellOf(row, cells)
		for col := range size {
			x, fx := cellOf(col, cells)
			top := mix(scatter[y*scatterGrid+x], scatter[y*scatterGrid+x+1], fx)
			below := mix(scatter[(y+1)*scatterGrid+x], scatter[(y+1)*scatterGrid+x+1], fx)
			i := row*size + col
			signal := math.Exp(-sum[i]) + v.gridRatio*mix(top, below, fy)
			if noisy {
				signal += math.Sqrt(signal/perPixel) * rng.NormFloat64()
			}
			sum[i] = -math.Log(max(signal, 1e-4))
		}
	}
}

// photonsPerPixel is the count without a patient.
func photonsPerPixel(v *View, size int) float64 {
	return quanta * v.exposure * (512 * 512) / float64(size*size)
}

// cellOf returns the scatter cell left of (above) a pixel and the pixel's place between it and the next.
func cellOf(pixel int, cells float64) (int, float64) {
	at := clamp((float64(pixel)+0.5)*cells-0.5, 0, scatterGrid-1)
	cell := min(int(at), scatterGrid-2)
	return cell, at - float64(cell)
}

// scattered returns the scatter before the grid, [scatterGrid,scatterGrid].
func scattered(sum []float64, size int) []float64 {
	const g = scatterGrid
	cells, counts := make([]float64, g*g), make([]float64, g*g)
	for row := range size {
		line := cells[row*g/size*g:]
		count := counts[row*g/size*g:]
		for col := 0; col < size; col += max(1, size/(8*g)) { // a few samples a cell are enough
			s := sum[row*size+col]
			line[col*g/size] += s * math.Exp(-s)
			count[col*g/size]++
		}
	}
	for i := range cells {
		cells[i] /= max(1, counts[i])
	}
	blurred := make([]float64, g*g)
	blurLines(cells, blurred, 1, g)
	blurLines(blurred, cells, g, 1)
	return cells
}

// blurLines smooths lines of the scatter grid: entries step apart, lines stride apart. Outside lies nothing.
func blurLines(in, out []float64, step, stride int) {
	const g, reach = scatterGrid, 6
	var kernel [2*reach + 1]float64
	total := 0.0
	for k := range kernel {
		kernel[k] = math.Exp(-float64((k-reach)*(k-reach)) / (2 * scatterReach * scatterReach))
		total += kernel[k]
	}
	for line := range g {
		for at := range g {
			acc := 0.0
			for k, w := range kernel {
				if from := at + k - reach; from >= 0 && from < g {
					acc += w * in[line*stride+from*step]
				}
			}
			out[line*stride+at*step] = acc / total
		}
	}
}

// display maps what expose left to stored values of 12 bits, [size,size]. The device's limits are percentiles within the
// body, missed by a little; denser is brighter unless the view is stored as MONOCHROME1.
func display(sum []float64, v *View) []uint16 {
	lo, hi := limits(sum)
	width := hi - lo
	lo, hi = lo+v.black*width, hi+v.white*width
	var curve [1024]float64 // of the display, by steps of the exposure range
	for i := range curve {
		curve[i] = math.Pow(float64(i)/float64(len(curve)-1), v.gamma)
	}
	scale := float64(len(curve)-1) / (hi - lo)
	out := make([]uint16, len(sum))
	for i, s := range sum {
		at := clamp((s-lo)*scale, 0, float64(len(curve)-1))
		cell := min(int(at), len(curve)-2)
		value := uint16(math.Round(maxStored * mix(curve[cell], curve[cell+1], at-float64(cell))))
		if v.inverted {
			value = maxStored - value
		}
		out[i] = value
	}
	return out
}

// limits returns the 1st and 99.5th percentiles of the pixels behind the body.
func limits(sum []float64) (lo, hi float64) {
	const bins, top = 2048, 10.0
	var count [bins]int
	total := 0
	for _, s := range sum {
		if s > bodyFrom {
			count[min(bins-1, int(s*bins/top))]++
			total++
		}
	}
	find := func(part float64) float64 {
		left := part * float64(total)
		for i, n := range count {
			if left -= float64(n); left < 0 {
				return float64(i) * top / bins
			}
		}
		return top
	}
	return find(0.01), max(find(0.995), find(0.01)+0.5)
}

// The independent streams of random numbers: each is a generator of its own, so that one more draw somewhere moves nothing
// elsewhere, and the order of work does not matter.
const (
	streamPatient = iota + 1
	streamVessels
	streamStudy
	streamView
	streamFinding
	streamNoise
)

// stream returns the generator that the keys name: PCG seeded by a hash (splitmix64's finalizer) of all of them.
func stream(seed uint64, keys ...uint64) *rand.Rand {
	return rand.New(rand.NewPCG(hash(seed, keys...), hash(^seed, keys...)))
}

func hash(seed uint64, keys ...uint64) uint64 {
	h := seed
	for _, k := range append([]uint64{0}, keys...) {
		h += 0x9e3779b97f4a7c15 + k
		h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
		h = (h ^ h>>27) * 0x94d049bb133111eb
		h ^= h >> 31
	}
	return h
}
