package libs

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"
)

// RuntimeEnv names the environment variable that lists the folders to look in first.
const RuntimeEnv = "MVMAE_RUNTIME"

// MissingError says that a library is in none of the folders where it was looked for.
type MissingError struct {
	Library Library
	Names   []string // file names, * standing for a version
	Dirs    []string // folders in the order they were looked in
	cure    string
}

func (e *MissingError) Error() string {
	return fmt.Sprintf("%s (%s) is in none of: %s", e.Library, strings.Join(e.Names, " or "), strings.Join(e.Dirs, ", "))
}

// Hint returns the cure.
func (e *MissingError) Hint() string { return e.cure }

// ExitCode is that of a missing device or library.
func (e *MissingError) ExitCode() int { return 4 }

// Find returns the path of a library, or a *MissingError.
func Find(lib Library) (string, error) {
	return find(lib, searchDirs(lib))
}

func find(lib Library, dirs []string) (string, error) {
	names := fileNames(lib, runtime.GOOS)
	for _, dir := range dirs {
		if path := findIn(dir, names); path != "" {
			return path, nil
		}
	}
	err := &MissingError{Library: lib, Names: names, Dirs: dirs, cure: supply(lib, runtime.GOOS)}
	if _, unpinned := PinOf(lib, runtime.GOOS, runtime.GOARCH); unpinned == nil {
		err.cure = `run "make runtime", or name the folder that holds it in ` + RuntimeEnv
	}
	return "", err
}

// findIn returns the file in dir that has one of the names, the newest where a name stands for several versions.
func findIn(dir string, names []string) string {
	for _, name := range names {
		found, err := fs.Glob(os.DirFS(dir), name)
		if err == nil && len(found) > 0 {
			return filepath.Join(dir, found[len(found)-1])
		}
	}
	return ""
}

// Dirs lists the folders that are looked in before the system's: those that $MVMAE_RUNTIME names, and those beside the program.
func Dirs() []string {
	dirs := filepath.SplitList(os.Getenv(RuntimeEnv))
	if exe, err := os.Executable(); err == nil {
		if real, err := filepath.EvalSymlinks(exe); err == nil {
			exe = real
		}
		dir := filepath.Dir(exe)
		dirs = append(dirs, dir)
		for _, runtime := range []string{filepath.Join(dir, "runtime"), filepath.Join(dir, "..", "runtime")} {
			dirs = append(dirs, filepath.Join(runtime, "cuda"), runtime) // who fetched the CUDA build wants it
		}
	}
	return absolute(dirs)
}

// searchDirs lists the folders to look in, first to last, all absolute.
func searchDirs(lib Library) []string {
	dirs := Dirs()
	if lib != ONNXRuntime {
		dirs = append(dirs, gomlxDirs()...)
	}
	return absolute(append(dirs, systemDirs()...))
}

// absolute is the folders without empty ones and repetitions.
func absolute(dirs []string) []string {
	var absolute []string
	for _, dir := range dirs {
		if dir == "" {
			continue
		}
		if abs, err := filepath.Abs(dir); err == nil && !slices.Contains(absolute, abs) {
			absolute = append(absolute, abs)
		}
	}
	return absolute
}

// gomlxDirs lists the folders where GoMLX looks for plugins and where its own installer puts them.
func gomlxDirs() []string {
	dirs := filepath.SplitList(os.Getenv("PJRT_PLUGIN_LIBRARY_PATH"))
	if home, err := os.UserHomeDir(); err == nil {
		lib := filepath.Join(home, ".local", "lib", "go-xla")
		if runtime.GOOS == "darwin" {
			lib = filepath.Join(home, "Library", "Application Support", "go-xla")
		}
		dirs = append(dirs, lib, filepath.Join(lib, "nvidia"))
	}
	return append(dirs, "/usr/local/lib/go-xla", "/usr/local/lib/go-xla/nvidia")
}

// systemDirs lists the folders of the system's loader.
func systemDirs() []string {
	if runtime.GOOS == "darwin" {
		return append(filepath.SplitList(os.Getenv("DYLD_LIBRARY_PATH")), "/opt/homebrew/lib", "/usr/local/lib")
	}
	dirs := append(filepath.SplitList(os.Getenv("LD_LIBRARY_PATH")), "/usr/local/lib", "/usr/lib", "/usr/lib64")
	switch runtime.GOARCH {
	case "amd64":
		dirs = append(dirs, "/usr/lib/x86_64-linux-gnu")
	case "arm64":
		dirs = append(dirs, "/usr/lib/aarch64-linux-gnu")
	}
	return dirs
}

// digests remembers what was read, by path, size and time of change: a plugin has hundreds of megabytes, and every run and
// every checkpoint states its digest.
var digests sync.Map

type digestKey struct {
	path    string
	size    int64
	changed time.Time
}

// Digest returns the SHA-256 of the file at path in hexadecimal. A process reads an unchanged file once.
func Digest(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("digest: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", fmt.Errorf("digest: %w", err)
	}
	key := digestKey{path, info.Size(), info.ModTime()}
	if known, ok := digests.Load(key); ok {
		return known.(string), nil
	}
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", fmt.Errorf("digest %s: %w", path, err)
	}
	sum := hex.EncodeToString(h.Sum(nil))
	digests.Store(key, sum)
	return sum, nil
}

// ForTests makes Find look in the module's own runtime folder, where "make runtime" puts the libraries, unless
// $MVMAE_RUNTIME already names another. It sets the variable for the whole test process, so that parallel tests and the
// programs they start see it too.
func ForTests(t interface {
	Helper()
	Fatalf(format string, args ...any)
}) {
	t.Helper()
	if os.Getenv(RuntimeEnv) != "" {
		return
	}
	dir, err := os.Getwd()
	if err != nil {
		t.Fatalf("find module root: %v", err)
	}
	for !exists(filepath.Join(dir, "go.mod")) {
		if dir == filepath.Dir(dir) {
			t.Fatalf("find module root: no go.mod above the working folder")
		}
		dir = filepath.Dir(dir)
	}
	dir = filepath.Join(dir, "runtime")
	if !exists(dir) {
		t.Fatalf("%s is missing: run \"make runtime\"", dir)
	}
	os.Setenv(RuntimeEnv, dir)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
