package external

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"os/exec"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/mvmae/mvmae/dicom"
)

func TestLimits(t *testing.T) {
	for _, c := range []struct {
		name                          string
		rows, columns, samples, bytes int
		mebiBytes, seconds            int
		refused                       dicom.Code
	}{
		{"a small one", 24, 20, 1, 700, 56, 2, ""},
		{"a lossless radiograph", 3000, 2500, 1, 10_600_000, 103, 6, ""},
		{"a lossy radiograph", 3000, 2500, 1, 1_900_000, 111, 2, ""},
		{"pure noise", 3000, 2500, 1, 16_000_000, 97, 9, ""},
		{"as many pixels as there may be", 8192, 8192, 1, 90_000_000, 482, 42, ""},
		{"in colour", 2000, 2000, 3, 12_000_000, 136, 7, ""},
		{"more bytes than pixels can need", 24, 20, 1, 30 << 20, 0, 0, dicom.CodeTooLarge},
	} {
		r := Request{Syntax: dicom.JPEG2000, Rows: c.rows, Columns: c.columns, Samples: c.samples, Bits: 16, Data: make([]byte, c.bytes)}
		l, err := r.limits(3)
		if refused(err) != c.refused || l.mebiBytes != c.mebiBytes || l.seconds != c.seconds {
			t.Errorf("%s: %+v, %v", c.name, l, err)
		}
		if most := fixedMiB<<20 + bytesPerSample*c.rows*c.columns*c.samples; l.mebiBytes<<20+c.bytes > most && c.refused == "" {
			t.Errorf("%s: %d MiB and %d bytes are more than %d", c.name, l.mebiBytes, c.bytes, most)
		}
	}
}

// stream is a JPEG 2000 code stream of 16 bits, of which only the first tile has data. A zero is as most encoders have it.
type stream struct {
	tile               int // its side
	components, layers int
	precinct           byte // both exponents
	order              byte
	flat               bool // no levels of resolution, and 30 bit planes
	packets            []byte
}

func (s stream) bytes(side int) []byte {
	be := binary.BigEndian
	s.tile, s.components, s.layers = cmp.Or(s.tile, side), cmp.Or(s.components, 1), cmp.Or(s.layers, 1)
	levels, exponent := byte(5), byte(18)
	if s.flat {
		levels, exponent = 0, 28
	}
	siz := []byte{0, 0}
	for _, v := range []int{side, side, 0, 0, s.tile, s.tile, 0, 0} {
		siz = be.AppendUint32(siz, uint32(v))
	}
	siz = append(be.AppendUint16(siz, uint16(s.components)), bytes.Repeat([]byte{15, 1, 1}, s.components)...)
	cod := append(be.AppendUint16([]byte{0, s.order}, uint16(s.layers)), 0, levels, 4, 4, 0, 1)
	if s.precinct > 0 {
		cod[0] = 1
		cod = append(cod, bytes.Repeat([]byte{s.precinct}, int(levels)+1)...)
	}
	out := shortener{out: []byte{0xff, 0x4f}}
	out.write(markSIZ, siz)
	out.write(markCOD, cod)
	out.write(markQCD, append([]byte{2 << 5}, bytes.Repeat([]byte{exponent << 3}, 3*int(levels)+1)...))
	out.write(markSOT, append(be.AppendUint32([]byte{0, 0}, uint32(14+len(s.packets))), 0, 1))
	return slices.Concat(out.out, []byte{markSOD >> 8, markSOD & 0xff}, s.packets, []byte{markEOC >> 8, markEOC & 0xff})
}

// slowPackets are packets of one block each that promise 85 coding passes over 4,096 samples in 6 bytes: a bit for a packet that is not
// empty, one for the block that is in it, one for no missing bit planes, 16 for the number of passes, 10 for the length of its
// data; a byte of data.
func slowPackets(rows, columns int) []byte {
	bits := "111" + "111111111" + fmt.Sprintf("%07b", 85-37) + "0" + fmt.Sprintf("%09b", 1)
	var packet []byte
	for n := 8; len(bits) > 0; n = 8 {
		if len(packet) > 0 && packet[len(packet)-1] == 0xff {
			n = 7 // bit stuffing
		}
		bits += "0000000"[:max(0, min(7, n-len(bits)))]
		var b byte
		fmt.Sscanf(bits[:n], "%b", &b)
		packet, bits = append(packet, b), bits[n:]
	}
	return bytes.Repeat(append(packet, 0x55), (rows+63)/64*((columns+63)/64))
}

// Whatever the code stream and however it ends, its process takes no more than 64 MiB and 8 bytes for each sample of the image, the
// code stream included, and no more than 2 s and what its bytes allow.
func TestDecode_UnderAttack(t *testing.T) {
	const n = 4096
	// The most memory that is seen of a process is at least what this one has when it starts it: those of large answers come last.
	jls := jpegls(t).Data
	frame := jls[bytes.Index(jls, []byte{0xff, 0xf7})+5:]
	binary.BigEndian.PutUint16(frame, n)
	binary.BigEndian.PutUint16(frame[2:], n)
	for _, c := range []struct {
		name    string
		syntax  string
		data    []byte
		decoded bool
	}{
		{"tiles of one pixel", dicom.JPEG2000, stream{tile: 1}.bytes(n), false},
		{"16,384 tiles", dicom.JPEG2000, stream{tile: 32}.bytes(n), false},
		{"16,384 components", dicom.JPEG2000, stream{components: 16_384}.bytes(n), false},
		{"precincts of 8 x 8", dicom.JPEG2000, stream{precinct: 0x33, order: positionsSecond, packets: make([]byte, 1<<20)}.bytes(n), false},
		{"65,535 layers", dicom.JPEG2000, stream{precinct: 0x55, order: positionsSecond, layers: 65_535, packets: make([]byte, 4<<20)}.bytes(n), false},
		{"all passes and no data", dicom.JPEG2000, stream{precinct: 0x66, flat: true, packets: slowPackets(n, n)}.bytes(n), false},
		{"JPEG-LS that ends at once", dicom.JPEGLSLossless, append(jls[:len(jls)-2:len(jls)-2], 0xff, 0xd9), false},
		{"blank", dicom.JPEG2000, stream{packets: make([]byte, 20)}.bytes(n), true},
	} {
		p := pool(t, Options{Processes: 1})
		var process *exec.Cmd
		p.started = func(cmd *exec.Cmd) { process = cmd }
		r := Request{Syntax: c.syntax, Rows: n, Columns: n, Samples: 1, Bits: 16, Data: c.data}
		l, err := r.limits(1)
		if err != nil {
			t.Fatal(err)
		}
		_, err = p.Decode(t.Context(), r)
		if (err == nil) != c.decoded || err != nil && refused(err) == "" {
			t.Errorf("%s: %v", c.name, err)
		}
		usage := process.ProcessState.SysUsage().(*syscall.Rusage)
		memory, cpu := usage.Maxrss<<10, time.Duration(usage.Utime.Nano()+usage.Stime.Nano())
		t.Logf("%s: %d bytes, %d MiB, %v, %v", c.name, len(c.data), memory>>20, cpu.Round(time.Millisecond), err)
		if most := int64(fixedMiB<<20 + bytesPerSample*n*n); memory > most {
			t.Errorf("%s: took %d MiB, the limit is %d", c.name, memory>>20, most>>20)
		}
		if most := time.Duration(l.seconds+1) * time.Second; cpu > most { // limits are whole seconds, and the kernel sees them a little late
			t.Errorf("%s: took %v, the limit is %v", c.name, cpu, most)
		}
		if _, err := p.Decode(t.Context(), jpeg2000(t)); err != nil {
			t.Errorf("the image after %s: %v", c.name, err)
		}
	}
}
