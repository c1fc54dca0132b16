package main

import (
	"context"
	"errors"
	"net"
	"strconv"

	"github.com/mvmae/mvmae/cmd/internal/cli"
	"github.com/mvmae/mvmae/internal/hint"
	"github.com/mvmae/mvmae/train"
	"github.com/mvmae/mvmae/train/report"
)

// WatchCmd shows a run while it is in training.
type WatchCmd struct {
	Dir  string `arg:"" name:"run" help:"Run folder, in training or at rest." type:"existingdir"`
	Port int    `help:"Port of this machine's loopback address; 0 takes a free one." default:"0"`
}

// Run serves the page until it is interrupted. What a pretraining run reconstructs is computed here, on the CPU: the run keeps its device.
func (c *WatchCmd) Run(ctx context.Context, out *cli.Output) error {
	run, err := train.OpenRun(c.Dir)
	if err != nil {
		return err
	}
	var reconstruct func() (train.Reconstruction, error)
	if run.Info.Kind == "pretrain" {
		pack, err := packOf(run, out)
		if err != nil {
			return err
		}
		defer pack.Close()
		dev, err := openDevices(out, "cpu", 1)
		if err != nil {
			return err
		}
		reconstruct = func() (train.Reconstruction, error) { return train.Reconstruct(dev, run, pack) }
	}
	ln, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(c.Port)))
	if err != nil {
		return hint.Wrap(err, "choose another --port")
	}
	url := "http://" + ln.Addr().String() + "/"
	out.Printf("%s\n", url)
	if err := out.Result(map[string]string{"url": url}); err != nil {
		return errors.Join(err, ln.Close())
	}
	return report.Watch(ctx, ln, run, reconstruct)
}
