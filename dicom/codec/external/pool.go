package external

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"sync"
	"time"

	"github.com/mvmae/mvmae/dicom"
)

// DefaultTimeout is how long one image may take: some fifty times what a large radiograph needs.
const DefaultTimeout = 60 * time.Second

// hugePages is the whole environment of a process. It asks glibc for huge pages: an image is new memory, and of the
// 120 ms of processor time that 7.5 million samples of lossless HTJ2K took, 40 went into 21,000 page faults.
// The program does the rest (main.c).
var hugePages = []string{"GLIBC_TUNABLES=glibc.malloc.hugetlb=1"}

// Options is how a pool works. The zero value of a field means its default.
type Options struct {
	// Program is the path of mvmae-codec. Default: what [Find] finds.
	Program string
	// Processes is how many images are decoded at a time; further ones wait. Default: the processors in use.
	Processes int
	// Timeout bounds one image. Default [DefaultTimeout].
	Timeout time.Duration
	// MaxSamples bounds one image, and with it the memory of a process. Default: the pixels that a frame may have,
	// [dicom.Limits.MaxPixels].
	MaxSamples int
}

// Pool decodes images in processes of their own. It is safe for use by several goroutines.
type Pool struct {
	opt   Options
	slots chan struct{} // one value per running process

	closing context.Context // ends with Close, as every image's own context does
	cancel  context.CancelFunc
	mu      sync.Mutex // guards the step from closing to running
	running sync.WaitGroup

	// For tests: started is called with each process, shorten is the function of that name.
	started func(*exec.Cmd)
	shorten func(Request) (Request, int)
}

// NewPool makes a pool. It starts no process.
func NewPool(opt Options) *Pool {
	if opt.Processes == 0 {
		opt.Processes = runtime.GOMAXPROCS(0)
	}
	if opt.Timeout == 0 {
		opt.Timeout = DefaultTimeout
	}
	if opt.MaxSamples == 0 {
		opt.MaxSamples = dicom.DefaultLimits().MaxPixels
	}
	p := &Pool{opt: opt, slots: make(chan struct{}, opt.Processes), shorten: shorten}
	p.closing, p.cancel = context.WithCancel(context.Background())
	return p
}

// Close kills what is running and returns when all of it has ended. Later images are refused.
func (p *Pool) Close() {
	p.mu.Lock()
	p.cancel()
	p.mu.Unlock()
	p.running.Wait()
}

var errClosed = errors.New("the decoders are closed")

// Decode decodes one frame in a process of its own. Its errors are of type *dicom.Error, or what ended the context.
func (p *Pool) Decode(ctx context.Context, r Request) (*Image, error) {
	if err := r.check(p.opt.MaxSamples); err != nil {
		return nil, err
	}
	p.mu.Lock()
	if p.closing.Err() != nil {
		p.mu.Unlock()
		return nil, errClosed
	}
	p.running.Add(1)
	p.mu.Unlock()
	defer p.running.Done()

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(p.closing, func() { cancel(errClosed) })()
	select {
	case p.slots <- struct{}{}:
		defer func() { <-p.slots }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	// An image that is alone may use every processor; a full pool gives each image one.
	threads := max(1, min(maxThreads, runtime.GOMAXPROCS(0)/len(p.slots)))
	if short, left := p.shorten(r); left > 0 {
		m, err := p.limited(ctx, short, threads)
		if err == nil {
			m.Reduced = left
			return m, nil
		}
		var refusal *dicom.Error
		if !errors.As(err, &refusal) || refusal.Code == dicom.CodeDecoderFailed {
			return nil, err
		}
		// What was left out was needed, or the code stream is a bad one: the whole of it decides.
	}
	return p.limited(ctx, r, threads)
}

// limited decodes within the limits of the request.
func (p *Pool) limited(ctx context.Context, r Request, threads int) (*Image, error) {
	l, err := r.limits(threads)
	if err != nil {
		return nil, err
	}
	timed, stop := context.WithTimeout(ctx, p.opt.Timeout)
	defer stop()
	m, err := p.run(timed, r, l)
	var refusal *dicom.Error
	switch {
	case err == nil:
		return m, nil
	case errors.As(err, &refusal) && refusal.Code == dicom.CodeUnsupportedSyntax: // its library is missing
		return nil, unsupported(r.Syntax, errors.New(refusal.Detail))
	case errors.As(err, &refusal):
		return nil, refusal
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case timed.Err() != nil:
		err = fmt.Errorf("took longer than %v", p.opt.Timeout)
	}
	return nil, &dicom.Error{Code: dicom.CodeDecoderFailed, Detail: "mvmae-codec: " + err.Error(), Err: err}
}

// run starts a process, hands it the request and takes its answer.
func (p *Pool) run(ctx context.Context, r Request, l limits) (*Image, error) {
	path := p.opt.Program
	if path == "" {
		var err error
		if path, err = Find(); err != nil {
			return nil, unsupported(r.Syntax, err)
		}
	}
	cmd := exec.CommandContext(ctx, path)
	cmd.Env, cmd.Dir, cmd.WaitDelay = hugePages, "/", time.Second
	said := &head{}
	cmd.Stderr = said
	in, err := r.input(l)
	if err != nil {
		return nil, fmt.Errorf("hand over the code stream: %w", err)
	}
	defer in.Close()
	cmd.Stdin = in
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, unsupported(r.Syntax, err)
	}
	if p.started != nil {
		p.started(cmd)
	}
	// Killing it is not enough where something else holds its end of a pipe.
	unblock := context.AfterFunc(ctx, func() { out.Close() })
	defer unblock()
	m, err := readAnswer(out, r)
	out.Close()
	if err != nil {
		err = fmt.Errorf("read the answer: %w", err)
	}
	var refusal *dicom.Error
	if err != nil && !errors.As(err, &refusal) {
		cmd.Cancel() // it talks nonsense, or it is dead already
	}
	ended := cmd.Wait()
	switch {
	case ended == nil || errors.As(err, &refusal):
		return m, err
	case said.text.Len() > 0:
		// Also after a whole image: a decoder that then dies is not to be believed.
		return nil, fmt.Errorf("%w: %s", ended, said)
	case err != nil && ctx.Err() == nil && cmd.ProcessState.Exited():
		return nil, err
	}
	return nil, ended
}

// unsupported is the refusal of an image for want of the program.
func unsupported(syntax string, err error) error {
	return &dicom.Error{Code: dicom.CodeUnsupportedSyntax, Detail: fmt.Sprintf("%s (%s): %v", dicom.SyntaxName(syntax), syntax, err), Err: err}
}

// head keeps the first line of what a process says on standard error.
type head struct{ text bytes.Buffer }

func (h *head) Write(b []byte) (int, error) {
	if room := maxText - h.text.Len(); room > 0 {
		h.text.Write(b[:min(room, len(b))])
	}
	return len(b), nil
}

func (h *head) String() string {
	line, _, _ := bytes.Cut(h.text.Bytes(), []byte("\n"))
	return printable(line)
}
