package codec

// The inverse DCT of Loeffler, Ligtenberg and Moschytz ("Practical fast 1-D DCT algorithms with 11 multiplications", ICASSP
// 1989) in integers, with the scaling and the two roundings that libjpeg's accurate method has, so that results are the
// same to the last bit: DICOM images decoded here and elsewhere are one image.

// fractionBits is the scale of the constants below: cosines and their sums times 2^13.
const fractionBits = 13

const (
	f0_298631336 = 2446
	f0_390180644 = 3196
	f0_541196100 = 4433
	f0_765366865 = 6270
	f0_899976223 = 7373
	f1_175875602 = 9633
	f1_501321110 = 12299
	f1_847759065 = 15137
	f1_961570560 = 16069
	f2_053119869 = 16819
	f2_562915447 = 20995
	f3_072711026 = 25172
)

// inverseDCT makes samples, centred on 0 and not yet cut to their range, of a block.
func inverseDCT(block *dctBlock, precision int, samples *[64]int) {
	kept := 2 // fraction bits between the passes; 12-bit samples leave room for one
	if precision > 8 {
		kept = 1
	}
	if block.last == 0 { // flat
		v := (int(block.values[0])<<kept + 1<<(kept+2)) >> (kept + 3)
		for i := range samples {
			samples[i] = v
		}
		return
	}
	var middle [64]int
	for x := range 8 {
		in := block.values[x : x+57]
		if in[8]|in[16]|in[24]|in[32]|in[40]|in[48]|in[56] == 0 { // as most columns are
			v := int(in[0]) << kept
			for i := x; i < 64; i += 8 {
				middle[i] = v
			}
			continue
		}
		inverseDCT1(middle[x:], 8, fractionBits-kept,
			int(in[0]), int(in[8]), int(in[16]), int(in[24]), int(in[32]), int(in[40]), int(in[48]), int(in[56]))
	}
	for y := range 8 {
		in := middle[8*y : 8*y+8]
		inverseDCT1(samples[8*y:], 1, fractionBits+kept+3, in[0], in[1], in[2], in[3], in[4], in[5], in[6], in[7])
	}
}

// inverseDCT1 transforms 8 coefficients and writes the results step places apart, rounded to shift bits less.
func inverseDCT1(out []int, step, shift int, c0, c1, c2, c3, c4, c5, c6, c7 int) {
	// The even half: a butterfly of c0 and c4, a rotation of c2 and c6.
	r := (c2 + c6) * f0_541196100
	low, high := r-c6*f1_847759065, r+c2*f0_765366865
	sum, difference := (c0+c4)<<fractionBits, (c0-c4)<<fractionBits
	e0, e1, e2, e3 := sum+high, difference+low, difference-low, sum-high

	// The odd half.
	z1, z2, z3, z4 := c7+c1, c5+c3, c7+c3, c5+c1
	z5 := (z3 + z4) * f1_175875602
	z1 *= -f0_899976223
	z2 *= -f2_562915447
	z3 = z5 - z3*f1_961570560
	z4 = z5 - z4*f0_390180644
	o3 := c7*f0_298631336 + z1 + z3
	o2 := c5*f2_053119869 + z2 + z4
	o1 := c3*f3_072711026 + z2 + z3
	o0 := c1*f1_501321110 + z1 + z4

	half := 1 << (shift - 1)
	out[0] = (e0 + o0 + half) >> shift
	out[7*step] = (e0 - o0 + half) >> shift
	out[step] = (e1 + o1 + half) >> shift
	out[6*step] = (e1 - o1 + half) >> shift
	out[2*step] = (e2 + o2 + half) >> shift
	out[5*step] = (e2 - o2 + half) >> shift
	out[3*step] = (e3 + o3 + half) >> shift
	out[4*step] = (e3 - o3 + half) >> shift
}
