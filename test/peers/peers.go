// Package peers makes every transfer syntax from one phantom, with other people's encoders, and has other people's readers
// decode the result: DCMTK and GDCM as programs, pydicom with pylibjpeg and GDCM. Tests and benchmarks hold our decoders to
// theirs. "make peers" installs them; [Find] says whether they are there.
package peers

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/mvmae/mvmae/internal/hint"
)

//go:embed peers.py
var script string

// The environment variables: the Python that has the packages, and whether tests may go without peers.
const (
	PythonEnv  = "MVMAE_PEERS_PYTHON"
	RequireEnv = "MVMAE_REQUIRE_PEERS"
)

// Python is the peers' Python.
type Python string

// File is an image that a peer encoded. Error is why it could not.
type File struct {
	File, Base, Syntax, Encoder, Error string
}

// Arc is the last number of the transfer syntax UID, by which the standard's readers call it.
func (f File) Arc() string { return f.Syntax[strings.LastIndexByte(f.Syntax, '.'):] }

// Answer is what a peer made of a file. Error is why it could not decode it.
type Answer struct{ File, Peer, Error string }

// Timing is one decoding by a peer: by the clock, and processor time with that of the programs it started.
type Timing struct {
	File, Peer   string
	Seconds, CPU float64
}

// Names are the peers that decode.
var Names = []string{"pylibjpeg", "gdcm", "dcmtk"}

// PythonPath is where the peers' Python should be.
func PythonPath() string {
	if python := os.Getenv(PythonEnv); python != "" {
		return python
	}
	_, here, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(here), "..", "..", ".venv-peers", "bin", "python")
}

// Find returns the peers' Python, or an error with the cure if a peer is missing.
func Find() (Python, error) {
	python := PythonPath()
	var errs []error
	for _, p := range []string{python, "dcmcjpeg", "dcmdjpeg", "dcmcjpls", "dcmdjpls", "dcmcrle", "dcmdrle", "gdcmconv"} {
		if _, err := exec.LookPath(p); err != nil {
			errs = append(errs, err)
		}
	}
	return Python(python), hint.Wrap(errors.Join(errs...), `run "make peers"`)
}

// Encode has every encoder encode every file of native that it takes into out, or only those named, as "90.gdcm".
func (p Python) Encode(ctx context.Context, native, out string, only ...string) ([]File, error) {
	return run[File](ctx, p, append([]string{"encode", native, out}, only...)...)
}

// Decode has every peer decode every file of dir. [Values] reads what they found.
func (p Python) Decode(ctx context.Context, dir string) ([]Answer, error) {
	return run[Answer](ctx, p, "decode", dir)
}

// Sample is one of the files that pydicom's own tests are made of, and what pydicom makes of it.
type Sample struct {
	Path, Name string // absolute, and as pydicom calls it
	Answer
}

// Samples has pydicom decode its own test files that have pixels. [Values] reads from out what it found.
func (p Python) Samples(ctx context.Context, out string) ([]Sample, error) {
	return run[Sample](ctx, p, "samples", out)
}

// Time has every peer decode every file that many times, taking turns.
func (p Python) Time(ctx context.Context, repeats int, files ...string) ([]Timing, error) {
	return run[Timing](ctx, p, append([]string{"time", fmt.Sprint(repeats)}, files...)...)
}

// Versions names the peers' versions.
func (p Python) Versions(ctx context.Context) (map[string]string, error) {
	found, err := run[map[string]string](ctx, p, "versions")
	if err != nil {
		return nil, err
	}
	return found[0], nil
}

// run runs the script and reads its JSON lines.
func run[T any](ctx context.Context, p Python, args ...string) ([]T, error) {
	cmd := exec.CommandContext(ctx, string(p), append([]string{"-c", script}, args...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("peers %s: %w\n%s", args[0], err, stderr.Bytes())
	}
	var lines []T
	for d := json.NewDecoder(bytes.NewReader(out)); d.More(); {
		var line T
		if err := d.Decode(&line); err != nil {
			return nil, fmt.Errorf("peers %s: %w", args[0], err)
		}
		lines = append(lines, line)
	}
	if len(lines) == 0 {
		return nil, fmt.Errorf("peers %s: no answer", args[0])
	}
	return lines, nil
}

// Values reads the gray values that a peer found in a file of dir.
func Values(dir string, a Answer) ([]int32, error) {
	raw, err := os.ReadFile(filepath.Join(dir, strings.TrimSuffix(a.File, "dcm")+a.Peer+".i32"))
	if err != nil {
		return nil, err
	}
	values := make([]int32, len(raw)/4)
	for i := range values {
		values[i] = int32(binary.LittleEndian.Uint32(raw[4*i:]))
	}
	return values, nil
}

// NATSServer returns the NATS server among the peers' packages, or an error with the cure if it is missing.
func NATSServer() (string, error) {
	bin := filepath.Dir(PythonPath())
	program, err := exec.LookPath(filepath.Join(bin, "nats-server"))
	if err != nil { // Python without venv keeps programs beside its packages
		program, err = exec.LookPath(filepath.Join(bin, "..", "packages", "bin", "nats-server"))
	}
	return program, hint.Wrap(err, `run "make peers"`)
}
