package nvidia

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mvmae/mvmae/internal/hint"
)

// compile makes a shared library of C code.
func compile(t *testing.T, path, code string, flags ...string) {
	t.Helper()
	cc, err := exec.Command("go", "env", "CC").Output()
	if err != nil {
		t.Fatal(err)
	}
	command := append(strings.Fields(string(cc)), "-shared", "-fPIC", "-o", path, "-x", "c", "-") // CC may be "ccache gcc"
	cmd := exec.Command(command[0], append(command[1:], flags...)...)
	cmd.Stdin = strings.NewReader(code)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// The stand-ins for NVIDIA's libraries: their functions that are called here, with the answers of real ones.
const (
	driverCode = `
		#include <stdio.h>
		#include <stddef.h>
		#ifndef VERSION
		#define VERSION 13000
		#endif
		#ifndef START
		#define START 0
		#endif
		#ifndef DEVICES
		#define DEVICES 1
		#endif
		int cuInit(unsigned flags) { return START; }
		int cuGetErrorString(int code, const char **text) { *text = "no CUDA-capable device is detected"; return code == 100 ? 0 : 1; }
		int cuDriverGetVersion(int *v) { *v = VERSION; return 0; }
		int cuDeviceGetCount(int *n) { *n = DEVICES; return 0; }
		int cuDeviceGetName(char *text, int length, int device) { snprintf(text, length, "Stub %d", device); return 0; }
		int cuDeviceTotalMem_v2(size_t *bytes, int device) { *bytes = (size_t)80 << 30; return 0; }`
	runtimeCode = `int cudaRuntimeGetVersion(int *v) { *v = 13000; return 0; }`
	ltCode      = `#include <stddef.h>
		size_t cublasLtGetVersion(void) { return 130100; }`
	cudnnCode = `#include <stddef.h>
		#ifndef VERSION
		#define VERSION 91002
		#endif
		size_t cudnnGetVersion(void) { return VERSION; }`
	ncclCode = `int ncclGetVersion(int *v) { *v = 22809; return 0; }`
)

// stubs compiles a stand-in for every library of CUDA 13, once for all cases.
func stubs(t *testing.T) string {
	dir := t.TempDir()
	compile(t, filepath.Join(dir, driverFile), driverCode)
	codes := map[string]string{"CUDA runtime": runtimeCode, "cuBLASLt": ltCode, "cuDNN": cudnnCode, "NCCL": ncclCode}
	plain := filepath.Join(dir, "plain.so")
	compile(t, plain, "")
	for _, l := range libraries {
		for _, file := range append([]string{l.files[1]}, l.parts...) {
			path := filepath.Join(dir, file)
			if code := codes[l.name]; code != "" && file == l.files[1] {
				compile(t, path, code)
			} else if err := os.Link(plain, path); err != nil {
				t.Fatal(err)
			}
		}
	}
	return dir
}

// whole copies all stand-ins into a new folder: the loader knows again what it has loaded, by name and by inode.
func whole(t *testing.T, stubs string) string {
	dir := t.TempDir()
	entries, err := os.ReadDir(stubs)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(stubs, e.Name()))
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, e.Name()), data, 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// loadStubs loads from one folder alone: what this machine has is not looked for.
func loadStubs(user User, dir string) Report { return load(user, "", places{first: []string{dir}}) }

func TestLoad_WholeFolder(t *testing.T) {
	dir := whole(t, stubs(t))
	for _, user := range both {
		r := loadStubs(user, dir)
		if err := r.Err(); err != nil {
			t.Fatalf("%s: %v", user, err)
		}
		want := Driver{Path: filepath.Join(dir, driverFile), CUDA: 13000, Devices: []Device{{"Stub 0", 80 << 30}}}
		if diff := cmp.Diff(want, r.Driver); diff != "" {
			t.Errorf("%s: driver (-want +got)\n%s", user, diff)
		}
		versions := map[string]string{}
		for _, p := range r.Parts {
			if p.Path != filepath.Join(dir, p.File) {
				t.Errorf("%s: %s loaded from %q", user, p.Name, p.Path)
			}
			if p.Version != "" {
				versions[p.Name] = p.Version
			}
		}
		wantVersions := map[string]string{"CUDA runtime": "13.0", "cuBLASLt": "13.1.0", "cuDNN": "9.10.2"}
		if user == XLA {
			wantVersions["NCCL"] = "2.28.9"
		}
		if diff := cmp.Diff(wantVersions, versions); diff != "" {
			t.Errorf("%s: versions (-want +got)\n%s", user, diff)
		}
	}
}

// Every library and every part of one is taken away in turn, and named with the package that holds it.
func TestLoad_EachMissingLibraryIsNamed(t *testing.T) {
	stubs := stubs(t)
	for _, l := range libraries {
		for _, file := range append([]string{l.files[1]}, l.parts...) {
			for _, user := range l.users {
				t.Run(fmt.Sprintf("%s/%s", user, file), func(t *testing.T) {
					without := func() string {
						dir := whole(t, stubs)
						if err := os.Remove(filepath.Join(dir, file)); err != nil {
							t.Fatal(err)
						}
						return dir
					}
					dir := without()
					if l.several {
						if err := loadStubs(user, dir).Err(); err != nil {
							t.Errorf("one device does not need it: %v", err)
						}
						dir = without()
						compile(t, filepath.Join(dir, driverFile), driverCode, "-DDEVICES=2")
					}
					wantProblem(t, loadStubs(user, dir).Err(), file, l.packages[1])
				})
			}
		}
	}
}

// wantProblem wants one problem, with a text, a cure and the exit code of what is missing.
func wantProblem(t *testing.T, err error, text, cure string) {
	t.Helper()
	var all *Error
	if !errors.As(err, &all) || len(all.Problems) != 1 {
		t.Fatalf("error %v: want one problem", err)
	}
	var coded interface{ ExitCode() int }
	if !strings.Contains(err.Error(), text) || !strings.Contains(hint.Of(err), cure) || !errors.As(err, &coded) || coded.ExitCode() != 4 {
		t.Errorf("error %v, hint %q: want %q, %q, code 4", err, hint.Of(err), text, cure)
	}
}

func TestLoad_WhatIsThereButUnusableIsExplained(t *testing.T) {
	stubs := stubs(t)
	replace := func(file, code string, flags ...string) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			if err := os.Remove(filepath.Join(dir, file)); err != nil {
				t.Fatal(err)
			}
			compile(t, filepath.Join(dir, file), code, flags...)
		}
	}
	rename := func(from, to string) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			if err := os.Rename(filepath.Join(dir, from), filepath.Join(dir, to)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, c := range []struct {
		name       string
		change     func(t *testing.T, dir string)
		text, cure string
	}{
		{"driver for CUDA 12", replace(driverFile, driverCode, "-DVERSION=12080"), "it serves CUDA 12.8, and CUDA 13 is used", "driver 580"},
		{"no device", replace(driverFile, driverCode, "-DSTART=100"), "no CUDA-capable device is detected (100)", "nvidia-smi"},
		{"driver of another kernel module", replace(driverFile, driverCode, "-DSTART=803"), "error 803", "one version"},
		{"devices hidden", replace(driverFile, driverCode, "-DDEVICES=0"), "no device", "CUDA_VISIBLE_DEVICES"},
		{"something else", replace(driverFile, "int cuDriverGetVersion(int *v) { *v = 13000; return 0; }"), "has no function cuInit", "driver"},
		{"cuDNN 8 by name", rename("libcudnn.so.9", "libcudnn.so.8"), "libcudnn.so.8, and libcudnn.so.9 is needed", "nvidia-cudnn-cu13"},
		{"cuDNN 8 under another name", replace("libcudnn.so.9", cudnnCode, "-DVERSION=8907"), "cuDNN 8.9.7, and cuDNN 9", "nvidia-cudnn-cu13"},
		{"cuBLAS of CUDA 12", rename("libcublas.so.13", "libcublas.so.12"), "libcublas.so.12, and libcublas.so.13 is needed", "nvidia-cublas"},
		{"not a library", func(t *testing.T, dir string) {
			path := filepath.Join(dir, "libcufft.so.12")
			if err := errors.Join(os.Remove(path), os.WriteFile(path, []byte("\x7fELF"), 0o644)); err != nil {
				t.Fatal(err)
			}
		}, "cuFFT did not load", "nvidia-cufft"},
		{"a library that lacks its own", func(t *testing.T, dir string) {
			lower := filepath.Join(dir, "libbelow.so.1")
			compile(t, lower, "int below(void) { return 1; }")
			if err := os.Remove(filepath.Join(dir, "libcurand.so.10")); err != nil {
				t.Fatal(err)
			}
			compile(t, filepath.Join(dir, "libcurand.so.10"), "int below(void); int up(void) { return below(); }", "-Wl,--no-as-needed", "-L"+dir, "-l:libbelow.so.1")
			if err := os.Remove(lower); err != nil {
				t.Fatal(err)
			}
		}, "libbelow.so.1", "nvidia-curand"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := whole(t, stubs)
			c.change(t, dir)
			wantProblem(t, loadStubs(ONNXRuntime, dir).Err(), c.text, c.cure)
		})
	}
}

// Without a driver, what depends on it is not blamed too.
func TestLoad_MissingDriverIsOneProblem(t *testing.T) {
	dir := whole(t, stubs(t))
	file := filepath.Join(dir, "libcudnn_ops.so.9")
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	compile(t, file, "int cuInit(unsigned); int up(void) { return cuInit(0); }", "-Wl,--no-as-needed", "-L"+dir, "-l:"+driverFile)
	if err := os.Remove(filepath.Join(dir, driverFile)); err != nil {
		t.Fatal(err)
	}
	wantProblem(t, loadStubs(XLA, dir).Err(), "the NVIDIA driver did not load", "580")
}

func TestAround_PackagesBesideThePlugin(t *testing.T) {
	site := t.TempDir()
	lib, plugin := filepath.Join(site, "nvidia", "cu13", "lib"), filepath.Join(site, "jax_plugins", "xla_cuda13", "xla_cuda_plugin.so")
	device := filepath.Join(site, "nvidia", "cu13", "nvvm", "libdevice")
	for _, dir := range []string{lib, filepath.Dir(plugin), device} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	compile(t, plugin, "", "-Wl,-rpath,$ORIGIN/../../nvidia/cuda_runtime/lib")
	for _, path := range []string{filepath.Join(lib, "libcudart.so.12"), filepath.Join(device, "libdevice.10.bc")} {
		if err := os.WriteFile(path, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	link := filepath.Join(t.TempDir(), "xla_cuda_plugin.so") // a plugin is found where it really lies
	if err := os.Symlink(plugin, link); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{plugin, link} {
		found := false
		for _, dir := range around(path).first {
			found = found || dir == lib
		}
		if !found {
			t.Errorf("%s: folders %q, want %s", path, around(path).first, lib)
		}
		if got, want := DataDir(path), filepath.Join(site, "nvidia", "cu13"); got != want {
			t.Errorf("%s: data folder %q, want %q", path, got, want)
		}
	}
	if g := Generation(plugin); g != 12 {
		t.Errorf("a plugin that looks in nvidia/cuda_runtime is of CUDA %d, want 12", g)
	}
	if g := Generation(filepath.Join(lib, "libcudart.so.12")); g != 13 {
		t.Errorf("a file that says nothing is of CUDA %d, want 13", g)
	}
}

func TestPluginVersion_IsReadFromThePlugin(t *testing.T) {
	dir := t.TempDir()
	plugin, other := filepath.Join(dir, "plugin.so"), filepath.Join(dir, "other.so")
	compile(t, plugin, `#include <stddef.h>
		static struct { size_t size; void *ext; struct { size_t size; void *ext; int major, minor; } v; } api = {0, 0, {0, 0, 0, 104}};
		void *GetPjrtApi(void) { return &api; }`)
	compile(t, other, "")
	if v, err := PluginVersion(plugin); err != nil || v != "0.104" {
		t.Errorf("version %q, %v: want 0.104", v, err)
	}
	if _, err := PluginVersion(other); err == nil || !strings.Contains(err.Error(), "no GetPjrtApi") {
		t.Errorf("no plugin: %v", err)
	}
	if _, err := PluginVersion(filepath.Join(dir, "none.so")); err == nil {
		t.Error("no file: no error")
	}
}
