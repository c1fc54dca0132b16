package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/mvmae/mvmae/cmd/internal/cli"
	"github.com/mvmae/mvmae/dicom"
	"github.com/mvmae/mvmae/dicom/codec/external"
	"github.com/mvmae/mvmae/dicom/cxr"
	"github.com/mvmae/mvmae/internal/hint"
	"github.com/mvmae/mvmae/model"
	"github.com/mvmae/mvmae/model/ort"
	"github.com/mvmae/mvmae/serve"
	"github.com/mvmae/mvmae/serve/api"
)

// ClassifyCmd answers the studies in files.
type ClassifyCmd struct {
	Model    string `required:"" type:"path" placeholder:"FILE" help:"Model file, as mvmae-export makes it."`
	device   `embed:""`
	accepted `embed:""`
	Paths    []string `arg:"" name:"file" help:"DICOM files, and folders of them; of any number of studies."`
}

// accepted is the flag of the kinds of image that are read.
type accepted struct {
	Modalities []string `default:"CR,DX" enum:"CR,DX,DR,RG" placeholder:"CR,DX" help:"Modalities that are accepted; older devices write DR or RG."`
}

// studiesDoc is the --json document when not exactly one study was answered; one study's is the document the server
// answers with.
type studiesDoc struct {
	Studies  []*serve.Result   `json:"studies"`
	Rejected []serve.Rejection `json:"rejected"` // objects that nobody knows the study of
}

func (c *ClassifyCmd) Run(ctx context.Context, out *cli.Output) error {
	if err := c.device.validate(); err != nil {
		return cli.Exit(cli.ExitUsage, err)
	}
	files, err := listFiles(c.Paths)
	if err != nil {
		return err
	}
	codecs := external.NewPool(external.Options{})
	defer codecs.Close()
	options := c.device.options()
	options.Codecs, options.Modalities = codecs, c.Modalities
	engine, err := serve.Open(c.Model, options)
	if err != nil {
		return err
	}
	defer engine.Close()
	if c.Device == ort.Auto {
		slog.Info("auto", "device", engine.Device())
	}
	results, rejected, err := engine.ClassifyAll(ctx, readFiles(files, out))
	if err != nil {
		return err
	}
	if len(results) == 1 {
		results[0].Reject(rejected...)
		err = out.Result(results[0])
	} else {
		err = out.Result(studiesDoc{Studies: append([]*serve.Result{}, results...), Rejected: rejected})
	}
	if err != nil {
		return err
	}
	for _, r := range results {
		printStudy(out, r)
	}
	if len(results) != 1 {
		printRejected(out, rejected)
	}
	if len(results) > 0 {
		out.Printf("%s\n", model.IntendedUse)
	}
	return verdict(results, rejected, len(files))
}

// verdict is the error that says how much of the input was refused, or that the program itself failed at some. An object
// sent twice is neither.
func verdict(results []*serve.Result, rejected []serve.Rejection, files int) error {
	refused, failed := map[string]bool{}, map[string]bool{}
	note := func(list []serve.Rejection) {
		for _, r := range list {
			switch r.Code {
			case serve.CodeDuplicate:
			case serve.CodeInternal:
				failed[r.Name] = true
			default:
				refused[r.Name] = true
			}
		}
	}
	note(rejected)
	for _, r := range results {
		note(r.Rejected)
	}
	switch {
	case len(failed) > 0:
		return fmt.Errorf("files that this program failed at: %d of %d, refused: %d", len(failed), files, len(refused))
	case len(results) == 0:
		return hint.Wrap(cli.Exit(cli.ExitRefused, fmt.Errorf("no study can be classified; files refused: %d", len(refused))),
			"the reasons are in the list of the rejected; \"mvmae-serve inspect FILE\" shows what a file holds")
	case len(refused) > 0:
		return cli.Exit(cli.ExitRefused, fmt.Errorf("files refused: %d of %d", len(refused), files))
	}
	return nil
}

// listFiles finds the files of folders; a path that does not exist is an error.
func listFiles(paths []string) ([]string, error) {
	var files []string
	for _, root := range paths {
		if info, err := os.Stat(root); err == nil && info.IsDir() {
			root += string(filepath.Separator) // a link to a folder stands for the folder
		}
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if path != root && api.Skip(d.Name()) {
				if d.IsDir() {
					return filepath.SkipDir
				}
				return nil
			}
			if !d.IsDir() {
				files = append(files, path)
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("classify: %w", err)
		}
	}
	if len(files) == 0 {
		return nil, hint.Wrap(fmt.Errorf("classify: no file in %s", strings.Join(paths, ", ")), "name DICOM files or a folder that holds some")
	}
	return files, nil
}

// readFiles yields files one after the other, with progress when there are many.
func readFiles(files []string, out *cli.Output) iter.Seq2[serve.Upload, error] {
	return func(yield func(serve.Upload, error) bool) {
		add := func(int64) {}
		if len(files) > 50 {
			progress := out.Progress("read", int64(len(files)))
			defer progress.Done()
			add = progress.Add
		}
		for _, path := range files {
			data, err := readFile(path)
			if !yield(serve.Upload{Name: path, Data: data, Err: err}, nil) {
				return
			}
			add(1)
		}
	}
}

// readFile reads a regular file of no more than the parser takes. One that grows meanwhile is cut there.
func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, &fs.PathError{Op: "read", Path: path, Err: errors.New("not a regular file")}
	}
	limit := int64(dicom.DefaultLimits().MaxBytes)
	if info.Size() > limit {
		return nil, &cxr.Refusal{Code: string(dicom.CodeTooLarge), Detail: fmt.Sprintf("the file has %d bytes, the limit is %d", info.Size(), limit)}
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, limit))
}

func printStudy(out *cli.Output, r *serve.Result) {
	out.Printf("study %s\nmodel %s %s (sha256 %.12s)\n\n", r.StudyInstanceUID, r.Model.Name, r.Model.Version, r.Model.SHA256)
	table(out, "finding\tprobability\tthreshold", func(row func(format string, args ...any)) {
		for _, f := range r.Findings {
			mark := ""
			if f.Positive {
				mark = "\tPOSITIVE"
			}
			if f.Untrained {
				row("%s\t%s\t%s", f.Label, "-", "not trained")
				continue
			}
			row("%s\t%.3f\t%.3f%s", f.Label, f.Probability, f.Threshold, mark)
		}
	})
	table(out, "view\tevidence\tsop instance uid\tflags", func(row func(format string, args ...any)) {
		for _, v := range r.Views {
			row("%s\t%s\t%s\t%s", v.View, v.Evidence, v.SOPInstanceUID, cmp.Or(strings.Join(v.Flags, ","), "-"))
		}
	})
	if len(r.Flags) > 0 {
		out.Printf("flags of the study: %s\n\n", strings.Join(r.Flags, ", "))
	}
	printRejected(out, r.Rejected)
}

func printRejected(out *cli.Output, list []serve.Rejection) {
	if len(list) == 0 {
		return
	}
	table(out, "rejected\tcode\tdetail", func(row func(format string, args ...any)) {
		for _, r := range list {
			row("%s\t%s\t%s", r.Name, r.Code, r.Detail)
		}
	})
}

// table prints rows in aligned columns, and an empty line after them.
func table(out *cli.Output, head string, fill func(row func(format string, args ...any))) {
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	row := func(format string, args ...any) { fmt.Fprintf(w, "  "+format+"\n", args...) }
	row("%s", head)
	fill(row)
	w.Flush() // a strings.Builder takes everything
	out.Printf("%s\n", text.String())
}
