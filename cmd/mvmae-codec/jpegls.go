//go:build cgo && charls

package main

/*
#cgo pkg-config: charls
#include <charls/charls.h>
*/
import "C"

import (
	"bytes"
	"runtime"
	"unsafe"

	"github.com/mvmae/mvmae/dicom"
	"github.com/mvmae/mvmae/dicom/codec/external"
)

func charlsVersion() string { return C.GoString(C.charls_get_version_string()) }

// decodeJPEGLS decodes ISO 14495-1, lossless and near-lossless. Samples have no sign there: the DICOM header decides.
func decodeJPEGLS(r external.Request) (*external.Image, error) {
	// CharLS 2.4 takes many seconds to see that a stream has no end.
	if !bytes.HasSuffix(bytes.TrimRight(r.Data, "\x00"), []byte("\xff\xd9")) {
		return nil, refuse(dicom.CodeTruncated, "the JPEG-LS stream has no end")
	}
	d := C.charls_jpegls_decoder_create()
	if d == nil {
		return nil, refuse(dicom.CodeTooLarge, "CharLS: no memory")
	}
	defer C.charls_jpegls_decoder_destroy(d)
	var pin runtime.Pinner // the decoder keeps pointing at the stream
	pin.Pin(&r.Data[0])
	defer pin.Unpin()
	err := charlsError(C.charls_jpegls_decoder_set_source_buffer(d, unsafe.Pointer(&r.Data[0]), C.size_t(len(r.Data))))
	if err != nil {
		return nil, err
	}
	if err := charlsError(C.charls_jpegls_decoder_read_header(d)); err != nil {
		return nil, err
	}
	var info C.charls_frame_info
	if err := charlsError(C.charls_jpegls_decoder_get_frame_info(d, &info)); err != nil {
		return nil, err
	}
	m := &external.Image{Rows: int(info.height), Columns: int(info.width), Samples: int(info.component_count), Bits: int(info.bits_per_sample)}
	if err := fits(r, m.Rows, m.Columns, m.Samples, m.Bits); err != nil {
		return nil, err
	}
	var mode C.charls_interleave_mode
	if err := charlsError(C.charls_jpegls_decoder_get_interleave_mode(d, &mode)); err != nil {
		return nil, err
	}
	width := (m.Bits + 7) / 8
	m.Data = make([]byte, m.Rows*m.Columns*m.Samples*width)
	err = charlsError(C.charls_jpegls_decoder_decode_to_buffer(d, unsafe.Pointer(&m.Data[0]), C.size_t(len(m.Data)), 0))
	if err != nil {
		return nil, err
	}
	if m.Samples > 1 && mode == C.CHARLS_INTERLEAVE_MODE_NONE {
		m.Data = byPixel(m.Data, m.Samples, width)
	}
	return m, nil
}

func charlsError(code C.charls_jpegls_errc) error {
	if code == 0 {
		return nil
	}
	return refuse(dicom.CodeMalformed, "CharLS: %s", C.GoString(C.charls_get_error_message(code)))
}

// byPixel turns planes into pixels.
func byPixel(planes []byte, samples, width int) []byte {
	out := make([]byte, len(planes))
	n := len(planes) / samples / width
	for s := range samples {
		for i := range n {
			copy(out[(i*samples+s)*width:][:width], planes[(s*n+i)*width:])
		}
	}
	return out
}
