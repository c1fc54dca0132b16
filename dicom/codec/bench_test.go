package codec

import (
	"bytes"
	"image"
	"image/jpeg"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/mvmae/mvmae/dicom"
	"github.com/mvmae/mvmae/dicom/codec/codectest"
)

// exposure is a smooth picture with the noise of a detector: 3000 x 2500.
func exposure(bits int) []uint16 {
	const rows, columns = 3000, 2500
	rng := rand.New(rand.NewPCG(1, 2))
	largest := float64(int(1)<<bits - 1)
	samples := make([]uint16, 0, rows*columns)
	for y := range rows {
		for x := range columns {
			v := 0.5 + 0.3*math.Sin(float64(x)/300)*math.Cos(float64(y)/400) + rng.NormFloat64()/400
			samples = append(samples, uint16(min(max(v, 0), 1)*largest))
		}
	}
	return samples
}

func benchmark(b *testing.B, p *dicom.Pixels) {
	b.SetBytes(int64(p.Rows * p.Columns * p.SamplesPerPixel * p.BitsAllocated / 8))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Decode(p); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecode_RLE16(b *testing.B) {
	benchmark(b, coded(dicom.RLELossless, 3000, 2500, 1, 16, 16, codectest.RLE(exposure(16), 1, 2)))
}

func BenchmarkDecode_RLE12(b *testing.B) {
	benchmark(b, coded(dicom.RLELossless, 3000, 2500, 1, 16, 12, codectest.RLE(exposure(12), 1, 2)))
}

func lossless(b *testing.B, bits, predictor int) {
	j := codectest.JPEG{Rows: 3000, Columns: 2500, Components: 1, Precision: bits, Predictor: predictor}
	benchmark(b, coded(dicom.JPEGLossless, 3000, 2500, 1, 16, bits, codectest.LosslessJPEG(j, exposure(bits))))
}

func BenchmarkDecode_Lossless16SV1(b *testing.B) { lossless(b, 16, 1) }
func BenchmarkDecode_Lossless12SV1(b *testing.B) { lossless(b, 12, 1) }
func BenchmarkDecode_Lossless16SV7(b *testing.B) { lossless(b, 16, 7) }

// baseline is a gray picture by the standard library's encoder.
func baseline(b *testing.B) []byte {
	img := image.NewGray(image.Rect(0, 0, 2500, 3000))
	for i, v := range exposure(8) {
		img.Pix[i] = byte(v)
	}
	var frame bytes.Buffer
	if err := jpeg.Encode(&frame, img, &jpeg.Options{Quality: 90}); err != nil {
		b.Fatal(err)
	}
	return frame.Bytes()
}

func BenchmarkDecode_Baseline8(b *testing.B) {
	benchmark(b, coded(dicom.JPEGBaseline, 3000, 2500, 1, 8, 8, baseline(b)))
}

// Of 45 x 61 pixels: nothing here encodes 12 bits by DCT.
func BenchmarkDecode_Extended12(b *testing.B) {
	benchmark(b, foreignPixels(b, "gray12", dicom.JPEGExtended, 1, 12))
}

// The standard library on the same stream.
func BenchmarkStandardLibrary_Baseline8(b *testing.B) {
	frame := baseline(b)
	b.SetBytes(3000 * 2500)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := jpeg.Decode(bytes.NewReader(frame)); err != nil {
			b.Fatal(err)
		}
	}
}
