package cli

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"
)

const (
	linePeriod = 5 * time.Second  // between two plain lines when standard error is no terminal
	rateWindow = 30 * time.Second // the rate shown is the mean over about so long
)

// Progress shows how far a long piece of work is: a bar on a terminal, else one plain line every few seconds, always on
// standard error. Its methods may be called from several goroutines.
type Progress struct {
	out   *Output
	title string
	total int64
	start time.Time

	mu       sync.Mutex
	done     int64
	note     string
	marks    []mark // the first is taken after the first Add: the first piece of work also pays for starting up (a compilation)
	lastLine time.Time
	ended    bool

	bars *mpb.Progress // nil when standard error is no terminal
	bar  *mpb.Bar
}

type mark struct {
	at   time.Time
	done int64
}

// Progress begins to show work of total pieces; 0 means that their number is unknown. The caller must call Done.
func (o *Output) Progress(title string, total int64) *Progress {
	p := &Progress{out: o, title: title, total: total, start: o.time()}
	p.lastLine = p.start
	if f, ok := o.Stderr.(*os.File); ok && drawable(f) {
		p.bars = mpb.New(mpb.WithOutput(f), mpb.WithWidth(24))
		style := mpb.BarStyle().Lbound("").Rbound("").Filler("━").Tip("━").Padding("╌")
		p.bar = p.bars.New(total, style,
			mpb.PrependDecorators(decor.Name(title+" ")),
			mpb.AppendDecorators(decor.Any(func(decor.Statistics) string { return " " + p.status() })))
		o.setBars(p.bars)
	}
	return p
}

// drawable says whether f is a terminal with room for a bar: one whose size is unknown has none.
func drawable(f *os.File) bool {
	width, height, err := term.GetSize(int(f.Fd()))
	return err == nil && width > 0 && height > 0
}

// Resume counts n pieces as done by an earlier run: they count towards the total, not towards the rate.
func (p *Progress) Resume(n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done += n
	if p.bar != nil {
		p.bar.IncrInt64(n)
	}
}

// Add counts n pieces as done.
func (p *Progress) Add(n int64) {
	p.mu.Lock()
	p.done += n
	now := p.out.time()
	if last := len(p.marks) - 1; last < 0 || now.Sub(p.marks[last].at) >= rateWindow/30 {
		p.marks = append(p.marks, mark{now, p.done})
	}
	for len(p.marks) > 2 && now.Sub(p.marks[0].at) > rateWindow {
		p.marks = p.marks[1:]
	}
	p.mu.Unlock()
	if p.bar != nil {
		p.bar.IncrInt64(n)
	}
	p.plainLine(false)
}

// Note shows a few words (a loss, a file) after the numbers.
func (p *Progress) Note(text string) {
	p.mu.Lock()
	p.note = text
	p.mu.Unlock()
	p.plainLine(false)
}

// Done takes the bar down and leaves one last line. Further calls do nothing.
func (p *Progress) Done() {
	p.mu.Lock()
	ended := p.ended
	p.ended = true
	p.mu.Unlock()
	if ended {
		return
	}
	if p.bars == nil {
		p.plainLine(true)
		return
	}
	p.out.setBars(nil)
	p.bar.Abort(false)
	p.bars.Wait()
}

// plainLine writes the state as a line, if there is no bar and the last line is old enough or the line is wanted now.
func (p *Progress) plainLine(now bool) {
	if p.bars != nil {
		return
	}
	p.mu.Lock()
	at := p.out.time()
	due := now || at.Sub(p.lastLine) >= linePeriod && !p.ended
	if due {
		p.lastLine = at
	}
	p.mu.Unlock()
	if due {
		fmt.Fprintf((*logWriter)(p.out), "%s: %s\n", p.title, p.status())
	}
}

// status is the text both forms show: "120/800 15%, 3.4/s, 3m20s left, loss 0.41", and at the end the time taken instead.
func (p *Progress) status() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	parts := []string{fmt.Sprint(p.done)}
	if p.total > 0 {
		parts[0] = fmt.Sprintf("%d/%d %d%%", p.done, p.total, 100*p.done/p.total)
	}
	rate := p.rate()
	if rate > 0 {
		format := "%.3g/s"
		if rate >= 100 {
			format = "%.0f/s" // where %g would turn to exponents
		}
		parts = append(parts, fmt.Sprintf(format, rate))
	}
	switch {
	case p.ended || p.done >= p.total && p.total > 0:
		parts = append(parts, "took "+p.out.time().Sub(p.start).Round(time.Second).String())
	case rate > 0 && p.total > 0:
		left := time.Duration(float64(p.total-p.done) / rate * float64(time.Second))
		parts = append(parts, left.Round(time.Second).String()+" left")
	}
	if p.note != "" {
		parts = append(parts, p.note)
	}
	return strings.Join(parts, ", ")
}

// rate returns pieces per second over the window, 0 while it is unknown.
func (p *Progress) rate() float64 {
	if len(p.marks) == 0 {
		return 0
	}
	first, last := p.marks[0], p.marks[len(p.marks)-1]
	if !last.at.After(first.at) {
		return 0
	}
	return float64(last.done-first.done) / last.at.Sub(first.at).Seconds()
}

func (o *Output) time() time.Time {
	if o.now != nil {
		return o.now()
	}
	return time.Now()
}

func (o *Output) setBars(bars *mpb.Progress) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.bars = bars
}
