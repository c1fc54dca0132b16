// Package codecprog builds mvmae-codec for tests and benchmarks, with the C libraries that this machine has, as the Makefile
// does.
package codecprog

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
)

// Build builds the program into dir and says whether it has all its libraries.
func Build(dir string) (path string, complete bool, err error) {
	_, here, _, _ := runtime.Caller(0)
	root := filepath.Join(filepath.Dir(here), "..", "..")
	path = filepath.Join(dir, "mvmae-codec")
	if out, err := exec.Command("sh", filepath.Join(root, "cmd", "mvmae-codec", "build"), path).CombinedOutput(); err != nil {
		return "", false, fmt.Errorf("build mvmae-codec: %w\n%s", err, out)
	}
	libraries, err := exec.Command(path, "versions").Output()
	if err != nil {
		return "", false, fmt.Errorf("ask mvmae-codec for its libraries: %w", err)
	}
	return path, !strings.Contains(string(libraries), `""`), nil
}

var built = sync.OnceValues(func() (program, error) {
	dir, err := os.MkdirTemp("", "mvmae-codec")
	if err != nil {
		return program{}, err
	}
	builtIn = dir
	path, complete, err := Build(dir)
	return program{path, complete}, err
})

var builtIn string // nothing, if no test asked for the program

type program struct {
	path     string
	complete bool
}

// Main runs a package's tests and deletes the program that they built. It is their TestMain.
func Main(m *testing.M) {
	code := m.Run()
	os.RemoveAll(builtIn)
	os.Exit(code)
}

// Any is the path of the program, whatever libraries it was built with.
func Any(t testing.TB) string {
	t.Helper()
	p, err := built()
	if err != nil {
		t.Fatal(err)
	}
	return p.path
}

// Complete is the path of the program with all its libraries. Where this machine has them not the test is skipped, or fails
// if MVMAE_REQUIRE_PEERS is 1.
func Complete(t testing.TB) string {
	t.Helper()
	path := Any(t)
	if p, _ := built(); !p.complete {
		Skip(t, `CharLS or OpenJPEG is not installed: run "make codecs"`)
	}
	return path
}

// Skip skips a test for want of peers, or fails it if MVMAE_REQUIRE_PEERS is 1.
func Skip(t testing.TB, why string) {
	t.Helper()
	if os.Getenv("MVMAE_REQUIRE_PEERS") == "1" {
		t.Fatal(why)
	}
	t.Skip(why)
}
