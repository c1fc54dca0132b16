//go:build unix

package model

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// childEnv tells a process of this test that it is the one to break, and how.
const childEnv = "MVMAE_TEST_WRITER"

func writerChild(t *testing.T, kind, path string) *exec.Cmd {
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestWriteSafetensors_")
	cmd.Env = append(os.Environ(), childEnv+"="+kind, "MVMAE_TEST_PATH="+path)
	return cmd
}

func checkpointOf(value float32, n int) Tensors {
	data := make([]float32, n)
	for i := range data {
		data[i] = value
	}
	return Tensors{"x": {Dims: []int{n}, Data: data}}
}

// stillWhole checks that a checkpoint's folder holds the old one, and half-written files only if they may be left.
func stillWhole(t *testing.T, path string, want Tensors, leftovers int) {
	t.Helper()
	got, _, err := ReadSafetensors(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 1+leftovers {
		t.Errorf("%d files in the folder, want %d", len(entries), 1+leftovers)
	}
}

// A disk without room is a process without the right to write more: a limit of its own, since the limit cannot be lifted
// again and other tests write too.
func TestWriteSafetensors_FullDiskLeavesTheOldFile(t *testing.T) {
	if os.Getenv(childEnv) == "full" {
		signal.Ignore(syscall.SIGXFSZ)
		limit := syscall.Rlimit{Cur: 64 << 10, Max: 64 << 10}
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
			t.Fatal(err)
		}
		err := WriteSafetensors(os.Getenv("MVMAE_TEST_PATH"), checkpointOf(2, 1<<16), nil)
		if !errors.Is(err, syscall.EFBIG) {
			t.Fatalf("writing without room: %v", err)
		}
		fmt.Println("refused:", err)
		return
	}
	if os.Getenv(childEnv) != "" {
		return
	}
	path, old := filepath.Join(t.TempDir(), "last.safetensors"), checkpointOf(1, 1<<16)
	if err := WriteSafetensors(path, old, nil); err != nil {
		t.Fatal(err)
	}
	out, err := writerChild(t, "full", path).CombinedOutput()
	if want := "refused: write " + path; err != nil || len(out) < len(want) || string(out[:len(want)]) != want {
		t.Fatalf("%v\n%s", err, out)
	}
	stillWhole(t, path, old, 0)
}

func TestWriteSafetensors_KilledWriterLeavesTheOldFile(t *testing.T) {
	if os.Getenv(childEnv) == "kill" {
		WriteFileAtomic(os.Getenv("MVMAE_TEST_PATH"), func(w io.Writer) error {
			if _, err := w.Write(make([]byte, 1<<16)); err != nil {
				return err
			}
			fmt.Println("half")
			_, err := os.Stdin.Read(make([]byte, 1)) // until killed
			return err
		})
		return
	}
	if os.Getenv(childEnv) != "" {
		return
	}
	path, old := filepath.Join(t.TempDir(), "last.safetensors"), checkpointOf(1, 1<<16)
	if err := WriteSafetensors(path, old, nil); err != nil {
		t.Fatal(err)
	}
	cmd := writerChild(t, "kill", path)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil || line != "half\n" {
		t.Fatalf("the writer said %q (%v)", line, err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil {
		t.Fatal("the writer was not killed")
	}
	stillWhole(t, path, old, 1)
	if err := WriteSafetensors(path, checkpointOf(3, 8), nil); err != nil {
		t.Fatal(err)
	}
	stillWhole(t, path, checkpointOf(3, 8), 1)
}
