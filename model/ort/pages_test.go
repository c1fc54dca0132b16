package ort

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mvmae/mvmae/internal/nvidia"
)

// A library in the place of CUDA's leaves its marks in the memory that it is to lock. It is found by its name, as the real
// one is, because something has loaded it already.
func TestLockPages_AsksTheCUDARuntimeThatIsLoaded(t *testing.T) {
	memory := make([]float32, 4096)
	lockPages(memory)() // where there is no CUDA nothing happens
	if memory[0] != 0 {
		t.Fatalf("%v was written", memory[0])
	}
	path := filepath.Join(t.TempDir(), "cuda.so")
	cc, err := exec.Command("go", "env", "CC").Output()
	if err != nil {
		t.Fatal(err)
	}
	command := append(strings.Fields(string(cc)), "-shared", "-fPIC", "-Wl,-soname,"+cudaRuntime, "-o", path, "-x", "c", "-")
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Stdin = strings.NewReader(`
		int cudaHostRegister(float *p, unsigned long bytes, unsigned flags) { p[0] = bytes; p[1] = flags; return p[2]; }
		int cudaHostUnregister(float *p) { p[0] = -1; return 0; }`)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if err := nvidia.Open(path); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	free := lockPages(memory)
	if memory[0] != 4*4096 || memory[1] != 1 {
		t.Errorf("asked to lock %v bytes with flags %v", memory[0], memory[1])
	}
	if free(); memory[0] != -1 {
		t.Error("the memory was not unlocked")
	}
	memory[2] = 2 // cudaErrorMemoryAllocation
	if free = lockPages(memory); memory[0] != 4*4096 {
		t.Error("not asked")
	}
	if free(); memory[0] != 4*4096 {
		t.Error("memory that was not locked was unlocked")
	}
}
