package paired

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/mvmae/mvmae/internal/libs"
)

// The folders of the benchmarks, from the repository's root, where they are run.
const (
	Folder  = "benchmarks"
	WorkDir = Folder + "/.work" // may be deleted
	results = Folder + "/results"
)

// Report is a dated result: text for people beside every sample for programs.
type Report struct {
	Name    string             `json:"name"`
	Variant string             `json:"variant,omitempty"` // of the benchmark: a part of the file's name
	Command string             `json:"command"`
	Began   time.Time          `json:"began"`
	Machine string             `json:"machine"`
	Load    [2]string          `json:"load"` // before and after
	Parts   map[string]Samples `json:"parts,omitempty"`
	Scores  any                `json:"scores,omitempty"` // of a benchmark of quality, not of speed
	Peers   map[string]string  `json:"peers"`            // versions
	text    bytes.Buffer
}

// NewReport notes when and where a benchmark begins, and lets the runtime libraries be found in the module's runtime
// folder, as the tests do.
func NewReport(name string) *Report {
	libs.ForTests(fatal{})
	if err := os.MkdirAll(WorkDir, 0o755); err != nil {
		fatal{}.Fatalf("%v", err)
	}
	return &Report{
		Name: name, Command: strings.TrimSpace("go run ./" + Folder + "/" + name + " " + strings.Join(os.Args[1:], " ")), Began: time.Now().UTC(),
		Machine: machine(), Load: [2]string{loadAverage()}, Parts: map[string]Samples{}, Peers: map[string]string{},
	}
}

// AskPeers has a Python program say on standard output which versions of what it is compared with.
func (r *Report) AskPeers(ctx context.Context, python, program string) error {
	versions, err := exec.CommandContext(ctx, python, "-c", program).Output()
	r.Peers["Python"] = strings.TrimSpace(string(versions))
	return err
}

// Printf adds to the text, and shows it.
func (r *Report) Printf(format string, args ...any) {
	fmt.Fprintf(&r.text, format, args...)
	fmt.Printf(format, args...)
}

// String is the cell of a table: median, and in brackets the quartiles.
func (s Spread) String() string { return fmt.Sprintf("%.2f (%.2f-%.2f)", s.Median, s.Q1, s.Q3) }

// Write leaves the result in benchmarks/results.
func (r *Report) Write() error {
	r.Load[1] = loadAverage()
	base := filepath.Join(results, strings.Trim(r.Began.Format(time.DateOnly)+"-"+r.Name+"-"+r.Variant, "-"))
	doc, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	legend := ""
	if len(r.Parts) > 0 {
		legend = " Median, in brackets the quartiles; ratios are taken round by round."
	}
	text := fmt.Sprintf("# %s, %s\n\n`%s`\n\n%s. Load average before %s, after %s.%s\n\n%s",
		r.Name, r.Began.Format("2006-01-02 15:04 MST"), r.Command, r.Machine, r.Load[0], r.Load[1], legend, r.text.String())
	if err := os.WriteFile(base+".json", append(doc, '\n'), 0o644); err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "written: %s.md and .json\n", base)
	return os.WriteFile(base+".md", []byte(text), 0o644)
}

// Python returns the Python with the packages of a folder's requirements.txt, which it installs first where it is missing:
// Folder has most peers'.
func Python(folder string) (string, error) {
	dir := filepath.Join(folder, ".venv")
	python := filepath.Join(dir, "bin", "python")
	if _, err := os.Stat(filepath.Join(dir, "ready")); err == nil {
		return python, nil
	}
	cmd := exec.Command("sh", "test/venv", "python3", dir, filepath.Join(folder, "requirements.txt"))
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("set up the peers' Python (run this from the repository's root): %w", err)
	}
	return python, nil
}

func loadAverage() string {
	doc, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	return strings.Join(strings.Fields(string(doc))[:3], " ")
}

func machine() string {
	name := "unknown processor"
	if f, err := os.Open("/proc/cpuinfo"); err == nil {
		defer f.Close()
		for lines := bufio.NewScanner(f); lines.Scan(); {
			if key, value, ok := strings.Cut(lines.Text(), ":"); ok && strings.TrimSpace(key) == "model name" {
				name = strings.TrimSpace(value)
				break
			}
		}
	}
	return fmt.Sprintf("%s, %d cores, %s/%s, %s", name, runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, runtime.Version())
}

// fatal ends the program where a test would fail.
type fatal struct{}

func (fatal) Helper() {}

func (fatal) Fatalf(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "error: "+format+"\n", args...)
	os.Exit(1)
}
