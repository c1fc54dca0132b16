package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/mvmae/mvmae/dicom"
	"github.com/mvmae/mvmae/dicom/codec/external"
	"github.com/mvmae/mvmae/test/peers"
)

// cpuTime is the user and system time of this process and of its children that have ended.
func cpuTime() (sum time.Duration) {
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
		var u syscall.Rusage
		if err := syscall.Getrusage(who, &u); err == nil {
			sum += time.Duration(u.Utime.Nano() + u.Stime.Nano())
		}
	}
	return sum
}

// printReduced prints how much processor time decoding takes with no, one and two levels of resolution left out, of the
// process from its start and of the pool: of the phantom with a real detector's noise, and with its own, which makes code streams longer.
func printReduced(ctx context.Context, p peers.Python, pool *external.Pool, dir string, rows, columns, repeats int) error {
	if err := peers.WriteBases(dir, []peers.Base{peers.Quiet(rows, columns), peers.Bases(rows, columns)[2]}); err != nil {
		return err
	}
	files, err := p.Encode(ctx, dir, dir, "90.pylibjpeg", "91.pylibjpeg", "201.openjph", "203.openjph")
	if err != nil {
		return err
	}
	fmt.Printf("%d x %d pixels of 16 bits, milliseconds of processor time (and times faster than all levels), least of %d rounds.\n\n", rows, columns, repeats)
	fmt.Println("| transfer syntax | image | MB | all levels | without one | without two |\n|---|---|---|---|---|---|")
	for _, f := range files {
		if f.Error != "" {
			return fmt.Errorf("%s: %s", f.File, f.Error)
		}
		data, err := os.ReadFile(filepath.Join(dir, f.File))
		if err != nil {
			return err
		}
		object, err := dicom.Parse(data, dicom.Limits{})
		if err != nil {
			return err
		}
		pixels, err := object.Pixels()
		if err != nil {
			return err
		}
		best := [3]time.Duration{time.Hour, time.Hour, time.Hour}
		for range repeats {
			for levels := range best {
				start := cpuTime()
				if _, err := pool.Decoders(ctx).DecodeReduced(pixels, levels); err != nil {
					return fmt.Errorf("%s: %w", f.File, err)
				}
				best[levels] = min(best[levels], cpuTime()-start)
			}
		}
		ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
		fmt.Printf("| %s %s | %s | %.1f | %.0f | %.0f (%.1f) | %.0f (%.1f) |\n", dicom.SyntaxName(f.Syntax), f.Arc(), f.Base, float64(len(data))/1e6,
			ms(best[0]), ms(best[1]), ms(best[0])/ms(best[1]), ms(best[2]), ms(best[0])/ms(best[2]))
	}
	return nil
}
