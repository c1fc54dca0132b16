package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/mvmae/mvmae/benchmarks/load"
	"github.com/mvmae/mvmae/benchmarks/paired"
	"github.com/mvmae/mvmae/dicom/cxr"
)

// What a soak is, and what it must show.
const (
	overload    = 1.5              // of the peak
	peakClients = 4                // that find out the peak, before and after
	peakTime    = 20 * time.Second // that they take for it
	soakParts   = 10               // of the table
	leastGood   = 0.95             // of the peak is answered
	mostGrowth  = 1.1              // memory of the second half, of that of the first
)

// soaking counts what becomes of the studies of a part of the soak.
type soaking struct {
	mu                              sync.Mutex
	sent, answered, refused, failed int
	waits                           []float64 // seconds of Retry-After
	ms                              []float64 // of those answered
	memory                          float64   // the most, MB
	example                         error     // of a failure
}

// runSoak sends studies at random moments, half as many again as the server can do, and does not come back with those that are
// refused. The studies answered must be nearly as many as at the peak, memory must not grow, and nothing may fail.
func runSoak(ctx context.Context, set settings, d time.Duration) error {
	report := paired.NewReport("serve")
	report.Variant = "soak"
	precision := set.precisions[0]
	if err := writeModel(set.preset, cxr.Mimic, precision); err != nil {
		return err
	}
	program, err := buildServer(ctx)
	if err != nil {
		return err
	}
	study, what, err := set.study(ctx)
	if err != nil {
		return err
	}
	s, err := startOurs(ctx, program, modelOf(set.preset, cxr.Mimic, precision))
	if err != nil {
		return err
	}
	defer s.stop()
	s.asks = true // a refusal then costs no more than a header
	var peaks [2]float64
	if peaks[0], err = peak(ctx, s, study); err != nil {
		return err
	}
	rate := overload * peaks[0]
	report.Printf("%s in %s, random weights; studies of two %s. %v of %.1f studies/s, at random moments: %.1f times the peak of %.2f/s that %d clients reached before.\n\n"+
		"| from | sent | answered | refused | failed | answered/s | p50 ms | p99 ms | Retry-After s | memory MB |\n|---|---|---|---|---|---|---|---|---|---|\n",
		set.preset, precision, what, d, rate, overload, peaks[0], peakClients)
	parts := flood(ctx, s, study, rate, d)
	if peaks[1], err = peak(ctx, s, study); err != nil {
		return err
	}
	return verdict(report, parts, d, peaks)
}

// peak is the number of studies a second that a few clients get answered.
func peak(ctx context.Context, s *server, study []byte) (float64, error) {
	if _, err := load.Run(ctx, peakClients, 2*peakClients, func(ctx context.Context) error { _, err := s.classify(ctx, study); return err }); err != nil {
		return 0, err
	}
	began, n := time.Now(), 0
	for time.Since(began) < peakTime {
		if _, err := load.Run(ctx, peakClients, 4*peakClients, func(ctx context.Context) error { _, err := s.classify(ctx, study); return err }); err != nil {
			return 0, err
		}
		n += 4 * peakClients
	}
	return float64(n) / time.Since(began).Seconds(), nil
}

// flood sends studies at a rate, the moments drawn as of a Poisson process.
func flood(ctx context.Context, s *server, study []byte, rate float64, d time.Duration) []*soaking {
	parts := make([]*soaking, soakParts)
	for i := range parts {
		parts[i] = &soaking{}
	}
	rng := rand.New(rand.NewPCG(8, 8))
	began := time.Now()
	at := func() *soaking { return parts[min(int(time.Since(began)*soakParts/d), soakParts-1)] }
	var sent sync.WaitGroup
	defer sent.Wait()
	next, look := began, began
	for time.Since(began) < d && ctx.Err() == nil {
		sent.Go(func() { at().send(ctx, s, study) })
		if time.Since(look) > time.Second {
			look = time.Now()
			at().weigh(s)
		}
		next = next.Add(time.Duration(rng.ExpFloat64() / rate * float64(time.Second)))
		time.Sleep(time.Until(next))
	}
	return parts
}

func (p *soaking) send(ctx context.Context, s *server, study []byte) {
	began := time.Now()
	status, retryAfter, _, err := s.send(ctx, study)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sent++
	wait, bad := strconv.ParseFloat(retryAfter, 64)
	switch {
	case err == nil && status == http.StatusOK:
		p.answered++
		p.ms = append(p.ms, float64(time.Since(began).Microseconds())/1000)
	case err == nil && status == http.StatusTooManyRequests && bad == nil:
		p.refused++
		p.waits = append(p.waits, wait)
	default:
		p.failed++
		p.example = errors.Join(err, fmt.Errorf("status %d", status))
	}
}

func (p *soaking) weigh(s *server) {
	if mb, err := memoryMB(s.cmd.Process.Pid); err == nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.memory = max(p.memory, mb)
	}
}

// verdict writes the table, and is an error where the soak did not show what it must.
func verdict(report *paired.Report, parts []*soaking, d time.Duration, peaks [2]float64) error {
	seconds := d.Seconds() / soakParts
	var errs []error
	var memory [2]float64
	answered := 0
	for i, p := range parts {
		if p.failed > 0 {
			errs = append(errs, fmt.Errorf("%d studies failed, like this: %w", p.failed, p.example))
		}
		if len(p.ms) == 0 || len(p.waits) == 0 {
			return errors.Join(append(errs, errors.New("a part of the soak without answers or without refusals: make it longer"))...)
		}
		answered += p.answered
		memory[2*i/soakParts] = max(memory[2*i/soakParts], p.memory)
		report.Printf("| %v | %d | %d | %d | %d | %.2f | %.0f | %.0f | %.0f to %.0f | %.0f |\n", time.Duration(float64(i)*seconds*float64(time.Second)).Round(time.Second),
			p.sent, p.answered, p.refused, p.failed, float64(p.answered)/seconds, paired.Quantile(p.ms, 0.5), paired.Quantile(p.ms, 0.99),
			paired.Quantile(p.waits, 0), paired.Quantile(p.waits, 1), p.memory)
	}
	mean := (peaks[0] + peaks[1]) / 2
	good := float64(answered) / d.Seconds() / mean
	report.Printf("\nPeak before %.2f/s, after %.2f/s; answered of their mean **%.3f**. Most memory in the first half %.0f MB, in the second %.0f.\n",
		peaks[0], peaks[1], good, memory[0], memory[1])
	if good < leastGood {
		errs = append(errs, fmt.Errorf("%.3f of the peak was answered: want %.2f", good, leastGood))
	}
	if memory[1] > mostGrowth*memory[0] {
		errs = append(errs, fmt.Errorf("memory grew from %.0f to %.0f MB", memory[0], memory[1]))
	}
	if err := report.Write(); err != nil {
		errs = append(errs, err)
	}
	fmt.Fprintln(os.Stderr, "soak:", map[bool]string{true: "passed", false: "failed"}[len(errs) == 0])
	return errors.Join(errs...)
}
