package cxr

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/suyashkumar/dicom/pkg/tag"

	"github.com/mvmae/mvmae/dicom"
	"github.com/mvmae/mvmae/dicom/codec"
)

// The full image of a straight slope has no details, so its low band must give the very averages of its pixels: weights that
// are off by a part of a sample give others.
func TestLowBandAxis_HasNoPhase(t *testing.T) {
	for _, c := range []struct{ n, levels, size, offset int }{
		{2500, 2, 256, 0}, {3001, 2, 256, 0}, {2047, 1, 256, 0}, {4096, 2, 300, 22}, {1024, 1, 256, 0}, {5000, 3, 256, 0}, {2432, 2, 256, 0},
	} {
		for _, irreversible := range []bool{false, true} {
			p := &codec.Plane{Reduced: c.levels, Irreversible: irreversible}
			samples := (c.n + 1<<c.levels - 1) >> c.levels
			for i, s := range lowBandAxis(p, c.n, c.size, c.offset) {
				if s.from < 0 || s.from+len(s.weights) > samples {
					t.Fatalf("%+v, output %d takes samples %d to %d of %d", c, i, s.from, s.from+len(s.weights)-1, samples)
				}
				var sum, at float64
				for k, weight := range s.weights {
					sum += weight
					at += weight * float64((s.from+k)<<c.levels)
				}
				if math.Abs(sum-1) > 1e-9 {
					t.Errorf("%+v, output %d: the weights add up to %v", c, i, sum)
				}
				full := average(c.offset+i, c.n, c.size)
				want := float64(full.first)*float64(full.a) + float64(full.last)*float64(full.b)
				for u := full.a + 1; u < full.b; u++ {
					want += float64(c.size * u)
				}
				want /= float64(c.n)
				if i < 4 || i >= StoredSize-4 {
					continue // the mirror bends the slope
				}
				if math.Abs(at-want) > 1e-9*want {
					t.Errorf("%+v, 9/7 %v, output %d is the value at %.4f, want %.4f", c, irreversible, i, at, want)
				}
			}
		}
	}
}

// lowBand53 is the low band of lines of n values, stride apart by step, by the lifting steps of T.800 F.3.8.
func lowBand53(in []int, rows, columns int) (out []int, r, c int) {
	half := func(in []int, n int, at func(i int) int) []int {
		mirror := func(i int) int {
			if i = max(i, -i); i > n-1 {
				i = 2*(n-1) - i
			}
			return in[at(i)]
		}
		high := func(i int) int { return mirror(i) - (mirror(i-1)+mirror(i+1))>>1 }
		var low []int
		for i := 0; i < n; i += 2 {
			low = append(low, mirror(i)+(high(i-1)+high(i+1)+2)>>2)
		}
		return low
	}
	c = (columns + 1) / 2
	var across []int
	for y := range rows {
		across = append(across, half(in, columns, func(x int) int { return y*columns + x })...)
	}
	r = (rows + 1) / 2
	out = make([]int, r*c)
	for x := range c {
		for y, v := range half(across, rows, func(y int) int { return y*c + x }) {
			out[y*c+x] = v
		}
	}
	return out, r, c
}

// reducing is a decoder of native pixels as JPEG 2000 would leave levels out of them. It notes how many.
func reducing(asked *[]int) codec.Decoders {
	return codec.Decoders{dicom.JPEG2000Lossless: func(frame []byte, p *dicom.Pixels, reduce int) (*codec.Plane, error) {
		*asked = append(*asked, reduce)
		native := *p
		native.TransferSyntaxUID, native.Fragments, native.Data = "", nil, frame
		if reduce == 0 {
			return codec.Native(&native)
		}
		values := make([]int, p.Rows*p.Columns)
		for i := range values {
			values[i] = int(binary.LittleEndian.Uint16(frame[2*i:]))
		}
		for range reduce {
			values, native.Rows, native.Columns = lowBand53(values, native.Rows, native.Columns)
		}
		native.Data = make([]byte, 2*len(values))
		for i, v := range values {
			binary.LittleEndian.PutUint16(native.Data[2*i:], uint16(min(max(v, 0), 4095)))
		}
		plane, err := codec.Native(&native)
		if err == nil {
			plane.Reduced, plane.FullRows, plane.FullColumns = reduce, p.Rows, p.Columns
		}
		return plane, err
	}}
}

// anatomy is a picture of smooth shapes, a straight edge and noise of so many of 255 levels, 12 bits.
func anatomy(rows, columns int, noise float64) picture {
	rng := rand.New(rand.NewPCG(5, 5))
	p := picture{rows, columns, make([]int, rows*columns)}
	for i := range p.values {
		y, x := float64(i/columns)/float64(rows), float64(i%columns)/float64(columns)
		v := 2000 + 900*math.Sin(9*x)*math.Cos(7*y) + 300*math.Sin(60*x+40*y) + 16*noise*rng.NormFloat64()
		if x+y/3 > 0.9 {
			v += 800
		}
		p.values[i] = min(max(int(v), 0), 4095)
	}
	return p
}

// compressed is the picture as a file of JPEG 2000 for the decoder of reducing.
func compressed(t *testing.T, p picture, more ...dicom.Element) []byte {
	t.Helper()
	raw := make([]byte, 2*len(p.values))
	for i, v := range p.values {
		binary.LittleEndian.PutUint16(raw[2*i:], uint16(v))
	}
	elems := with(chest(p, 12, false, "MONOCHROME2"), dicom.Element{Tag: tag.PixelData, VR: "OB", Value: raw})
	return encode(t, dicom.JPEG2000Lossless, with(elems, more...))
}

var window = []dicom.Element{{Tag: tag.WindowCenter, Value: "2048"}, {Tag: tag.WindowWidth, Value: "4096"}}

// The plan's bound, where levels are left out; and where there is more noise than the bound allows, the full picture.
func TestReduced_DiffersByLittleOrNotAtAll(t *testing.T) {
	for _, c := range []struct {
		name          string
		rows, columns int
		noise         float64
		recipe        Recipe
		asked         []int
	}{
		{"two levels", 2504, 2431, 2, Display, []int{2}},
		{"one level", 1300, 1501, 2, Display, []int{1}},
		{"one level, kept in shape", 1300, 1501, 2, Recipe{"display", true}, []int{1}},
		{"one level, noise", 1300, 1501, 10, Display, []int{1, 0}},
		{"mimic", 1300, 1501, 2, Mimic, []int{0}},
	} {
		file := compressed(t, anatomy(c.rows, c.columns, c.noise), window...)
		var asked, fully []int
		got, err := Options{Recipe: c.recipe, Codecs: reducing(&asked)}.FromDICOM(file)
		if err != nil {
			t.Fatal(err)
		}
		decoders := reducing(&fully)
		full, err := Options{Recipe: c.recipe, Codecs: codec.Decoders{dicom.JPEG2000Lossless: func(frame []byte, p *dicom.Pixels, _ int) (*codec.Plane, error) {
			return decoders[dicom.JPEG2000Lossless](frame, p, 0)
		}}}.FromDICOM(file)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c.asked, asked); diff != "" {
			t.Errorf("%s: levels to be left out (-want +got)\n%s", c.name, diff)
		}
		mean, most := inputsDiffer(full, got)
		t.Logf("%s: mean %.3f, most %.0f of 255", c.name, mean, most)
		if mean > 0.15 || most > 4 {
			t.Errorf("%s: the inputs differ by mean %.3f, most %.0f of 255", c.name, mean, most)
		}
		if whole := asked[len(asked)-1] == 0; whole != (mean == 0) {
			t.Errorf("%s: decoded fully %v, and the inputs differ by %.3f", c.name, whole, mean)
		}
		got.Stored = full.Stored
		if diff := cmp.Diff(full, got); diff != "" {
			t.Errorf("%s: more than the picture differs (-want +got)\n%s", c.name, diff)
		}
	}
}

// inputsDiffer says by how much of 255 the model's inputs do.
func inputsDiffer(a, b *Image) (mean, most float64) {
	x, y := make([]float32, CropSize*CropSize), make([]float32, CropSize*CropSize)
	Input(a.Stored, CropSize, x)
	Input(b.Stored, CropSize, y)
	for i := range x {
		d := 255 * math.Abs(float64(x[i])-float64(y[i]))
		mean += d / float64(len(x))
		most = max(most, d)
	}
	return mean, most
}

func TestReduction_OnlyWhereTheRecipeCanDoWithout(t *testing.T) {
	large := dicom.Pixels{Rows: 3000, Columns: 2500, Photometric: "MONOCHROME1", BitsStored: 12, HighBit: 11}
	change := func(f func(*dicom.Pixels)) dicom.Pixels {
		p := large
		f(&p)
		return p
	}
	for _, c := range []struct {
		name   string
		recipe Recipe
		pixels dicom.Pixels
		header []dicom.Element
		want   int
	}{
		{"display", Display, large, window, 2},
		{"display, huge", Display, change(func(p *dicom.Pixels) { p.Rows, p.Columns = 9000, 5000 }), window, 3},
		{"display, just large enough", Display, change(func(p *dicom.Pixels) { p.Rows = 1152 }), window, 1},
		{"display, small", Display, change(func(p *dicom.Pixels) { p.Rows = 1151 }), window, 0},
		{"display, palette", Display, change(func(p *dicom.Pixels) { p.Photometric = "PALETTE COLOR" }), window, 0},
		{"display, 8 bits", Display, change(func(p *dicom.Pixels) { p.BitsStored, p.HighBit = 8, 7 }), window, 0},
		{"display, high-aligned", Display, change(func(p *dicom.Pixels) { p.HighBit = 15 }), window, 0},
		{"display, padding", Display, large, with(window, dicom.Element{Tag: tag.PixelPaddingValue, VR: "US", Value: 0}), 0},
		{"display without a window", Display, large, nil, 0},
		{"mimic", Mimic, large, window, 0},
	} {
		elems := with(chest(picture{1, 2, []int{0, 4095}}, 12, false, "MONOCHROME2"), c.header...)
		f, err := dicom.Parse(encode(t, dicom.ExplicitVRLittleEndian, elems), dicom.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		if got := c.recipe.reduction(&c.pixels, f.Header); got != c.want {
			t.Errorf("%s: %d levels, want %d", c.name, got, c.want)
		}
	}
}
