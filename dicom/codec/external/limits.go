package external

import (
	"fmt"

	"github.com/mvmae/mvmae/dicom"
)

// limits are what a process may take for one image.
type limits struct{ threads, mebiBytes, seconds int }

// Memory: 64 MiB and 8 bytes for each sample, the code stream included. Measured (docs/decisions.md): OpenJPEG takes 4 bytes a sample and the code stream once more, CharLS 2.
const (
	fixedMiB       = 64
	bytesPerSample = 8
	ownMiB         = 8 // of the fixed ones: the program's and the libraries' code
)

// Processor time: 2 s, and more only for bytes. That is four times what an honest code stream takes here: 9 MB a second. What
// there is beside, 24 ms for a million samples, fits into the 2 s.
const (
	leastSeconds   = 2
	bytesPerSecond = 9_000_000 / 4
)

// maxThreads bounds the threads' stacks.
const maxThreads = 16

// limits are those of a sound request; it is refused if there are none it could be decoded in.
func (r Request) limits(threads int) (limits, error) {
	samples := r.Rows * r.Columns * r.Samples
	memory := (fixedMiB-ownMiB)<<20 + bytesPerSample*samples - len(r.Data)
	if need := bytesPerSample/2*samples + len(r.Data); need > memory {
		return limits{}, &dicom.Error{Code: dicom.CodeTooLarge, Detail: fmt.Sprintf("a code stream of %d bytes for %d samples", len(r.Data), samples)}
	}
	return limits{threads: threads, mebiBytes: memory >> 20, seconds: leastSeconds + len(r.Data)/bytesPerSecond}, nil
}
