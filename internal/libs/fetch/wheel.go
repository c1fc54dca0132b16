package main

import (
	"archive/zip"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/mvmae/mvmae/internal/hint"
	"github.com/mvmae/mvmae/internal/libs"
)

// pip downloads with the pip of a Python 3.
type pip struct{ python string }

// download leaves the pinned wheel in dir. The tags are given in full, so that every Python 3 downloads the same file.
func (p pip) download(ctx context.Context, pin libs.Pin, dir string, log io.Writer) error {
	const install = "install Python 3 with pip (Debian and Ubuntu: apt-get install python3-pip), or name another with PYTHON=..."
	if _, err := exec.LookPath(p.python); err != nil {
		return hint.Wrap(err, install)
	}
	if err := exec.CommandContext(ctx, p.python, "-m", "pip", "--version").Run(); err != nil {
		return hint.Wrap(fmt.Errorf("%s has no pip: %w", p.python, err), install)
	}
	requirements := filepath.Join(dir, "requirements.txt")
	line := fmt.Sprintf("%s==%s --hash=sha256:%s\n", pin.Package, pin.Version, pin.SHA256)
	if err := os.WriteFile(requirements, []byte(line), 0o644); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, p.python, "-m", "pip", "download", "--no-input", "--disable-pip-version-check",
		"--require-hashes", "--no-deps", "--only-binary=:all:", "--python-version", "3.11", "--implementation", "cp",
		"--abi", "cp311", "--platform", pin.Platform, "--dest", dir, "--requirement", requirements)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("pip download: %w", err)
	}
	return nil
}

// check compares a file with the digest it must have.
func check(path, want string) error {
	got, err := libs.Digest(path)
	if err != nil {
		return err
	}
	if got != want {
		return fmt.Errorf("%s has SHA-256 %s, not the pinned %s", filepath.Base(path), got, want)
	}
	return nil
}

// unpack writes one member of a wheel into dir and checks it.
func unpack(wheel string, file libs.PinnedFile, dir string) (err error) {
	archive, err := zip.OpenReader(wheel)
	if err != nil {
		return fmt.Errorf("open %s: %w", filepath.Base(wheel), err)
	}
	defer archive.Close()
	member, err := archive.Open(file.Member)
	if err != nil {
		return fmt.Errorf("unpack %s: %w", file.Member, err)
	}
	defer member.Close()
	path := filepath.Join(dir, file.Name)
	out, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, member)
	if closed := out.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return fmt.Errorf("unpack %s: %w", file.Member, err)
	}
	return check(path, file.SHA256)
}
