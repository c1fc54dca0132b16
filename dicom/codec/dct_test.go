package codec

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"image"
	"image/jpeg"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/mvmae/mvmae/dicom"
)

// foreign are the streams in testdata: see its README.
var foreign = []struct {
	name, syntax     string
	components, bits int
	sum              string
}{
	{"gray8", dicom.JPEGBaseline, 1, 8, "20067a6ffc61aa9e7d7b98d777a248ab23ef1e75b2e07d8713ddd97d421c1ed9"},
	{"gray8-restart", dicom.JPEGBaseline, 1, 8, "27013f1239861694f75a3303c47531df7032a004d4f94cf23266c2bb636376e4"},
	{"ycc8-420", dicom.JPEGBaseline, 3, 8, "df56992c916917b51800680c2ad638f06a110b0268f5b2c600cc570b65940564"},
	{"ycc8-422-restart", dicom.JPEGBaseline, 3, 8, "df56992c916917b51800680c2ad638f06a110b0268f5b2c600cc570b65940564"},
	{"ycc8-420-apart", dicom.JPEGBaseline, 3, 8, "df56992c916917b51800680c2ad638f06a110b0268f5b2c600cc570b65940564"},
	{"rgb8", dicom.JPEGBaseline, 3, 8, "477b9a17bc26bb8b6ece8fef67bf93474a218c6e853731ce474c45e2cfa13eb7"},
	{"gray12", dicom.JPEGExtended, 1, 12, "4c10b78ebf23b253934b544d15d09d68f3f683e6d45acc8e96c57e7c9db7f390"},
	{"gray12-coarse", dicom.JPEGExtended, 1, 12, "95522d8f18f7fa143c7c341a185e359be9a17e7593cf8b7bcd9336793ea54c61"},
	{"gray12-dcmtk", dicom.JPEGExtended, 1, 12, "7da7c88a0cbcd78706ff6efdbec0589d50d0f1c0ac4b7c122380a80ca30986f5"},
	{"ycc12-420", dicom.JPEGExtended, 3, 12, "31507d60d8116a4c7f232227470be9b2b57b8d20560c45698c920ac39653bf06"},
	{"lossless16-7", dicom.JPEGLossless, 1, 16, "60e32e9d008164ce77c51d1c58f06cd3cff2e35ca5ae416d5245c41261390e1b"},
}

func foreignPixels(t testing.TB, name, syntax string, components, bits int) *dicom.Pixels {
	t.Helper()
	frame, err := os.ReadFile(filepath.Join("testdata", name+".jpg"))
	if err != nil {
		t.Fatal(err)
	}
	p := coded(syntax, 45, 61, components, ceilDiv(bits, 8)*8, bits, frame)
	if components == 3 && name != "rgb8" {
		p.Photometric = "YBR_FULL_422"
	}
	return p
}

// Every sample is the one that libjpeg decodes.
func TestJPEG_StreamsOfOtherEncoders(t *testing.T) {
	for _, c := range foreign {
		p := foreignPixels(t, c.name, c.syntax, c.components, c.bits)
		plane, err := Decode(p)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		var b bytes.Buffer
		binary.Write(&b, binary.LittleEndian, plane.Values())
		sum := sha256.Sum256(b.Bytes())
		if got := hex.EncodeToString(sum[:]); got != c.sum || plane.Colour != (c.components == 3) || plane.BitsStored() != c.bits {
			t.Errorf("%s: sum %s, colour %t, %d bits", c.name, got, plane.Colour, plane.BitsStored())
		}
	}
}

func TestJPEG_CutAnywhere(t *testing.T) {
	for _, c := range foreign {
		p := foreignPixels(t, c.name, c.syntax, c.components, c.bits)
		whole := p.Fragments[0]
		for n := 2; n < len(whole)-2; n += 1 + n/100 {
			p.Fragments = [][]byte{whole[:n:n]}
			_, err := Decode(p)
			wantCode(t, fmt.Sprintf("%s: %d of %d bytes", c.name, n, len(whole)), err, dicom.CodeTruncated)
		}
	}
}

// What the stream says of its colours counts, then the header.
func TestJPEG_ColourIsWhatTheStreamSays(t *testing.T) {
	p := foreignPixels(t, "ycc8-420", dicom.JPEGBaseline, 3, 8)
	ycc, err := Decode(p)
	if err != nil {
		t.Fatal(err)
	}
	p.Photometric = "RGB" // a frequent mistake; the stream has a JFIF segment
	if got, err := Decode(p); err != nil || !bytes.Equal(ycc.data, got.data) {
		t.Errorf("JFIF under RGB: %v, or another plane", err)
	}
	p = foreignPixels(t, "rgb8", dicom.JPEGBaseline, 3, 8)
	rgb, err := Decode(p)
	if err != nil {
		t.Fatal(err)
	}
	p.Photometric = "YBR_FULL"
	adobe := []byte("\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00\x00")
	body := bytes.Clone(p.Fragments[0][2:])
	if i := bytes.Index(body, []byte("Adobe")); i >= 0 {
		body = append(body[:i-4], body[i+12:]...)
	}
	p.Fragments = [][]byte{append([]byte{0xff, 0xd8}, append(adobe, body...)...)}
	if got, err := Decode(p); err != nil || !bytes.Equal(rgb.data, got.data) {
		t.Errorf("RGB by an Adobe segment under YBR_FULL: %v, or another plane", err)
	}
	p.Fragments = [][]byte{append([]byte{0xff, 0xd8}, body...)}
	if got, err := Decode(p); err != nil || bytes.Equal(rgb.data, got.data) {
		t.Errorf("no segment under YBR_FULL: %v, or taken as RGB", err)
	}
	p.Photometric = "RGB"
	if got, err := Decode(p); err != nil || !bytes.Equal(rgb.data, got.data) {
		t.Errorf("no segment under RGB: %v, or another plane", err)
	}
}

// The standard library's transform has other roundings: up to 1 of 255 apart.
func TestJPEG_NearTheStandardLibrary(t *testing.T) {
	for _, size := range [][2]int{{8, 8}, {1, 1}, {17, 9}, {64, 33}} {
		rows, columns := size[0], size[1]
		gray, colour := image.NewGray(image.Rect(0, 0, columns, rows)), image.NewRGBA(image.Rect(0, 0, columns, rows))
		for i, v := range radiograph(9, rows, columns, 1, 8) {
			gray.Pix[i] = byte(v)
			copy(colour.Pix[4*i:], []byte{byte(v), byte(255 - v), byte(i), 255})
		}
		for _, img := range []image.Image{gray, colour} {
			var b bytes.Buffer
			if err := jpeg.Encode(&b, img, &jpeg.Options{Quality: 90}); err != nil {
				t.Fatal(err)
			}
			decoded, err := jpeg.Decode(bytes.NewReader(b.Bytes()))
			if err != nil {
				t.Fatal(err)
			}
			p := coded(dicom.JPEGBaseline, rows, columns, 1, 8, 8, b.Bytes())
			var want []byte
			stride := 0
			switch decoded := decoded.(type) {
			case *image.Gray:
				want, stride = decoded.Pix, decoded.Stride
			case *image.YCbCr:
				want, stride = decoded.Y, decoded.YStride
				p.SamplesPerPixel, p.Photometric = 3, "YBR_FULL_422"
			}
			plane, err := Decode(p)
			if err != nil {
				t.Fatal(err)
			}
			for i, v := range plane.Values() {
				if d := int(v) - int(want[i/columns*stride+i%columns]); d < -1 || d > 1 {
					t.Fatalf("%d x %d, pixel %d: %d away from the standard library's", rows, columns, i, d)
				}
			}
		}
	}
}

// Against the definition in T.81 A.3.3, in floating point: half a step by the last rounding, and what the rounding between
// the passes adds.
func TestInverseDCT_NearTheDefinition(t *testing.T) {
	for i, precision := range []int{8, 12} {
		values := radiograph(uint64(20+i), 8, 8*500, 1, precision+2) // as many random blocks
		for n := range 500 {
			var block dctBlock
			for k := range block.values {
				if (k+n)%5 == 0 {
					block.values[k] = int32(values[n*64+k])/int32(1+k) - 1<<(precision-2)
				}
			}
			block.last = 63
			var got [64]int
			inverseDCT(&block, precision, &got)
			for place, v := range got {
				y, x := place/8, place%8
				if want := plainInverseDCT(&block, y, x); math.Abs(float64(v)-want) > 0.75 {
					t.Fatalf("%d bits, block %d, (%d,%d): %d, want %.2f", precision, n, y, x, v, want)
				}
			}
		}
	}
}

func plainInverseDCT(block *dctBlock, y, x int) (sum float64) {
	for i, c := range block.values {
		v, u := i/8, i%8
		f := float64(c) / 4 * math.Cos(float64(2*x+1)*float64(u)*math.Pi/16) * math.Cos(float64(2*y+1)*float64(v)*math.Pi/16)
		if u == 0 {
			f /= math.Sqrt2
		}
		if v == 0 {
			f /= math.Sqrt2
		}
		sum += f
	}
	return sum
}

func TestJPEG_DCTRefuses(t *testing.T) {
	gray := foreignPixels(t, "gray8", dicom.JPEGBaseline, 1, 8)
	good := gray.Fragments[0]
	sof, dqt, sos := bytes.Index(good, []byte{0xff, 0xc0}), bytes.Index(good, []byte{0xff, 0xdb}), bytes.Index(good, []byte{0xff, 0xda})
	dht := bytes.Index(good, []byte{0xff, 0xc4})
	colour := foreignPixels(t, "ycc8-420", dicom.JPEGBaseline, 3, 8)
	sof3 := bytes.Index(colour.Fragments[0], []byte{0xff, 0xc0})
	for _, c := range []struct {
		name  string
		p     *dicom.Pixels
		at    int
		bytes []byte
		code  dicom.Code
	}{
		{"no quantisation table", gray, dqt + 1, []byte{0xe1}, dicom.CodeMalformed},
		{"quantisation table 4", gray, dqt + 4, []byte{4}, dicom.CodeMalformed},
		{"quantisation table of 32 bits", gray, dqt + 4, []byte{0x20}, dicom.CodeMalformed},
		{"short quantisation table", gray, dqt + 4, []byte{0x10}, dicom.CodeMalformed},
		{"another quantisation table", gray, sof + 12, []byte{3}, dicom.CodeMalformed},
		{"quantisation table 5", gray, sof + 12, []byte{5}, dicom.CodeMalformed},
		{"DC of 16 bits", gray, dht + 21, []byte{16}, dicom.CodeMalformed},
		{"another AC table", gray, sos + 6, []byte{1}, dicom.CodeMalformed},
		{"luma subsampled", colour, sof3 + 11, []byte{0x11}, dicom.CodeUnsupportedPixels},
		{"two components of one number", colour, sof3 + 13, []byte{1}, dicom.CodeMalformed},
	} {
		p := *c.p
		frame := bytes.Clone(p.Fragments[0])
		copy(frame[c.at:], c.bytes)
		if c.name == "luma subsampled" {
			frame[sof3+14] = 0x22
		}
		p.Fragments = [][]byte{frame}
		_, err := Decode(&p)
		wantCode(t, c.name, err, c.code)
	}
}
