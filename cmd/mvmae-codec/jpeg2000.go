//go:build cgo && openjpeg

package main

/*
#cgo pkg-config: libopenjp2
#include "jpeg2000.h"
*/
import "C"

import (
	"bytes"
	"unsafe"

	"github.com/mvmae/mvmae/dicom"
	"github.com/mvmae/mvmae/dicom/codec/external"
)

func openjpegVersion() string { return C.GoString(C.opj_version()) }

// decodeJPEG2000 decodes ISO 15444-1 and 15444-15 (HTJ2K), a code stream or a JP2 file; the colour transforms RCT and ICT
// are undone.
func decodeJPEG2000(r external.Request) (*external.Image, error) {
	m, err := openJPEG(r)
	if err != nil && r.Reduce > 0 {
		// A tile may have fewer resolution levels than the main header promised.
		r.Reduce = 0
		return openJPEG(r)
	}
	return m, err
}

func openJPEG(r external.Request) (*external.Image, error) {
	// The library keeps pointing at the stream, so the stream must not be Go's.
	stream := C.CBytes(r.Data)
	defer C.free(stream)
	d := C.j2k_open(stream, C.size_t(len(r.Data)), C.int(jp2(r.Data)), C.int(r.Threads))
	if d == nil {
		return nil, refuse(dicom.CodeTooLarge, "OpenJPEG: no memory")
	}
	defer C.j2k_close(d)
	failed := func() error {
		return refuse(dicom.CodeMalformed, "OpenJPEG: %s", bytes.TrimSpace([]byte(C.GoString(&d.message[0]))))
	}
	if C.j2k_header(d) == 0 {
		return nil, failed()
	}
	if d.uniform == 0 {
		return nil, refuse(dicom.CodeUnsupportedPixels, "the components of the code stream differ in size or depth")
	}
	if err := fits(r, int(d.rows), int(d.columns), int(d.samples), int(d.bits)); err != nil {
		return nil, err
	}
	m := &external.Image{Samples: int(d.samples), Bits: int(d.bits), Signed: d.sign != 0, Reduced: min(r.Reduce, int(d.levels)),
		Irreversible: d.irreversible != 0}
	if C.j2k_decode(d, C.int(m.Reduced)) == 0 {
		return nil, failed()
	}
	m.Rows, m.Columns = int(d.rows), int(d.columns)
	m.Data = make([]byte, m.Rows*m.Columns*m.Samples*((m.Bits+7)/8))
	C.j2k_samples(d, (*C.uchar)(unsafe.Pointer(&m.Data[0])))
	return m, nil
}

// jp2 says (1 or 0) whether a JP2 file is wrapped around the code stream, which PS3.5 A.4.4 forbids and some devices do.
func jp2(data []byte) int {
	if bytes.HasPrefix(data, []byte("\x00\x00\x00\x0cjP  \r\n\x87\n")) {
		return 1
	}
	return 0
}
