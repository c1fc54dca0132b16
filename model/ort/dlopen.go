package ort

// #cgo linux LDFLAGS: -ldl
// #include <dlfcn.h>
// #include <stdlib.h>
//
// // lock and unlock call the CUDA runtime, and return its error code or -1 where that is not there.
// static int lock(const char *library, void *start, size_t bytes) {
//     void *cuda = dlopen(library, RTLD_LAZY | RTLD_LOCAL);
//     int (*f)(void *, size_t, unsigned) = cuda ? dlsym(cuda, "cudaHostRegister") : NULL;
//     return f ? f(start, bytes, 1) : -1; // 1 is cudaHostRegisterPortable: for every context
// }
// static int unlock(const char *library, void *start) {
//     void *cuda = dlopen(library, RTLD_LAZY | RTLD_LOCAL);
//     int (*f)(void *) = cuda ? dlsym(cuda, "cudaHostUnregister") : NULL;
//     return f ? f(start) : -1;
// }
import "C"

import (
	"runtime"
	"unsafe"
)

// cudaRuntime is of the release that the CUDA build of ONNX Runtime is made for, which has loaded it already.
const cudaRuntime = "libcudart.so.13"

// lockPages has CUDA lock memory in place, so that the device reads it without a copy in between, until free. Where CUDA
// refuses, the memory serves as it is. The binding (v1.36.0) can make an allocator of CUDA's own pinned memory, but no tensor in it.
func lockPages(memory []float32) (free func()) {
	library := C.CString(cudaRuntime)
	start := unsafe.Pointer(&memory[0])
	var pins runtime.Pinner
	pins.Pin(start)
	locked := C.lock(library, start, C.size_t(4*len(memory))) == 0
	return func() {
		if locked {
			C.unlock(library, start)
		}
		pins.Unpin()
		C.free(unsafe.Pointer(library))
	}
}
