package serve

import (
	"archive/zip"
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"mime"
	"mime/multipart"
	"net/http"
	"os"
	"time"

	"github.com/mvmae/mvmae/serve/api"
)

// Limits bound what one request may cost. Every excess is answered with 413 and the limit's name.
type Limits struct {
	RequestBytes int64 // of the body, and of all that a zip archive inflates to
	FileBytes    int64 // of one object
	Files        int   // objects in a request
}

// DefaultLimits fit a study of many uncompressed views: a radiograph has 6 to 50 MB.
func DefaultLimits() Limits {
	return Limits{RequestBytes: 512 << 20, FileBytes: 128 << 20, Files: 64}
}

// maxDirectoryBytes bounds the directory of a zip archive: room for thousands of names, not for the millions of entries
// that would cost gigabytes before the first is looked at.
const maxDirectoryBytes = 1 << 20

// The media types of a request.
const (
	typeDICOM   = "application/dicom"
	typeZip     = "application/zip"
	typeForm    = "multipart/form-data"
	typeRelated = "multipart/related"
)

const typesCure = `send multipart/form-data, multipart/related; type="application/dicom", application/zip or one application/dicom`

// uploads yields the files of a request, each as a whole.
func (s *Server) uploads(w http.ResponseWriter, r *http.Request) iter.Seq2[Upload, error] {
	return func(yield func(Upload, error) bool) {
		for file, err := range parts(w, r, s.opts.Limits, s.opts.ReadTimeout) {
			var data []byte
			if err == nil {
				data, err = s.readAll(file.data)
			}
			if err != nil {
				yield(Upload{}, err)
				return
			}
			if !yield(Upload{Name: file.name, Data: data, free: func() { s.again(data) }}, nil) {
				return
			}
		}
	}
}

// Memory for files is used again: a radiograph has megabytes, which the system would have to find and clear each time.
const (
	firstBuffer = 64 << 10
	maxBuffer   = 32 << 20 // larger ones are not kept
)

// readAll is io.ReadAll into memory that is used again.
func (s *Server) readAll(r io.Reader) ([]byte, error) {
	var data []byte
	select {
	case used := <-s.buffers:
		data = used[:0]
	default:
	}
	for {
		if len(data) == cap(data) {
			data = append(make([]byte, 0, max(firstBuffer, 2*cap(data))), data...)
		}
		n, err := r.Read(data[len(data):cap(data)])
		data = data[:len(data)+n]
		if err == io.EOF {
			return data, nil
		}
		if err != nil {
			s.again(data)
			return nil, err
		}
	}
}

func (s *Server) again(data []byte) {
	if cap(data) > maxBuffer {
		return
	}
	select {
	case s.buffers <- data:
	default:
	}
}

// part is one file of a request while it arrives. Errors of reading it are *Problems where the request is at fault.
type part struct {
	name string
	data io.Reader
}

// parts yields the files of a request as they arrive, and ends with a *Problem where the request is at fault. After the
// last file it reads the body to its end: only then does net/http notice a caller that leaves. The time that reading may take
// in all is timeout; the time between, in which the server has no worker for the next file, is not the caller's.
func parts(w http.ResponseWriter, r *http.Request, lim Limits, timeout time.Duration) iter.Seq2[part, error] {
	return func(yield func(part, error) bool) {
		body := &body{paced: pace(w, r.Body, timeout), lim: lim}
		defer func() { body.spool.Close() }() // without effect when there is none
		files, err := body.open(w, r)
		for n := 0; err == nil; n++ {
			var file part
			if file, err = files(); err != nil {
				break
			}
			if n >= lim.Files {
				err = problem(http.StatusRequestEntityTooLarge, "too_many_files", "send one study in each request; the operator's --max-files sets the limit",
					"the request holds more than %d files", lim.Files)
				break
			}
			if !yield(file, nil) {
				return
			}
		}
		if err != io.EOF {
			yield(part{}, err)
		}
	}
}

// next returns the next file of a request, io.EOF after the last. The one before is no longer read then.
type next func() (part, error)

// open looks at what a request promises before its body is read.
func (b *body) open(w http.ResponseWriter, r *http.Request) (next, error) {
	if r.ContentLength > b.lim.RequestBytes {
		return nil, requestTooLarge(b.lim)
	}
	unsupported := func(format string, args ...any) error {
		return problem(http.StatusUnsupportedMediaType, "unsupported_media_type", typesCure, format, args...)
	}
	if coding := r.Header.Get("Content-Encoding"); coding != "" && coding != "identity" {
		return nil, unsupported("content encoding %q", coding)
	}
	header := r.Header.Get("Content-Type")
	if header == "" {
		return nil, unsupported("the request has no Content-Type")
	}
	media, params, err := mime.ParseMediaType(header)
	if err != nil {
		return nil, unsupported("content type %q: %v", header, err)
	}
	b.r, b.length = http.MaxBytesReader(w, b.paced, b.lim.RequestBytes), r.ContentLength
	switch media {
	case typeDICOM:
		return b.single(), nil
	case typeZip:
		return b.zip()
	case typeRelated:
		if part := params["type"]; part != typeDICOM {
			return nil, unsupported("multipart/related of type %q", part)
		}
	case typeForm:
	default:
		return nil, unsupported("content type %q", media)
	}
	if params["boundary"] == "" {
		return nil, problem(http.StatusBadRequest, "malformed_multipart", "", "the Content-Type names no boundary")
	}
	return b.multipart(params["boundary"]), nil
}

// body reads a request's body, of which each read past the limit fails. It never believes a declared size: memory grows
// with what arrives.
type body struct {
	paced  *paced
	r      io.Reader // paced, limited
	length int64     // of it, as the request says; -1 is not known
	lim    Limits
	spool  *os.File // a zip archive
}

func (b *body) single() next {
	done := false
	return func() (part, error) {
		if done {
			return part{}, io.EOF
		}
		done = true
		return b.part("body", "the body", b.r, "malformed_body"), nil
	}
}

// maxAhead is read of a form at a time: package mime/multipart would ask the system for every 4 kB.
const maxAhead = 256 << 10

// multipart takes every part for a file, whatever its type: the parser knows DICOM better than the sender's labels.
func (b *body) multipart(boundary string) next {
	ahead := int64(maxAhead)
	if b.length >= 0 {
		ahead = min(b.length, maxAhead) // a small request should cost little
	}
	source := &headers{r: bufio.NewReaderSize(b.r, int(ahead))}
	parts := multipart.NewReader(source, boundary)
	n := 0
	var p *multipart.Part
	return func() (part, error) {
		if p != nil { // what nobody wanted of the part before
			if _, err := io.Copy(io.Discard, p); err != nil {
				return part{}, b.failed(err, "malformed_multipart", "")
			}
		}
		var err error
		source.left = maxHeaderBytes
		p, err = parts.NextPart()
		source.left = -1
		if err == io.EOF {
			if _, err := io.Copy(io.Discard, b.r); err != nil {
				return part{}, b.failed(err, "malformed_multipart", "")
			}
			return part{}, io.EOF
		}
		if err != nil {
			return part{}, b.failed(err, "malformed_multipart", "")
		}
		n++
		name := p.FileName()
		if name == "" {
			name = fmt.Sprintf("part %d", n)
		}
		return b.part(name, name, p, "malformed_multipart"), nil
	}
}

// headers bounds what is read between two parts, their headers, until left is -1: package mime/multipart takes 10 MB of them.
type headers struct {
	r    io.Reader
	left int64
}

func (h *headers) Read(p []byte) (int, error) {
	if h.left >= 0 {
		if h.left == 0 {
			return 0, errHeaders
		}
		p = p[:min(int64(len(p)), h.left)]
	}
	n, err := h.r.Read(p)
	if h.left >= 0 {
		h.left -= int64(n)
	}
	return n, err
}

var errHeaders = fmt.Errorf("more than %d bytes of headers", maxHeaderBytes)

// zip needs the whole archive, whose directory is at its end: it goes to a file that is removed at once, so that nothing of
// it stays on the disk, however the server ends.
func (b *body) zip() (next, error) {
	var err error
	if b.spool, err = os.CreateTemp("", "mvmae-*.zip"); err != nil {
		return nil, fmt.Errorf("spool a zip archive: %w", err)
	}
	if err := os.Remove(b.spool.Name()); err != nil {
		return nil, fmt.Errorf("spool a zip archive: %w", err)
	}
	size, err := io.Copy(b.spool, b.r)
	if full := (*fs.PathError)(nil); errors.As(err, &full) {
		return nil, fmt.Errorf("spool a zip archive: %w", err)
	}
	if err != nil {
		return nil, b.failed(err, "malformed_body", "")
	}
	source := &directoryReader{data: b.spool, left: maxDirectoryBytes}
	archive, err := zip.NewReader(source, size)
	if err != nil {
		return nil, b.failed(err, "malformed_zip", "")
	}
	source.left = -1
	entries, left := archive.File, b.lim.RequestBytes
	return func() (part, error) {
		for len(entries) > 0 && (entries[0].FileInfo().IsDir() || api.Skip(entries[0].Name)) {
			entries = entries[1:]
		}
		if len(entries) == 0 {
			return part{}, io.EOF
		}
		entry := entries[0]
		entries = entries[1:]
		if entry.Flags&1 != 0 {
			return part{}, problem(http.StatusBadRequest, "malformed_zip", "send it without a password", "file %s is encrypted", entry.Name)
		}
		r, err := entry.Open()
		if err != nil {
			return part{}, b.failed(err, "malformed_zip", entry.Name)
		}
		// The sizes an archive states are not believed: reading stops at the limit of what comes out.
		return b.part(entry.Name, entry.Name, &limited{r, &left, requestTooLarge(b.lim)}, "malformed_zip"), nil
	}, nil
}

// directoryReader bounds what is read of an archive until left is -1.
type directoryReader struct {
	data io.ReaderAt
	left int64
}

func (d *directoryReader) ReadAt(p []byte, off int64) (int, error) {
	if d.left >= 0 {
		if d.left -= int64(len(p)); d.left < 0 {
			return 0, problem(http.StatusRequestEntityTooLarge, "too_many_files", "send one study in each request",
				"the archive's directory has more than %d bytes", maxDirectoryBytes)
		}
	}
	return d.data.ReadAt(p, off)
}

// part is one object, with the limit of its size. code is that of the problem if it cannot be read.
func (b *body) part(name, called string, r io.Reader, code string) part {
	left := b.lim.FileBytes
	tooLarge := problem(http.StatusRequestEntityTooLarge, codeFileTooLarge, "the operator's --max-file-mib sets the limit",
		"%s has more than %d bytes", called, b.lim.FileBytes)
	failed := name
	if name != called {
		failed = ""
	}
	return part{name, &explained{&limited{r, &left, tooLarge}, func(err error) error { return b.failed(err, code, failed) }}}
}

// limited reads until no bytes are left, and fails if there are more.
type limited struct {
	r    io.Reader
	left *int64
	err  error // of more
}

func (l *limited) Read(p []byte) (int, error) {
	if *l.left < 0 {
		return 0, l.err
	}
	if int64(len(p)) > *l.left+1 {
		p = p[:*l.left+1]
	}
	n, err := l.r.Read(p)
	if *l.left -= int64(n); *l.left < 0 {
		return n - 1, l.err
	}
	return n, err
}

// explained turns the errors of reading into those that explain them.
type explained struct {
	r       io.Reader
	explain func(error) error
}

func (e *explained) Read(p []byte) (int, error) {
	n, err := e.r.Read(p)
	if err != nil && err != io.EOF {
		err = e.explain(err)
	}
	return n, err
}

// failed says whose fault an error of reading is: the caller's slowness, size or syntax.
func (b *body) failed(err error, code, name string) error {
	var p *Problem
	var size *http.MaxBytesError
	switch {
	case errors.As(err, &p):
		return p
	case errors.As(err, &size):
		return requestTooLarge(b.lim)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return problem(http.StatusRequestTimeout, "request_timeout", "", "the body did not arrive in time")
	case name != "":
		return problem(http.StatusBadRequest, code, "", "file %s: %v", name, err)
	}
	return problem(http.StatusBadRequest, code, "", "the body: %v", err)
}

func requestTooLarge(lim Limits) error {
	return problem(http.StatusRequestEntityTooLarge, "request_too_large", "send one study in each request; the operator's --max-request-mib sets the limit",
		"the request has more than %d bytes", lim.RequestBytes)
}
