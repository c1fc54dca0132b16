package train

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"github.com/gomlx/compute"
	"github.com/gomlx/go-xla/compute/xla"

	"github.com/mvmae/mvmae/internal/hint"
	"github.com/mvmae/mvmae/internal/libs"
)

// Device is where graphs are compiled and run: one XLA client.
type Device struct {
	Backend      compute.Backend
	Kind         string // cpu or cuda
	Plugin       string // path of the PJRT plugin
	PluginDigest string // its SHA-256: results repeat bit for bit only under the same plugin
}

// OpenDevice opens "cpu", "cuda", or with "auto" CUDA where its plugin is found, else the CPU. Asked for CUDA it never
// falls back: the error says what is missing.
func OpenDevice(kind string) (*Device, error) {
	switch kind {
	case "cpu":
		return openPlugin("cpu", libs.PJRTCPU)
	case "cuda":
		return openPlugin("cuda", libs.PJRTCUDA)
	case "auto":
		dev, err := openPlugin("cuda", libs.PJRTCUDA)
		var missing *libs.MissingError
		if errors.As(err, &missing) {
			return openPlugin("cpu", libs.PJRTCPU)
		}
		return dev, err
	}
	return nil, fmt.Errorf("unknown device %q: want cpu, cuda or auto", kind)
}

func openPlugin(kind string, lib libs.Library) (*Device, error) {
	path, err := libs.Find(lib)
	if err != nil {
		return nil, fmt.Errorf("open device %s: %w", kind, err)
	}
	digest, err := libs.Digest(path)
	if err != nil {
		return nil, fmt.Errorf("open device %s: %w", kind, err)
	}
	// The TensorFlow runtime inside the plugin logs its start; 2 keeps errors.
	if _, set := os.LookupEnv("TF_CPP_MIN_LOG_LEVEL"); !set {
		os.Setenv("TF_CPP_MIN_LOG_LEVEL", "2")
	}
	xla.EnableAutoInstall(false)
	backend, err := xla.New(path)
	if err != nil {
		err = fmt.Errorf("open device %s with %s: %w", kind, path, err)
		if kind == "cuda" {
			err = hint.Wrap(err, "check the driver and the CUDA libraries, or accept the CPU with --device cpu")
		}
		return nil, err
	}
	return &Device{Backend: backend, Kind: kind, Plugin: path, PluginDigest: digest}, nil
}

// String names the device for logs and run folders.
func (d *Device) String() string {
	return fmt.Sprintf("%s (%s/%s)", d.Kind, runtime.GOOS, runtime.GOARCH)
}
