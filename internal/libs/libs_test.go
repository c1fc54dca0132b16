package libs

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mvmae/mvmae/internal/hint"
)

// write makes empty files in a new folder.
func write(t *testing.T, names ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range names {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestFind_InTheFoldersNamedByTheEnvironment(t *testing.T) {
	ext := ".so"
	if runtime.GOOS == "darwin" {
		ext = ".dylib"
	}
	for _, c := range []struct {
		name  string
		lib   Library
		files []string
		want  string
	}{
		{"plain name", PJRTCPU, []string{"pjrt_c_api_cpu_plugin" + ext}, "pjrt_c_api_cpu_plugin" + ext},
		{"as GoMLX's installer names it", PJRTCPU, []string{"pjrt_c_api_cpu_v0.83.4_plugin" + ext}, "pjrt_c_api_cpu_v0.83.4_plugin" + ext},
		{"plain name before a version", PJRTCPU, []string{"pjrt_c_api_cpu_v1_plugin" + ext, "pjrt_c_api_cpu_plugin" + ext}, "pjrt_c_api_cpu_plugin" + ext},
		{"newest version", PJRTCPU, []string{"pjrt_c_api_cpu_v1_plugin" + ext, "pjrt_c_api_cpu_v2_plugin" + ext}, "pjrt_c_api_cpu_v2_plugin" + ext},
		{"as JAX names it", PJRTCUDA, []string{"xla_cuda_plugin" + ext}, "xla_cuda_plugin" + ext},
		{"ONNX Runtime", ONNXRuntime, []string{"libonnxruntime" + ext}, "libonnxruntime" + ext},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := write(t, c.files...)
			t.Setenv(RuntimeEnv, t.TempDir()+string(os.PathListSeparator)+dir)
			got, err := Find(c.lib)
			if err != nil {
				t.Fatal(err)
			}
			if want := filepath.Join(dir, c.want); got != want {
				t.Errorf("found %s, want %s", got, want)
			}
		})
	}
}

func TestFind_PluginFolderOfGoMLX(t *testing.T) {
	ext := ".so"
	if runtime.GOOS == "darwin" {
		ext = ".dylib"
	}
	dir := write(t, "pjrt_c_api_cpu_plugin"+ext, "libonnxruntime"+ext)
	t.Setenv(RuntimeEnv, "")
	t.Setenv("PJRT_PLUGIN_LIBRARY_PATH", dir)
	if got, err := Find(PJRTCPU); err != nil || filepath.Dir(got) != dir {
		t.Errorf("found %q, %v, want it in %s", got, err, dir)
	}
	if got, err := Find(ONNXRuntime); err == nil && filepath.Dir(got) == dir {
		t.Errorf("ONNX Runtime was taken from the plugins' folder: %s", got)
	}
}

func TestSearchDirs_EnvironmentThenProgramThenSystem(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if exe, err = filepath.EvalSymlinks(exe); err != nil {
		t.Fatal(err)
	}
	beside := filepath.Dir(exe)
	t.Setenv(RuntimeEnv, "/from/env")
	got := searchDirs(ONNXRuntime)
	own, above := filepath.Join(beside, "runtime"), filepath.Join(filepath.Dir(beside), "runtime")
	want := []string{"/from/env", beside, filepath.Join(own, "cuda"), own, filepath.Join(above, "cuda"), above}
	if len(got) < len(want) {
		t.Fatalf("folders %q, want them to begin with %q", got, want)
	}
	if diff := cmp.Diff(want, got[:len(want)]); diff != "" {
		t.Errorf("first folders (-want +got)\n%s", diff)
	}
	if !slices.Contains(got, "/usr/local/lib") {
		t.Errorf("folders %q hold no system folder", got)
	}
}

func TestFind_MissingNamesFoldersAndCure(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct {
		lib        Library
		name, cure string
	}{
		{PJRTCUDA, "xla_cuda_plugin", "jax-cuda13-pjrt"},
		{ONNXRuntime, "libonnxruntime", RuntimeEnv},
	} {
		_, err := find(c.lib, []string{dir})
		var missing *MissingError
		if !errors.As(err, &missing) {
			t.Fatalf("%s: error %v, want a MissingError", c.lib, err)
		}
		if missing.ExitCode() != 4 || !slices.Equal(missing.Dirs, []string{dir}) {
			t.Errorf("%s: exit code %d, folders %q", c.lib, missing.ExitCode(), missing.Dirs)
		}
		if text := err.Error(); !strings.Contains(text, c.name) || !strings.Contains(text, dir) {
			t.Errorf("%s: error %q names no file or no folder", c.lib, text)
		}
		if cure := hint.Of(err); !strings.Contains(cure, c.cure) {
			t.Errorf("%s: hint %q", c.lib, cure)
		}
	}
}

func TestPinOf_UnknownPlatformSaysHowToSupply(t *testing.T) {
	for _, c := range []struct {
		lib          Library
		goos, goarch string
		text, cure   string
	}{
		{PJRTCPU, "darwin", "arm64", "the XLA plugin for the CPU for darwin/arm64", "pjrt_c_api_cpu_plugin.dylib"},
		{PJRTCPU, "linux", "arm64", "the XLA plugin for the CPU for linux/arm64", "GoMLX's own installer"},
		{ONNXRuntime, "linux", "riscv64", "ONNX Runtime for linux/riscv64", "libonnxruntime.so"},
	} {
		_, err := PinOf(c.lib, c.goos, c.goarch)
		if err == nil || !strings.Contains(err.Error(), c.text) || !strings.Contains(hint.Of(err), c.cure) {
			t.Errorf("%s on %s/%s: error %v, hint %q", c.lib, c.goos, c.goarch, err, hint.Of(err))
		}
	}
}

func TestPinOf_TestedPlatformIsComplete(t *testing.T) {
	for _, lib := range []Library{ONNXRuntime, PJRTCPU, ONNXRuntimeCUDA} {
		pin, err := PinOf(lib, "linux", "amd64")
		if err != nil {
			t.Error(err)
			continue
		}
		if want := fileNames(lib, "linux")[0]; pin.Files[0].Name != want {
			t.Errorf("%s is stored as %s, looked for as %s", lib, pin.Files[0].Name, want)
		}
		for _, f := range pin.Files {
			if len(f.SHA256) != 64 {
				t.Errorf("%s: digest %q", f.Name, f.SHA256)
			}
		}
	}
}

func TestDigest_FollowsAChangeOfTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lib.so")
	for _, c := range []struct{ text, want string }{
		{"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"}, // FIPS 180-4, example B.1
		{"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
	} {
		if err := os.WriteFile(path, []byte(c.text), 0o644); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if got, err := Digest(path); err != nil || got != c.want {
				t.Errorf("%q: digest %s, %v, want %s", c.text, got, err, c.want)
			}
		}
	}
	if _, err := Digest(filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}
