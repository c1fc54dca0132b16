package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/mvmae/mvmae/internal/libs"
	"github.com/mvmae/mvmae/internal/version"
	"github.com/mvmae/mvmae/model"
)

// result is the one JSON of a run.
type result struct {
	SchemaVersion int             `json:"schema_version"`
	Began         time.Time       `json:"began"`
	Program       string          `json:"program"` // version
	Device        string          `json:"device"`  // asked for: cuda, or cpu to try everything without a GPU
	GPUs          []string        `json:"gpus"`    // as nvidia-smi lists them
	Sections      []sectionResult `json:"sections"`
}

type sectionResult struct {
	Name    string       `json:"name"`
	About   string       `json:"about"`
	Seconds float64      `json:"seconds"`
	Cases   []caseResult `json:"cases"`
}

// caseResult is one measurement, or why there is none.
type caseResult struct {
	Name    string          `json:"name"`
	Seconds float64         `json:"seconds"`
	Error   string          `json:"error,omitempty"`
	Values  json.RawMessage `json:"values,omitempty"`
	With    *caseResult     `json:"with,omitempty"` // of the process beside it
	// Peaks of the case's process and of the whole GPU while it ran, the latter once a second, from nvidia-smi: with what the
	// allocators hold in store.
	HostBytes   int64 `json:"host_peak_bytes"`
	DeviceBytes int64 `json:"device_peak_bytes,omitempty"`
}

// runner runs cases.
type runner struct {
	folder, self, python string
	device               string
	deadline             time.Time
	env                  []string
}

func run(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("run", flag.ContinueOnError)
	device := flags.String("device", "cuda", "cuda, or cpu to try everything with the CPU in its place")
	sections := flags.String("sections", "", "only these, as in parity,train (default: all)")
	presets := flags.String("presets", "", "of the section train (default: base,tiny,small)")
	out := flags.String("out", "gpu.json", "the result; sections that it holds already and that are not run again are kept")
	budget := flags.Duration("budget", time.Hour, "what is not done by then is cut short, or not begun")
	python := flags.String("python", "python3", "a Python with PyTorch")
	if err := flags.Parse(args); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	r := &runner{folder: filepath.Dir(self), self: self, python: *python, device: *device, deadline: time.Now().Add(*budget)}
	s, names := onGPU, []string{"base", "tiny", "small"}
	if *device == "cpu" {
		s, names = onCPU, []string{"nano"}
	}
	if *presets != "" {
		names = strings.Split(*presets, ",")
	}
	for _, name := range names {
		if s.batch[name] == 0 {
			return fmt.Errorf("no batch is known for preset %q on %s", name, *device)
		}
	}
	all := plan(*device, s, names)
	chosen := strings.Split(*sections, ",")
	for _, name := range chosen {
		if name != "" && !slices.ContainsFunc(all, func(s section) bool { return s.name == name }) {
			return fmt.Errorf("no section %q", name)
		}
	}
	r.env = append(os.Environ(), libs.RuntimeEnv+"="+strings.Join(r.runtimeFolders(ctx), string(os.PathListSeparator)), "OMP_WAIT_POLICY=passive")
	if *device == "cuda" { // what XLA finds out about the fastest way to do a product holds for the cases after it
		cache := filepath.Join(r.folder, "work", "autotune")
		if err := os.MkdirAll(cache, 0o755); err != nil {
			return err
		}
		r.env = append(r.env, "XLA_FLAGS="+strings.TrimSpace(os.Getenv("XLA_FLAGS")+" --xla_gpu_per_fusion_autotune_cache_dir="+cache))
	}
	res := &result{SchemaVersion: 1, Began: time.Now().UTC(), Program: version.String(), Device: *device, GPUs: listGPUs(ctx)}
	if old, err := os.ReadFile(*out); err == nil {
		if err := json.Unmarshal(old, res); err != nil {
			return fmt.Errorf("%s: %w", *out, err)
		}
	}
	for _, s := range all {
		if *sections != "" && !slices.Contains(chosen, s.name) {
			continue
		}
		if err := r.section(ctx, s, res, *out); err != nil {
			return err
		}
	}
	return nil
}

// section runs the cases of one section, and writes the result after each.
func (r *runner) section(ctx context.Context, s section, res *result, out string) error {
	i := slices.IndexFunc(res.Sections, func(have sectionResult) bool { return have.Name == s.name })
	if i < 0 {
		res.Sections = append(res.Sections, sectionResult{})
		i = len(res.Sections) - 1
	}
	res.Sections[i] = sectionResult{Name: s.name, About: s.about, Cases: []caseResult{}}
	began := time.Now()
	for _, c := range s.cases {
		if err := ctx.Err(); err != nil {
			return err
		}
		done := r.run(ctx, c)
		show(s.name, done)
		res.Sections[i].Cases = append(res.Sections[i].Cases, done)
		res.Sections[i].Seconds = time.Since(began).Seconds()
		doc, err := json.MarshalIndent(res, "", " ")
		if err != nil {
			return err
		}
		if err := os.WriteFile(out, append(doc, '\n'), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// show prints a line for those who watch.
func show(section string, c caseResult) {
	text := string(c.Values)
	if c.Error != "" {
		text = "FAILED: " + c.Error
	}
	if len(text) > 300 {
		text = text[:300] + "..."
	}
	fmt.Printf("%-8s %-55s %6.1f s  %s\n", section, c.Name, c.Seconds, strings.ReplaceAll(text, "\n", " "))
}

// run runs one case and the one beside it.
func (r *runner) run(ctx context.Context, c planned) caseResult {
	if time.Now().After(r.deadline) {
		return caseResult{Name: c.name, Error: "not run: the time is used up"}
	}
	if i := slices.Index(c.command, "--two-devices"); i >= 0 {
		c.command = c.command[:i]
		if n := len(listGPUs(ctx)); r.device == "cuda" && n < 2 {
			return caseResult{Name: c.name, Error: fmt.Sprintf("not run: it takes two GPUs, there are %d", n)}
		}
	}
	beside := make(chan caseResult, 1)
	if c.with != nil {
		go func() { beside <- r.process(ctx, *c.with) }()
	}
	done := r.process(ctx, c)
	if c.with != nil {
		other := <-beside
		done.With = &other
	}
	return done
}

// process runs a case's process.
func (r *runner) process(ctx context.Context, c planned) (done caseResult) {
	limit := min(c.limit, time.Until(r.deadline).Round(time.Second))
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("it took longer than %s", limit))
	defer cancel()
	args := slices.Clone(c.command)
	for i, a := range args {
		switch a {
		case "$SELF":
			args[i] = r.self
		case "$SERVE":
			args[i] = filepath.Join(r.folder, "mvmae-serve")
		}
	}
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Env = append(append(slices.Clone(r.env), "MVMAE_GPU_PYTHON="+r.python), c.env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // PyTorch compiles in children of its own, which go with it
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	began := time.Now()
	watched := watchMemory(ctx, r.device)
	err := cmd.Run()
	done = caseResult{Name: c.name, Seconds: time.Since(began).Seconds(), DeviceBytes: watched()}
	if cmd.ProcessState != nil {
		done.HostBytes = cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss << 10
	}
	values := lastObject(stdout.Bytes())
	done.Values = values
	if err == nil && values == nil {
		err = errors.New("it left no result")
	}
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		done.Error = fmt.Sprintf("%v: %s", err, tail(stderr.String()))
	}
	return done
}

// lastObject is the JSON object that standard output ends with: a line of it, or all.
func lastObject(out []byte) json.RawMessage {
	out = bytes.TrimSpace(out)
	for _, text := range [][]byte{out, out[bytes.LastIndexByte(out, '\n')+1:]} {
		if json.Valid(text) && len(text) > 0 && text[0] == '{' {
			return json.RawMessage(text)
		}
	}
	return nil
}

// tail is the end of what a process wrote to standard error.
func tail(text string) string {
	text = strings.TrimSpace(text)
	const most = 2000
	if len(text) > most {
		text = "..." + text[len(text)-most:]
	}
	return text
}

// runtimeFolders are those of the bundle, what the user names, and Python's packages, where a plugin for CUDA and NVIDIA's libraries are.
func (r *runner) runtimeFolders(ctx context.Context) []string {
	dirs := []string{filepath.Join(r.folder, "runtime")}
	if named := os.Getenv(libs.RuntimeEnv); named != "" {
		dirs = append(dirs, named)
	}
	out, err := exec.CommandContext(ctx, r.python, "-c", "import site, sys; print('\\n'.join(site.getsitepackages() + [p for p in sys.path if p]))").Output()
	if err == nil {
		for _, dir := range strings.Fields(string(out)) {
			if !slices.Contains(dirs, dir) {
				dirs = append(dirs, dir)
			}
		}
	}
	return dirs
}

// listGPUs are the lines of nvidia-smi, none where there is no GPU.
func listGPUs(ctx context.Context) []string {
	out, err := exec.CommandContext(ctx, "nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader").Output()
	if err != nil {
		return []string{}
	}
	return strings.Split(strings.TrimSpace(string(out)), "\n")
}

// watchMemory looks once a second how much memory of the GPUs is used. The function that it returns ends that, and gives the most.
func watchMemory(ctx context.Context, device string) (most func() int64) {
	if device != "cuda" {
		return func() int64 { return 0 }
	}
	ctx, cancel := context.WithCancel(ctx)
	peak := make(chan int64, 1)
	go func() {
		var most int64
		for tick := time.NewTicker(time.Second); ; {
			out, err := exec.CommandContext(ctx, "nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits").Output()
			sum := int64(0)
			for _, line := range strings.Fields(string(out)) {
				mib, _ := strconv.ParseInt(line, 10, 64)
				sum += mib << 20
			}
			if err == nil {
				most = max(most, sum)
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				tick.Stop()
				peak <- most
				return
			}
		}
	}()
	return func() int64 {
		cancel()
		return <-peak
	}
}

// gpuOf is the datasheet of the GPU that cases run on, nil where it is not known.
func gpuOf(ctx context.Context) *model.GPU {
	for _, line := range listGPUs(ctx) {
		for _, g := range model.GPUs {
			if strings.Contains(line, g.Name) {
				return &g
			}
		}
	}
	return nil
}
