package ort

// #include <stdlib.h>
// #ifdef __GLIBC__
// #include <malloc.h>
// static void trim(void) { malloc_trim(0); }
// #else
// static void trim(void) {}
// #endif
import "C"

import (
	"fmt"
	"io"
	"math"
	"os"
	"syscall"
)

// trim gives the system back what ONNX Runtime has freed. The C library keeps it else: 50 MB of a ViT-B in int8 after it was
// opened, and with every model that is opened and closed some more.
func trim() { C.trim() }

// readFile reads a file outside Go's heap, which would keep its memory for minutes after a model was made of it, and let
// garbage of half that size gather. The file itself is not mapped: one that is written over meanwhile would end the process.
func readFile(path string) (data []byte, free func(), err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, nil, err
	}
	size := info.Size()
	if !info.Mode().IsRegular() || size > math.MaxInt32 { // the most that an ONNX file may have
		return nil, nil, fmt.Errorf("read %s: not a file of at most 2 GiB", path)
	}
	if size == 0 {
		return nil, func() {}, nil
	}
	data, err = syscall.Mmap(-1, 0, int(size), syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		return nil, nil, fmt.Errorf("read %s: %w", path, err)
	}
	free = func() { _ = syscall.Munmap(data) }
	if _, err := io.ReadFull(f, data); err != nil {
		free()
		return nil, nil, fmt.Errorf("read %s: %w", path, err)
	}
	return data, free, nil
}
