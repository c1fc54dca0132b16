// Package load sends studies to servers that are measured.
package load

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

	"golang.org/x/sync/errgroup"

	"github.com/mvmae/mvmae/benchmarks/paired"
)

// Run does n studies with a number of clients, each one after the other, and gives the median and 95th percentile of
// their times in ms.
func Run(ctx context.Context, clients, n int, study func(context.Context) error) (map[string]float64, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	todo := make(chan int, n)
	for i := range n {
		todo <- i
	}
	close(todo)
	times := make([]float64, n)
	group, ctx := errgroup.WithContext(ctx)
	for range clients {
		group.Go(func() error {
			for i := range todo {
				start := time.Now()
				if err := study(ctx); err != nil {
					return err
				}
				times[i] = float64(time.Since(start).Microseconds()) / 1000
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return map[string]float64{"p50": paired.Quantile(times, 0.5), "p95": paired.Quantile(times, 0.95)}, nil
}

// Server is a program that answers studies on a loopback address.
type Server struct {
	cmd *exec.Cmd
	url string
	log string // file of what it writes to standard error
}

// PID is the server's process.
func (s *Server) PID() int { return s.cmd.Process.Pid }

// ContentType is that of a Form.
const ContentType = "multipart/form-data; boundary=benchmark"

// Start starts a server, which writes its URL as its first line when it is ready. dir takes its log.
func Start(ctx context.Context, dir, program string, args ...string) (*Server, error) {
	s := &Server{cmd: exec.CommandContext(ctx, program, args...), log: filepath.Join(dir, filepath.Base(program)+".log")}
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
		s.Stop()
		return nil, fmt.Errorf("%s does not listen on loopback: %q", program, s.url)
	}
	return s, nil
}

// Stop ends it.
func (s *Server) Stop() {
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	_ = s.cmd.Wait()
}

// Classify sends one study, as Form makes it, and returns the answer.
func (s *Server) Classify(ctx context.Context, study []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url+"/v1/studies:classify", bytes.NewReader(study))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", ContentType)
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

// CPUSeconds is the user and system time of the server and of its children that have ended, the decoders, in the kernel's ticks of 1/100 s.
func (s *Server) CPUSeconds() (float64, error) {
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

// ResidentMB is a process's resident memory.
func ResidentMB(pid int) (float64, error) {
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
