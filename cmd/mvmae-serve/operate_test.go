package main

import (
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
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/mvmae/mvmae/serve"
	"github.com/mvmae/mvmae/serve/servetest"
	"github.com/mvmae/mvmae/test/peers/dimse"
)

// load asks a server, with so many clients, until it is told to stop or the server says that it is not ready. Every study must be
// answered.
type load struct {
	t        *testing.T
	url      string
	object   string
	ctx      context.Context
	stop     context.CancelFunc
	clients  sync.WaitGroup
	mu       sync.Mutex
	answered map[string]int // by the version of the model
	more     chan string    // the version of an answer, for whoever waits for one
}

func newLoad(t *testing.T, url string, clients int) *load {
	l := &load{t: t, url: url, object: string(servetest.Object{}.Bytes(t)), answered: map[string]int{}, more: make(chan string)}
	l.ctx, l.stop = context.WithCancel(t.Context())
	for range clients {
		l.clients.Go(func() {
			for l.ctx.Err() == nil && l.ready() {
				l.ask()
			}
		})
	}
	return l
}

func (l *load) ready() bool {
	response, err := http.Get(l.url + "/readyz")
	if err != nil {
		l.t.Errorf("readyz: %v", err)
		return false
	}
	response.Body.Close()
	return response.StatusCode == 200
}

func (l *load) ask() {
	response, err := http.Post(l.url+"/v1/studies:classify", "application/dicom", strings.NewReader(l.object))
	if err != nil {
		l.t.Errorf("a study was lost: %v", err)
		return
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	var r serve.Result
	if err != nil || response.StatusCode != 200 || json.Unmarshal(body, &r) != nil || len(r.Probabilities) != 14 {
		l.t.Errorf("a study was lost: status %d, %v: %s", response.StatusCode, err, body)
		return
	}
	l.mu.Lock()
	l.answered[r.Model.Version]++
	l.mu.Unlock()
	select {
	case l.more <- r.Model.Version:
	default:
	}
}

// await returns when a version has answered.
func (l *load) await(version string) {
	for v := range l.more {
		if v == version {
			return
		}
	}
}

// resident is the memory that a server holds.
func resident(t *testing.T, s *server) int64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", s.Process.Pid)) // in pages: proc_pid_statm(5)
	var size, pages int64
	if err == nil {
		_, err = fmt.Sscan(string(text), &size, &pages)
	}
	if err != nil {
		t.Fatal(err)
	}
	return pages * int64(os.Getpagesize())
}

// replace puts a file in place of another as a careful person does.
func replace(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.Rename(writeFile(t, path+".new", data), path); err != nil {
		t.Fatal(err)
	}
}

func TestUp_ReloadUnderLoadLosesNothing(t *testing.T) {
	model := modelFile(t)
	s := start(t, "mvmae-serve", "--model", model, "--max-studies", "16")
	l := newLoad(t, s.url, 3)
	l.await("1")
	before := resident(t, s)
	for n := 2; n <= 5; n++ {
		version := fmt.Sprint(n)
		replace(t, model, modelVersion(t, version))
		if n%2 == 0 { // else it is found without being told
			s.Process.Signal(syscall.SIGHUP)
		}
		l.await(version)
		replace(t, model, []byte("broken")) // leaves the one before in its place
		s.Process.Signal(syscall.SIGHUP)
		s.log.await("model file is not served", n-1)
		l.await(version)
	}
	info, err := os.Stat(writeFile(t, filepath.Join(t.TempDir(), "model.onnx"), modelVersion(t, "5")))
	if err != nil {
		t.Fatal(err)
	}
	// One model is as large as the next: what eight opened files left is less than one of them, and what Go has not collected.
	after := resident(t, s)
	if after > before+info.Size()/2+64<<20 {
		t.Errorf("%d MiB of memory before, %d after, with a model of %d", before>>20, after>>20, info.Size()>>20)
	}
	t.Logf("%d MiB of memory before, %d after, with a model of %d", before>>20, after>>20, info.Size()>>20)
	response, err := http.Get(s.url + "/v1/models")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var list serve.ModelList
	if err := json.NewDecoder(response.Body).Decode(&list); err != nil {
		t.Fatal(err)
	}
	if len(list.Models) != 1 || list.Models[0].State != serve.ModelStale || list.Models[0].Version != "5" || list.Models[0].Detail == "" {
		t.Errorf("%+v", list)
	}
	l.stop()
	l.clients.Wait()
	if len(l.answered) != 5 {
		t.Errorf("answered: %v", l.answered)
	}
	if code, log := s.terminate(); code != 0 {
		t.Errorf("exit code %d: %s", code, log)
	}
	t.Logf("answered, by version: %v", l.answered)
}

func TestUp_TerminatedUnderLoadLosesNothing(t *testing.T) {
	s := start(t, "mvmae-serve", "--model", modelFile(t), "--max-studies", "16", "--drain-delay", "2s")
	l := newLoad(t, s.url, 4)
	for range 20 {
		l.await("1")
	}
	if err := s.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	l.clients.Wait() // each has seen that the server is not ready any more
	s.Wait()
	if code := s.ProcessState.ExitCode(); code != 0 || !strings.Contains(s.log.String(), "msg=stopping") {
		t.Errorf("exit code %d: %s", code, s.log.String())
	}
	t.Logf("answered: %v", l.answered)
}

func TestUp_SecondSignalLeavesAtOnce(t *testing.T) {
	s := start(t, "mvmae-serve", "--model", modelFile(t))
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	// A study that never ends: the server waits for it.
	fmt.Fprint(conn, "POST /v1/studies:classify HTTP/1.1\r\nHost: x\r\nContent-Type: application/dicom\r\nContent-Length: 1000000\r\nExpect: 100-continue\r\n\r\n")
	if _, err := io.ReadFull(conn, make([]byte, len("HTTP/1.1 100 Continue\r\n\r\n"))); err != nil { // it has begun
		t.Fatal(err)
	}
	s.Process.Signal(syscall.SIGTERM)
	s.log.await("msg=stopping", 1)
	if code, log := s.terminate(); code != 130 || !strings.Contains(log, "studies_in_progress=1") {
		t.Errorf("exit code %d: %s", code, log)
	}
}

// The flags of who may call, on the program.
func TestUp_CallersSayWhoTheyAre(t *testing.T) {
	model, dir := modelFile(t), t.TempDir()
	cert, key, err := dimse.WriteCertificate(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	const token = "0123456789abcdef"
	tokens := writeFile(t, filepath.Join(dir, "tokens"), []byte("viewer "+token))
	audit := filepath.Join(dir, "audit.jsonl")
	s := start(t, "mvmae-serve", "--model", model, "--data", t.TempDir(), "--listen", "0.0.0.0:0", "--tls-cert", cert, "--tls-key", key,
		"--client-ca", cert, "--tokens", tokens, "--audit", audit)
	_, port, err := net.SplitHostPort(strings.TrimPrefix(s.url, "https://"))
	if err != nil {
		t.Fatalf("%s: %v", s.url, err)
	}
	list := func(args ...string) (int, string) {
		code, stdout, stderr := command(t, append([]string{"queue", "list", "--server", "https://127.0.0.1:" + port, "--server-ca", cert}, args...)...)
		return code, stdout + stderr
	}
	for _, c := range []struct {
		args []string
		code int
	}{
		{nil, 1}, {[]string{"--token-file", writeFile(t, filepath.Join(dir, "token"), []byte(token+"\n"))}, 0},
		{[]string{"--token-file", writeFile(t, filepath.Join(dir, "wrong"), []byte("wrong"))}, 1},
		{[]string{"--cert", cert, "--key", key}, 0},
	} {
		code, text := list(c.args...)
		if code != c.code || code != 0 && !strings.Contains(text, "does not know who asks") {
			t.Errorf("%v: exit code %d: %s", c.args, code, text)
		}
	}
	if code, log := s.terminate(); code != 0 {
		t.Errorf("exit code %d: %s", code, log)
	}
	lines, err := os.ReadFile(audit)
	if err != nil {
		t.Fatal(err)
	}
	var callers []string
	for line := range strings.Lines(string(lines)) {
		var r serve.AuditRecord
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatal(err)
		}
		callers = append(callers, fmt.Sprint(r.Status, " ", r.Caller))
	}
	if got := strings.Join(callers, ", "); got != "401 , 200 viewer, 401 , 200 127.0.0.1" {
		t.Errorf("noted: %s", got)
	}
}

// Every fault is named at once, each with its cure, and a sound server leaves with 0.
func TestUp_CheckNamesEveryFault(t *testing.T) {
	model, dir := modelFile(t), t.TempDir()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	cert, key, err := dimse.WriteCertificate(dir)
	if err != nil {
		t.Fatal(err)
	}
	file := func(name, content string) string { return writeFile(t, filepath.Join(dir, name), []byte(content)) }
	data := t.TempDir()
	code, stdout, stderr := command(t, "up", "--check", "--listen", "127.0.0.1:0", "--model", model, "--models", filepath.Dir(model), "--data", data,
		"--dicom", "127.0.0.1:0", "--tls-cert", cert, "--tls-key", key, "--tokens", file("tokens", "a 0123456789abcdef"), "--audit", filepath.Join(dir, "audit"))
	if code != 0 || strings.Count(stdout, "found ") < 6 || !strings.Contains(stdout, "DICOM at 127.0.0.1:") {
		t.Errorf("exit code %d: %s%s", code, stdout, stderr)
	}
	file("models/bad.onnx", "bad")
	file("models/good.onnx", string(modelVersion(t, "2")))
	code, stdout, stderr = command(t, "up", "--check", "--listen", ln.Addr().String(), "--models", filepath.Join(dir, "models"), "--data", file("notadir", "x"),
		"--tls-cert", cert, "--tls-key", file("other.key", "x"), "--tokens", file("bad", "a short"), "--audit", filepath.Join(dir, "none", "audit"))
	for _, part := range []string{"missing  address", "missing  models", "bad.onnx", "missing  TLS", "missing  tokens", "missing  audit log", "missing  data"} {
		if !strings.Contains(stdout, part) {
			t.Errorf("the output lacks %q", part)
		}
	}
	if code != 1 || strings.Count(stdout, "hint: ") < 5 || !strings.HasPrefix(stderr, "error: missing: address, models, TLS, tokens, audit log, data\n") {
		t.Errorf("exit code %d: %s%s", code, stdout, stderr)
	}
}

// A server that is told to stop while it waits for its queue leaves as one that was told to: it promised nothing.
func TestUp_StoppedBeforeItBegan(t *testing.T) {
	model := modelFile(t)
	nats, err := net.Listen("tcp", "127.0.0.1:0") // says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer nats.Close()
	cmd := exec.CommandContext(t.Context(), "mvmae-serve", "up", "--model", model, "--listen", "127.0.0.1:0", "--data", t.TempDir(), "--nats", "nats://"+nats.Addr().String())
	var log bytes.Buffer
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := nats.Accept(); err != nil {
		t.Fatal(err)
	}
	cmd.Process.Signal(syscall.SIGTERM)
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v: %s", err, log.String())
	}
}

// Without its listener a server is of no use: it ends, and whoever started it hears why.
func TestStation_ListenerThatFailsIsTheEnd(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln.Close()
	models := serve.NewModels(serve.ModelsOptions{})
	one := &station{server: serve.NewServer(serve.ServerOptions{Models: models}), ln: ln, models: models}
	if err := one.run(t.Context(), func() error { return nil }); !errors.Is(err, net.ErrClosed) {
		t.Errorf("error %v", err)
	}
}
