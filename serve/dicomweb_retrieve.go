package serve

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/mvmae/mvmae/dicom"
	"github.com/mvmae/mvmae/dicom/dicomjson"
	"github.com/mvmae/mvmae/serve/studies"
)

// held are the instances that a path names. An empty list has been answered.
func (s *Server) held(c *gin.Context) []studies.Object {
	study, series, instance, ok := s.pathUIDs(c)
	if !ok {
		return nil
	}
	st, err := s.opts.Durable.store.Study(study)
	if err != nil || st == nil {
		s.refuseStudy(c, err)
		return nil
	}
	objects := slices.DeleteFunc(instances(st, s.opts.Durable.opts.Conflicts), func(o studies.Object) bool {
		return series != "" && o.SeriesInstanceUID != series || instance != "" && o.SOPInstanceUID != instance
	})
	if len(objects) == 0 {
		s.refuse(c, problem(http.StatusNotFound, "no_such_instance", "search names what the study has", "the server holds no such object of the study"))
	}
	return objects
}

// retrieve is WADO-RS: the objects as they are stored (PS3.18 10.4).
func (s *Server) retrieve(c *gin.Context) {
	objects := s.held(c)
	if len(objects) == 0 {
		return
	}
	list := accepted(c)
	for _, o := range objects {
		if !takesSyntax(list, o.TransferSyntaxUID) {
			s.refuse(c, problem(http.StatusNotAcceptable, "not_acceptable", "send Accept: "+acceptObjects,
				"objects are handed out whole and in the transfer syntax they are stored in, here %s", o.TransferSyntaxUID))
			return
		}
	}
	// The whole answer's length is told first: one that breaks off is then seen as such. No object can hold a boundary that is
	// drawn now.
	boundary := rand.Text()
	var heads []string
	end := "\r\n--" + boundary + "--\r\n"
	length := int64(len(end))
	for i, o := range objects {
		head := fmt.Sprintf("\r\n--%s\r\nContent-Type: %s; transfer-syntax=%s\r\nContent-Length: %d\r\n\r\n", boundary, typeDICOM, o.TransferSyntaxUID, o.Size)
		if i == 0 {
			head = head[2:]
		}
		heads = append(heads, head)
		length += int64(len(head)) + o.Size
	}
	if !s.noted(c) {
		return
	}
	c.Header("Content-Type", fmt.Sprintf(`%s; type="%s"; boundary=%s`, typeRelated, typeDICOM, boundary))
	c.Header("Content-Length", fmt.Sprint(length))
	c.Status(http.StatusOK)
	out := &patient{c.Writer, http.NewResponseController(c.Writer)}
	for i, o := range objects {
		if err := s.sendObject(out, heads[i], o); err != nil {
			s.opts.Logger.Warn("hand out an object", "study", s.opts.UIDKey.Hash(o.StudyInstanceUID), "error", err)
			return
		}
	}
	_, _ = io.WriteString(out, end) // what failed here the caller alone can mend
}

func (s *Server) sendObject(w io.Writer, head string, o studies.Object) error {
	f, err := s.opts.Durable.store.Open(o)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := io.WriteString(w, head); err != nil {
		return err
	}
	n, err := io.CopyBuffer(w, io.LimitReader(f, o.Size), make([]byte, 256<<10))
	if err == nil && n < o.Size {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// patient gives each write its own time, so that a slow reader is waited for and one that stands still is not.
type patient struct {
	w       io.Writer
	control *http.ResponseController
}

func (p *patient) Write(b []byte) (int, error) {
	// The error is that of a test without a connection.
	_ = p.control.SetWriteDeadline(time.Now().Add(writeTimeout))
	return p.w.Write(b)
}

// metadata is the header of each object in DICOM JSON (PS3.18 10.4.1.1.2), one after the other, so that memory holds one.
func (s *Server) metadata(c *gin.Context) {
	if !s.wantsJSON(c) {
		return
	}
	objects := s.held(c)
	if len(objects) == 0 {
		return
	}
	first, err := s.header(objects[0])
	if err != nil {
		s.refuseStudy(c, err)
		return
	}
	if !s.noted(c) {
		return
	}
	c.Header("Content-Type", typeJSON)
	c.Status(http.StatusOK)
	out := &patient{c.Writer, http.NewResponseController(c.Writer)}
	write := func(before string, d dicomjson.Dataset) error {
		doc, err := json.Marshal(d)
		if err == nil {
			_, err = out.Write(append([]byte(before), doc...))
		}
		return err
	}
	err = write("[", first)
	for _, o := range objects[1:] {
		if err != nil {
			break
		}
		var d dicomjson.Dataset
		if d, err = s.header(o); err == nil {
			err = write(",\n", d)
		}
	}
	if err != nil {
		s.opts.Logger.Warn("hand out metadata", "study", s.opts.UIDKey.Hash(objects[0].StudyInstanceUID), "error", err)
		return // the array stays open: no reader takes it for whole
	}
	_, _ = out.Write([]byte("]\n"))
}

// header is the header of a stored object. A file that begins well is read no further than its pixels.
func (s *Server) header(o studies.Object) (dicomjson.Dataset, error) {
	f, err := s.opts.Durable.store.Open(o)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	limits := dicom.DefaultLimits()
	limits.MaxBytes = int(s.opts.Limits.FileBytes)
	for size := int64(headBytes); ; size *= 8 {
		head, err := io.ReadAll(io.NewSectionReader(f, 0, min(size, o.Size)))
		if err != nil {
			return nil, err
		}
		p, err := dicom.ParsePrefix(head, limits)
		var refusal *dicom.Error
		switch cut := errors.As(err, &refusal) && refusal.Code == dicom.CodeTruncated; {
		case err == nil && (p.Whole || size >= o.Size):
			return dicomjson.FromHeader(p.Header), nil
		case err != nil && (!cut || size >= o.Size):
			return nil, fmt.Errorf("read object %s: %w", o.Digest, err)
		}
	}
}
