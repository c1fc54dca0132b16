package codec

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/mvmae/mvmae/dicom"
	"github.com/mvmae/mvmae/dicom/codec/codectest"
)

func TestRLE_RoundTrip(t *testing.T) {
	for _, c := range []struct{ components, allocated, stored, high int }{
		{1, 8, 8, 7}, {1, 8, 5, 6}, {1, 16, 16, 15}, {1, 16, 12, 11}, {1, 16, 12, 15}, {3, 8, 8, 7}, {3, 16, 16, 15},
	} {
		for _, signed := range []bool{false, true} {
			if signed && c.components == 3 {
				continue
			}
			samples := radiograph(uint64(c.stored), 37, 41, c.components, c.allocated)
			p := coded(dicom.RLELossless, 37, 41, c.components, c.allocated, c.stored, codectest.RLE(samples, c.components, c.allocated/8))
			p.HighBit, p.Signed = c.high, signed
			sameAsNative(t, fmt.Sprintf("%+v, signed %t", c, signed), p, samples)
			if c.components == 3 {
				for _, photometric := range []string{"YBR_FULL", "RGB"} {
					p.Photometric = photometric
					sameAsNative(t, photometric, p, samples)
				}
			}
		}
	}
}

func TestEncodeRLE_RoundTrip(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 3))
	for _, c := range []struct{ rows, columns int }{{1, 1}, {3, 2}, {5, 127}, {4, 128}, {4, 129}, {7, 400}} {
		for _, levels := range []int{1, 2, 3, 1 << 16} { // long runs, short ones, none
			samples := make([]uint16, c.rows*c.columns)
			for i := range samples {
				samples[i] = uint16(rng.IntN(levels) * 0x101)
				if i > 0 && rng.IntN(3) > 0 && levels > 2 {
					samples[i] = samples[i-1]
				}
			}
			frame := EncodeRLE(samples, c.columns)
			sameAsNative(t, fmt.Sprintf("%+v of %d levels", c, levels), coded(dicom.RLELossless, c.rows, c.columns, 1, 16, 16, frame), samples)
			if most := 64 + 2*c.rows*(c.columns+c.columns/128+1) + 2; len(frame) > most || len(frame)%2 != 0 {
				t.Errorf("%+v of %d levels: %d bytes, at most %d were expected", c, levels, len(frame), most)
			}
		}
	}
}

// PS3.5 G.3.1 by hand: a run, literals, a no-op, padding.
func TestRLE_ByHand(t *testing.T) {
	frame := append([]byte{1, 0, 0, 0, 64}, make([]byte, 59)...)
	frame = append(frame, 0xfd, 7 /* 7 four times */, 0x80, 1, 8, 9 /* 8 and 9 */, 0xff, 3 /* 3 twice */, 0)
	sameAsNative(t, "by hand", coded(dicom.RLELossless, 2, 4, 1, 8, 8, frame), []uint16{7, 7, 7, 7, 8, 9, 3, 3})
}

func TestRLE_Refuses(t *testing.T) {
	samples := radiograph(1, 20, 30, 1, 16)
	good := codectest.RLE(samples, 1, 2)
	head := func(b ...byte) []byte { return append(b, good[len(b):]...) }
	for _, c := range []struct {
		name  string
		frame []byte
		code  dicom.Code
	}{
		{"short header", good[:63], dicom.CodeTruncated},
		{"one segment of two", head(1), dicom.CodeMalformed},
		{"16 segments", head(16), dicom.CodeMalformed},
		{"segment in the header", head(2, 0, 0, 0, 63), dicom.CodeMalformed},
		{"segments out of order", head(2, 0, 0, 0, good[8], good[9], 0, 0, 64), dicom.CodeMalformed},
		{"segment past 2 GiB", head(2, 0, 0, 0, 64, 0, 0, 0, 0xf0, 0xff, 0xff, 0xff), dicom.CodeTruncated},
		{"cut in the second segment", good[:len(good)-10], dicom.CodeTruncated},
		{"no second segment", good[:int(good[8])|int(good[9])<<8], dicom.CodeTruncated},
	} {
		_, err := Decode(coded(dicom.RLELossless, 20, 30, 1, 16, 16, c.frame))
		wantCode(t, c.name, err, c.code)
	}
	past := append([]byte{1, 0, 0, 0, 64}, make([]byte, 59)...)
	_, err := Decode(coded(dicom.RLELossless, 1, 2, 1, 8, 8, append(past, 0xfe, 7)))
	wantCode(t, "a run of three for two pixels", err, dicom.CodeMalformed)
	_, err = Decode(coded(dicom.RLELossless, 1, 2, 1, 8, 8, append(past, 2, 7, 7, 7)))
	wantCode(t, "three literals for two pixels", err, dicom.CodeMalformed)
	for n := 64; n < len(good)-1; n++ {
		_, err := Decode(coded(dicom.RLELossless, 20, 30, 1, 16, 16, good[:n]))
		if err == nil {
			t.Errorf("%d of %d bytes are decoded", n, len(good))
		}
	}
}
