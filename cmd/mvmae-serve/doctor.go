package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/mvmae/mvmae/cmd/internal/cli"
	"github.com/mvmae/mvmae/dicom/codec/external"
	"github.com/mvmae/mvmae/dicom/pacs"
	"github.com/mvmae/mvmae/internal/hint"
	"github.com/mvmae/mvmae/internal/libs"
	"github.com/mvmae/mvmae/model/ort"
	"github.com/mvmae/mvmae/serve"
)

// DoctorCmd says what this machine has of what serving needs.
type DoctorCmd struct {
	Model  string `type:"path" placeholder:"FILE" help:"Open this model file too."`
	Device string `default:"auto" enum:"cpu,cuda,auto" help:"The device that is wanted: with cuda, its absence is an error."`
	Train  bool   `help:"Training is wanted here too: what it lacks is an error."`

	PACS    []pacs.Node `name:"pacs" placeholder:"AE@HOST:PORT" help:"Call this PACS too (C-ECHO)."`
	calling `embed:""`
}

// check is one thing looked for.
type check struct {
	Name   string `json:"name"`
	Found  bool   `json:"found"`
	Needed bool   `json:"needed"`
	Detail string `json:"detail"`
	Hint   string `json:"hint,omitempty"`

	err error
}

func (c *DoctorCmd) Run(ctx context.Context, out *cli.Output) error {
	checks := []check{look("ONNX Runtime", true, onnxRuntime)}
	checks = append(checks, c.cuda()...)
	checks = append(checks,
		look("XLA", c.Train && c.Device != ort.CUDA, func() (string, error) { return plugin(libs.PJRTCPU) }),
		look("codecs", false, func() (string, error) { return codecs(ctx) }),
		look("cores", true, cores),
		look("memory", false, memory),
	)
	if c.Model != "" {
		checks = append(checks, look("model", true, c.tryModel))
	}
	for _, to := range c.PACS {
		checks = append(checks, look("PACS", true, func() (string, error) { return c.echo(ctx, to) }))
	}
	return report(out, checks)
}

// report prints checks. Its error names those that are needed and failed.
func report(out *cli.Output, checks []check) error {
	for _, k := range checks {
		state := "found"
		if !k.Found {
			state = "missing"
		}
		out.Printf("%-8s %-13s %s\n", state, k.Name, k.Detail)
		for line := range strings.Lines(k.Hint) {
			out.Printf("%-8s %-13s hint: %s\n", "", "", strings.TrimSpace(line))
		}
	}
	if err := out.Result(map[string][]check{"checks": checks}); err != nil {
		return err
	}
	var missing []string
	var causes []error
	for _, k := range checks {
		if k.Needed && !k.Found {
			missing = append(missing, k.Name)
			causes = append(causes, k.err)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return &doctorError{missing: missing, causes: errors.Join(causes...)}
}

// doctorError names what is missing; the exit code is that of the causes, which are printed already.
type doctorError struct {
	missing []string
	causes  error
}

func (e *doctorError) Error() string { return "missing: " + strings.Join(e.missing, ", ") }
func (e *doctorError) Unwrap() error { return e.causes }
func (e *doctorError) Hint() string  { return "the cures are in the list above" }

func look(name string, needed bool, find func() (string, error)) check {
	detail, err := find()
	if err != nil {
		return check{Name: name, Needed: needed, Detail: err.Error(), Hint: hint.Of(err), err: err}
	}
	return check{Name: name, Needed: needed, Found: true, Detail: detail}
}

func onnxRuntime() (string, error) {
	version, path, err := ort.Version()
	if err != nil {
		return "", err
	}
	digest, err := libs.Digest(path)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s, %s (sha256 %s)", version, path, digest), nil
}

// codecs looks for the program that decodes JPEG-LS and JPEG 2000.
func codecs(ctx context.Context) (string, error) {
	v, path, err := external.Examine(ctx)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("JPEG-LS by CharLS %s, JPEG 2000 and HTJ2K by OpenJPEG %s, %s", v.CharLS, v.OpenJPEG, path), nil
}

func cores() (string, error) {
	return fmt.Sprintf("%d of %d in use (GOMAXPROCS), %s/%s", runtime.GOMAXPROCS(0), runtime.NumCPU(), runtime.GOOS, runtime.GOARCH), nil
}

// memory reads what the kernel and the control group (version 2) allow.
func memory() (string, error) {
	total, err := meminfo("MemTotal:")
	if err != nil {
		return "", err
	}
	available, err := meminfo("MemAvailable:")
	if err != nil {
		return "", err
	}
	detail := fmt.Sprintf("%.1f GiB, %.1f GiB available", gib(total), gib(available))
	if text, err := os.ReadFile("/sys/fs/cgroup/memory.max"); err == nil {
		if limit, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err == nil { // else "max"
			detail += fmt.Sprintf(", limited to %.1f GiB", gib(limit))
		}
	}
	return detail, nil
}

// meminfo returns one line of /proc/meminfo in bytes.
func meminfo(name string) (int64, error) {
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return 0, errors.New("not known on " + runtime.GOOS)
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if fields := strings.Fields(lines.Text()); len(fields) == 3 && fields[0] == name {
			kib, err := strconv.ParseInt(fields[1], 10, 64)
			return kib << 10, err
		}
	}
	return 0, fmt.Errorf("/proc/meminfo has no line %s", name)
}

func gib(bytes int64) float64 { return float64(bytes) / (1 << 30) }

// tryModel opens the model file, which also runs it once.
func (c *DoctorCmd) tryModel() (string, error) {
	start := time.Now()
	engine, err := serve.Open(c.Model, serve.Options{Device: c.Device})
	if err != nil {
		return "", err
	}
	defer engine.Close()
	m := engine.Model()
	return fmt.Sprintf("%s %s (sha256 %s) on %s, ready in %s", m.Name, m.Version, m.SHA256, engine.Device(),
		time.Since(start).Round(time.Millisecond)), nil
}
