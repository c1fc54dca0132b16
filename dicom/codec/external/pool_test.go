package external

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mvmae/mvmae/dicom"
	"github.com/mvmae/mvmae/internal/codecprog"
)

func TestMain(m *testing.M) { codecprog.Main(m) }

// pool is a pool of the real program, closed at the end of the test.
func pool(t testing.TB, opt Options) *Pool {
	t.Helper()
	if opt.Program == "" {
		opt.Program = codecprog.Complete(t)
	}
	p := NewPool(opt)
	t.Cleanup(p.Close)
	return p
}

// seed is a request with the code stream of a file of testdata: 24 x 20 pixels, value (7*row+3*column) mod 2^bits.
func seed(t testing.TB, name, syntax string, samples, bits int) Request {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return Request{Syntax: syntax, Rows: 24, Columns: 20, Samples: samples, Bits: bits, Data: data}
}

func jpegls(t testing.TB) Request { return seed(t, "gray16.jls", dicom.JPEGLSLossless, 1, 16) }
func jpeg2000(t testing.TB) Request {
	return seed(t, "gray16.j2k", dicom.JPEG2000Lossless, 1, 16)
}

func refused(err error) dicom.Code {
	var e *dicom.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

func TestDecode_EverySeed(t *testing.T) {
	p := pool(t, Options{})
	for _, c := range []struct {
		file, syntax  string
		samples, bits int
	}{
		{"gray8.jls", dicom.JPEGLSLossless, 1, 8}, {"gray16.jls", dicom.JPEGLSLossless, 1, 16}, {"rgb8.jls", dicom.JPEGLSLossless, 3, 8},
		{"gray8.j2k", dicom.JPEG2000Lossless, 1, 8}, {"gray16.j2k", dicom.JPEG2000Lossless, 1, 16},
		{"gray16.jp2", dicom.JPEG2000Lossless, 1, 16}, {"rgb8.j2k", dicom.JPEG2000, 3, 8},
		{"gray16.jph", dicom.HTJ2KLossless, 1, 16}, {"rgb8.jph", dicom.HTJ2KLosslessRPCL, 3, 8},
	} {
		r := seed(t, c.file, c.syntax, c.samples, c.bits)
		m, err := p.Decode(t.Context(), r)
		if err != nil {
			t.Errorf("%s: %v", c.file, err)
			continue
		}
		want := &Image{Rows: 24, Columns: 20, Samples: c.samples, Bits: c.bits}
		for i := range 24 * 20 {
			for s := range c.samples {
				v := 97*(7*(i/20)+3*(i%20)) + s*11
				if c.bits == 8 {
					want.Data = append(want.Data, byte(v))
				} else {
					want.Data = binary.LittleEndian.AppendUint16(want.Data, uint16(v))
				}
			}
		}
		if diff := cmp.Diff(want, m); diff != "" {
			t.Errorf("%s (-want +got)\n%s", c.file, diff)
		}
	}
}

func TestDecode_RefusesByCode(t *testing.T) {
	p := pool(t, Options{})
	huge := bytes.Clone(jpeg2000(t).Data)
	binary.BigEndian.PutUint32(huge[8:], 60_000) // Xsiz, and the width of a tile
	binary.BigEndian.PutUint32(huge[24:], 60_000)
	for _, c := range []struct {
		name   string
		change func(*Request)
		base   Request
		want   dicom.Code
	}{
		{"JPEG-LS garbage", func(r *Request) { r.Data = bytes.Repeat([]byte("garbage"), 50) }, jpegls(t), dicom.CodeTruncated},
		{"JPEG-LS garbage that ends", func(r *Request) { r.Data = append(bytes.Repeat([]byte("garbage"), 50), 0xff, 0xd9) }, jpegls(t), dicom.CodeMalformed},
		{"JPEG-LS cut off", func(r *Request) { r.Data = r.Data[:len(r.Data)/2] }, jpegls(t), dicom.CodeTruncated},
		{"JPEG-LS of other rows", func(r *Request) { r.Rows++ }, jpegls(t), dicom.CodeMalformed},
		{"JPEG-LS of other samples", func(r *Request) { r.Samples = 3 }, jpegls(t), dicom.CodeMalformed},
		{"JPEG-LS of more bits", func(r *Request) { r.Bits = 8 }, jpegls(t), dicom.CodeUnsupportedPixels},
		{"JPEG 2000 garbage", func(r *Request) { r.Data = bytes.Repeat([]byte("garbage"), 50) }, jpeg2000(t), dicom.CodeMalformed},
		{"JPEG 2000 cut off", func(r *Request) { r.Data = r.Data[:len(r.Data)/2] }, jpeg2000(t), dicom.CodeMalformed},
		{"JPEG 2000 of other columns", func(r *Request) { r.Columns-- }, jpeg2000(t), dicom.CodeMalformed},
		{"JPEG 2000 of more bits", func(r *Request) { r.Bits = 8 }, jpeg2000(t), dicom.CodeUnsupportedPixels},
		{"JPEG 2000 that claims to be huge", func(r *Request) { r.Data = huge }, jpeg2000(t), dicom.CodeMalformed},
		{"nothing", func(r *Request) { r.Data = nil }, jpeg2000(t), dicom.CodeMalformed},
		{"another syntax", func(r *Request) { r.Syntax = dicom.JPEGBaseline }, jpeg2000(t), dicom.CodeUnsupportedSyntax},
		{"more samples than a frame may have pixels", func(r *Request) { r.Rows, r.Columns, r.Samples = 8192, 4096, 3 }, jpeg2000(t), dicom.CodeTooLarge},
		{"no rows", func(r *Request) { r.Rows = 0 }, jpeg2000(t), dicom.CodeUnsupportedPixels},
	} {
		c.change(&c.base)
		if m, err := p.Decode(t.Context(), c.base); refused(err) != c.want {
			t.Errorf("%s: %v, %v, want %s", c.name, m, err, c.want)
		}
	}
}

func TestDecode_AProcessThatIsKilledCostsOneImage(t *testing.T) {
	p := pool(t, Options{Program: silent(t)})
	request := jpegls(t)
	p.started = func(cmd *exec.Cmd) {
		if err := cmd.Process.Kill(); err != nil {
			t.Error(err)
		}
	}
	if _, err := p.Decode(t.Context(), request); refused(err) != dicom.CodeDecoderFailed {
		t.Errorf("killed: %v", err)
	}
	p.started, p.opt.Program = nil, codecprog.Any(t)
	// Decoded, or refused in words by a program without CharLS: a new process answered.
	if _, err := p.Decode(t.Context(), request); err != nil && refused(err) != dicom.CodeUnsupportedSyntax {
		t.Errorf("the next image: %v", err)
	}
}

// silent is a program that never answers, so that an image takes for ever.
func silent(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "silent")
	if err := os.WriteFile(path, []byte("#!/bin/sh\nexec sleep 100000\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestDecode_TakesNoLongerThanItsTimeout(t *testing.T) {
	p := pool(t, Options{Program: silent(t), Timeout: 50 * time.Millisecond})
	_, err := p.Decode(t.Context(), jpegls(t))
	if refused(err) != dicom.CodeDecoderFailed || !strings.Contains(err.Error(), "took longer than 50ms") {
		t.Error(err)
	}
}

func TestDecode_EndsWithItsContext(t *testing.T) {
	p := pool(t, Options{Program: silent(t)})
	ctx, cancel := context.WithCancel(t.Context())
	p.started = func(*exec.Cmd) { cancel() }
	if _, err := p.Decode(ctx, jpegls(t)); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestClose_KillsAndRefuses(t *testing.T) {
	p := pool(t, Options{Program: silent(t), Processes: 1})
	reached := make(chan struct{})
	p.started = func(*exec.Cmd) { close(reached) }
	running, waiting := make(chan error, 1), make(chan error, 1)
	go func() { _, err := p.Decode(context.Background(), jpegls(t)); running <- err }()
	<-reached
	go func() { _, err := p.Decode(context.Background(), jpegls(t)); waiting <- err }()
	p.Close()
	for name, c := range map[string]chan error{"running": running, "waiting": waiting} {
		if err := <-c; !errors.Is(err, errClosed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := p.Decode(t.Context(), jpegls(t)); !errors.Is(err, errClosed) {
		t.Errorf("later: %v", err)
	}
}

func TestDecode_ManyAtOnceLeaveNothingBehind(t *testing.T) {
	before := runtime.NumGoroutine()
	p := pool(t, Options{Program: codecprog.Any(t), Processes: 3})
	var wg sync.WaitGroup
	for i := range 24 {
		wg.Go(func() {
			r := jpegls(t)
			if i%3 == 0 {
				r.Data = r.Data[:40]
			}
			_, err := p.Decode(t.Context(), r)
			if code := refused(err); err != nil && code != dicom.CodeUnsupportedSyntax && (i%3 != 0 || code != dicom.CodeTruncated) {
				t.Errorf("image %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	p.Close()
	if len(p.slots) != 0 {
		t.Errorf("%d processes are still counted", len(p.slots))
	}
	// What has said its last word may still be about to end: let it.
	for i := 0; i < 1<<20 && runtime.NumGoroutine() > before; i++ {
		runtime.Gosched()
	}
	if after := runtime.NumGoroutine(); after > before {
		stacks := make([]byte, 1<<16)
		t.Errorf("%d goroutines before, %d after\n%s", before, after, stacks[:runtime.Stack(stacks, true)])
	}
}

func TestDecode_WithoutAProgramRefusesByName(t *testing.T) {
	for _, program := range []string{filepath.Join(t.TempDir(), "nothing"), "/"} {
		_, err := pool(t, Options{Program: program}).Decode(t.Context(), jpegls(t))
		if refused(err) != dicom.CodeUnsupportedSyntax || !strings.Contains(err.Error(), "JPEG-LS Lossless") {
			t.Errorf("%s: %v", program, err)
		}
	}
}

// A program that talks nonsense: each is a script in place of the real one.
func TestDecode_DoesNotBelieveItsProcess(t *testing.T) {
	right := answerHeader{Magic: magic, Rows: 24, Columns: 20, Samples: 1, Bits: 8, Length: 480}
	pixels := strings.Repeat("p", 480)
	change := func(f func(*answerHeader)) answerHeader { h := right; f(&h); return h }
	for _, c := range []struct {
		name   string
		answer []byte
		then   string
		want   dicom.Code
	}{
		{"a right answer", answer(right, pixels), "exit 0", ""},
		{"silence", nil, "exit 0", dicom.CodeDecoderFailed},
		{"chatter", bytes.Repeat([]byte("hello "), 1000), "exit 0", dicom.CodeDecoderFailed},
		{"other rows", answer(change(func(h *answerHeader) { h.Rows = 25 }), pixels), "exit 0", dicom.CodeDecoderFailed},
		{"reduced unasked", answer(change(func(h *answerHeader) { h.Reduced = 1 }), pixels), "exit 0", dicom.CodeDecoderFailed},
		{"more bits", answer(change(func(h *answerHeader) { h.Bits = 17 }), pixels), "exit 0", dicom.CodeDecoderFailed},
		{"4 GiB", answer(change(func(h *answerHeader) { h.Length = 1<<32 - 1 }), pixels), "exit 0", dicom.CodeDecoderFailed},
		{"an end too early", answer(right, pixels[1:]), "exit 0", dicom.CodeDecoderFailed},
		{"a whole image, then a crash", answer(right, pixels), "kill -SEGV $$", dicom.CodeDecoderFailed},
		{"a code of its own", answer(answerHeader{Magic: magic, Code: pad("positive"), Length: 2}, "no"), "exit 0", dicom.CodeDecoderFailed},
		{"a refusal", answer(answerHeader{Magic: magic, Code: pad("malformed"), Length: 2}, "n\n"), "exit 0", dicom.CodeMalformed},
	} {
		dir := t.TempDir()
		script := filepath.Join(dir, "codec")
		text := fmt.Sprintf("#!/bin/sh\ncat >/dev/null\ncat %s/answer\n%s\n", dir, c.then)
		if err := errors.Join(os.WriteFile(script, []byte(text), 0o777), os.WriteFile(filepath.Join(dir, "answer"), c.answer, 0o666)); err != nil {
			t.Fatal(err)
		}
		p := pool(t, Options{Program: script})
		if _, err := p.Decode(t.Context(), Request{Syntax: dicom.JPEGLSLossless, Rows: 24, Columns: 20, Samples: 1, Bits: 8, Data: []byte("x")}); refused(err) != c.want {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}
