package ort

// #cgo linux LDFLAGS: -ldl
// #include <dlfcn.h>
// #include <stdlib.h>
//
// // dlerror's text belongs to the thread, so both calls are made from one C function.
// static const char *load(const char *name) { return dlopen(name, RTLD_LAZY | RTLD_LOCAL) ? NULL : dlerror(); }
import "C"

import "unsafe"

// load loads a shared library as the system's loader finds it and returns "", or why it could not.
func load(name string) string {
	c := C.CString(name)
	defer C.free(unsafe.Pointer(c))
	reason := C.load(c)
	if reason == nil {
		return ""
	}
	return C.GoString(reason)
}
