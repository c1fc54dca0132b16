package serve

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/mvmae/mvmae/internal/hint"
)

// Audit is a log of who asked what and was answered by which model: one JSON document a line, only ever appended to. Each line is
// one write(2), so that it survives the end of the process, and is on disk a second later, so that it survives that of the machine.
//
// The file may be moved away at any time: the next line begins a new one. Several servers may share a file.
type Audit struct {
	path string
	done chan struct{}
	idle sync.WaitGroup

	mu     sync.Mutex
	file   *os.File
	info   os.FileInfo // of file
	torn   bool        // the last line may not be whole
	dirty  bool
	failed error // of the last line
}

// AuditRecord is a line. Study Instance UIDs are hashed as in the log; nothing of a patient is in it.
type AuditRecord struct {
	Time      time.Time `json:"time"`
	Event     string    `json:"event"` // AuditRequest, AuditOutcome or AuditResumed
	Caller    string    `json:"caller,omitempty"`
	Remote    string    `json:"remote,omitempty"` // the address that asked
	Method    string    `json:"method,omitempty"`
	Route     string    `json:"route,omitempty"`
	Status    int       `json:"status,omitempty"`
	Code      string    `json:"code,omitempty"` // of a problem
	Study     string    `json:"study,omitempty"`
	Version   string    `json:"version,omitempty"` // of a study that is kept
	State     string    `json:"state,omitempty"`   // its outcome
	Model     string    `json:"model,omitempty"`   // SHA-256 of its file
	Result    string    `json:"result,omitempty"`  // SHA-256 of the answer, as it was sent or is kept
	LatencyMS float64   `json:"latency_ms,omitempty"`
}

// The events of a record.
const (
	AuditRequest = "request" // a request was answered, or refused
	AuditOutcome = "outcome" // a study that is kept was classified
	AuditResumed = "resumed" // the log can be written again; what was answered meanwhile were refusals
)

// auditSync is how long a line may be in memory of the machine alone.
const auditSync = time.Second

// OpenAudit opens a log to append to, which Close closes.
func OpenAudit(path string) (*Audit, error) {
	a := &Audit{path: path, done: make(chan struct{})}
	if err := a.open(); err != nil {
		return nil, hint.Wrap(fmt.Errorf("audit log: %w", err), "name a file in a folder that this user may write to")
	}
	a.idle.Go(func() {
		ticker := time.NewTicker(auditSync)
		defer ticker.Stop()
		for {
			select {
			case <-a.done:
				return
			case <-ticker.C:
				a.sync()
			}
		}
	})
	return a, nil
}

// Close syncs the log and closes it.
func (a *Audit) Close() error {
	if a == nil {
		return nil
	}
	close(a.done)
	a.idle.Wait()
	a.sync()
	return a.file.Close()
}

// open opens the file, or the new one in its place. mu is held.
func (a *Audit) open() error {
	f, err := os.OpenFile(a.path, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return err
	}
	last := []byte{'\n'}
	if info.Mode().IsRegular() && info.Size() > 0 { // a server may have ended within a line
		if _, err := f.ReadAt(last, info.Size()-1); err != nil && err != io.EOF {
			f.Close()
			return err
		}
	}
	if a.file != nil {
		a.file.Sync()
		a.file.Close()
	}
	a.file, a.info, a.torn = f, info, last[0] != '\n'
	return nil
}

// Write appends a record. nil writes nothing.
func (a *Audit) Write(r AuditRecord) error {
	if a == nil {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	err := a.write(r)
	if err != nil && a.failed == nil {
		slog.Error("the audit log cannot be written: nothing is answered", "error", err)
	}
	a.failed = err
	return err
}

func (a *Audit) write(r AuditRecord) error {
	r.Time = time.Now().UTC()
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if info, err := os.Stat(a.path); err != nil || !os.SameFile(info, a.info) {
		if err := a.open(); err != nil {
			return err
		}
	}
	var text bytes.Buffer
	if a.torn {
		text.WriteByte('\n')
	}
	text.Write(line)
	text.WriteByte('\n')
	n, err := a.file.Write(text.Bytes())
	a.torn, a.dirty = err != nil && (n > 0 || a.torn), true
	return err
}

func (a *Audit) sync() {
	a.mu.Lock()
	file, dirty := a.file, a.dirty
	a.dirty = false
	a.mu.Unlock()
	if !dirty {
		return
	}
	// Without the lock: nobody waits for the disk. A file that is closed meanwhile was synced then.
	if err := file.Sync(); err != nil && !errors.Is(err, os.ErrClosed) {
		slog.Error("sync the audit log", "error", err)
	}
}

// Check says whether the log can be written: if it could not be, it is tried again.
func (a *Audit) Check() error {
	if a == nil {
		return nil
	}
	a.mu.Lock()
	failed := a.failed
	a.mu.Unlock()
	if failed == nil {
		return nil
	}
	return a.Write(AuditRecord{Event: AuditResumed})
}

func digestOf(text []byte) string {
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// audit notes a request, once, before the answer is sent. Whoever watches the server's health is not noted.
func (s *Server) audit(c *gin.Context, status int, body []byte) error {
	route := routeOf(c)
	if s.opts.Audit == nil || c.GetBool("audited") || isProbe(route) {
		return nil
	}
	r := AuditRecord{
		Event: AuditRequest, Caller: c.GetString("caller"), Remote: c.RemoteIP(), Method: knownMethod(c.Request.Method), Route: route, Status: status,
		Code: c.GetString("code"), Study: c.GetString("study"), Model: c.GetString("model"), LatencyMS: milliseconds(time.Since(c.GetTime("start"))),
	}
	if body != nil && status < http.StatusBadRequest {
		r.Result = digestOf(body)
	}
	err := s.opts.Audit.Write(r)
	if err == nil {
		c.Set("audited", true)
	}
	return err
}

// noted notes a request whose answer is a stream, or answers that it cannot be noted.
func (s *Server) noted(c *gin.Context) bool {
	if err := s.audit(c, http.StatusOK, nil); err != nil {
		s.refuse(c, unaudited())
		return false
	}
	return true
}

func unaudited() *Problem {
	return problem(http.StatusServiceUnavailable, "no_audit", "ask another server, or the operator to make room for the audit log",
		"the server answers nothing that it cannot note in its audit log")
}
