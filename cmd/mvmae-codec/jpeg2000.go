//go:build cgo && openjpeg

package main

/*
#cgo pkg-config: libopenjp2
#include "jpeg2000.h"
*/
import "C"

import (
	"bytes"
	"runtime"
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
	var pin runtime.Pinner // the library keeps pointing at the stream
	pin.Pin(&r.Data[0])
	defer pin.Unpin()
	d := C.j2k_open(unsafe.Pointer(&r.Data[0]), C.size_t(len(r.Data)), C.int(jp2(r.Data)), C.int(r.Threads))
	if d == nil {
		return nil, refuse(dicom.CodeTooLarge, "OpenJPEG: no memory")
	}
	// It is never closed: the samples lie in it, and the process ends with them.
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
	samples := C.j2k_samples(d)
	if samples == nil {
		return nil, refuse(dicom.CodeTooLarge, "OpenJPEG: no memory")
	}
	m.Data = unsafe.Slice((*byte)(unsafe.Pointer(samples)), m.Rows*m.Columns*m.Samples*((m.Bits+7)/8))
	return m, nil
}

// jp2 says (1 or 0) whether a JP2 file is wrapped around the code stream, which PS3.5 A.4.4 forbids and some devices do.
func jp2(data []byte) int {
	if bytes.HasPrefix(data, []byte("\x00\x00\x00\x0cjP  \r\n\x87\n")) {
		return 1
	}
	return 0
}
