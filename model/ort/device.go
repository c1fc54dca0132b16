package ort

import (
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	onnx "github.com/yalue/onnxruntime_go"

	"github.com/mvmae/mvmae/internal/hint"
)

// The devices a Model can be opened on. Auto takes CUDA where it works, else the CPU; Model.Device says which.
const (
	CPU  = "cpu"
	CUDA = "cuda"
	Auto = "auto"
)

// DeviceError says that the device asked for cannot be had. The programs exit with code 4.
type DeviceError struct {
	Device string
	Err    error
}

func (e *DeviceError) Error() string { return fmt.Sprintf("asked for %s, but %v", e.Device, e.Err) }
func (e *DeviceError) Unwrap() error { return e.Err }

// ExitCode is that of a missing device.
func (e *DeviceError) ExitCode() int { return 4 }

const cudaCure = "put the CUDA build of ONNX Runtime with CUDA 13 and cuDNN 9 on the loader's path, or accept the CPU with --device cpu"

// identity is the smallest model: y = x, float32 [1], opset 17, as an onnx.ModelProto.
const identity = "\x08\x08" + ":7" + "\x0a\x10\x0a\x01x\x12\x01y\x22\x08Identity" + "\x12\x01g" +
	"Z\x0f\x0a\x01x\x12\x0a\x0a\x08\x08\x01\x12\x04\x0a\x02\x08\x01" +
	"b\x0f\x0a\x01y\x12\x0a\x0a\x08\x08\x01\x12\x04\x0a\x02\x08\x01" + "B\x02\x10\x11"

// Probe reports whether a device can be used with the ONNX Runtime at hand: nil, or why not, with the cure. It runs a model
// there, for libraries that load do not say that there is a GPU.
func Probe(device string) error {
	library, err := initialise()
	if err != nil {
		return err
	}
	options, err := onnx.NewSessionOptions()
	if err != nil {
		return fmt.Errorf("probe %s: %w", device, err)
	}
	defer options.Destroy()
	chosen, err := appendDevice(options, device, library)
	if err != nil {
		return err
	}
	err = runIdentity(options)
	switch {
	case err != nil && device == Auto && chosen == CUDA:
		return Probe(CPU)
	case err != nil && chosen == CUDA:
		return hint.Wrap(&DeviceError{CUDA, plain(err)}, "%s", cudaCure)
	case err != nil:
		return fmt.Errorf("probe %s: %w", device, plain(err))
	}
	return nil
}

func runIdentity(options *onnx.SessionOptions) error {
	session, err := onnx.NewDynamicAdvancedSessionWithONNXData([]byte(identity), []string{"x"}, []string{"y"}, options)
	if err != nil {
		return err
	}
	defer session.Destroy()
	var in, out buffers
	defer in.free()
	defer out.free()
	addTensor(&in, []float32{3}, 1)
	y := addTensor(&out, make([]float32, 1), 1)
	if err := errors.Join(in.err, out.err, session.Run(in.values, out.values)); err != nil {
		return err
	}
	if y[0] != 3 {
		return fmt.Errorf("a model that gives back 3 gave %v", y[0])
	}
	return nil
}

// appendDevice adds the execution provider of a device to options and returns the device that was chosen.
func appendDevice(options *onnx.SessionOptions, device, library string) (chosen string, err error) {
	switch device {
	case CPU, "":
		return CPU, nil
	case CUDA:
		return CUDA, appendCUDA(options, library)
	case Auto:
		if appendCUDA(options, library) == nil {
			return CUDA, nil
		}
		return CPU, nil
	}
	return "", fmt.Errorf("unknown device %q: want cpu, cuda or auto", device)
}

// appendCUDA adds CUDA. ONNX Runtime's own error says no more than that a library failed to load, so the file that is
// missing is looked for here.
func appendCUDA(options *onnx.SessionOptions, library string) error {
	missing := func(err error) error { return hint.Wrap(&DeviceError{CUDA, err}, "%s", cudaCure) }
	for _, name := range []string{"libonnxruntime_providers_shared.so", "libonnxruntime_providers_cuda.so"} {
		if _, err := os.Stat(filepath.Join(filepath.Dir(library), name)); err != nil {
			return missing(fmt.Errorf("%s does not lie beside %s", name, library))
		}
	}
	cuda, err := onnx.NewCUDAProviderOptions()
	if err == nil {
		defer cuda.Destroy()
		err = options.AppendExecutionProviderCUDA(cuda)
	}
	if err == nil {
		return nil
	}
	if name := missingDependency(filepath.Join(filepath.Dir(library), "libonnxruntime_providers_cuda.so")); name != nil {
		err = name
	}
	return missing(err)
}

// missingDependency returns why the first of a library's dependencies does not load, or nil. The library itself is not
// loaded: the CUDA provider must be loaded by ONNX Runtime alone, whose functions it calls while it is being loaded.
func missingDependency(path string) error {
	file, err := elf.Open(path)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	defer file.Close()
	names, err := file.ImportedLibraries()
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	for _, name := range names {
		if reason := load(name); reason != "" && load(filepath.Join(filepath.Dir(path), name)) != "" {
			return errors.New(reason)
		}
	}
	return nil
}
