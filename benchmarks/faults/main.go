// Faults kills mvmae-serve at random moments under load, and checks that every object it had accepted ends in exactly one
// current result of its study. Run it from the repository's root:
//
//	go run ./benchmarks/faults [-kills 100]
//	go run ./benchmarks/faults -cluster        two servers and a NATS cluster of three, one of the five killed at a time
//	go run ./benchmarks/faults -disk 64        a disk of 64 MiB that fills up (Linux, as root or with user namespaces)
//
// Studies have one to three small views, sent by HTTP, STOW-RS and C-STORE, some twice, some in two parts of which one is late. The model is
// a small one of random weights. It writes no report: it either ends well, with its figures on standard output, or says what was
// lost.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"

	"google.golang.org/protobuf/proto"

	"github.com/mvmae/mvmae/benchmarks/paired"
	"github.com/mvmae/mvmae/export"
	"github.com/mvmae/mvmae/export/exporttest"
	"github.com/mvmae/mvmae/model"
	"github.com/mvmae/mvmae/test/faults"
	"github.com/mvmae/mvmae/test/peers"
)

func main() {
	kills := flag.Int("kills", 100, "how many times")
	clients := flag.Int("clients", 3, "that send studies")
	seed := flag.Uint64("seed", 1, "of studies and moments")
	cluster := flag.Bool("cluster", false, "two servers that share the work over three NATS servers")
	disk := flag.Int("disk", 0, "fill a disk of so many MiB instead of killing")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	c := faults.Config{Kills: *kills, Clients: *clients, Seed: *seed, DICOM: true}
	if err := run(ctx, c, *cluster, *disk); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, c faults.Config, cluster bool, disk int) (err error) {
	if err := os.MkdirAll(paired.WorkDir, 0o755); err != nil {
		return err
	}
	if c.Dir, err = os.MkdirTemp(paired.WorkDir, "faults-"); err != nil {
		return err
	}
	defer os.RemoveAll(c.Dir)
	if c.Model, err = writeModel(); err != nil {
		return err
	}
	if c.Program, err = filepath.Abs(filepath.Join(paired.WorkDir, "mvmae-serve")); err != nil {
		return err
	}
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", c.Program, "./cmd/mvmae-serve").CombinedOutput(); err != nil {
		return fmt.Errorf("build mvmae-serve: %w\n%s", err, out)
	}
	c.Log = func(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }
	var report any
	switch {
	case disk > 0:
		report, err = faults.Fill(ctx, c, disk)
	case cluster:
		if c.NATS, err = peers.NATSServer(); err != nil {
			return err
		}
		fallthrough
	default:
		report, err = faults.Run(ctx, c)
	}
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(report)
}

// writeModel writes a model of random weights that answers in a millisecond: what is tested is everything around it.
func writeModel() (string, error) {
	spec, err := model.Preset("nano")
	if err != nil {
		return "", err
	}
	file, err := export.Build(exporttest.Metadata(spec), exporttest.Weights(spec))
	if err != nil {
		return "", err
	}
	data, err := proto.Marshal(file)
	if err != nil {
		return "", err
	}
	path := filepath.Join(paired.WorkDir, "nano.onnx")
	return path, os.WriteFile(path, data, 0o644)
}
