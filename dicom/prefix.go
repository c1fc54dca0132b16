package dicom

import (
	"bytes"
	"compress/flate"
	"errors"
	"io"
)

// Prefix is what the beginning of a file says.
type Prefix struct {
	Header            // the elements that lie in it as a whole, those of File
	TransferSyntaxUID string
	DataSet           int  // where the data set begins in the file: before it are preamble and file meta information
	Whole             bool // whether no element of the header follows: the prefix reaches the pixels or the end of the file
}

// ParsePrefix reads the header of a file of which only the beginning is there, so that a file can be told from others before
// it has arrived, and whatever its size. Pixels are not looked at: [Parse] may refuse a file whose prefix is sound. A prefix
// that does not hold the file meta information is refused as truncated. Of a deflated data set twice
// [Limits.MaxHeaderBytes] are inflated at most.
func ParsePrefix(data []byte, lim Limits) (*Prefix, error) {
	lim = lim.withDefaults()
	lay, err := inspect(data, lim, func(deflated []byte, _ int) ([]byte, error) {
		return inflatePrefix(deflated, 2*lim.MaxHeaderBytes)
	})
	var refusal *Error
	cutOff := errors.As(err, &refusal) && refusal.Code == CodeTruncated
	if lay == nil || err != nil && !lay.found && !cutOff {
		return nil, err
	}
	h, parseErr := lay.parse()
	if parseErr != nil {
		return nil, parseErr
	}
	return &Prefix{Header: h, TransferSyntaxUID: lay.syntax, DataSet: lay.dataset, Whole: err == nil || lay.found}, nil
}

// inflatePrefix inflates as much as there is of a stream that may be cut off, up to limit.
func inflatePrefix(deflated []byte, limit int) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(deflated)), int64(limit)))
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, &Error{CodeMalformed, "the data set is not a deflate stream", err}
	}
	return data, nil
}
