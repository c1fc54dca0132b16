package external

import (
	"bytes"
	"os/exec"
	"sort"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mvmae/mvmae/dicom"
)

// ordered is a request with a file whose packets come in the order of its name.
func ordered(t testing.TB, name string, reduce int) Request {
	t.Helper()
	r := seed(t, "order-"+name+".j2k", dicom.JPEG2000, 1, 16)
	r.Rows, r.Columns, r.Reduce = 71, 88, reduce
	return r
}

// A shortened code stream gives the very samples that OpenJPEG gives when it leaves levels out of the whole one.
func TestShorten_SameAsLeavingLevelsOut(t *testing.T) {
	p := pool(t, Options{})
	htj2k := seed(t, "gray16.jph", dicom.HTJ2KLossless, 1, 16)
	htj2k.Reduce = 2
	requests := map[string]Request{"HTJ2K": htj2k}
	for _, name := range []string{"lrcp", "rlcp-precincts", "rpcl-9x7"} {
		for _, reduce := range []int{1, 2, 4, 9} { // there are 4
			requests[name+string(rune('0'+reduce))] = ordered(t, name, reduce)
		}
	}
	for name, r := range requests {
		short, left := shortenTo(r, func(own int) int { return own / 2 * 3 })
		if left == 0 || left > r.Reduce {
			t.Errorf("%s: %d of %d levels left out", name, left, r.Reduce)
			continue
		}
		if len(short.Data) > len(r.Data)+64+16 || r.Reduce == 2 && len(r.Data) > 4000 && len(short.Data) > len(r.Data)/2 {
			t.Errorf("%s: %d bytes of %d", name, len(short.Data), len(r.Data))
		}
		got, err := p.limited(t.Context(), short, 1)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got.Reduced = left
		want, err := p.limited(t.Context(), r, 1)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-whole +short)\n%s", name, diff)
		}
	}
}

// Where the last bytes of what is needed are missing the decoder refuses: no sample is made up.
func TestShorten_CutTooEarlyIsRefused(t *testing.T) {
	p := pool(t, Options{})
	for _, name := range []string{"lrcp", "rlcp-precincts", "rpcl-9x7"} {
		r := ordered(t, name, 2)
		want, err := p.limited(t.Context(), r, 1)
		if err != nil {
			t.Fatal(err)
		}
		decode := func(room int) (*Image, error) {
			short, _ := shortenTo(r, func(int) int { return room })
			return p.limited(t.Context(), short, 1)
		}
		needed := sort.Search(want.Rows*want.Columns*3, func(room int) bool {
			got, err := decode(room)
			return err == nil && bytes.Equal(got.Data, want.Data)
		})
		t.Logf("%s: %d x %d samples need %d bytes of packets", name, want.Rows, want.Columns, needed)
		if needed == want.Rows*want.Columns*3 {
			t.Errorf("%s: 24 bits a sample are too few", name)
		}
		for missing := 1; missing < 8; missing++ {
			if m, err := decode(needed - missing); refused(err) != dicom.CodeMalformed {
				t.Errorf("%s: %d bytes are missing, and it gave %v, %v", name, missing, m, err)
			}
		}
	}
}

func TestDecode_ShortenedTooMuchIsDecodedWhole(t *testing.T) {
	p := pool(t, Options{})
	p.shorten = func(r Request) (Request, int) { return shortenTo(r, func(int) int { return 100 }) }
	processes := 0
	p.started = func(*exec.Cmd) { processes++ }
	m, err := p.Decode(t.Context(), ordered(t, "lrcp", 2))
	if err != nil || m.Reduced != 2 || m.Rows != 18 || m.Columns != 22 {
		t.Errorf("%+v, %v", m, err)
	}
	if processes != 2 {
		t.Errorf("%d processes", processes)
	}
}

// A shortened code stream that kills its process does not get a second one.
func TestDecode_ShortenedThatFailsIsNotTriedAgain(t *testing.T) {
	p := pool(t, Options{Program: silent(t)})
	processes := 0
	p.started = func(cmd *exec.Cmd) {
		processes++
		if err := cmd.Process.Kill(); err != nil {
			t.Error(err)
		}
	}
	if _, err := p.Decode(t.Context(), ordered(t, "lrcp", 2)); refused(err) != dicom.CodeDecoderFailed || processes != 1 {
		t.Errorf("%d processes, %v", processes, err)
	}
}

func TestShorten_LeavesAlone(t *testing.T) {
	whole := ordered(t, "lrcp", 2)
	change := func(f func(r *Request)) Request {
		r := whole
		r.Data = bytes.Clone(r.Data)
		f(&r)
		return r
	}
	jp2 := seed(t, "gray16.jp2", dicom.JPEG2000Lossless, 1, 16)
	jp2.Reduce = 1
	for name, r := range map[string]Request{
		"several layers first":     ordered(t, "layers", 2),
		"components first":         ordered(t, "cprl", 2),
		"small precincts":          ordered(t, "small-precincts", 2),
		"several tiles":            ordered(t, "tiles", 2),
		"several parts of a tile":  ordered(t, "parts", 2),
		"JP2":                      jp2,
		"nothing to leave out":     ordered(t, "lrcp", 0),
		"the end missing":          change(func(r *Request) { r.Data = r.Data[:len(r.Data)-2] }),
		"bytes missing":            change(func(r *Request) { r.Data = append(r.Data[:3000], r.Data[3001:]...) }),
		"from elsewhere":           change(func(r *Request) { r.Data[4+2+2+8+3] = 1 }), // XOsiz
		"nothing but SOC":          change(func(r *Request) { r.Data = r.Data[:2] }),
		"an unknown marker":        change(func(r *Request) { r.Data[2+2+2+38+1] ^= 1 }), // COD becomes COC
		"JPEG-LS in the file meta": change(func(r *Request) { r.Syntax = dicom.JPEGLSLossless }),
	} {
		if short, left := shorten(r); left != 0 || !bytes.Equal(short.Data, r.Data) {
			t.Errorf("%s: %d levels left out", name, left)
		}
	}
	if _, left := shorten(change(func(r *Request) { r.Data = append(r.Data, 0) })); left != 2 {
		t.Error("padding to an even length was taken for a fault")
	}
}

func FuzzShorten(f *testing.F) {
	for _, name := range []string{"lrcp", "rlcp-precincts", "rpcl-9x7", "layers", "tiles", "parts", "cprl", "small-precincts"} {
		f.Add(ordered(f, name, 0).Data, uint8(2))
	}
	f.Add(seed(f, "rgb8.jph", dicom.HTJ2KLosslessRPCL, 3, 8).Data, uint8(1))
	f.Fuzz(func(t *testing.T, data []byte, reduce uint8) {
		r := Request{Syntax: dicom.JPEG2000, Rows: 71, Columns: 88, Samples: 1, Bits: 16, Reduce: int(reduce % 32), Data: bytes.Clone(data)}
		short, left := shorten(r)
		if !bytes.Equal(r.Data, data) {
			t.Fatal("the code stream was changed")
		}
		if left < 0 || left > r.Reduce || left == 0 && !bytes.Equal(short.Data, data) {
			t.Fatalf("%d of %d levels", left, r.Reduce)
		}
		if left == 0 {
			return
		}
		if short.Rows != reduced(71, left) || short.Columns != reduced(88, left) || short.Reduce != 0 || len(short.Data) > len(data)+64+16 {
			t.Fatalf("%d x %d, %d bytes of %d", short.Rows, short.Columns, len(short.Data), len(data))
		}
		// What was written is a code stream that could be shortened again, or has no levels left.
		short.Reduce = 1
		if !bytes.HasSuffix(short.Data, []byte{markEOC >> 8, markEOC & 0xff}) {
			t.Fatal("no end")
		}
		if again, left := shorten(short); left > 0 && len(again.Data) > len(short.Data)+64+16 {
			t.Fatalf("%d bytes of %d", len(again.Data), len(short.Data))
		}
	})
}
