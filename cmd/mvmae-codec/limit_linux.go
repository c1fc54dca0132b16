package main

import (
	"os"
	"strconv"
	"strings"
	"syscall"

	"github.com/mvmae/mvmae/dicom/codec/external"
)

// What one image may take beside its code stream. Measured on 3000 x 2500 pixels of 16 bits, OpenJPEG takes 4 bytes a sample, 2
// more when there are several, and CharLS 2; a code stream of a few large tiles holds one of them twice. A thread's stack
// is 8 MiB.
const (
	fixedBytes     = 64 << 20
	bytesPerSample = 8
	bytesPerThread = 16 << 20
)

// limit holds the process to what one image may need, for good: memory, processor time, no more files, no core dump (it
// would hold a patient's image). RLIMIT_DATA counts what is written to; RLIMIT_AS would also count the address space that
// Go reserves and never uses.
func limit(r external.Request, length int) error {
	used, err := dataBytes()
	if err != nil {
		return err
	}
	memory := used + fixedBytes + bytesPerSample*uint64(r.Rows*r.Columns*r.Samples) + 2*uint64(length) + bytesPerThread*uint64(r.Threads)
	for _, l := range []struct {
		resource int
		value    uint64
	}{
		{syscall.RLIMIT_DATA, memory},
		{syscall.RLIMIT_CPU, uint64(r.Seconds)},
		{syscall.RLIMIT_FSIZE, 0},
		{syscall.RLIMIT_CORE, 0},
		{syscall.RLIMIT_NOFILE, 0}, // those open stay open
	} {
		if err := syscall.Setrlimit(l.resource, &syscall.Rlimit{Cur: l.value, Max: l.value}); err != nil {
			return os.NewSyscallError("setrlimit", err)
		}
	}
	return nil
}

// dataBytes is what RLIMIT_DATA counts already.
func dataBytes() (uint64, error) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(status), "VmData:")
	line, _, _ := strings.Cut(rest, "kB")
	kib, err := strconv.ParseUint(strings.TrimSpace(line), 10, 64)
	return kib << 10, err
}
