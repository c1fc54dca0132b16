package cxr

import (
	"bytes"
	"math"
	"math/big"
	"math/rand/v2"
	"testing"

	"github.com/suyashkumar/dicom/pkg/tag"

	"github.com/mvmae/mvmae/dicom"
)

// picture is one gray image for the reference, which follows the words of the recipe one step and one pixel at a time.
type picture struct {
	rows, columns int
	values        []int
}

// plainMimic is the recipe up to the 8-bit image of full size.
func plainMimic(p picture, inverted bool) picture {
	lo := math.MaxInt
	for _, v := range p.values {
		lo = min(lo, v)
	}
	hi := 0
	for _, v := range p.values {
		hi = max(hi, v-lo)
	}
	u8 := picture{p.rows, p.columns, make([]int, len(p.values))}
	for i, v := range p.values {
		if hi > 0 {
			u8.values[i] = int(float64(v-lo) / float64(hi) * 255)
		}
		if inverted {
			u8.values[i] = 255 - u8.values[i]
		}
	}
	return plainEqualise(u8)
}

// plainEqualise is OpenCV's equalizeHist (modules/imgproc/src/histogram.cpp), written from its description.
func plainEqualise(p picture) picture {
	count := map[int]int{}
	for _, v := range p.values {
		count[v]++
	}
	darkest := 0
	for count[darkest] == 0 {
		darkest++
	}
	if count[darkest] == len(p.values) {
		return p
	}
	scale := float32(255) / float32(len(p.values)-count[darkest])
	out := picture{p.rows, p.columns, make([]int, len(p.values))}
	for i, v := range p.values {
		below := 0
		for level := darkest + 1; level <= v; level++ {
			below += count[level]
		}
		out.values[i] = int(math.RoundToEven(float64(float32(below) * scale)))
	}
	return out
}

// plainWeights are the shares of n source values in output i of size, as fractions: their area when shrinking, linear in
// the distance of the centres when enlarging.
func plainWeights(i, n, size int) map[int]*big.Rat {
	w := map[int]*big.Rat{}
	if size <= n {
		from, to := big.NewRat(int64(i*n), int64(size)), big.NewRat(int64((i+1)*n), int64(size))
		width := new(big.Rat).Sub(to, from)
		for j := range n {
			a, b := big.NewRat(int64(j), 1), big.NewRat(int64(j+1), 1)
			if a.Cmp(from) < 0 {
				a = from
			}
			if b.Cmp(to) > 0 {
				b = to
			}
			if a.Cmp(b) < 0 {
				w[j] = new(big.Rat).Quo(new(big.Rat).Sub(b, a), width)
			}
		}
		return w
	}
	// The centre of output i among the sources: (i+1/2)*n/size - 1/2.
	at := new(big.Rat).Sub(big.NewRat(int64((2*i+1)*n), int64(2*size)), big.NewRat(1, 2))
	for j := -1; j <= n; j++ {
		d := new(big.Rat).Sub(at, big.NewRat(int64(j), 1))
		share := new(big.Rat).Sub(big.NewRat(1, 1), d.Abs(d))
		if share.Sign() <= 0 {
			continue
		}
		k := min(max(j, 0), n-1)
		if w[k] == nil {
			w[k] = new(big.Rat)
		}
		w[k].Add(w[k], share)
	}
	return w
}

// plainResize returns count x count outputs from (y0, x0) of an image of height x width as exact fractions: numerators over
// one denominator.
func plainResize(p picture, height, width, y0, x0, count int) (numerators []int64, denominator int64) {
	wholeX, wholeY := int64(p.columns), int64(p.rows)
	if width > p.columns {
		wholeX = 2 * int64(width)
	}
	if height > p.rows {
		wholeY = 2 * int64(height)
	}
	lines := make([]int64, p.rows*count) // resized in x only
	for x := range count {
		for j, share := range plainWeights(x0+x, p.columns, width) {
			w := times(share, wholeX)
			for y := range p.rows {
				lines[y*count+x] += w * int64(p.values[y*p.columns+j])
			}
		}
	}
	numerators = make([]int64, count*count)
	for y := range count {
		for j, share := range plainWeights(y0+y, p.rows, height) {
			w := times(share, wholeY)
			for x := range count {
				numerators[y*count+x] += w * lines[j*count+x]
			}
		}
	}
	return numerators, wholeX * wholeY
}

// times is share*whole, which is a whole number.
func times(share *big.Rat, whole int64) int64 {
	r := new(big.Rat).Mul(share, big.NewRat(whole, 1))
	if !r.IsInt() {
		panic("not a whole number: " + r.String())
	}
	return r.Num().Int64()
}

func plainStored(p picture, fit bool) []byte {
	height, width := StoredSize, StoredSize
	if fit {
		short := min(p.rows, p.columns)
		height = int(math.Floor(float64(p.rows*StoredSize)/float64(short) + 0.5))
		width = int(math.Floor(float64(p.columns*StoredSize)/float64(short) + 0.5))
	}
	var out []byte
	numerators, denominator := plainResize(p, height, width, (height-StoredSize)/2, (width-StoredSize)/2, StoredSize)
	for _, n := range numerators {
		out = append(out, uint8((2*n+denominator)/(2*denominator))) // rounded half up
	}
	return out
}

// randomPicture has smooth structure, noise, and a few values far out, as radiographs do.
func randomPicture(seed uint64, rows, columns, lo, hi int) picture {
	rng := rand.New(rand.NewPCG(seed, 1))
	p := picture{rows, columns, make([]int, rows*columns)}
	for i := range p.values {
		y, x := float64(i/columns), float64(i%columns)
		v := 0.5 + 0.3*math.Sin(y/9)*math.Cos(x/13) + 0.05*rng.NormFloat64()
		if rng.IntN(500) == 0 {
			v = rng.Float64()
		}
		p.values[i] = lo + int(min(max(v, 0), 1)*float64(hi-lo))
	}
	return p
}

// chest is a DX chest radiograph with the picture's values as its pixels.
func chest(p picture, bits int, signed bool, photometric string) []dicom.Element {
	allocated, representation := 16, 0
	if bits <= 8 {
		allocated = 8
	}
	if signed {
		representation = 1
	}
	words := make([]uint16, len(p.values))
	var pixels any = words
	for i, v := range p.values {
		words[i] = uint16(v) & uint16(1<<bits-1)
	}
	if allocated == 8 {
		b := make([]byte, len(words))
		for i, w := range words {
			b[i] = byte(w)
		}
		pixels = b
	}
	vr := map[int]string{8: "OB", 16: "OW"}[allocated]
	return []dicom.Element{
		{Tag: tag.SOPClassUID, VR: "UI", Value: "1.2.840.10008.5.1.4.1.1.1.1"},
		{Tag: tag.SOPInstanceUID, VR: "UI", Value: "1.2.3.4"},
		{Tag: tag.StudyInstanceUID, VR: "UI", Value: "1.2.3"},
		{Tag: tag.SeriesInstanceUID, VR: "UI", Value: "1.2.3.1"},
		{Tag: tag.PatientID, VR: "LO", Value: "P1"},
		{Tag: tag.Modality, VR: "CS", Value: "DX"},
		{Tag: tag.BodyPartExamined, VR: "CS", Value: "CHEST"},
		{Tag: tag.ViewPosition, VR: "CS", Value: "PA"},
		{Tag: tag.Rows, VR: "US", Value: p.rows},
		{Tag: tag.Columns, VR: "US", Value: p.columns},
		{Tag: tag.SamplesPerPixel, VR: "US", Value: 1},
		{Tag: tag.PhotometricInterpretation, VR: "CS", Value: photometric},
		{Tag: tag.BitsAllocated, VR: "US", Value: allocated},
		{Tag: tag.BitsStored, VR: "US", Value: bits},
		{Tag: tag.HighBit, VR: "US", Value: bits - 1},
		{Tag: tag.PixelRepresentation, VR: "US", Value: representation},
		{Tag: tag.PixelData, VR: vr, Value: pixels},
	}
}

// with replaces or adds elements.
func with(elems []dicom.Element, more ...dicom.Element) []dicom.Element {
	out := []dicom.Element{}
	for _, e := range elems {
		keep := true
		for _, m := range more {
			keep = keep && m.Tag != e.Tag
		}
		if keep {
			out = append(out, e)
		}
	}
	return append(out, more...)
}

func without(elems []dicom.Element, t tag.Tag) []dicom.Element {
	all := with(elems, dicom.Element{Tag: t})
	return all[:len(all)-1]
}

func encode(t testing.TB, syntax string, elems []dicom.Element) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := dicom.Write(&b, syntax, elems); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func mustRead(t testing.TB, r Recipe, elems []dicom.Element) *Image {
	t.Helper()
	img, err := FromDICOM(encode(t, dicom.ExplicitVRLittleEndian, elems), r, dicom.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	return img
}
