// Command dicom compares our decoders of pixels with pydicom (pylibjpeg, GDCM) and DCMTK on one phantom in every transfer
// syntax, and prints the tables of docs/dicom.md:
//
//	go run ./benchmarks/dicom --conformance
//	go run ./benchmarks/dicom --speed [--rows 3000 --columns 2500 --repeats 5]
//	go run ./benchmarks/dicom --reduced
//
// It needs what "make peers" installs. Each round of --speed has every reader decode every file once, so that what else the
// machine does falls on all of them.
package main

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/mvmae/mvmae/dicom/codec/external"
	"github.com/mvmae/mvmae/internal/codecprog"
	"github.com/mvmae/mvmae/internal/hint"
	"github.com/mvmae/mvmae/test/peers"
)

func main() {
	conformance := flag.Bool("conformance", false, "print what each peer says of each syntax")
	speed := flag.Bool("speed", false, "print the time that each reader takes")
	reduced := flag.Bool("reduced", false, "print what leaving out levels of JPEG 2000 saves")
	rows := flag.Int("rows", 3000, "of --speed and --reduced")
	columns := flag.Int("columns", 2500, "of --speed and --reduced")
	repeats := flag.Int("repeats", 5, "of --speed and --reduced: rounds; the least time of each counts")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	var err error
	switch {
	case *conformance && !*speed && !*reduced:
		err = with(ctx, func(p peers.Python, pool *external.Pool, dir string) error {
			return printConformance(ctx, p, pool, dir)
		})
	case *speed && !*conformance && !*reduced:
		err = with(ctx, func(p peers.Python, pool *external.Pool, dir string) error {
			return printSpeed(ctx, p, pool, dir, *rows, *columns, *repeats)
		})
	case *reduced && !*conformance && !*speed:
		err = with(ctx, func(p peers.Python, pool *external.Pool, dir string) error {
			return printReduced(ctx, p, pool, dir, *rows, *columns, *repeats)
		})
	default:
		fmt.Fprintln(os.Stderr, "error: say --conformance, --speed or --reduced")
		os.Exit(2)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		if h := hint.Of(err); h != "" {
			fmt.Fprintln(os.Stderr, "hint:", h)
		}
		os.Exit(1)
	}
}

// with finds the peers, builds mvmae-codec, and prints what the tables were made with.
func with(ctx context.Context, run func(peers.Python, *external.Pool, string) error) error {
	python, err := peers.Find()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "mvmae-dicom")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	program, complete, err := codecprog.Build(dir)
	if err != nil {
		return err
	}
	if !complete {
		return hint.Wrap(fmt.Errorf("mvmae-codec lacks a library"), `run "make codecs"`)
	}
	versions, err := python.Versions(ctx)
	if err != nil {
		return err
	}
	var names []string
	for name, version := range versions {
		names = append(names, name+" "+version)
	}
	slices.Sort(names)
	fmt.Printf("%s, %s, %d cores. %s.\n\n", time.Now().Format(time.DateOnly), runtime.Version(), runtime.NumCPU(), strings.Join(names, ", "))
	pool := external.NewPool(external.Options{Program: program})
	defer pool.Close()
	return run(python, pool, dir)
}

// printConformance prints one line per syntax, bits, colour and encoder.
func printConformance(ctx context.Context, p peers.Python, pool *external.Pool, dir string) error {
	c, err := peers.MakeCorpus(ctx, p, dir, peers.Bases(251, 187), pool.Decoders(ctx))
	if err != nil {
		return err
	}
	fmt.Println("| transfer syntax | image | encoder | its source | " + strings.Join(peers.Names, " | ") + " |")
	fmt.Println("|---|---|---|---" + strings.Repeat("|---", len(peers.Names)) + "|")
	slices.SortStableFunc(c.Results, func(a, b peers.Result) int { return cmp.Compare(a.Syntax, b.Syntax) })
	for _, r := range c.Results {
		if r.Error != "" {
			continue // the encoder could not
		}
		cells := []string{r.Arc(), r.Base, r.Encoder, difference(r.FromBase)}
		if r.Err != nil {
			cells[3] = "refused: " + r.Err.Error()
		}
		for _, peer := range peers.Names {
			d := r.FromPeer[peer]
			if d.Error != "" {
				cells = append(cells, "-")
				continue
			}
			cells = append(cells, difference(d.Max))
		}
		fmt.Println("| " + strings.Join(cells, " | ") + " |")
	}
	return nil
}

func difference(d int32) string {
	if d == 0 {
		return "equal"
	}
	return fmt.Sprintf("within %d", d)
}
