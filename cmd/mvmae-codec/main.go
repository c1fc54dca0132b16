// Command mvmae-codec decodes JPEG-LS, JPEG 2000 and HTJ2K frames for the other programs. It alone links CharLS and
// OpenJPEG: C decoders of hostile bytes stay out of a server's address space.
//
// It reads one request of package external from standard input, limits its own memory and time to what that image may
// need, answers on standard output and ends. With the argument "versions" it says which libraries it was built with.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"

	"github.com/mvmae/mvmae/dicom"
	"github.com/mvmae/mvmae/dicom/codec/external"
)

func main() {
	if len(os.Args) == 2 && os.Args[1] == "versions" {
		json.NewEncoder(os.Stdout).Encode(external.Versions{CharLS: charlsVersion(), OpenJPEG: openjpegVersion()})
		return
	}
	if len(os.Args) != 1 {
		fmt.Fprintln(os.Stderr, "error: mvmae-codec serves the other programs over standard input and output\n"+
			`hint: run "mvmae-codec versions" to see its libraries`)
		os.Exit(2)
	}
	if err := answer(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

// answer serves one request.
func answer(in io.Reader, out io.Writer) error {
	request, length, err := external.ReadRequest(in)
	if err != nil {
		return fmt.Errorf("read the request: %w", err)
	}
	if err := limit(request, length); err != nil {
		return fmt.Errorf("limit the process: %w", err)
	}
	// One image, then the end: collecting would only cost time.
	debug.SetGCPercent(-1)
	request.Data = make([]byte, length)
	if _, err := io.ReadFull(in, request.Data); err != nil {
		return fmt.Errorf("read the code stream: %w", err)
	}
	image, err := decode(request)
	var refusal *dicom.Error
	if errors.As(err, &refusal) {
		return external.WriteError(out, refusal)
	}
	if err != nil {
		return err
	}
	return image.Write(out)
}

func decode(r external.Request) (*external.Image, error) {
	if len(r.Data) == 0 {
		return nil, refuse(dicom.CodeMalformed, "the frame is empty")
	}
	switch external.LibraryFor(r.Syntax) {
	case external.CharLS:
		return decodeJPEGLS(r)
	case external.OpenJPEG:
		return decodeJPEG2000(r)
	}
	return nil, refuse(dicom.CodeUnsupportedSyntax, "no decoder for %s", r.Syntax)
}

func refuse(code dicom.Code, format string, args ...any) error {
	return &dicom.Error{Code: code, Detail: fmt.Sprintf(format, args...)}
}

// fits holds what a code stream says of itself to what the DICOM header says.
func fits(r external.Request, rows, columns, samples, bits int) error {
	if rows != r.Rows || columns != r.Columns || samples != r.Samples {
		return refuse(dicom.CodeMalformed, "the code stream has %d x %d pixels of %d samples, the header says %d x %d of %d",
			rows, columns, samples, r.Rows, r.Columns, r.Samples)
	}
	if bits > r.Bits {
		return refuse(dicom.CodeUnsupportedPixels, "the code stream has %d bits, the header allocates %d", bits, r.Bits)
	}
	return nil
}

// notBuilt is the answer of a program built without a library.
func notBuilt(library external.Library) error {
	return refuse(dicom.CodeUnsupportedSyntax, "mvmae-codec was built without %s", library)
}
