package ort

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	onnx "github.com/yalue/onnxruntime_go"

	"github.com/mvmae/mvmae/internal/hint"
	"github.com/mvmae/mvmae/internal/nvidia"
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

const (
	cudaCure   = `run "make runtime-cuda", which fetches ONNX Runtime's build for CUDA, or accept the CPU with --device cpu`
	deviceCure = `its libraries are there: does "nvidia-smi" show the GPU, and free memory? --device cpu does without`
)

// identity is the smallest model: y = x, float32 [1], opset 17, as an onnx.ModelProto.
const identity = "\x08\x08" + ":7" + "\x0a\x10\x0a\x01x\x12\x01y\x22\x08Identity" + "\x12\x01g" +
	"Z\x0f\x0a\x01x\x12\x0a\x0a\x08\x08\x01\x12\x04\x0a\x02\x08\x01" +
	"b\x0f\x0a\x01y\x12\x0a\x0a\x08\x08\x01\x12\x04\x0a\x02\x08\x01" + "B\x02\x10\x11"

// Probe reports whether a device can be used with the ONNX Runtime at hand: nil, or why not, with the cure. It runs a model
// there, for libraries that load do not say that there is a GPU.
func Probe(device string) error {
	if _, err := initialise(); err != nil {
		return err
	}
	options, err := onnx.NewSessionOptions()
	if err != nil {
		return fmt.Errorf("probe %s: %w", device, err)
	}
	defer options.Destroy()
	chosen, err := appendDevice(options, device)
	if err != nil {
		return err
	}
	err = runIdentity(options)
	switch {
	case err != nil && device == Auto && chosen == CUDA:
		return Probe(CPU)
	case err != nil && chosen == CUDA:
		return hint.Wrap(&DeviceError{CUDA, plain(err)}, "%s", deviceCure)
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
func appendDevice(options *onnx.SessionOptions, device string) (chosen string, err error) {
	switch device {
	case CPU, "":
		return CPU, nil
	case CUDA:
		return CUDA, appendCUDA(options)
	case Auto:
		if appendCUDA(options) == nil {
			return CUDA, nil
		}
		return CPU, nil
	}
	return "", fmt.Errorf("unknown device %q: want cpu, cuda or auto", device)
}

// CUDAProvider is the path of ONNX Runtime's part for CUDA, which lies beside the library.
func CUDAProvider() (string, error) {
	library, err := initialise()
	if err != nil {
		return "", err
	}
	const provider = "libonnxruntime_providers_cuda.so"
	for _, name := range []string{"libonnxruntime_providers_shared.so", provider} {
		if _, err := os.Stat(filepath.Join(filepath.Dir(library), name)); err != nil {
			return "", hint.Wrap(&DeviceError{CUDA, fmt.Errorf("%s does not lie beside %s", name, library)}, "%s", cudaCure)
		}
	}
	return filepath.Join(filepath.Dir(library), provider), nil
}

// appendCUDA adds CUDA. ONNX Runtime's own error says no more than that a library failed to load, so what it needs is loaded
// before, and named if it does not load.
func appendCUDA(options *onnx.SessionOptions) error {
	provider, err := CUDAProvider()
	if err != nil {
		return err
	}
	if err := nvidia.Load(nvidia.ONNXRuntime, provider).Err(); err != nil {
		return &DeviceError{CUDA, err}
	}
	cuda, err := onnx.NewCUDAProviderOptions()
	if err == nil {
		defer cuda.Destroy()
		// Its default is the 10-bit mantissa of TF32 for float32's products: not what the exporter has compared with the trainer.
		if err = cuda.Update(map[string]string{"use_tf32": "0"}); err == nil {
			err = options.AppendExecutionProviderCUDA(cuda)
		}
	}
	if err != nil {
		return hint.Wrap(&DeviceError{CUDA, plain(err)}, "%s", deviceCure)
	}
	return nil
}
