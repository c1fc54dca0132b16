package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/mvmae/mvmae/cmd/internal/cli"
	"github.com/mvmae/mvmae/dicom"
	"github.com/mvmae/mvmae/dicom/codec/external"
	"github.com/mvmae/mvmae/dicom/cxr"
	"github.com/mvmae/mvmae/internal/hint"
)

// DeidentifyCmd takes identities out of DICOM images.
type DeidentifyCmd struct {
	Paths    []string `arg:"" name:"file|dir" help:"DICOM files, and folders of them." type:"path"`
	Out      string   `help:"Folder to make." required:"" type:"path" placeholder:"DIR"`
	KeyFile  string   `help:"Key of the hashes, 16 bytes or more: the same key gives a patient, a study, an image the same name again (default: a random key, not kept)." type:"existingfile" placeholder:"FILE"`
	BurnedIn bool     `help:"Let images pass whose header says that text is part of the pixels. It stays there."`
}

// refusedFile is a file that was left out.
type refusedFile struct {
	Name   string `json:"name"`
	Code   string `json:"code"`
	Detail string `json:"detail"`
}

// codeUnreadable is the code of a file that cannot be read; the other ones are dicom.Code.
const codeUnreadable = "unreadable"

// minKeyBytes keeps a key from being guessed: UIDs and patient numbers are few enough to try them all.
const minKeyBytes = 16

// Run is the command.
func (c *DeidentifyCmd) Run(ctx context.Context, out *cli.Output) error {
	d := dicom.Deidentifier{BurnedIn: c.BurnedIn}
	var err error
	if d.Key, err = c.key(); err != nil {
		return err
	}
	if entries, _ := os.ReadDir(c.Out); len(entries) > 0 {
		return hint.Wrap(fmt.Errorf("de-identify into %s: the folder is not empty", c.Out), "choose a new folder, or remove %s", c.Out)
	}
	jobs, refused, err := c.jobs(d)
	if err != nil {
		return err
	}
	shown := out.Progress("deidentify (files)", int64(len(jobs)))
	pool := external.NewPool(external.Options{})
	defer pool.Close()
	var mu sync.Mutex
	written := 0
	lettered := []string{}
	g, ctx := errgroup.WithContext(ctx)
	eye := cxr.Options{Recipe: cxr.Mimic, Codecs: pool.Decoders(ctx)}
	g.SetLimit(runtime.GOMAXPROCS(0))
	for _, j := range jobs {
		g.Go(func() error {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			r, text, err := j.do(d, eye)
			mu.Lock()
			defer mu.Unlock()
			shown.Add(1)
			if r != nil {
				refused = append(refused, *r)
			} else if err == nil {
				written++
			}
			if text {
				lettered = append(lettered, j.from)
			}
			return err
		})
	}
	err = g.Wait()
	shown.Done()
	if err != nil {
		return err
	}
	slices.Sort(lettered)
	return c.report(out, written, lettered, refused)
}

func (c *DeidentifyCmd) key() ([]byte, error) {
	if c.KeyFile == "" {
		key := make([]byte, 32)
		rand.Read(key) // never fails (crypto/rand)
		return key, nil
	}
	key, err := os.ReadFile(c.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("read key: %w", err)
	}
	if len(key) < minKeyBytes {
		err := fmt.Errorf("read key: %s has %d bytes; at least %d are needed", c.KeyFile, len(key), minKeyBytes)
		return nil, cli.Exit(cli.ExitUsage, hint.Wrap(err, "make one with: head -c 32 /dev/urandom > FILE"))
	}
	return key, nil
}

// job is a file and where to write it.
type job struct{ from, to string }

// jobs lists the files. Each keeps its place in the tree, under hashes for the names of folders and file: names of patients
// are often found there. A hash is of the whole path, so that equal names in two places do not show.
func (c *DeidentifyCmd) jobs(d dicom.Deidentifier) (jobs []job, refused []refusedFile, err error) {
	for _, root := range c.Paths {
		base := root
		err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
			if err != nil {
				if path == root {
					return fmt.Errorf("de-identify: %w", err)
				}
				refused = append(refused, refusedFile{path, codeUnreadable, reason(err)})
				return nil
			}
			if entry.IsDir() {
				return nil
			}
			if path == root {
				base = filepath.Dir(root)
			}
			at, err := filepath.Rel(base, path)
			if err != nil {
				return err
			}
			to := c.Out
			names := strings.Split(at, string(filepath.Separator))
			for i := range names {
				to = filepath.Join(to, d.Name("path", filepath.Join(append([]string{base}, names[:i+1]...)...))[:16])
			}
			jobs = append(jobs, job{path, to + ".dcm"})
			return nil
		})
		if err != nil {
			return nil, nil, err
		}
	}
	// A file named twice is one file.
	slices.SortFunc(jobs, func(a, b job) int { return cmp.Or(cmp.Compare(a.to, b.to), cmp.Compare(a.from, b.from)) })
	jobs = slices.Compact(jobs)
	if len(jobs)+len(refused) == 0 {
		return nil, nil, hint.Wrap(fmt.Errorf("de-identify: no file in %s", strings.Join(c.Paths, ", ")), "name DICOM files or a folder that holds some")
	}
	return jobs, refused, nil
}

// reason is an error without the path, which the caller names.
func reason(err error) string {
	var e *fs.PathError
	if errors.As(err, &e) {
		return e.Err.Error()
	}
	return err.Error()
}

// do writes a file, or says why not, and whether text can be seen in what it wrote. Only a chest radiograph is looked at.
func (j job) do(d dicom.Deidentifier, eye cxr.Options) (refused *refusedFile, text bool, err error) {
	data, err := readBounded(j.from, dicom.DefaultLimits().MaxBytes)
	if err != nil {
		return &refusedFile{j.from, codeUnreadable, reason(err)}, false, nil
	}
	var image bytes.Buffer
	image.Grow(len(data) + 1<<12)
	var e *dicom.Error
	switch err := d.Write(&image, data); {
	case errors.As(err, &e):
		return &refusedFile{j.from, string(e.Code), e.Detail}, false, nil
	case err != nil:
		return nil, false, err
	}
	if err := os.MkdirAll(filepath.Dir(j.to), 0o777); err != nil {
		return nil, false, fmt.Errorf("de-identify: %w", err)
	}
	if err := os.WriteFile(j.to, image.Bytes(), 0o666); err != nil {
		return nil, false, fmt.Errorf("de-identify: %w", err)
	}
	seen, err := eye.FromDICOM(data)
	return nil, err == nil && slices.Contains(seen.Flags, cxr.FlagBurnedIn), nil
}

// readBounded reads a regular file, but of one longer than limit no more than shows that it is.
func readBounded(path string, limit int) ([]byte, error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, errors.New("not a regular file")
	case info.Size() > int64(limit):
		return nil, fmt.Errorf("%d bytes, the limit is %d", info.Size(), limit)
	}
	return os.ReadFile(path)
}

func (c *DeidentifyCmd) report(out *cli.Output, written int, lettered []string, refused []refusedFile) error {
	slices.SortFunc(refused, func(a, b refusedFile) int { return cmp.Compare(a.Name, b.Name) })
	burned := 0
	for i, r := range refused {
		if r.Code == string(dicom.CodeBurnedIn) {
			burned++
		}
		switch {
		case i < remarksShown:
			out.Printf("left out: %s: %s: %s\n", r.Name, r.Code, r.Detail)
		case i == remarksShown:
			out.Printf("left out: %d more\n", len(refused)-i)
		}
	}
	for i, name := range lettered {
		switch {
		case i < remarksShown:
			out.Printf("look at: %s: a line of text can be seen in it\n", name)
		case i == remarksShown:
			out.Printf("look at: %d more\n", len(lettered)-i)
		}
	}
	out.Printf("wrote %s: %d images without identities; their pixels are as they were, text in them included\n", c.Out, written)
	err := out.Result(struct {
		Out      string        `json:"out"`
		Images   int           `json:"images"`
		Refused  []refusedFile `json:"refused"`
		BurnedIn int           `json:"burned_in"`
		TextSeen []string      `json:"text_seen"`
	}{c.Out, written, append([]refusedFile{}, refused...), burned, lettered})
	if err != nil || len(refused) == 0 {
		return err
	}
	err = fmt.Errorf("de-identify into %s: done, but %d files were left out", c.Out, len(refused))
	switch {
	case burned > 0:
		err = hint.Wrap(err, "%d carry text in their pixels: look at them, then let them pass with --burned-in", burned)
	default:
		err = hint.Wrap(err, "the lines above say which and why; --json lists all")
	}
	return cli.Exit(cli.ExitRefused, err)
}
