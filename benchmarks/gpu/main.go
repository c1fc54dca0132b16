// Gpu proves and measures training and serving on a GPU, on a machine that has neither Go nor a network. Here, from the
// repository's root:
//
//	go run ./benchmarks/gpu pack
//
// leaves pieces of at most 60 MiB and the script unpack in benchmarks/.work/gpu/pieces. There, with the pieces in one folder:
//
//	sh unpack DIR && DIR/gpu run
//
// runs section after section and writes one JSON, gpu.json. docs/gpu.md says more.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"

	"github.com/mvmae/mvmae/internal/hint"
	"github.com/mvmae/mvmae/train"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	err := errors.New("want pack, run or case: see docs/gpu.md")
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "pack":
			err = pack(ctx, os.Args[2:])
		case "run":
			err = run(ctx, os.Args[2:])
		case "case": // one measurement, in a process of its own
			train.KeepMemory()
			err = measure(ctx, os.Args[2:])
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		if cure := hint.Of(err); cure != "" {
			fmt.Fprintln(os.Stderr, "hint:", cure)
		}
		os.Exit(1)
	}
}
