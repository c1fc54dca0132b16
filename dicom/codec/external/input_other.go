//go:build !linux

package external

import (
	"bytes"
	"encoding/binary"
	"io"
)

// input goes through a pipe.
func (r Request) input(l limits) (io.ReadCloser, error) {
	var header bytes.Buffer
	binary.Write(&header, binary.LittleEndian, r.header(l))
	return io.NopCloser(io.MultiReader(&header, bytes.NewReader(r.Data))), nil
}
