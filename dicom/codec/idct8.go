package codec

import "encoding/binary"

// The transform of idct.go for samples of 8 bits, on two lines at a time: a uint64 holds a number in either half, lo + hi<<32.
// Sums, differences and multiples of such pairs are those of both numbers, modulo 2^64: whatever overflows on the way, the
// result is right if both numbers fit into 32 bits in the end. So half the operations do, for rounding and storing too.

// farthest bounds the sum of a block's coefficients, without their signs, for which they do fit. A pass multiplies it by 1.39
// (a cosine times the square root of 2) and by 2^13 at most; 2^11 go in between. A picture's blocks stay below: 64 samples of 8
// bits have coefficients of 8,192 in all at most, and 64 roundings of steps up to 255 add as much again.
const farthest = 1 << 15

const (
	both = 1<<32 + 1 // times a number: the number in either half
	low  = 1<<32 - 1
	high = low << 32

	columnBits = fractionBits - 2     // dropped after the columns,
	rowBits    = fractionBits + 2 + 3 // and after the rows
	centre     = 128

	lift      = 1 << (31 - columnBits) // added to what lies between the passes: so it is positive, and halves part without a borrow
	liftMask  = (2*lift - 1) * both
	sampleMax = (1<<8 - 1) << rowBits * both // the bits that a pair of samples consists of
	outside   = low >> (rowBits + 8) << (rowBits + 8) * both
)

// inverseDCT8 writes the samples of a block, 8 rows that are stride apart in out. The coefficients' sum is below farthest.
func inverseDCT8(block *dctBlock, out []byte, stride int) {
	v := &block.values
	var middle [8][4]uint64 // lifted pairs of neighbours in a row
	for i := range 4 {
		x := 2 * i
		c0, c1, c2, c3 := pair(v[x], v[x+1]), pair(v[x+8], v[x+9]), pair(v[x+16], v[x+17]), pair(v[x+24], v[x+25])
		c4, c5, c6, c7 := pair(v[x+32], v[x+33]), pair(v[x+40], v[x+41]), pair(v[x+48], v[x+49]), pair(v[x+56], v[x+57])
		if c1|c2|c3|c4|c5|c6|c7 == 0 {
			flat := c0<<2 + lift*both
			for y := range middle {
				middle[y][i] = flat
			}
			continue
		}
		const rounding = (1<<31 + 1<<(columnBits-1)) * both
		c0, c1, c2, c3, c4, c5, c6, c7 = inversePair(rounding, c0, c1, c2, c3, c4, c5, c6, c7)
		middle[0][i] = c0 >> columnBits & liftMask
		middle[1][i] = c1 >> columnBits & liftMask
		middle[2][i] = c2 >> columnBits & liftMask
		middle[3][i] = c3 >> columnBits & liftMask
		middle[4][i] = c4 >> columnBits & liftMask
		middle[5][i] = c5 >> columnBits & liftMask
		middle[6][i] = c6 >> columnBits & liftMask
		middle[7][i] = c7 >> columnBits & liftMask
	}
	for y := 0; y < 8; y += 2 {
		a, b := &middle[y], &middle[y+1]
		const rounding = (centre<<rowBits + 1<<(rowBits-1)) * both
		c0, c1, c2, c3, c4, c5, c6, c7 := inversePair(rounding,
			(a[0]&low|b[0]<<32)-lift*both, (a[0]>>32|b[0]&high)-lift*both,
			(a[1]&low|b[1]<<32)-lift*both, (a[1]>>32|b[1]&high)-lift*both,
			(a[2]&low|b[2]<<32)-lift*both, (a[2]>>32|b[2]&high)-lift*both,
			(a[3]&low|b[3]<<32)-lift*both, (a[3]>>32|b[3]&high)-lift*both)
		first, second := out[:8], out[stride:stride+8]
		if y < 6 {
			out = out[2*stride:]
		}
		if (c0|c1|c2|c3|c4|c5|c6|c7)&outside != 0 {
			clampPairs(first, second, [8]uint64{c0, c1, c2, c3, c4, c5, c6, c7})
			continue
		}
		left := c0&sampleMax>>rowBits | c1&sampleMax>>(rowBits-8) | c2&sampleMax>>(rowBits-16) | c3&sampleMax<<(24-rowBits)
		right := c4&sampleMax>>rowBits | c5&sampleMax>>(rowBits-8) | c6&sampleMax>>(rowBits-16) | c7&sampleMax<<(24-rowBits)
		binary.LittleEndian.PutUint64(first, left&low|right<<32)
		binary.LittleEndian.PutUint64(second, left>>32|right&high)
	}
}

// pair holds two numbers.
func pair(lo, hi int32) uint64 { return uint64(int64(lo)) + uint64(hi)<<32 }

// clampPairs stores samples of which some are out of their range.
func clampPairs(first, second []byte, pairs [8]uint64) {
	for i, p := range pairs {
		lo := int32(p)
		hi := int32((p - uint64(int64(lo))) >> 32)
		first[i] = uint8(min(max(lo>>rowBits, 0), 255))
		second[i] = uint8(min(max(hi>>rowBits, 0), 255))
	}
}

// inversePair is inverseDCT1 on pairs. What is to be added to each result is given; nothing is shifted.
func inversePair(added, c0, c1, c2, c3, c4, c5, c6, c7 uint64) (s0, s1, s2, s3, s4, s5, s6, s7 uint64) {
	r := (c2 + c6) * f0_541196100
	lo, hi := r-c6*f1_847759065, r+c2*f0_765366865
	sum, difference := (c0+c4)<<fractionBits+added, (c0-c4)<<fractionBits+added
	e0, e1, e2, e3 := sum+hi, difference+lo, difference-lo, sum-hi

	z1, z2, z3, z4 := c7+c1, c5+c3, c7+c3, c5+c1
	z5 := (z3 + z4) * f1_175875602
	z1 *= f0_899976223
	z2 *= f2_562915447
	z3 = z5 - z3*f1_961570560
	z4 = z5 - z4*f0_390180644
	o3 := c7*f0_298631336 - z1 + z3
	o2 := c5*f2_053119869 - z2 + z4
	o1 := c3*f3_072711026 - z2 + z3
	o0 := c1*f1_501321110 - z1 + z4
	return e0 + o0, e1 + o1, e2 + o2, e3 + o3, e3 - o3, e2 - o2, e1 - o1, e0 - o0
}
