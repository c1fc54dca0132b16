package nvidia

// #cgo linux LDFLAGS: -ldl
// #define _GNU_SOURCE
// #include <dlfcn.h>
// #include <stddef.h>
// #include <stdlib.h>
// #ifdef __linux__
// #include <link.h>
// static const char *origin(void *lib) { struct link_map *m; return dlinfo(lib, RTLD_DI_LINKMAP, &m) == 0 ? m->l_name : ""; }
// #else
// static const char *origin(void *lib) { return ""; }
// #endif
// // dlerror's text belongs to the thread, so both calls are made from one C function.
// static void *open_library(const char *name, const char **reason) {
//     void *lib = dlopen(name, RTLD_LAZY | RTLD_LOCAL);
//     if (!lib) *reason = dlerror();
//     return lib;
// }
// static size_t call0(void *f) { return ((size_t (*)(void))f)(); }
// static int call1(void *f, void *a) { return ((int (*)(void *))f)(a); }
// // What GetPjrtApi returns begins so: pjrt_c_api.h, PJRT_Api and PJRT_Api_Version.
// struct api { size_t size; void *extensions; struct { size_t size; void *extensions; int major, minor; } version; };
// static void api_version(void *f, int *major, int *minor) {
//     struct api *a = ((struct api *(*)(void))f)();
//     *major = a->version.major;
//     *minor = a->version.minor;
// }
import "C"

import (
	"errors"
	"fmt"
	"unsafe"
)

// handle is a loaded library. It is never unloaded: others use it.
type handle struct{ lib unsafe.Pointer }

// open loads a library by path, or by name as the system's loader finds it.
func open(name string) (handle, error) {
	c := C.CString(name)
	defer C.free(unsafe.Pointer(c))
	var reason *C.char
	lib := C.open_library(c, &reason)
	if lib == nil {
		return handle{}, errors.New(C.GoString(reason))
	}
	return handle{lib}, nil
}

// Open loads a library, so that whoever asks for it by its name later gets it.
func Open(path string) error {
	_, err := open(path)
	return err
}

// path is the file that the library was loaded from.
func (h handle) path() string { return C.GoString(C.origin(h.lib)) }

// function returns the address of a function, nil if the library has none of that name.
func (h handle) function(name string) unsafe.Pointer {
	c := C.CString(name)
	defer C.free(unsafe.Pointer(c))
	return C.dlsym(h.lib, c)
}

// number calls a function that returns a size_t and takes nothing.
func (h handle) number(name string) (int, bool) {
	f := h.function(name)
	if f == nil {
		return 0, false
	}
	return int(C.call0(f)), true
}

// output calls a function that returns a status and puts an int where its argument points.
func (h handle) output(name string) (value, status int, ok bool) {
	f := h.function(name)
	if f == nil {
		return 0, 0, false
	}
	var v C.int
	status = int(C.call1(f, unsafe.Pointer(&v)))
	return int(v), status, true
}

// PluginVersion loads a PJRT plugin and returns the version of the interface that it speaks.
func PluginVersion(path string) (string, error) {
	h, err := open(path)
	if err != nil {
		return "", err
	}
	f := h.function("GetPjrtApi")
	if f == nil {
		return "", fmt.Errorf("%s is not a PJRT plugin: it has no GetPjrtApi", path)
	}
	var major, minor C.int
	C.api_version(f, &major, &minor)
	return fmt.Sprintf("%d.%d", major, minor), nil
}
