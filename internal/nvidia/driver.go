package nvidia

// #include <stddef.h>
// static int memory(void *f, size_t *bytes, int device) { return ((int (*)(size_t *, int))f)(bytes, device); }
// static int name(void *f, char *text, int length, int device) { return ((int (*)(char *, int, int))f)(text, length, device); }
// static int init(void *f) { return ((int (*)(unsigned))f)(0); }
// static int explain(void *f, int code, const char **text) { return ((int (*)(int, const char **))f)(code, text); }
import "C"

import (
	"fmt"
)

// driverFile is the driver's library: it comes with the driver and not with CUDA.
const driverFile = "libcuda.so.1"

// driverDirs are where containers and Windows' Linux put the driver without telling the loader.
var driverDirs = []string{"/usr/local/nvidia/lib64", "/usr/lib/wsl/lib"}

// oldest is the first release of the driver for a generation of CUDA (CUDA Toolkit release notes, table of driver versions).
var oldest = map[int]string{12: "525", 13: "580"}

// Driver is what the driver says of itself and its devices.
type Driver struct {
	Path    string
	CUDA    int // newest CUDA that it serves, as 1000*major + 10*minor
	Devices []Device
	Err     error // why it cannot be used
}

// Device is one GPU.
type Device struct {
	Name   string
	Memory int64 // bytes
}

// String names the driver and its devices.
func (d Driver) String() string {
	s := fmt.Sprintf("for CUDA %d.%d, %s", d.CUDA/1000, d.CUDA%1000/10, d.Path)
	for i, dev := range d.Devices {
		s += fmt.Sprintf("; device %d: %s, %.1f GiB", i, dev.Name, float64(dev.Memory)/(1<<30))
	}
	return s
}

// examineDriver loads the driver and asks it for its devices. generation is the CUDA that will be used.
func examineDriver(at places, generation int) (d Driver) {
	h, err := at.load(driverFile, driverDirs)
	if err != nil {
		d.Err = problem("install NVIDIA's driver "+oldest[generation]+" or newer; start a container with its GPUs (--gpus all)", "the NVIDIA driver did not load: %w", err)
		return d
	}
	d.Path = h.path()
	if d.CUDA, _, _ = h.output("cuDriverGetVersion"); d.CUDA < 1000*generation {
		d.Err = problem("install NVIDIA's driver "+oldest[generation]+" or newer",
			"the NVIDIA driver (%s) is too old: it serves CUDA %d.%d, and CUDA %d is used", d.Path, d.CUDA/1000, d.CUDA%1000/10, generation)
		return d
	}
	d.Devices, d.Err = h.devices()
	return d
}

func (h handle) devices() ([]Device, error) {
	need := func(name string) error {
		return problem("install NVIDIA's driver anew", "%s has no function %s", h.path(), name)
	}
	start := h.function("cuInit")
	if start == nil {
		return nil, need("cuInit")
	}
	if code := int(C.init(start)); code != 0 {
		return nil, problem(`is there a GPU ("nvidia-smi" lists them), may this user open /dev/nvidia*, and do driver and kernel module have one version?`,
			"the NVIDIA driver did not start: %s", h.explain(code))
	}
	count, code, ok := h.output("cuDeviceGetCount")
	switch {
	case !ok:
		return nil, need("cuDeviceGetCount")
	case code != 0:
		return nil, problem("install NVIDIA's driver anew", "the NVIDIA driver did not count its devices: %s", h.explain(code))
	case count == 0:
		return nil, problem("if CUDA_VISIBLE_DEVICES is set, it hides them", "the NVIDIA driver has no device")
	}
	devices := make([]Device, count)
	name, total := h.function("cuDeviceGetName"), h.function("cuDeviceTotalMem_v2")
	for i := range devices {
		var text [128]C.char
		var bytes C.size_t
		if name != nil && C.name(name, &text[0], C.int(len(text)), C.int(i)) == 0 {
			devices[i].Name = C.GoString(&text[0])
		}
		if total != nil && C.memory(total, &bytes, C.int(i)) == 0 {
			devices[i].Memory = int64(bytes)
		}
	}
	return devices, nil
}

// explain is the driver's text for an error code.
func (h handle) explain(code int) string {
	var text *C.char
	if f := h.function("cuGetErrorString"); f != nil && C.explain(f, C.int(code), &text) == 0 {
		return fmt.Sprintf("%s (%d)", C.GoString(text), code)
	}
	return fmt.Sprintf("error %d", code)
}
