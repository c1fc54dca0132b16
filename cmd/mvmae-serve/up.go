package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/mvmae/mvmae/cmd/internal/cli"
	"github.com/mvmae/mvmae/dicom"
	"github.com/mvmae/mvmae/dicom/codec/external"
	"github.com/mvmae/mvmae/internal/hint"
	"github.com/mvmae/mvmae/serve"
)

// UpCmd answers studies over HTTP until it is interrupted.
type UpCmd struct {
	Model    string `required:"" type:"path" placeholder:"FILE" help:"Model file, as mvmae-export makes it."`
	Listen   string `default:"127.0.0.1:8080" help:"Host and port; port 0 takes a free one."`
	Insecure bool   `help:"Accept callers from other machines, without asking who they are."`
	Device   string `default:"cpu" enum:"cpu,cuda,auto" help:"Where the model runs: cpu, cuda or auto."`
	accepted `embed:""`
	keeping  `embed:"" group:"Studies that are kept"`
	node     `embed:"" group:"DICOM network"`
	Check    bool `help:"Open the model and the address as up would, and leave."`

	MaxRequestMiB int64         `name:"max-request-mib" default:"512" help:"Size of a request, and of what a zip inflates to."`
	MaxFileMiB    int64         `name:"max-file-mib" default:"128" help:"Size of one object."`
	MaxFiles      int           `default:"64" help:"Objects in a request."`
	MaxMegapixels int           `default:"64" help:"Rows times columns of one image, in units of 1048576."`
	MaxStudies    int           `placeholder:"N" help:"Requests in the house at a time; more are answered with 429 (default: 4 per core)."`
	ReadTimeout   time.Duration `default:"2m" help:"How long a request's body may take to arrive."`
	DrainDelay    time.Duration `default:"1s" help:"How long to go on when told to stop, with /readyz at 503: longer than your balancer asks apart."`
}

// upDoc is what up says under --json once it is ready.
type upDoc struct {
	URL    string        `json:"url"`
	DICOM  string        `json:"dicom,omitempty"` // host and port
	Model  serve.ModelID `json:"model"`
	Device string        `json:"device"`
}

func (c *UpCmd) Run(ctx context.Context, out *cli.Output) error {
	if err := c.validate(); err != nil {
		return cli.Exit(cli.ExitUsage, err)
	}
	ln, err := serve.Listen(ctx, c.Listen, c.Insecure)
	if errors.Is(err, serve.ErrNotLoopback) {
		return cli.Exit(cli.ExitUsage, err)
	}
	if err != nil {
		return err
	}
	defer ln.Close()
	codecs := external.NewPool(external.Options{MaxSamples: c.limits().MaxPixels})
	defer codecs.Close()
	if c.Check {
		engine, err := c.open(codecs)
		if err != nil {
			return err
		}
		defer engine.Close()
		return c.announce(out, ln, nil, engine)
	}
	durable, receiver, err := c.keep(ctx)
	if err != nil {
		return err
	}
	if durable != nil {
		defer durable.Close()
	}
	server := serve.NewServer(serve.ServerOptions{
		Limits:  serve.Limits{RequestBytes: c.MaxRequestMiB << 20, FileBytes: c.MaxFileMiB << 20, Files: c.MaxFiles},
		Studies: c.MaxStudies, ReadTimeout: c.ReadTimeout, DrainDelay: c.DrainDelay, Durable: durable,
	})
	// The server answers while the model is loaded, /readyz with 503, so that whoever watches it sees that it lives.
	slog.Info("listening", "address", ln.Addr().String())
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var serving errgroup.Group
	serving.Go(func() error { return server.Serve(ctx, ln) })
	serving.Go(func() error { return receiver.serve(ctx) })
	engine, err := c.open(codecs)
	if err != nil {
		stop()
		return errors.Join(err, serving.Wait())
	}
	defer engine.Close() // last: by then every study is answered
	server.Ready(engine)
	if err := c.announce(out, ln, receiver, engine); err != nil {
		stop()
		return errors.Join(err, serving.Wait())
	}
	if durable != nil { // it works on while the server drains, then finishes what is at hand
		working, rest := context.WithCancel(context.WithoutCancel(ctx))
		var work errgroup.Group
		work.Go(func() error { defer stop(); return durable.Run(working, engine) })
		err = serving.Wait()
		rest()
		return errors.Join(err, work.Wait())
	}
	return serving.Wait()
}

// keep opens the folder of studies and the DICOM node that fills it. Each is nil where it is not asked for.
func (c *UpCmd) keep(ctx context.Context) (*serve.Durable, *receiver, error) {
	maxBytes := c.MaxFileMiB << 20
	durable, err := c.keeping.open(ctx, maxBytes, c.fetcher)
	if err != nil || durable == nil {
		return nil, nil, err
	}
	receiver, err := c.node.open(ctx, durable.Archive(), maxBytes)
	if err != nil {
		durable.Close()
		return nil, nil, err
	}
	return durable, receiver, nil
}

func (c *UpCmd) open(codecs *external.Pool) (*serve.Engine, error) {
	return serve.Open(c.Model, serve.Options{Device: c.Device, DICOM: c.limits(), Codecs: codecs, Modalities: c.Modalities})
}

// limits are those of one object. The size holds for what a deflated one inflates to as well.
func (c *UpCmd) limits() dicom.Limits {
	lim := dicom.DefaultLimits()
	lim.MaxBytes, lim.MaxPixels = int(c.MaxFileMiB)<<20, c.MaxMegapixels<<20
	return lim
}

func (c *UpCmd) announce(out *cli.Output, ln net.Listener, receiver *receiver, engine *serve.Engine) error {
	m := engine.Model()
	slog.Info("ready", "model", m.Name, "version", m.Version, "sha256", m.SHA256, "device", engine.Device())
	url := "http://" + ln.Addr().String()
	out.Printf("%s\n", url)
	return out.Result(upDoc{URL: url, DICOM: receiver.address(), Model: m, Device: engine.Device()})
}

// validate refuses limits that no request could keep.
func (c *UpCmd) validate() error {
	var errs []error
	for _, f := range []struct {
		flag  string
		value int64
		least int64
	}{
		{"--max-request-mib", c.MaxRequestMiB, 1}, {"--max-file-mib", c.MaxFileMiB, 1}, {"--max-files", int64(c.MaxFiles), 1},
		{"--max-megapixels", int64(c.MaxMegapixels), 1}, {"--max-studies", int64(c.MaxStudies), 0}, {"--read-timeout", int64(c.ReadTimeout), 1},
		{"--drain-delay", int64(c.DrainDelay), 0},
	} {
		if f.value < f.least {
			errs = append(errs, errors.New(f.flag+" is too small"))
		}
	}
	if c.DICOM != "" && c.Data == "" {
		errs = append(errs, hint.Wrap(errors.New("--dicom is of no use without --data"), "name the folder that keeps the studies with --data"))
	}
	return errors.Join(append(errs, c.keeping.validate(), c.node.validate())...)
}
