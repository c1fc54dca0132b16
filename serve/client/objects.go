package client

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"mime/multipart"
	"os"
	"path/filepath"

	"github.com/mvmae/mvmae/serve/api"
)

// Objects are the DICOM objects of one study.
type Objects []Object

// Object is one of them. The server answers with its name where it rejects it.
type Object struct {
	Name string
	Open func() (io.ReadCloser, error) // called for each try
}

// Bytes is an object in memory.
func Bytes(name string, data []byte) Object {
	return Object{name, func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }}
}

// Files are the objects in files and folders, of which hidden files and the DICOMDIR are left out. They are opened when they are sent.
func Files(paths ...string) (Objects, error) {
	var list Objects
	for _, root := range paths {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case path != root && api.Skip(d.Name()) && d.IsDir():
				return filepath.SkipDir
			case d.IsDir(), path != root && api.Skip(d.Name()):
				return nil
			}
			list = append(list, Object{path, func() (io.ReadCloser, error) { return os.Open(path) }})
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("look for objects: %w", err)
		}
	}
	return list, nil
}

// fileError is the error of an object that could not be read here.
type fileError struct{ error }

func (e *fileError) Unwrap() error { return e.error }

// form writes the objects as multipart/form-data, one after the other, as the server takes them in.
func (o Objects) form() (contentType string, r io.ReadCloser) {
	pipe, w := io.Pipe()
	form := multipart.NewWriter(w)
	out := &stream{PipeReader: pipe, written: make(chan struct{})}
	go func() {
		defer close(out.written)
		for _, object := range o {
			if err := object.write(form); err != nil {
				w.CloseWithError(err)
				return
			}
		}
		w.CloseWithError(form.Close())
	}()
	return form.FormDataContentType(), out
}

// stream is what another goroutine writes. Close ends that.
type stream struct {
	*io.PipeReader
	written chan struct{} // closed at its end
}

func (s *stream) Close() error {
	err := s.PipeReader.Close()
	<-s.written
	return err
}

func (o Object) write(form *multipart.Writer) error {
	content, err := o.Open()
	if err != nil {
		return &fileError{err}
	}
	defer content.Close()
	part, err := form.CreateFormFile("file", o.Name)
	if err != nil {
		return err
	}
	_, err = io.Copy(part, content)
	return err
}
