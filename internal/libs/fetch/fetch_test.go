package main

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mvmae/mvmae/internal/hint"
	"github.com/mvmae/mvmae/internal/libs"
)

const member, content = "pkg/libx.so.1", "the library"

func sum(data []byte) string {
	h := sha256.Sum256(data)
	return hex.EncodeToString(h[:])
}

// fakeWheel returns the bytes of a wheel with one library, and its pin.
func fakeWheel(t *testing.T) ([]byte, libs.Pin) {
	t.Helper()
	var buf bytes.Buffer
	w := zip.NewWriter(&buf)
	f, err := w.Create(member)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(f, content); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes(), libs.Pin{
		Package: "x", Version: "1", SHA256: sum(buf.Bytes()),
		Files: []libs.PinnedFile{{Member: member, Name: "libx.so", SHA256: sum([]byte(content))}},
	}
}

// registry is a download that fails the first `failures` times and counts its calls.
type registry struct {
	wheel    []byte
	failures int
	err      error
	calls    int
}

func (r *registry) download(_ context.Context, _ libs.Pin, dir string, _ io.Writer) error {
	r.calls++
	if r.calls <= r.failures {
		return r.err
	}
	return os.WriteFile(filepath.Join(dir, "x.whl"), r.wheel, 0o644)
}

func TestInstall_ThenPresent(t *testing.T) {
	wheel, pin := fakeWheel(t)
	r := &registry{wheel: wheel, failures: tries - 1, err: errors.New("connection reset")}
	f := fetcher{out: filepath.Join(t.TempDir(), "runtime"), log: io.Discard, download: r.download}
	for range 2 { // the second run must not download
		if err := f.install(t.Context(), pin); err != nil {
			t.Fatal(err)
		}
	}
	if r.calls != tries {
		t.Errorf("%d downloads, want %d", r.calls, tries)
	}
	got, err := os.ReadFile(filepath.Join(f.out, "libx.so"))
	if err != nil || string(got) != content {
		t.Errorf("installed %q, %v", got, err)
	}
	if left := files(t, f.out); len(left) != 1 {
		t.Errorf("left behind: %q", left)
	}
	// A damaged library is fetched again.
	if err := os.WriteFile(filepath.Join(f.out, "libx.so"), []byte("damaged"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := f.install(t.Context(), pin); err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(filepath.Join(f.out, "libx.so")); string(got) != content {
		t.Errorf("after damage: %q", got)
	}
}

func TestInstall_RefusesAndLeavesNothing(t *testing.T) {
	wheel, pin := fakeWheel(t)
	wrongWheel, wrongMember, noMember := pin, pin, pin
	wrongWheel.SHA256 = sum(nil)
	wrongMember.Files = []libs.PinnedFile{{Member: member, Name: "libx.so", SHA256: sum(nil)}}
	noMember.Files = []libs.PinnedFile{{Member: "pkg/liby.so", Name: "libx.so", SHA256: sum([]byte(content))}}
	for _, c := range []struct {
		name string
		pin  libs.Pin
		r    *registry
		want string
	}{
		{"another wheel", wrongWheel, &registry{wheel: wheel}, "x.whl has SHA-256"},
		{"another library", wrongMember, &registry{wheel: wheel}, "libx.so has SHA-256"},
		{"no such library", noMember, &registry{wheel: wheel}, "pkg/liby.so"},
		{"no answer", pin, &registry{failures: tries, err: errors.New("connection reset")}, "connection reset"},
	} {
		f := fetcher{out: t.TempDir(), log: io.Discard, download: c.r.download}
		err := f.install(t.Context(), c.pin)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %q in it", c.name, err, c.want)
		}
		if left := files(t, f.out); len(left) != 0 {
			t.Errorf("%s: left behind %q", c.name, left)
		}
	}
}

func TestInstall_KnownCureIsNotRetried(t *testing.T) {
	_, pin := fakeWheel(t)
	r := &registry{failures: tries, err: hint.Wrap(errors.New("no pip"), "install pip")}
	f := fetcher{out: t.TempDir(), log: io.Discard, download: r.download}
	if err := f.install(t.Context(), pin); hint.Of(err) != "install pip" || r.calls != 1 {
		t.Errorf("error %v with hint %q after %d tries", err, hint.Of(err), r.calls)
	}
}

func TestInstall_UnwritableFolderHasACure(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	_, pin := fakeWheel(t)
	r := &registry{}
	f := fetcher{out: filepath.Join(file, "runtime"), log: io.Discard, download: r.download}
	if err := f.install(t.Context(), pin); err == nil || hint.Of(err) == "" || r.calls != 0 {
		t.Errorf("error %v with hint %q after %d downloads", err, hint.Of(err), r.calls)
	}
}

func TestPip_MissingPythonIsNamed(t *testing.T) {
	_, pin := fakeWheel(t)
	err := pip{"no-such-python"}.download(t.Context(), pin, t.TempDir(), io.Discard)
	if err == nil || !strings.Contains(err.Error(), "no-such-python") || !strings.Contains(hint.Of(err), "python3-pip") {
		t.Errorf("error %v, hint %q", err, hint.Of(err))
	}
}

func TestAll_PlatformWithoutPinsIsReported(t *testing.T) {
	var log bytes.Buffer
	f := fetcher{out: t.TempDir(), log: &log}
	if err := f.all(t.Context(), []libs.Library{libs.ONNXRuntime, libs.PJRTCPU}, "plan9", "amd64"); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"warning: no pinned package holds ONNX Runtime for plan9/amd64", "hint: put libonnxruntime.so"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("log has no %q:\n%s", want, log.String())
		}
	}
}

func files(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}
