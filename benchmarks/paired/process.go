package paired

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// Process is a contender that runs as a child: it writes an empty line when it is ready, then answers each line it
// reads with one Sample as JSON, and leaves when its input ends. Worker is its side of that.
type Process struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Scanner
}

// Start starts a child and waits until it is ready. OpenMP programs are told not to spin while they wait: on a machine that
// other programs use too, PyTorch's training step took ten times the processor time with spinning.
func Start(ctx context.Context, program string, args ...string) (*Process, error) {
	p := &Process{cmd: exec.CommandContext(ctx, program, args...)}
	p.cmd.Stderr = os.Stderr
	p.cmd.Env = append(os.Environ(), "OMP_WAIT_POLICY=passive")
	var err error
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.out = bufio.NewScanner(out)
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	if !p.out.Scan() {
		return nil, errors.Join(fmt.Errorf("%s %v ended before it was ready", program, args), p.Close())
	}
	return p, nil
}

// Round asks for one round.
func (p *Process) Round(context.Context) (s Sample, err error) {
	if _, err := fmt.Fprintln(p.in, "round"); err != nil {
		return s, err
	}
	if !p.out.Scan() {
		return s, errors.Join(io.ErrUnexpectedEOF, p.out.Err())
	}
	return s, json.Unmarshal(p.out.Bytes(), &s)
}

// Close ends the child.
func (p *Process) Close() error {
	p.in.Close()
	return p.cmd.Wait()
}

// Worker is the child's side of a Process. Done is called after each unit of work, and returns false when it is time to leave.
type Worker struct {
	PerRound int                // calls of Done that make a round
	Amount   float64            // Sample.Done of a round
	Extra    map[string]float64 // Sample.Extra of the round at hand
	in       *bufio.Scanner
	count    int
	start    time.Time
	cpu      time.Duration
}

// Done counts a unit of work. At the end of a round it reports and waits for the next; the first round's worth of work is
// the warm-up that comes before "ready".
func (w *Worker) Done() bool {
	w.count++
	if w.count < w.PerRound {
		return true
	}
	if w.in == nil {
		w.in = bufio.NewScanner(os.Stdin)
		fmt.Println()
	} else {
		s := Sample{Seconds: time.Since(w.start).Seconds(), CPUSeconds: (CPUTime() - w.cpu).Seconds(), Done: w.Amount, Extra: w.Extra}
		if err := json.NewEncoder(os.Stdout).Encode(s); err != nil {
			return false
		}
	}
	if !w.in.Scan() {
		return false
	}
	w.count, w.start, w.cpu = 0, time.Now(), CPUTime()
	return true
}

// CPUTime is the user and system time of this process.
func CPUTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
