package faults

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"strings"
	"sync"
	"time"
)

// process is a program that is killed and started again.
type process struct {
	name  string
	start func(ctx context.Context) (*exec.Cmd, error) // makes the command and starts it
	ready func(ctx context.Context, p *process) error  // waits until it can be used, nil if that need not be waited for

	mu    sync.Mutex
	cmd   *exec.Cmd
	url   string // of a server that is ready
	ended bool   // before it was ready, by itself
	log   *bytes.Buffer
}

// up starts the process; it need not be ready when up returns.
func (p *process) up(ctx context.Context) error {
	cmd, err := p.start(ctx)
	if err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	p.mu.Lock()
	p.cmd = cmd
	p.mu.Unlock()
	return nil
}

// kill ends the process as a loss of power ends it: at once.
func (p *process) kill() {
	p.mu.Lock()
	cmd := p.cmd
	p.cmd, p.url, p.ended = nil, "", false
	p.mu.Unlock()
	if cmd != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
}

// address is where a server that is ready answers, "" while it does not.
func (p *process) address() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.url
}

// server is mvmae-serve. The line on its standard output says that it is ready.
func server(name, program string, args []string) *process {
	p := &process{name: name}
	p.start = func(ctx context.Context) (*exec.Cmd, error) {
		cmd := exec.CommandContext(ctx, program, append([]string{"up", "--listen", "127.0.0.1:0"}, args...)...)
		log := &bytes.Buffer{}
		cmd.Stderr = log
		stdout, err := cmd.StdoutPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			return nil, err
		}
		p.mu.Lock()
		p.log = log
		p.mu.Unlock()
		go func() { // ends with the process
			url, err := bufio.NewReader(stdout).ReadString('\n')
			p.mu.Lock()
			defer p.mu.Unlock()
			if p.cmd == cmd {
				p.url, p.ended = strings.TrimSpace(url), err != nil
			}
		}()
		return cmd, nil
	}
	p.ready = func(ctx context.Context, p *process) error {
		ended := false
		wait(ctx, func() bool {
			p.mu.Lock()
			defer p.mu.Unlock()
			ended = p.ended
			return p.url != "" || ended
		})
		if p.address() != "" {
			return nil
		}
		p.kill()
		return fmt.Errorf("%s did not get ready, ended by itself: %v; its log: %s", p.name, ended, p.log)
	}
	return p
}

// look is how often something is looked for.
const look = 20 * time.Millisecond

// wait waits until done says so, and whether it did before ctx ended.
func wait(ctx context.Context, done func() bool) bool {
	for !done() {
		if !pause(ctx, look) {
			return false
		}
	}
	return true
}

// pause waits, and says whether ctx still lasts.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// freePorts returns ports that nobody listened on a moment ago.
func freePorts(n int) (ports []int, err error) {
	var open []net.Listener
	for range n {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		open = append(open, ln)
		ports = append(ports, ln.Addr().(*net.TCPAddr).Port)
	}
	for _, ln := range open {
		err = errors.Join(err, ln.Close())
	}
	return ports, err
}
