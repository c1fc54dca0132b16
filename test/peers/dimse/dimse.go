// Package dimse runs other people's DICOM network programs, which tests and benchmarks let talk to ours: DCMTK's tools,
// Orthanc, and pynetdicom through the peers' Python. "make peers" installs them; [Find] says whether they are there.
package dimse

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/mvmae/mvmae/internal/hint"
	"github.com/mvmae/mvmae/test/peers"
)

// Find returns an error with the cure if a program is missing.
func Find() error {
	var errs []error
	for _, p := range []string{"echoscu", "storescu", "storescp", "findscu", "movescu", "Orthanc", "curl", peers.PythonPath()} {
		if _, err := exec.LookPath(p); err != nil {
			errs = append(errs, err)
		}
	}
	return hint.Wrap(errors.Join(errs...), `run "make peers"`)
}

// Run runs a program to its end and returns what it wrote, which is part of the error too.
func Run(ctx context.Context, name string, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("%s: %w\n%s", name, err, out)
	}
	return string(out), nil
}

// FreePort is a port of this machine that nobody listens at.
func FreePort() (int, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer ln.Close()
	return ln.Addr().(*net.TCPAddr).Port, nil
}

// Process is a server that was started.
type Process struct {
	AE   string
	Port int
	cmd  *exec.Cmd
	log  *tail
}

// tail keeps what a process writes and tells when a line of it was seen.
type tail struct {
	mu   sync.Mutex
	text bytes.Buffer
	want string
	seen chan struct{}
}

func (t *tail) read(r io.Reader) {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		t.mu.Lock()
		t.text.WriteString(lines.Text() + "\n")
		t.mu.Unlock()
		if t.want != "" && strings.Contains(lines.Text()+"\n", t.want) {
			close(t.seen)
			t.want = ""
		}
	}
}

// Log is what the process has written.
func (p *Process) Log() string {
	p.log.mu.Lock()
	defer p.log.mu.Unlock()
	return p.log.text.String()
}

// PID is the number of the process.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Close ends the process.
func (p *Process) Close() error {
	p.cmd.Process.Signal(os.Interrupt)
	time.AfterFunc(10*time.Second, func() { p.cmd.Process.Kill() })
	p.cmd.Wait() // interrupted: its exit code says nothing
	return nil
}

// launch starts a server that says ready on standard error, or, where it says nothing, waits until it listens.
func launch(ctx context.Context, p *Process, ready string, program string, args ...string) error {
	p.cmd = exec.CommandContext(ctx, program, args...)
	p.log = &tail{want: ready, seen: make(chan struct{})}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	p.cmd.Stdout, p.cmd.Stderr = w, w
	err = p.cmd.Start()
	w.Close()
	if err != nil {
		return err
	}
	ended := make(chan struct{})
	go func() { defer close(ended); defer r.Close(); p.log.read(r) }()
	if ready == "" {
		go func() { listens(ctx, p.Port); close(p.log.seen) }()
	}
	select {
	case <-p.log.seen:
		return nil
	case <-ended:
		p.cmd.Wait()
		return fmt.Errorf("%s ended before it was ready:\n%s", program, p.Log())
	case <-ctx.Done():
		return ctx.Err()
	}
}

// listens waits until somebody does at a port.
func listens(ctx context.Context, port int) {
	for ctx.Err() == nil {
		nc, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err == nil {
			nc.Close()
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// StoreSCP starts DCMTK's storescp, which keeps objects in dir.
func StoreSCP(ctx context.Context, ae, dir string, args ...string) (*Process, error) {
	port, err := FreePort()
	if err != nil {
		return nil, err
	}
	p := &Process{AE: ae, Port: port}
	return p, launch(ctx, p, "", "storescp", append(append([]string{"-aet", ae, "-od", dir}, args...), strconv.Itoa(port))...)
}

// Launch starts a program that writes the port it listens at as its first line.
func Launch(ctx context.Context, ae, program string, args ...string) (*Process, error) {
	p := &Process{AE: ae}
	if err := launch(ctx, p, "\n", program, args...); err != nil {
		return nil, err
	}
	first, _, _ := strings.Cut(p.Log(), "\n")
	var err error
	p.Port, err = strconv.Atoi(first)
	return p, err
}

// Orthanc is a running one.
type Orthanc struct {
	Process
	HTTP string // its REST API's address
}

// StartOrthanc starts Orthanc with a configuration, of which the ports and folders are set here: to free ones, and below
// dir. A port of config is taken over.
func StartOrthanc(ctx context.Context, dir string, config map[string]any) (*Orthanc, error) {
	ports := map[string]int{}
	for _, key := range []string{"DicomPort", "HttpPort"} {
		port, err := FreePort()
		if err != nil {
			return nil, err
		}
		if given, ok := config[key].(int); ok {
			port = given
		}
		ports[key] = port
	}
	all := map[string]any{"StorageDirectory": filepath.Join(dir, "db"), "IndexDirectory": filepath.Join(dir, "db"), "DicomAet": "ORTHANC"}
	for k, v := range config {
		all[k] = v
	}
	for k, v := range ports {
		all[k] = v
	}
	doc, err := json.Marshal(all)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, "orthanc.json")
	if err := os.WriteFile(path, doc, 0o600); err != nil {
		return nil, err
	}
	o := &Orthanc{Process{AE: fmt.Sprint(all["DicomAet"]), Port: ports["DicomPort"]}, fmt.Sprintf("http://127.0.0.1:%d", ports["HttpPort"])}
	return o, launch(ctx, &o.Process, "Orthanc has started", "Orthanc", path)
}

// Call asks the REST API and reads the JSON of the answer into result, if it is not nil. body is sent as JSON, or as it is
// if it is []byte.
func (o *Orthanc) Call(ctx context.Context, method, path string, body, result any) error {
	var data []byte
	switch b := body.(type) {
	case nil:
	case []byte:
		data = b
	default:
		var err error
		if data, err = json.Marshal(b); err != nil {
			return err
		}
	}
	rq, err := http.NewRequestWithContext(ctx, method, o.HTTP+path, bytes.NewReader(data))
	if err != nil {
		return err
	}
	rsp, err := http.DefaultClient.Do(rq)
	if err != nil {
		return err
	}
	defer rsp.Body.Close()
	text, err := io.ReadAll(rsp.Body)
	if err != nil {
		return err
	}
	if rsp.StatusCode/100 != 2 {
		return fmt.Errorf("%s %s: %s\n%s", method, path, rsp.Status, text)
	}
	if result == nil {
		return nil
	}
	return json.Unmarshal(text, result)
}
