package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mvmae/mvmae/internal/codecprog"
)

// The settings in deploy/ are those of this program.
func TestDeploy_SettingsAreKnown(t *testing.T) {
	code, stdout, stderr := command(t, "config", "--config", filepath.Join("..", "..", "deploy", "serve.toml"))
	if code != 0 || !strings.Contains(stdout, `data = "/var/lib/mvmae"`) {
		t.Errorf("exit code %d: %s%s", code, stdout, stderr)
	}
}

// systemd understands every line of the unit file, and calls its exposure low.
func TestDeploy_UnitIsSound(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		codecprog.Skip(t, err.Error())
	}
	unit, err := os.ReadFile(filepath.Join("..", "..", "deploy", "mvmae-serve.service"))
	if err != nil {
		t.Fatal(err)
	}
	path := writeFile(t, filepath.Join(t.TempDir(), "mvmae-serve.service"), []byte(strings.ReplaceAll(string(unit), "/usr/local/bin/mvmae-serve", program(t))))
	out, err := exec.CommandContext(t.Context(), analyze, "verify", "--man=no", "--recursive-errors=no", path).CombinedOutput()
	if err != nil || len(out) > 0 {
		t.Errorf("verify: %v\n%s", err, out)
	}
	out, err = exec.CommandContext(t.Context(), analyze, "security", "--offline=yes", "--no-pager", "--threshold=15", path).CombinedOutput()
	if err != nil {
		t.Errorf("security: %v\n%s", err, out)
	}
}
