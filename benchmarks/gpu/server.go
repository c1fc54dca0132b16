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

	"github.com/mvmae/mvmae/benchmarks/load"
)

// server is a program that answers studies on a loopback address.
type server struct {
	cmd *exec.Cmd
	url string
	log string // file of what it writes to standard error
}

// pid is the server's process.
func (s *server) pid() int { return s.cmd.Process.Pid }

// startServer starts a server, which writes its URL as its first line when it is ready. dir takes its log.
func startServer(ctx context.Context, dir, program string, args ...string) (*server, error) {
	s := &server{cmd: exec.CommandContext(ctx, program, args...), log: filepath.Join(dir, filepath.Base(program)+".log")}
	log, err := os.Create(s.log)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	s.cmd.Stderr = log
	s.cmd.Env = append(os.Environ(), "GIN_MODE=release")
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	lines := bufio.NewScanner(out)
	if !lines.Scan() {
		return nil, fmt.Errorf("%s ended before it was ready, see %s: %w", program, s.log, s.cmd.Wait())
	}
	s.url = lines.Text()
	u, err := url.Parse(s.url)
	if ip := net.ParseIP(u.Hostname()); err != nil || ip == nil || !ip.IsLoopback() {
		s.stop()
		return nil, fmt.Errorf("%s does not listen on loopback: %q", program, s.url)
	}
	return s, nil
}

// stop ends it.
func (s *server) stop() {
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	_ = s.cmd.Wait()
}

// classify sends one study, as load.Form makes it, and returns the answer.
func (s *server) classify(ctx context.Context, study []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url+"/v1/studies:classify", bytes.NewReader(study))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", load.ContentType)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	doc, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s, see %s: %.300s", resp.Status, s.log, doc)
	}
	return doc, err
}

// cpuSeconds is the user and system time of the server and of its children that have ended, the decoders, in the kernel's ticks of 1/100 s.
func (s *server) cpuSeconds() (float64, error) {
	doc, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(doc[bytes.LastIndexByte(doc, ')')+1:])) // from field 3, the state
	ticks := 0.0
	for _, field := range fields[11:15] {
		n, err := strconv.ParseFloat(field, 64)
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	return ticks / 100, nil
}

// residentMB is a process's resident memory.
func residentMB(pid int) (float64, error) {
	doc, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(doc)) {
		if value, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, err := strconv.ParseFloat(strings.Fields(value)[0], 64)
			return kb / 1000, err
		}
	}
	return 0, fmt.Errorf("no VmRSS of process %d", pid)
}
