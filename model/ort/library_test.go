package ort_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mvmae/mvmae/internal/hint"
	"github.com/mvmae/mvmae/internal/libs"
	"github.com/mvmae/mvmae/model/ort"
)

// probeEnv makes the test program probe a device and say what came of it, instead of running tests: a process can load
// one ONNX Runtime only.
const probeEnv = "MVMAE_TEST_PROBE"

func TestMain(m *testing.M) {
	if path := os.Getenv(reopenEnv); path != "" {
		reopen(path)
		return
	}
	device := os.Getenv(probeEnv)
	if device == "" {
		os.Exit(m.Run())
	}
	err := ort.Probe(device)
	code := 0
	if coded := interface{ ExitCode() int }(nil); errors.As(err, &coded) {
		code = coded.ExitCode()
	}
	fmt.Printf("error: %v\nhint: %s\ncode: %d\n", err, strings.ReplaceAll(hint.Of(err), "\n", "; "), code)
}

// reopenEnv makes the test program open and close a model file again and again, and say how many bytes are resident after the
// first time and after the last.
const reopenEnv = "MVMAE_TEST_REOPEN"

func reopen(path string) {
	const times = 9
	for i := range times {
		m, err := ort.Open(path, ort.Options{})
		if err == nil {
			err = m.Close()
		}
		var pages int
		if doc, failed := os.ReadFile("/proc/self/statm"); err == nil && failed == nil {
			_, err = fmt.Sscan(strings.Fields(string(doc))[1], &pages)
		} else {
			err = errors.Join(err, failed)
		}
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		if i == 0 || i == times-1 {
			fmt.Println(pages * os.Getpagesize())
		}
	}
}

// A process of its own, for memory belongs to a process. Without giving memory back it grows by twice the file's size and more:
// what C frees stays with the C library.
func TestClose_GivesTheMemoryBack(t *testing.T) {
	path := filepath.Join(t.TempDir(), "model.onnx")
	data := marshal(t, file(t, "tiny"))
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program)
	cmd.Env = append(os.Environ(), reopenEnv+"="+path)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var first, last int
	if _, err := fmt.Sscan(string(out), &first, &last); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("%d bytes of file, resident %d after the first time, %d after the last", len(data), first, last)
	if grown := last - first; grown > len(data)/4 {
		t.Errorf("%d bytes more are resident after a file of %d bytes was opened and closed several times", grown, len(data))
	}
}

// probe runs this test program as above, with dir alone to find libraries in.
func probe(t *testing.T, dir, device string) string {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program)
	cmd.Env = append(os.Environ(), probeEnv+"="+device, libs.RuntimeEnv+"="+dir)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return string(out)
}

// compile makes a shared library of C code in dir.
func compile(t *testing.T, dir, name, code string, flags ...string) {
	t.Helper()
	cc, err := exec.Command("go", "env", "CC").Output()
	if err != nil {
		t.Fatal(err)
	}
	command := append(strings.Fields(string(cc)), "-shared", "-fPIC", "-o", filepath.Join(dir, name), "-x", "c", "-") // CC may be "ccache gcc"
	cmd := exec.Command(command[0], append(command[1:], flags...)...)
	cmd.Stdin = strings.NewReader(code)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

func TestProbe_UnusableLibraryIsExplained(t *testing.T) {
	for _, c := range []struct {
		name, code, want, hint string
	}{
		{"older", `
			static const void *api(unsigned version) { return 0; }
			static const char *version(void) { return "1.10.0"; }
			static struct { const void *(*api)(unsigned); const char *(*version)(void); } base = {api, version};
			void *OrtGetApiBase(void) { return &base; }`, "is older than this program", "1.31.1 or newer"},
		{"something else", `int nothing;`, "is not ONNX Runtime", libs.RuntimeEnv},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			compile(t, dir, "libonnxruntime.so.1.10.0", c.code)
			wantProbe(t, probe(t, dir, ort.CPU), dir, c.want, c.hint)
		})
	}
	t.Run("cut short", func(t *testing.T) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "libonnxruntime.so.1.31.1"), []byte("\x7fELF"), 0o755); err != nil {
			t.Fatal(err)
		}
		wantProbe(t, probe(t, dir, ort.CPU), dir, "file too short", "make runtime")
	})
}

// wantProbe checks a probe's error, that the error names the folder, its hint and the exit code of a missing library.
func wantProbe(t *testing.T, got, dir, text, cure string) {
	t.Helper()
	lines := strings.Split(got, "\n")
	if len(lines) != 4 || !strings.Contains(lines[0], dir) || !strings.Contains(lines[0], text) ||
		!strings.Contains(lines[1], cure) || lines[2] != "code: 4" {
		t.Errorf("want %q and %s in the error, %q in the hint, code 4; got\n%s", text, dir, cure, got)
	}
}

func TestProbe_RunsAModelOnTheCPU(t *testing.T) {
	libs.ForTests(t)
	if err := ort.Probe(ort.CPU); err != nil {
		t.Error(err)
	}
}

func TestProbe_MissingCUDAFileIsNamed(t *testing.T) {
	libs.ForTests(t)
	library, err := libs.Find(libs.ONNXRuntime)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.Symlink(library, filepath.Join(dir, filepath.Base(library))); err != nil {
		t.Fatal(err)
	}
	wantProbe(t, probe(t, dir, ort.CUDA), dir, "asked for cuda, but libonnxruntime_providers_shared.so does not lie beside", "--device cpu")

	compile(t, dir, "libonnxruntime_providers_shared.so", "")
	wantProbe(t, probe(t, dir, ort.CUDA), dir, "asked for cuda, but libonnxruntime_providers_cuda.so does not lie beside", "--device cpu")

	compile(t, dir, "libonnxruntime_providers_cuda.so", "")
	compile(t, dir, "libcuda.so.1", "int cuInit(unsigned flags) { return 100; } int cuDriverGetVersion(int *v) { *v = 13000; return 0; }")
	wantProbe(t, probe(t, dir, ort.CUDA), "", "asked for cuda, but ONNX Runtime cannot use CUDA: the NVIDIA driver did not start: error 100", "nvidia-smi")

	if got := probe(t, dir, ort.Auto); !strings.HasPrefix(got, "error: <nil>\n") {
		t.Errorf("auto takes the CPU then; got\n%s", got)
	}
}
