package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/mvmae/mvmae/benchmarks/load"
	"github.com/mvmae/mvmae/benchmarks/paired"
	"github.com/mvmae/mvmae/model"
)

// server is a program that answers studies on a loopback address.
type server struct {
	name  string
	cmd   *exec.Cmd
	url   string
	log   string        // file of what it writes
	ready time.Duration // from its start
	ended chan error    // how it ended
	asks  bool          // whether a study is wanted, before it is sent
}

// prepare makes a program that will run in a process group of its own.
func prepare(ctx context.Context, name string, env []string, program string, args ...string) (*server, error) {
	s := &server{name: name, log: filepath.Join(paired.WorkDir, name+".log"), cmd: exec.CommandContext(ctx, program, args...), ended: make(chan error, 1)}
	log, err := os.Create(s.log)
	if err != nil {
		return nil, err
	}
	s.cmd.Stderr = log // stays open as long as this process
	s.cmd.Env = append(append(os.Environ(), "GIN_MODE=release", "OMP_WAIT_POLICY=passive"), env...)
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return s, nil
}

// startOurs starts mvmae-serve, which writes its URL as its first line when it is ready.
func startOurs(ctx context.Context, program, modelFile string, args ...string) (*server, error) {
	s, err := prepare(ctx, "mvmae-serve", nil, program, append([]string{"up", "--model", modelFile, "--listen", "127.0.0.1:0"}, args...)...)
	if err != nil {
		return nil, err
	}
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	began := time.Now()
	if err := s.run(); err != nil {
		return nil, err
	}
	lines := bufio.NewScanner(out)
	if !lines.Scan() {
		return nil, fmt.Errorf("%s ended before it was ready, see %s: %w", program, s.log, <-s.ended)
	}
	s.url, s.ready = lines.Text(), time.Since(began)
	u, err := url.Parse(s.url)
	if ip := net.ParseIP(u.Hostname()); err != nil || ip == nil || !ip.IsLoopback() {
		s.stop()
		return nil, fmt.Errorf("%s does not listen on loopback: %q", program, s.url)
	}
	return s, nil
}

// peerPrograms are what a peer is started with, after Python and before its port.
var peerPrograms = map[string][]string{
	"FastAPI":  {"fastapi_server.py"},
	"LitServe": {"litserve_server.py"},
	"BentoML":  {"-m", "bentoml", "serve", "bentoml_server:Study", "--host", "127.0.0.1", "--port"},
}

// startPeer starts a peer and waits until it answers.
func startPeer(ctx context.Context, python, name, modelFile string) (*server, error) {
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	port := strconv.Itoa(free.Addr().(*net.TCPAddr).Port)
	free.Close()
	absolute := make([]string, 2)
	for i, path := range []string{python, modelFile} {
		if absolute[i], err = filepath.Abs(path); err != nil {
			return nil, err
		}
	}
	s, err := prepare(ctx, name, []string{"MODEL=" + absolute[1], "METADATA_KEY=" + model.MetadataKey, "BENTOML_DO_NOT_TRACK=true"},
		absolute[0], append(peerPrograms[name], port)...)
	if err != nil {
		return nil, err
	}
	s.cmd.Dir, s.cmd.Stdout, s.url = folder+"/peers", s.cmd.Stderr, "http://127.0.0.1:"+port
	began := time.Now()
	if err := s.run(); err != nil {
		return nil, err
	}
	for ; ; time.Sleep(20 * time.Millisecond) {
		if resp, err := http.Get(s.url + "/readyz"); err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				s.ready = time.Since(began)
				return s, nil
			}
		}
		if time.Since(began) > 2*time.Minute || len(s.ended) > 0 {
			s.stop()
			return nil, fmt.Errorf("%s did not get ready, see %s", name, s.log)
		}
	}
}

// run starts the program.
func (s *server) run() error {
	if err := s.cmd.Start(); err != nil {
		return err
	}
	go func() { s.ended <- s.cmd.Wait() }()
	return nil
}

// stop ends the program and what it has started.
func (s *server) stop() {
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	late := time.AfterFunc(20*time.Second, func() { _ = syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL) })
	<-s.ended
	late.Stop()
}

// send sends one study and gives back status and answer.
func (s *server) send(ctx context.Context, study []byte) (status int, retryAfter string, doc []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url+"/v1/studies:classify", bytes.NewReader(study))
	if err != nil {
		return 0, "", nil, err
	}
	req.Header.Set("Content-Type", load.ContentType)
	if s.asks {
		req.Header.Set("Expect", "100-continue")
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, "", nil, err
	}
	defer resp.Body.Close()
	doc, err = io.ReadAll(resp.Body)
	return resp.StatusCode, resp.Header.Get("Retry-After"), doc, err
}

// client keeps a connection for each of the load's clients.
var client = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 256, ExpectContinueTimeout: time.Minute}}

// classify sends one study and wants an answer.
func (s *server) classify(ctx context.Context, study []byte) ([]byte, error) {
	status, _, doc, err := s.send(ctx, study)
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("%s: status %d, see %s: %.300s", s.name, status, s.log, doc)
	}
	return doc, err
}

// round is one round of load: n studies by so many clients.
func (s *server) round(ctx context.Context, clients, n int, study []byte) (paired.Sample, error) {
	before, err := cpuSeconds(s.cmd.Process.Pid)
	if err != nil {
		return paired.Sample{}, err
	}
	began := time.Now()
	extra, err := timed(ctx, clients, n, func(ctx context.Context) error {
		_, err := s.classify(ctx, study)
		return err
	})
	if err != nil {
		return paired.Sample{}, err
	}
	sample := paired.Sample{Seconds: time.Since(began).Seconds(), Done: float64(n), Extra: extra}
	after, err := cpuSeconds(s.cmd.Process.Pid)
	if err != nil {
		return sample, err
	}
	sample.CPUSeconds = after - before
	extra["memory"], err = memoryMB(s.cmd.Process.Pid)
	return sample, err
}

// family is a process and all that descend from it.
func family(pid int) ([]int, error) {
	list, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, err
	}
	children := map[int][]int{}
	for _, path := range list {
		fields, err := statFields(path)
		if err != nil {
			continue // it has ended
		}
		child, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		parent, _ := strconv.Atoi(fields[1])
		children[parent] = append(children[parent], child)
	}
	all := []int{pid}
	for i := 0; i < len(all); i++ {
		all = append(all, children[all[i]]...)
	}
	return all, nil
}

// statFields are a process's numbers from field 3, the state, on (proc_pid_stat(5)).
func statFields(path string) ([]string, error) {
	doc, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return strings.Fields(string(doc[bytes.LastIndexByte(doc, ')')+1:])), nil
}

// cpuSeconds is the user and system time of a process and its family, those included that have ended, in the kernel's ticks
// of 1/100 s.
func cpuSeconds(pid int) (float64, error) {
	all, err := family(pid)
	if err != nil {
		return 0, err
	}
	ticks := 0.0
	for _, pid := range all {
		fields, err := statFields(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			continue
		}
		for _, field := range fields[11:15] {
			n, err := strconv.ParseFloat(field, 64)
			if err != nil {
				return 0, err
			}
			ticks += n
		}
	}
	return ticks / 100, nil
}

// memoryMB is the memory of a process and its family: what is resident, pages that several of them share counted once.
func memoryMB(pid int) (float64, error) {
	all, err := family(pid)
	if err != nil {
		return 0, err
	}
	if len(all) == 1 {
		return kilobytes(fmt.Sprintf("/proc/%d/status", pid), "VmRSS:")
	}
	sum := 0.0
	for _, pid := range all {
		if mb, err := kilobytes(fmt.Sprintf("/proc/%d/smaps_rollup", pid), "Pss:"); err == nil {
			sum += mb
		}
	}
	return sum, nil
}

// kilobytes is a line's number of a file below /proc, in MB.
func kilobytes(path, key string) (float64, error) {
	doc, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(doc)) {
		if value, ok := strings.CutPrefix(line, key); ok {
			kb, err := strconv.ParseFloat(strings.Fields(value)[0], 64)
			return kb * 1024 / 1e6, err
		}
	}
	return 0, fmt.Errorf("no %s in %s", key, path)
}
