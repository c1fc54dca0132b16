package synth

import (
	"math"
	"math/rand/v2"
)

// A phantom's bytes are the same on every amd64 machine. The four operations and the square root are exact by IEEE 754, and
// Go fuses none of them at its default GOAMD64=v1; math.Log, Sin, Cos, Atan2 and Erfinv are made of them alone. math.Exp is not:
// on amd64 it is assembly that uses fused multiply-add where the processor has it, and math.Pow and rand's NormFloat64
// call it. So these three are made here.

// exp is e to the power x, to some 1e-15, for |x| < 700.
func exp(x float64) float64 {
	const ln2Hi, ln2Lo = 6.93147180369123816490e-01, 1.90821492927058770002e-10 // their sum is ln 2; k*ln2Hi is exact
	k := math.Floor(x/math.Ln2 + 0.5)
	r := x - k*ln2Hi - k*ln2Lo // |r| < 0.35: twelve terms of the series suffice
	sum := 1.0
	for n := 13.0; n >= 1; n-- {
		sum = 1 + sum*r/n
	}
	return sum * math.Float64frombits(uint64(int64(k)+1023)<<52)
}

// pow is x to the power y, for x of 0 or more.
func pow(x, y float64) float64 {
	if x <= 0 {
		return 0
	}
	return exp(y * math.Log(x))
}

// gauss draws a standard normal variable, as far as the sum of twelve uniform ones is one: it ends at six deviations.
func gauss(rng *rand.Rand) float64 {
	sum := uint64(0)
	for range 3 {
		sum += four(rng)
	}
	return (float64(sum) - 12*0xffff/2.) / 0x10000 // a variance of 12/12
}

// grain is gauss from four variables: it ends at 3.5 deviations, and is as fast as noise must be.
func grain(rng *rand.Rand) float64 {
	const sd = 0x10000 / 1.7320508075688772 // sqrt(4/12)
	return (float64(four(rng)) - 4*0xffff/2.) / sd
}

// four is the sum of four uniform variables of 16 bits.
func four(rng *rand.Rand) uint64 {
	u := rng.Uint64()
	return u&0xffff + u>>16&0xffff + u>>32&0xffff + u>>48
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
	streamWorld
	streamReport
	streamLabeller
	streamSplit
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
