package train

import (
	"fmt"
	"os"
	"runtime"
	"strings"

	"github.com/gomlx/compute"
	"github.com/gomlx/go-xla/compute/xla"
	"github.com/gomlx/go-xla/pjrt"

	"github.com/mvmae/mvmae/internal/hint"
	"github.com/mvmae/mvmae/internal/libs"
	"github.com/mvmae/mvmae/internal/nvidia"
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

// OpenDevice opens "cpu", "cuda", or with "auto" CUDA where there are its plugin and a driver with a device, else the CPU. Asked
// for CUDA it never falls back: the error says what is missing.
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
		if path, err := libs.Find(libs.PJRTCUDA); err == nil && nvidia.Load(nvidia.XLA, path).Driver.Err == nil {
			return openPlugin("cuda", libs.PJRTCUDA, n)
		}
		return openPlugin("cpu", libs.PJRTCPU, n)
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
	xla.EnableAutoInstall(false)
	var options pjrt.NamedValuesMap
	switch {
	case kind == "cuda":
		if options, err = prepareCUDA(path); err != nil {
			return nil, fmt.Errorf("open device %s: %w", kind, err)
		}
	case n > 1:
		options = pjrt.NamedValuesMap{"cpu_device_count": int64(n)}
	}
	backend, err := xla.NewWithOptions(path, options)
	if err != nil {
		err = fmt.Errorf("open device %s with %s: %w", kind, path, err)
		if kind == "cuda" {
			err = hint.Wrap(err, `"mvmae-serve doctor --device cuda" lists what CUDA needs; --device cpu does without`)
		}
		return nil, err
	}
	backend.DotGeneralUseTF32 = false // its default on CUDA: float32 with a mantissa of 10 bits. "float32" means float32 everywhere
	if got := backend.NumDevices(); got < n {
		return nil, hint.Wrap(fmt.Errorf("open device %s: %d devices of %d wanted", kind, got, n), "use --devices %d", got)
	}
	return &Device{Backend: &planner{Backend: backend}, Kind: kind, Plugin: path, PluginDigest: digest, Count: n}, nil
}

// memoryFraction is the share of a GPU's memory that XLA may take, bit by bit as it needs it. Its default of 0.75 is meant for
// GPUs that are shared; the rest is for the driver and the workspaces of libraries.
const memoryFraction = float32(0.92)

// prepareCUDA loads what the plugin needs and tells XLA where it is.
func prepareCUDA(plugin string) (pjrt.NamedValuesMap, error) {
	if err := nvidia.Load(nvidia.XLA, plugin).Err(); err != nil {
		return nil, err
	}
	const flags, folder = "XLA_FLAGS", "--xla_gpu_cuda_data_dir"
	if dir := nvidia.DataDir(plugin); dir != "" && !strings.Contains(os.Getenv(flags), folder) {
		os.Setenv(flags, strings.TrimSpace(os.Getenv(flags)+" "+folder+"="+dir))
	}
	os.Setenv("GOPJRT_CUDA_CHECKS", "no") // go-xla's own search for the same folder, one level too high, which warns
	return pjrt.NamedValuesMap{"memory_fraction": memoryFraction}, nil
}

// String names the device for logs and run folders.
func (d *Device) String() string {
	kind := d.Kind
	if d.Count > 1 {
		kind = fmt.Sprintf("%d x %s", d.Count, d.Kind)
	}
	return fmt.Sprintf("%s (%s/%s)", kind, runtime.GOOS, runtime.GOARCH)
}
