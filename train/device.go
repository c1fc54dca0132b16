package train

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"github.com/gomlx/compute"
	"github.com/gomlx/go-xla/compute/xla"
	"github.com/gomlx/go-xla/pjrt"

	"github.com/mvmae/mvmae/internal/hint"
	"github.com/mvmae/mvmae/internal/libs"
)

// Device is where graphs are compiled and run: one XLA client.
type Device struct {
	Backend      compute.Backend
	Kind         string // cpu or cuda
	Plugin       string // path of the PJRT plugin
	PluginDigest string // its SHA-256: results repeat bit for bit only under the same plugin
	Count        int    // devices over which a training step is spread
	// MemoryBytes is what a training step may take; 0 for what the system has free. A step that is planned to take more is refused.
	MemoryBytes int64
}

// OpenDevice opens "cpu", "cuda", or with "auto" CUDA where its plugin is found, else the CPU. Asked for CUDA it never
// falls back: the error says what is missing.
func OpenDevice(kind string) (*Device, error) { return OpenDevices(kind, 1) }

// OpenDevices opens n devices of a kind. On the CPU they are n clients' worth of the same cores: for tests.
func OpenDevices(kind string, n int) (*Device, error) {
	if n < 1 || n > 1<<10 {
		return nil, fmt.Errorf("open device: %d devices: want 1 to 1024", n)
	}
	switch kind {
	case "cpu":
		return openPlugin("cpu", libs.PJRTCPU, n)
	case "cuda":
		return openPlugin("cuda", libs.PJRTCUDA, n)
	case "auto":
		dev, err := openPlugin("cuda", libs.PJRTCUDA, n)
		var missing *libs.MissingError
		if errors.As(err, &missing) {
			return openPlugin("cpu", libs.PJRTCPU, n)
		}
		return dev, err
	}
	return nil, fmt.Errorf("unknown device %q: want cpu, cuda or auto", kind)
}

func openPlugin(kind string, lib libs.Library, n int) (*Device, error) {
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
	var options pjrt.NamedValuesMap
	if kind == "cpu" && n > 1 {
		options = pjrt.NamedValuesMap{"cpu_device_count": int64(n)}
	}
	backend, err := xla.NewWithOptions(path, options)
	if err != nil {
		err = fmt.Errorf("open device %s with %s: %w", kind, path, err)
		if kind == "cuda" {
			err = hint.Wrap(err, "check the driver and the CUDA libraries, or accept the CPU with --device cpu")
		}
		return nil, err
	}
	if got := backend.NumDevices(); got < n {
		return nil, hint.Wrap(fmt.Errorf("open device %s: %d devices of %d wanted", kind, got, n), "use --devices %d", got)
	}
	return &Device{Backend: &planner{Backend: backend}, Kind: kind, Plugin: path, PluginDigest: digest, Count: n}, nil
}

// String names the device for logs and run folders.
func (d *Device) String() string {
	kind := d.Kind
	if d.Count > 1 {
		kind = fmt.Sprintf("%d x %s", d.Count, d.Kind)
	}
	return fmt.Sprintf("%s (%s/%s)", kind, runtime.GOOS, runtime.GOARCH)
}
