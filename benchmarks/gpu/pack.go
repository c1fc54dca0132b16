package main

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/mvmae/mvmae/benchmarks/paired"
	"github.com/mvmae/mvmae/internal/libs"
)

// newestGLIBC is the C library that the programs may need at most: that of RHEL 9, Debian 12 and Ubuntu 22.04, or later.
const newestGLIBC = 34

// pack builds the bundle: archives, cut into pieces, with their digests. "core" holds the programs and is all that training
// needs; "ort" is ONNX Runtime for CUDA; "cpu" is what trying everything without a GPU needs.
func pack(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("pack", flag.ContinueOnError)
	out := flags.String("out", filepath.Join(paired.WorkDir, "gpu"), "folder to fill")
	piece := flags.Int64("piece-mib", 60, "size of a piece")
	cuda := flags.Bool("cuda", true, "carry ONNX Runtime for CUDA too, 231 MiB, which pip fetches once")
	cpu := flags.Bool("cpu", false, "carry the CPU's libraries too, to try the bundle without a GPU")
	presets := flags.String("parity", "tiny,base", "presets whose CPU losses are carried")
	if err := flags.Parse(args); err != nil {
		return err
	}
	libs.ForTests(fatal{})
	stage, pieces := filepath.Join(*out, "stage"), filepath.Join(*out, "pieces")
	for _, dir := range []string{stage, pieces} {
		if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(dir, 0o755)); err != nil {
			return err
		}
	}
	if err := stageCore(ctx, *out, filepath.Join(stage, "core"), strings.Split(*presets, ",")); err != nil {
		return err
	}
	archives := []string{"core"}
	if *cuda {
		archives = append(archives, "ort")
		fetch := exec.CommandContext(ctx, "go", "run", "./internal/libs/fetch", "--cuda", "--out", filepath.Join("runtime", "cuda"))
		fetch.Stdout, fetch.Stderr = os.Stderr, os.Stderr
		if err := fetch.Run(); err != nil {
			return fmt.Errorf("fetch ONNX Runtime for CUDA: %w", err)
		}
		if err := copyTree(filepath.Join("runtime", "cuda"), filepath.Join(stage, "ort", "runtime")); err != nil {
			return err
		}
	}
	if *cpu {
		archives = append(archives, "cpu")
		for _, lib := range []libs.Library{libs.PJRTCPU, libs.ONNXRuntime} {
			path, err := libs.Find(lib)
			if err != nil {
				return err
			}
			if err := copyFile(path, filepath.Join(stage, "cpu", "runtime", filepath.Base(path))); err != nil {
				return err
			}
		}
	}
	return cut(stage, pieces, archives, *piece<<20)
}

// stageCore gathers programs, peers and the CPU's losses.
func stageCore(ctx context.Context, out, dir string, presets []string) error {
	for program, folder := range map[string]string{"gpu": "./benchmarks/gpu", "mvmae-serve": "./cmd/mvmae-serve"} {
		path := filepath.Join(dir, program)
		build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", path, folder)
		build.Stderr = os.Stderr
		if err := build.Run(); err != nil {
			return fmt.Errorf("build %s: %w", program, err)
		}
		if err := portable(path); err != nil {
			return err
		}
	}
	for _, peer := range []string{"gpu/peer.py", "train/peer.py"} {
		if err := copyFile(filepath.Join(paired.Folder, peer), filepath.Join(dir, "peers", peer)); err != nil {
			return err
		}
	}
	reference, err := cachedReference(ctx, out, presets)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, referenceFile), reference, 0o644)
}

// cachedReference computes the CPU's losses, or takes those of an earlier call.
func cachedReference(ctx context.Context, out string, presets []string) ([]byte, error) {
	file := filepath.Join(out, referenceFile)
	known := map[string][]float64{}
	if doc, err := os.ReadFile(file); err == nil {
		if err := json.Unmarshal(doc, &known); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
	}
	missing := slices.DeleteFunc(slices.Clone(presets), func(p string) bool { return known[p+"/float32"] != nil && known[p+"/bfloat16"] != nil })
	if len(missing) > 0 {
		made, err := makeReference(ctx, out, missing)
		if err != nil {
			return nil, err
		}
		for name, losses := range made {
			known[name] = losses
		}
	}
	doc, err := json.MarshalIndent(known, "", " ")
	if err != nil {
		return nil, err
	}
	return doc, os.WriteFile(file, doc, 0o644)
}

// portable refuses a program that needs more of the other machine than the C library, or a newer one than most have.
func portable(path string) error {
	f, err := elf.Open(path)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	defer f.Close()
	needs, err := f.ImportedLibraries()
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	for _, lib := range needs {
		if !slices.Contains([]string{"libc.so.6", "libdl.so.2", "libpthread.so.0", "libresolv.so.2", "ld-linux-x86-64.so.2"}, lib) {
			return fmt.Errorf("%s needs %s, which another machine may not have", path, lib)
		}
	}
	symbols, err := f.ImportedSymbols()
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	for _, s := range symbols {
		minor, ok := strings.CutPrefix(s.Version, "GLIBC_2.")
		if n, err := strconv.Atoi(minor); ok && err == nil && n > newestGLIBC {
			return fmt.Errorf("%s needs %s of glibc 2.%d, newer than 2.%d", path, s.Name, n, newestGLIBC)
		}
	}
	return nil
}

// cut writes each archive as pieces, and beside them their digests and the script that puts them together again.
func cut(stage, pieces string, archives []string, size int64) error {
	var sums strings.Builder
	for _, name := range archives {
		c := &cutter{base: filepath.Join(pieces, name+".tar.gz."), size: size}
		if err := archive(filepath.Join(stage, name), c); err != nil {
			return err
		}
		if err := c.Close(); err != nil {
			return err
		}
		for _, p := range c.done {
			fmt.Fprintf(&sums, "%s  %s\n", p.sum, filepath.Base(p.path))
			fmt.Fprintf(os.Stderr, "%s: %.1f MiB\n", p.path, float64(p.bytes)/(1<<20))
		}
	}
	if err := os.WriteFile(filepath.Join(pieces, "SHA256SUMS"), []byte(sums.String()), 0o644); err != nil {
		return err
	}
	return copyFile(filepath.Join(paired.Folder, "gpu", "unpack"), filepath.Join(pieces, "unpack"))
}

// archive writes a folder as tar, compressed; equal folders give equal archives.
func archive(dir string, w io.Writer) error {
	zip := gzip.NewWriter(w)
	out := tar.NewWriter(zip)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		header := &tar.Header{Name: filepath.ToSlash(name), Mode: int64(info.Mode().Perm()), Size: info.Size(), Typeflag: tar.TypeReg}
		if err := out.WriteHeader(header); err != nil {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = io.Copy(out, f)
		return err
	})
	return errors.Join(err, out.Close(), zip.Close())
}

// cutter writes pieces of a size: base00, base01 and so on.
type cutter struct {
	base string
	size int64
	done []cutPiece
	file *os.File
	hash io.Writer
	sum  func([]byte) []byte
}

type cutPiece struct {
	path, sum string
	bytes     int64
}

func (c *cutter) Write(p []byte) (n int, err error) {
	for len(p) > 0 {
		if c.file == nil || c.done[len(c.done)-1].bytes == c.size {
			if err := c.next(); err != nil {
				return n, err
			}
		}
		last := &c.done[len(c.done)-1]
		part := p[:min(int64(len(p)), c.size-last.bytes)]
		wrote, err := io.MultiWriter(c.file, c.hash).Write(part)
		n, last.bytes = n+wrote, last.bytes+int64(wrote)
		if err != nil {
			return n, err
		}
		p = p[len(part):]
	}
	return n, nil
}

func (c *cutter) next() error {
	if err := c.Close(); err != nil {
		return err
	}
	path := fmt.Sprintf("%s%02d", c.base, len(c.done))
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	h := sha256.New()
	c.file, c.hash, c.sum = file, h, h.Sum
	c.done = append(c.done, cutPiece{path: path})
	return nil
}

// Close ends the piece at hand.
func (c *cutter) Close() error {
	if c.file == nil {
		return nil
	}
	c.done[len(c.done)-1].sum = hex.EncodeToString(c.sum(nil))
	err := c.file.Close()
	c.file = nil
	return err
}

func copyTree(from, to string) error { return os.CopyFS(to, os.DirFS(from)) }

func copyFile(from, to string) error {
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_EXCL, info.Mode().Perm())
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// fatal ends the program where a test would fail.
type fatal struct{}

func (fatal) Helper() {}

func (fatal) Fatalf(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "error: "+format+"\n", args...)
	os.Exit(1)
}
