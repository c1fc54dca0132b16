package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/mvmae/mvmae/dicom"
	"github.com/mvmae/mvmae/dicom/codec/external"
	"github.com/mvmae/mvmae/test/peers"
)

const ours = "ours"

// printSpeed prints the least time per syntax and reader, by the clock and of the processor.
func printSpeed(ctx context.Context, p peers.Python, pool *external.Pool, dir string, rows, columns, repeats int) error {
	files, err := encodeEach(ctx, p, dir, rows, columns)
	if err != nil {
		return err
	}
	var paths []string
	for _, f := range files {
		paths = append(paths, f.File)
	}
	type key struct{ file, peer string }
	clock, processor := map[key]float64{}, map[key]float64{}
	least := func(of map[key]float64, k key, seconds float64) {
		if old, ok := of[k]; !ok || seconds < old {
			of[k] = seconds
		}
	}
	for range repeats {
		timings, err := p.Time(ctx, 1, paths...)
		if err != nil {
			return err
		}
		for _, path := range paths {
			start, cpu := time.Now(), cpuTime()
			if _, _, err := peers.Decode(path, pool.Decoders(ctx)); err != nil {
				return fmt.Errorf("%s: %w", filepath.Base(path), err)
			}
			timings = append(timings, peers.Timing{File: path, Peer: ours, Seconds: time.Since(start).Seconds(), CPU: (cpuTime() - cpu).Seconds()})
		}
		for _, t := range timings {
			least(clock, key{t.File, t.Peer}, t.Seconds)
			least(processor, key{t.File, t.Peer}, t.CPU)
		}
	}
	for _, table := range []struct {
		title   string
		seconds map[key]float64
	}{{"by the clock", clock}, {"of processor time", processor}} {
		fmt.Printf("%d x %d pixels, milliseconds %s (and times ours), least of %d rounds.\n\n", rows, columns, table.title, repeats)
		fmt.Println("| transfer syntax | image | ours | " + strings.Join(peers.Names, " | ") + " |")
		fmt.Println("|---|---|---" + strings.Repeat("|---", len(peers.Names)) + "|")
		for _, f := range files {
			own := table.seconds[key{f.File, ours}]
			cells := []string{dicom.SyntaxName(f.Syntax) + " " + f.Arc(), f.Base, fmt.Sprintf("%.0f", 1000*own)}
			for _, peer := range peers.Names {
				cell := "-"
				if s, ok := table.seconds[key{f.File, peer}]; ok {
					cell = fmt.Sprintf("%.0f (%.2g)", 1000*s, s/own)
				}
				cells = append(cells, cell)
			}
			fmt.Println("| " + strings.Join(cells, " | ") + " |")
		}
		fmt.Println()
	}
	return nil
}

// encodeEach makes one file of every syntax, of 12 bits, else of 16, else of 8. File is its path.
func encodeEach(ctx context.Context, p peers.Python, dir string, rows, columns int) ([]peers.File, error) {
	if err := peers.WriteBases(dir, peers.Bases(rows, columns)[:3]); err != nil {
		return nil, err
	}
	encoded := filepath.Join(dir, "encoded")
	if err := os.Mkdir(encoded, 0o777); err != nil {
		return nil, err
	}
	files, err := p.Encode(ctx, dir, encoded, "5.pylibjpeg", "50.dcmcjpeg", "51.dcmcjpeg", "57.dcmcjpeg-1", "70.dcmcjpeg", "80.dcmcjpls", "81.dcmcjpls",
		"90.gdcm", "91.pylibjpeg", "201.openjph", "203.openjph")
	if err != nil {
		return nil, err
	}
	order := map[string]int{"mono2-12": 0, "mono2-16": 1, "mono2-8": 2}
	slices.SortFunc(files, func(a, b peers.File) int {
		return cmp.Or(cmp.Compare(a.Syntax, b.Syntax), cmp.Compare(order[a.Base], order[b.Base]))
	})
	files = slices.CompactFunc(files, func(a, b peers.File) bool { return a.Syntax == b.Syntax })
	for i := range files {
		files[i].File = filepath.Join(encoded, files[i].File)
	}
	return files, nil
}
