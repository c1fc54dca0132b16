// Command fetch fills a folder with the pinned runtime libraries of internal/libs: pip downloads the wheels by name and
// SHA-256, the libraries are unpacked, and their digests are checked again. What is already there and right is left alone,
// so a second run needs no network.
//
//	go run ./internal/libs/fetch --out runtime
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/mvmae/mvmae/internal/hint"
	"github.com/mvmae/mvmae/internal/libs"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	out := flag.String("out", "runtime", "folder to fill")
	python := flag.String("python", "python3", "Python 3 whose pip downloads")
	platform := flag.String("platform", runtime.GOOS+"/"+runtime.GOARCH, "GOOS/GOARCH the libraries are for")
	cuda := flag.Bool("cuda", false, "fetch ONNX Runtime's build for CUDA instead")
	flag.Parse()
	wanted := []libs.Library{libs.ONNXRuntime, libs.PJRTCPU}
	if *cuda {
		wanted = []libs.Library{libs.ONNXRuntimeCUDA}
	}
	f := fetcher{out: *out, log: os.Stderr, download: pip{*python}.download, pause: 2 * time.Second}
	goos, goarch, _ := strings.Cut(*platform, "/")
	if err := f.all(ctx, wanted, goos, goarch); err != nil {
		say(os.Stderr, "error", err)
		os.Exit(1)
	}
}

func say(w io.Writer, kind string, err error) {
	fmt.Fprintf(w, "%s: %v\n", kind, err)
	if cure := hint.Of(err); cure != "" {
		fmt.Fprintf(w, "hint: %s\n", cure)
	}
}

type fetcher struct {
	out      string // the folder to fill
	log      io.Writer
	download func(ctx context.Context, pin libs.Pin, dir string, log io.Writer) error // leaves one wheel in dir
	pause    time.Duration                                                            // before the second try; doubled for each later one
}

const tries = 4

// all installs what of the wanted the table has for a platform. A library without a row is reported, not refused: the others are useful
// without it, and the person may supply it.
func (f fetcher) all(ctx context.Context, wanted []libs.Library, goos, goarch string) error {
	for _, lib := range wanted {
		pin, err := libs.PinOf(lib, goos, goarch)
		if err != nil {
			say(f.log, "warning", err)
			continue
		}
		if err := f.install(ctx, pin); err != nil {
			return fmt.Errorf("install %s %s: %w", pin.Package, pin.Version, err)
		}
	}
	return nil
}

func (f fetcher) install(ctx context.Context, pin libs.Pin) error {
	if f.upToDate(pin) {
		fmt.Fprintf(f.log, "%s %s: present\n", pin.Package, pin.Version)
		return nil
	}
	tmp, err := f.tempDir()
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	fmt.Fprintf(f.log, "%s %s: downloading\n", pin.Package, pin.Version)
	if err := f.retry(ctx, func() error { return f.download(ctx, pin, tmp, f.log) }); err != nil {
		return err
	}
	wheels, err := filepath.Glob(filepath.Join(tmp, "*.whl"))
	if err != nil || len(wheels) != 1 {
		return fmt.Errorf("pip left %d wheels, want 1", len(wheels))
	}
	if err := check(wheels[0], pin.SHA256); err != nil {
		return err
	}
	for _, file := range pin.Files {
		if err := unpack(wheels[0], file, tmp); err != nil {
			return err
		}
	}
	for _, file := range pin.Files { // only when all are good, and each at once: no program sees half a library
		if err := os.Rename(filepath.Join(tmp, file.Name), filepath.Join(f.out, file.Name)); err != nil {
			return err
		}
		fmt.Fprintf(f.log, "%s %s: %s\n", pin.Package, pin.Version, filepath.Join(f.out, file.Name))
	}
	return nil
}

func (f fetcher) upToDate(pin libs.Pin) bool {
	for _, file := range pin.Files {
		if check(filepath.Join(f.out, file.Name), file.SHA256) != nil {
			return false
		}
	}
	return true
}

// tempDir makes a folder inside the output folder: a rename is atomic only within one file system.
func (f fetcher) tempDir() (string, error) {
	err := os.MkdirAll(f.out, 0o755)
	if err == nil {
		var tmp string
		if tmp, err = os.MkdirTemp(f.out, ".fetch-"); err == nil {
			return tmp, nil
		}
	}
	return "", hint.Wrap(err, "make the folder writable, or choose another with --out")
}

// retry tries again after a growing pause: a registry may be slow or refuse for a moment.
func (f fetcher) retry(ctx context.Context, try func() error) error {
	pause := f.pause
	for n := 1; ; n++ {
		err := try()
		if err == nil || n == tries || hint.Of(err) != "" { // a known cure means that trying again is none
			return err
		}
		fmt.Fprintf(f.log, "try %d of %d: %v; again in %v\n", n, tries, err, pause)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
		pause *= 2
	}
}
