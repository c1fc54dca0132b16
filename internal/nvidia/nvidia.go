package nvidia

import (
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/mvmae/mvmae/internal/hint"
	"github.com/mvmae/mvmae/internal/libs"
)

// A User is what needs the libraries.
type User string

const (
	XLA         User = "XLA"
	ONNXRuntime User = "ONNX Runtime"
)

// library is one of CUDA's, under the two generations' names: 12 and 13.
type library struct {
	name     string
	files    [2]string
	packages [2]string // Python packages that hold it
	users    []User
	version  func(handle) string // nil: it does not tell, or nobody asks
	parts    []string            // files that it loads by itself, from its own folder
	several  bool                // needed for several devices only
}

var both = []User{XLA, ONNXRuntime}

// libraries lists them, each after those that it needs itself. XLA's are those that JAX loads for the same plugin
// (jax_plugins/xla_cuda13/__init__.py of jax-cuda13-pjrt 0.11.2), but for what profiles and what few sharding strategies use; ONNX Runtime's
// are those of its wheel's preload_dlls (onnxruntime-gpu 1.31.1).
var libraries = []library{
	{"CUDA runtime", [2]string{"libcudart.so.12", "libcudart.so.13"}, [2]string{"nvidia-cuda-runtime-cu12", "nvidia-cuda-runtime"}, both, runtimeVersion, nil, false},
	{"NVRTC", [2]string{"libnvrtc.so.12", "libnvrtc.so.13"}, [2]string{"nvidia-cuda-nvrtc-cu12", "nvidia-cuda-nvrtc"}, both, nil, nil, false},
	{"nvJitLink", [2]string{"libnvJitLink.so.12", "libnvJitLink.so.13"}, [2]string{"nvidia-nvjitlink-cu12", "nvidia-nvjitlink"}, both, nil, nil, false},
	{"cuBLASLt", [2]string{"libcublasLt.so.12", "libcublasLt.so.13"}, [2]string{"nvidia-cublas-cu12", "nvidia-cublas"}, both, ltVersion, nil, false},
	{"cuBLAS", [2]string{"libcublas.so.12", "libcublas.so.13"}, [2]string{"nvidia-cublas-cu12", "nvidia-cublas"}, both, nil, nil, false},
	{"cuFFT", [2]string{"libcufft.so.11", "libcufft.so.12"}, [2]string{"nvidia-cufft-cu12", "nvidia-cufft"}, both, nil, nil, false},
	{"cuRAND", [2]string{"libcurand.so.10", "libcurand.so.10"}, [2]string{"nvidia-curand-cu12", "nvidia-curand"}, []User{ONNXRuntime}, nil, nil, false},
	{"cuSPARSE", [2]string{"libcusparse.so.12", "libcusparse.so.12"}, [2]string{"nvidia-cusparse-cu12", "nvidia-cusparse"}, []User{XLA}, nil, nil, false},
	{"cuSOLVER", [2]string{"libcusolver.so.11", "libcusolver.so.12"}, [2]string{"nvidia-cusolver-cu12", "nvidia-cusolver"}, []User{XLA}, nil, nil, false},
	{"cuDNN", [2]string{"libcudnn.so.9", "libcudnn.so.9"}, [2]string{"nvidia-cudnn-cu12", "nvidia-cudnn-cu13"}, both, cudnnVersion, []string{
		"libcudnn_graph.so.9", "libcudnn_ops.so.9", "libcudnn_heuristic.so.9", "libcudnn_engines_precompiled.so.9", "libcudnn_engines_runtime_compiled.so.9",
		"libcudnn_cnn.so.9", "libcudnn_adv.so.9",
	}, false},
	{"NCCL", [2]string{"libnccl.so.2", "libnccl.so.2"}, [2]string{"nvidia-nccl-cu12", "nvidia-nccl-cu13"}, []User{XLA}, ncclVersion, nil, true},
}

// Part is one library as Load found it.
type Part struct {
	Name     string
	File     string
	Path     string // where it was loaded from
	Version  string // "" where it is not asked
	Optional bool   // nobody needs it on this machine
	Err      error
}

// Report says what Load found.
type Report struct {
	User       User
	Generation int // of CUDA: 12 or 13
	Driver     Driver
	Parts      []Part
}

// A Problem is one thing that is missing, with its cure. The programs exit with code 4.
type Problem struct {
	err  error
	cure string
}

func problem(cure, format string, args ...any) error {
	return &Problem{fmt.Errorf(format, args...), cure}
}

func (p *Problem) Error() string { return p.err.Error() }
func (p *Problem) Unwrap() error { return p.err }
func (p *Problem) Hint() string  { return p.cure }
func (p *Problem) ExitCode() int { return 4 }

// Error says that a user cannot work on a GPU here.
type Error struct {
	User     User
	Problems []error // at least one
}

func (e *Error) Error() string {
	texts := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		texts[i] = p.Error()
	}
	return fmt.Sprintf("%s cannot use CUDA: %s", e.User, strings.Join(texts, "; "))
}

func (e *Error) Unwrap() []error { return e.Problems }

// Hint joins the cures of the problems, each once.
func (e *Error) Hint() string {
	var cures []string
	for _, p := range e.Problems {
		if cure := hint.Of(p); cure != "" && !slices.Contains(cures, cure) {
			cures = append(cures, cure)
		}
	}
	return strings.Join(append(cures, `"mvmae-serve doctor --device cuda" lists all; --device cpu does without`), "\n")
}

// Err is nil if nothing that is needed is missing, else an *Error.
func (r Report) Err() error {
	var problems []error
	if r.Driver.Err != nil {
		problems = append(problems, r.Driver.Err)
	}
	for _, p := range r.Parts {
		if p.Err != nil && !p.Optional {
			problems = append(problems, p.Err)
		}
	}
	if len(problems) == 0 {
		return nil
	}
	return &Error{r.User, problems}
}

// Load loads the driver and the libraries that a user needs. by is the user's own file, the XLA plugin or ONNX Runtime's
// CUDA provider: it says which generation of CUDA it was built for, and the packages beside it are preferred.
func Load(user User, by string) Report { return load(user, by, around(by)) }

func load(user User, by string, at places) Report {
	r := Report{User: user, Generation: Generation(by)}
	r.Driver = examineDriver(at, r.Generation)
	for _, l := range libraries {
		if slices.Contains(l.users, user) {
			p := l.load(at, r.Generation)
			if r.Driver.Path == "" && p.Err != nil && strings.Contains(p.Err.Error(), driverFile) {
				p.Err = nil // it lacks the driver only, which is said already
			}
			p.Optional = l.several && len(r.Driver.Devices) < 2
			r.Parts = append(r.Parts, p)
		}
	}
	return r
}

// load loads one library and what it loads by itself, and checks its version.
func (l library) load(at places, generation int) Part {
	g := generation - 12
	p := Part{Name: l.name, File: l.files[g]}
	cure := fmt.Sprintf("install the Python package %s, or name the folder of %s in %s", l.packages[g], p.File, libs.RuntimeEnv)
	h, err := at.load(p.File, at.system)
	if err != nil {
		p.Err = problem(cure, "%s did not load: %w", l.name, err)
		if other := l.other(g); other != "" {
			if found, err := at.load(other, at.system); err == nil {
				p.Err = problem(cure, "%s is there as %s, and %s is needed", l.name, found.path(), p.File)
			}
		}
		return p
	}
	p.Path = h.path()
	if l.version != nil {
		p.Version = l.version(h)
		if major, _, _ := strings.Cut(p.Version, "."); l.name == "cuDNN" && major != "9" {
			p.Err = problem(cure, "%s says that it is cuDNN %s, and cuDNN 9 is needed", p.Path, p.Version)
			return p
		}
	}
	for _, file := range l.parts {
		if _, err := at.load(file, append([]string{filepath.Dir(p.Path)}, at.system...)); err != nil {
			p.Err = problem(cure, "%s of %s did not load: %w", file, l.name, err)
			return p
		}
	}
	return p
}

// other is the name of another version, "" if it has none: whoever finds that instead is told so.
func (l library) other(g int) string {
	switch {
	case l.name == "cuDNN":
		return "libcudnn.so.8"
	case l.files[1-g] != l.files[g]:
		return l.files[1-g]
	}
	return ""
}

// places are the folders to look in.
type places struct {
	first  []string // before the system's loader
	loader bool     // whether to ask the system's loader; tests do not
	system []string // after it
}

// around lists the folders of $MVMAE_RUNTIME and beside the program, and the Python packages nvidia-* in them and beside a file.
func around(file string) places {
	at := places{loader: true, system: []string{"/usr/local/cuda/lib64"}}
	add := func(dir string) {
		if !slices.Contains(at.first, dir) {
			at.first = append(at.first, dir)
		}
	}
	roots := libs.Dirs()
	for _, dir := range roots {
		add(dir)
	}
	if real, err := filepath.EvalSymlinks(file); err == nil {
		one := filepath.Dir(filepath.Dir(real)) // jax_plugins/xla_cuda13/xla_cuda_plugin.so and onnxruntime/capi/lib... lie two below nvidia's parent
		roots = append(roots, one, filepath.Dir(one))
	}
	for _, root := range roots {
		found, err := filepath.Glob(filepath.Join(root, "nvidia", "*", "lib"))
		if err != nil {
			continue // of names that are patterns; the loader may know them
		}
		for _, dir := range found {
			add(dir)
		}
	}
	return at
}

// load loads a library from the first place that has it. The error is that of the first place that has the file, else the
// loader's.
func (at places) load(file string, last []string) (handle, error) {
	var reasons []error
	from := func(dirs []string) (handle, bool) {
		for _, dir := range dirs {
			path := filepath.Join(dir, file)
			if _, err := os.Stat(path); err != nil {
				continue
			}
			h, err := open(path)
			if err == nil {
				return h, true
			}
			reasons = append(reasons, err)
		}
		return handle{}, false
	}
	if h, ok := from(at.first); ok {
		return h, nil
	}
	if at.loader {
		h, err := open(file)
		if err == nil {
			return h, nil
		}
		reasons = append(reasons, err)
	}
	if h, ok := from(last); ok {
		return h, nil
	}
	if len(reasons) == 0 {
		return handle{}, errors.New(file + " is in none of the folders")
	}
	return handle{}, reasons[0]
}

// Generation is the CUDA that a library was built for: 12 or 13. An XLA plugin says it in the folders that it looks for
// libraries in, ONNX Runtime's provider in the names of the libraries that it needs. What says nothing is taken for 13.
func Generation(path string) int {
	f, err := elf.Open(path)
	if err != nil {
		return 13
	}
	defer f.Close()
	var says []string
	for _, tag := range []elf.DynTag{elf.DT_NEEDED, elf.DT_RPATH, elf.DT_RUNPATH} {
		text, err := f.DynString(tag)
		if err == nil {
			says = append(says, text...)
		}
	}
	all := strings.Join(says, ":")
	if strings.Contains(all, "libcudart.so.12") || strings.Contains(all, "nvidia/cuda_runtime/lib") {
		return 12
	}
	return 13
}

// DataDir is the folder of ptxas and libdevice among the Python packages beside a file, which XLA compiles with; "" if there
// is none: XLA then looks in /usr/local/cuda by itself.
func DataDir(file string) string {
	for _, dir := range around(file).first {
		root := filepath.Dir(dir)
		if _, err := os.Stat(filepath.Join(root, "nvvm", "libdevice", "libdevice.10.bc")); err == nil {
			return root
		}
	}
	return ""
}

// The versions that libraries tell of themselves, as their headers encode them.

func runtimeVersion(h handle) string {
	v, _, _ := h.output("cudaRuntimeGetVersion")
	return fmt.Sprintf("%d.%d", v/1000, v%1000/10)
}

func ltVersion(h handle) string {
	v, _ := h.number("cublasLtGetVersion")
	return decimal(v, 10000)
}

func ncclVersion(h handle) string {
	v, _, _ := h.output("ncclGetVersion")
	return decimal(v, 10000)
}

// cudnnVersion: from 9 on the major version stands before four digits, not three.
func cudnnVersion(h handle) string {
	v, _ := h.number("cudnnGetVersion")
	if v < 10000 {
		return decimal(v, 1000)
	}
	return decimal(v, 10000)
}

// decimal splits a version: major times unit, minor times 100, patch.
func decimal(v, unit int) string { return fmt.Sprintf("%d.%d.%d", v/unit, v%unit/100, v%100) }
