package cxr

import (
	"encoding/binary"
	"fmt"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mvmae/mvmae/dicom"
	"github.com/mvmae/mvmae/dicom/codec"
)

// threadTime is the processor time of this thread: on a shared machine it is nearer to the truth than a clock on the wall.
func threadTime() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t); err != nil {
		panic(err)
	}
	return time.Duration(t.Nano())
}

// best reports the processor time of the fastest round.
func best(b *testing.B, round func()) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	round()
	b.ReportAllocs()
	least := time.Hour
	for b.Loop() {
		start := threadTime()
		round()
		least = min(least, threadTime()-start)
	}
	b.ReportMetric(float64(least.Microseconds())/1000, "best-ms")
}

// BenchmarkFromDICOM is from a file in memory to the model's input; the rest are its parts, and what reading the pixels once
// costs at least. The 16-bit image uses every word, the 12-bit one is what detectors write.
func BenchmarkFromDICOM_3000x2500(b *testing.B) {
	for _, bits := range []int{16, 12} {
		file := encode(b, dicom.ExplicitVRLittleEndian, chest(randomPicture(1, 3000, 2500, 0, 1<<bits-1), bits, false, "MONOCHROME1"))
		f, err := dicom.Parse(file, dicom.DefaultLimits())
		if err != nil {
			b.Fatal(err)
		}
		pixels, err := f.Pixels()
		if err != nil {
			b.Fatal(err)
		}
		plane, err := codec.Decode(pixels)
		if err != nil {
			b.Fatal(err)
		}
		w := new(workspace)
		input := make([]float32, CropSize*CropSize)
		for _, part := range []struct {
			name  string
			round func()
		}{
			{"whole", func() {
				img, err := FromDICOM(file, Mimic, dicom.DefaultLimits())
				if err != nil {
					b.Fatal(err)
				}
				Input(img.Stored, CropSize, input)
			}},
			{"histogram", func() { plane.Histogram(&w.counts) }},
			{"table", func() { Mimic.table(plane, nil, w) }},
			{"store", func() { store(plane, w, false) }},
			{"input", func() { Input(file[len(file)-StoredSize*StoredSize:], CropSize, input) }},
			{"read", func() {
				var or uint64
				for d := pixels.Data; len(d) >= 32; d = d[32:] {
					or |= binary.LittleEndian.Uint64(d) | binary.LittleEndian.Uint64(d[8:]) |
						binary.LittleEndian.Uint64(d[16:]) | binary.LittleEndian.Uint64(d[24:])
				}
				runtime.KeepAlive(or)
			}},
		} {
			b.Run(fmt.Sprintf("%s/%d-bit", part.name, bits), func(b *testing.B) { best(b, part.round) })
		}
	}
}
