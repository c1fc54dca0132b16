package external

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/mvmae/mvmae/internal/hint"
)

// ProgramEnv names the environment variable that names mvmae-codec, when it is neither beside the running program nor on
// PATH.
const ProgramEnv = "MVMAE_CODEC"

const program = "mvmae-codec"

// Cure is how a machine gets the decoders.
const Cure = `run "make codecs build", which installs CharLS and OpenJPEG (Debian and Ubuntu: libcharls-dev libopenjp2-7-dev pkg-config) ` +
	`and builds mvmae-codec with them, or store the image uncompressed, for instance with gdcmconv --raw`

// Find returns the path of mvmae-codec.
func Find() (string, error) {
	if path := os.Getenv(ProgramEnv); path != "" {
		return filepath.Abs(path)
	}
	if exe, err := os.Executable(); err == nil {
		if real, err := filepath.EvalSymlinks(exe); err == nil {
			exe = real
		}
		if path, err := exec.LookPath(filepath.Join(filepath.Dir(exe), program)); err == nil {
			return path, nil
		}
	}
	path, err := exec.LookPath(program)
	if err != nil {
		return "", hint.Wrap(fmt.Errorf("%s is neither beside this program nor on PATH", program), "%s", Cure)
	}
	return filepath.Abs(path)
}

// Examine asks the program which libraries it has. It is an error if there is no program or it lacks one.
func Examine(ctx context.Context) (Versions, string, error) {
	var v Versions
	path, err := Find()
	if err != nil {
		return v, "", err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, "versions").Output()
	if err == nil {
		err = json.Unmarshal(out, &v)
	}
	if err != nil {
		return v, path, hint.Wrap(fmt.Errorf("ask %s for its libraries: %w", path, err), "%s", Cure)
	}
	for _, l := range []struct {
		library Library
		version string
	}{{CharLS, v.CharLS}, {OpenJPEG, v.OpenJPEG}} {
		if l.version == "" {
			return v, path, hint.Wrap(fmt.Errorf("%s was built without %s", path, l.library), "%s", Cure)
		}
	}
	return v, path, nil
}
