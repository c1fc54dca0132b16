package libs

import (
	"fmt"

	"github.com/mvmae/mvmae/internal/hint"
)

// A Library is something to load at run time, under the name people know it by.
type Library string

const (
	ONNXRuntime Library = "ONNX Runtime"
	// ONNXRuntimeCUDA is the same with its part for CUDA. Only the table tells them apart: in a folder it is ONNXRuntime.
	ONNXRuntimeCUDA Library = "ONNX Runtime for CUDA"
	PJRTCPU         Library = "the XLA plugin for the CPU"
	PJRTCUDA        Library = "the XLA plugin for CUDA"
)

// A Pin is one Python wheel that carries a library for one platform. A wheel is only a zip file here: no Python runs it.
type Pin struct {
	Library      Library
	GOOS, GOARCH string
	Package      string // name in the Python package index
	Version      string
	Platform     string // pip's --platform
	SHA256       string // of the wheel
	Files        []PinnedFile
}

// A PinnedFile is a member of a wheel and the name it is stored under.
type PinnedFile struct {
	Member string
	Name   string
	SHA256 string
}

// pins is the table of libraries by platform. Every digest was taken from the downloaded wheel; linux/amd64 is the platform
// the tests run on, the other rows and CUDA's have not been run. What has no row cannot be fetched: see Pins.
var pins = []Pin{
	{
		Library: ONNXRuntime, GOOS: "linux", GOARCH: "amd64",
		Package: "onnxruntime", Version: "1.31.1", Platform: "manylinux_2_28_x86_64",
		SHA256: "5752bd508126ae7c49894d3b9d2e83f0c3d487319246d04c444b393308d7ad7f",
		Files: []PinnedFile{
			{"onnxruntime/capi/libonnxruntime.so.1.31.1", "libonnxruntime.so", "fc44112fbe06d7d689c57e11d3862031f64711007e4ee020f8eed5185fd2c1d3"},
			{"onnxruntime/capi/libonnxruntime_providers_shared.so", "libonnxruntime_providers_shared.so", "086ec1d5388f64153d9c63470d126693db9a182c8ce236d3a1119068471b8a0d"},
		},
	},
	{
		Library: PJRTCPU, GOOS: "linux", GOARCH: "amd64",
		Package: "fastatomstruct-xla-cpu", Version: "2026.6.23", Platform: "manylinux_2_27_x86_64",
		SHA256: "88b1c430b341b4bea40a37420311c9c75db6e22b46d2ff95b6986577bee6afe9",
		Files: []PinnedFile{
			{"fastatomstruct_xla_cpu/libpjrt_cpu.so", "pjrt_c_api_cpu_plugin.so", "0a0fe56ca17be9efc7b942e89e534e5e0ad4a0f1e369b66d27b62184509015b9"},
		},
	},
	{
		Library: ONNXRuntimeCUDA, GOOS: "linux", GOARCH: "amd64",
		Package: "onnxruntime-gpu", Version: "1.31.1", Platform: "manylinux_2_28_x86_64",
		SHA256: "e26c475fe361b2015f45b4b824bd13f0bb20204e59b62814e6f0acd5f3d491a6",
		Files: []PinnedFile{
			{"onnxruntime/capi/libonnxruntime.so.1.31.1", "libonnxruntime.so", "5104254339ecadae808da771bd0b63b240f0dbd466514234905e54372435c303"},
			{"onnxruntime/capi/libonnxruntime_providers_shared.so", "libonnxruntime_providers_shared.so", "086ec1d5388f64153d9c63470d126693db9a182c8ce236d3a1119068471b8a0d"},
			{"onnxruntime/capi/libonnxruntime_providers_cuda.so", "libonnxruntime_providers_cuda.so", "d5290158115fa5569a3fe8f1f4037ee9b0e86658a96e52f852bbb7039aa88137"},
		},
	},
	{
		Library: ONNXRuntime, GOOS: "linux", GOARCH: "arm64",
		Package: "onnxruntime", Version: "1.31.1", Platform: "manylinux_2_28_aarch64",
		SHA256: "da05378364c44d4407e463982d2bf8d5e4cfea873283757e48beeb41df97b7f3",
		Files: []PinnedFile{
			{"onnxruntime/capi/libonnxruntime.so.1.31.1", "libonnxruntime.so", "8aa3b76b28c778a2b1dd660d34161adb1d508c9ccd04ff9dc80e26eca5df8467"},
			{"onnxruntime/capi/libonnxruntime_providers_shared.so", "libonnxruntime_providers_shared.so", "3b6be288fbfb7dff8770d08a23defdde18e8f7e0f5a2b344a0e5e238c999ea88"},
		},
	},
	{
		Library: ONNXRuntime, GOOS: "darwin", GOARCH: "arm64",
		Package: "onnxruntime", Version: "1.31.1", Platform: "macosx_14_0_arm64",
		SHA256: "60b6b69bfe580eab576cacc5d132a0e9cf2a37fcfd18d46dd191042b1d1ed0d7",
		Files: []PinnedFile{
			{"onnxruntime/capi/libonnxruntime.1.31.1.dylib", "libonnxruntime.dylib", "f8b06155feece624e55e49124340eea279da812529ae6fbc46a9f2be9c9cad2e"},
		},
	},
}

// PinOf returns the pinned wheel of a library for a platform. Without one the error's hint says how to supply the library.
func PinOf(lib Library, goos, goarch string) (Pin, error) {
	for _, p := range pins {
		if p.Library == lib && p.GOOS == goos && p.GOARCH == goarch {
			return p, nil
		}
	}
	return Pin{}, hint.Wrap(fmt.Errorf("no pinned package holds %s for %s/%s", lib, goos, goarch), "%s", supply(lib, goos))
}

// supply says how to bring a library that no pin covers.
func supply(lib Library, goos string) string {
	name := fileNames(lib, goos)[0]
	switch lib {
	case PJRTCPU:
		return fmt.Sprintf("install the CPU plugin with GoMLX's own installer, or put a %s in a folder and name that folder in MVMAE_RUNTIME", name)
	case PJRTCUDA:
		return fmt.Sprintf("install the Python packages jax-cuda13-pjrt and jax-cuda13-plugin[with-cuda] and name their site-packages, or the folder of a %s, in MVMAE_RUNTIME", name)
	}
	return fmt.Sprintf("put %s in a folder and name that folder in MVMAE_RUNTIME", name)
}

// fileNames returns the file names a library goes by, the preferred one first; * stands for a version. Those with a folder are
// for a Python's site-packages.
func fileNames(lib Library, goos string) []string {
	ext := ".so"
	if goos == "darwin" {
		ext = ".dylib"
	}
	switch lib {
	case ONNXRuntime, ONNXRuntimeCUDA:
		if goos == "darwin" {
			return []string{"libonnxruntime.dylib", "libonnxruntime.*.dylib"}
		}
		return []string{"libonnxruntime.so", "libonnxruntime.so.*", "onnxruntime/capi/libonnxruntime.so.*"}
	case PJRTCPU:
		return []string{"pjrt_c_api_cpu_plugin" + ext, "pjrt_c_api_cpu_*_plugin" + ext}
	case PJRTCUDA:
		return []string{"pjrt_c_api_cuda_plugin" + ext, "xla_cuda_plugin" + ext, "jax_plugins/*/xla_cuda_plugin" + ext}
	}
	panic("libs: no such library: " + string(lib))
}
