package dicom

import "fmt"

// Limits bound what one file may cost. The zero value of a field means its default.
type Limits struct {
	// MaxBytes is the size of the file, and of its data set once inflated. Default 256 MiB: five times the largest
	// radiograph in use (a 24 megapixel, 16-bit detector).
	MaxBytes int
	// MaxHeaderBytes is the size of all elements that are kept, that is, without pixels, overlays and private data.
	// Parsing takes up to 20 times as much memory. Default 4 MiB.
	MaxHeaderBytes int
	// MaxElements counts elements and items at every level. Default 100,000.
	MaxElements int
	// MaxDepth is how deep sequences may be nested. Default 12.
	MaxDepth int
	// MaxPixels is Rows x Columns of one frame. Default 64 Mi.
	MaxPixels int
	// MaxFrames is NumberOfFrames; only the first is ever decoded. Default 1,000.
	MaxFrames int
}

// DefaultLimits returns the documented defaults.
func DefaultLimits() Limits {
	return Limits{
		MaxBytes:       256 << 20,
		MaxHeaderBytes: 4 << 20,
		MaxElements:    100_000,
		MaxDepth:       12,
		MaxPixels:      64 << 20,
		MaxFrames:      1000,
	}
}

func (l Limits) withDefaults() Limits {
	d := DefaultLimits()
	for _, f := range []struct{ value, fallback *int }{
		{&l.MaxBytes, &d.MaxBytes}, {&l.MaxHeaderBytes, &d.MaxHeaderBytes}, {&l.MaxElements, &d.MaxElements},
		{&l.MaxDepth, &d.MaxDepth}, {&l.MaxPixels, &d.MaxPixels}, {&l.MaxFrames, &d.MaxFrames},
	} {
		if *f.value == 0 {
			*f.value = *f.fallback
		}
	}
	return l
}

// Code says why a file was refused. The codes are stable: programs and callers of the server branch on them.
type Code string

const (
	CodeNotDICOM          Code = "not_dicom"                   // no preamble and "DICM"
	CodeTruncated         Code = "truncated"                   // the file ends before its lengths say so
	CodeUnsupportedSyntax Code = "unsupported_transfer_syntax" // unknown, or one that nothing here decodes
	CodeTooLarge          Code = "too_large"                   // past one of Limits
	CodeMalformed         Code = "malformed"                   // breaks the encoding rules
	CodeNoPixelData       Code = "no_pixel_data"               // not an image
	CodeUnsupportedPixels Code = "unsupported_pixels"          // pixels of a kind that is not decoded
	CodeDecoderFailed     Code = "decoder_failed"              // the process that decodes it died, hung or was cut off
)

// Error is a refusal. Detail names tags, lengths and limits, never a value that could identify a patient.
type Error struct {
	Code   Code
	Detail string
	// Err is the cause, if another package gave one. Its text is not part of Error's: the parser quotes values.
	Err error
}

func (e *Error) Error() string { return string(e.Code) + ": " + e.Detail }
func (e *Error) Unwrap() error { return e.Err }

func refuse(code Code, format string, args ...any) error {
	return &Error{Code: code, Detail: fmt.Sprintf(format, args...)}
}
