package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
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
	configured `embed:""`
	serving    `embed:""`
	Listen     string `default:"127.0.0.1:8080" help:"Host and port; port 0 takes a free one."`
	guarding   `embed:"" group:"Who may call"`
	device     `embed:"" group:"How the model is run"`
	accepted   `embed:""`
	keeping    `embed:"" group:"Studies that are kept"`
	node       `embed:"" group:"DICOM network"`
	Check      bool `help:"Try all that up would need, say what is missing, and leave."`

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

// gcPercent is how much garbage may gather, in percent of what is in use. That is a few large pieces, the objects that arrive, and
// looking through them costs next to nothing: with eight callers of 17 MB a server has 340 MB instead of 369.
const gcPercent = 25

func (c *UpCmd) Run(ctx context.Context, out *cli.Output) error {
	if err := c.validate(); err != nil {
		return cli.Exit(cli.ExitUsage, err)
	}
	if c.Check {
		return c.check(ctx, out)
	}
	ln, err := c.listen(ctx)
	if err != nil {
		return err
	}
	defer ln.Close()
	guards, err := c.guarding.open()
	if err != nil {
		return err
	}
	defer guards.audit.Close()
	telemetry, err := serve.NewTelemetry(ctx)
	if err != nil {
		return cli.Exit(cli.ExitUsage, err)
	}
	defer func() {
		if err := telemetry.Close(ctx); err != nil {
			slog.Warn("OpenTelemetry", "error", err)
		}
	}()
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	codecs := external.NewPool(external.Options{MaxSamples: c.limits().MaxPixels})
	defer codecs.Close()
	engine := c.engine(codecs)
	engine.Observe = telemetry.Observe
	models := c.models(engine, slog.Default())
	defer models.Close() // last: by then every study is answered
	durable, receiver, err := c.keep(ctx, serve.DurableOptions{MaxBytes: c.MaxFileMiB << 20, Audit: guards.audit, UIDKey: guards.uidKey, Telemetry: telemetry})
	if err != nil && ctx.Err() != nil { // told to stop before it began
		return nil
	}
	if err != nil {
		return err
	}
	if durable != nil {
		defer durable.Close()
	}
	server := serve.NewServer(serve.ServerOptions{
		Limits:  serve.Limits{RequestBytes: c.MaxRequestMiB << 20, FileBytes: c.MaxFileMiB << 20, Files: c.MaxFiles},
		Studies: c.MaxStudies, ReadTimeout: c.ReadTimeout, DrainDelay: c.DrainDelay, Models: models, Durable: durable,
		Telemetry: telemetry, DICOM: receiver.counts(),
		TLS: guards.tls, Certified: c.CallerCA != "", Tokens: guards.tokens, Audit: guards.audit, UIDKey: guards.uidKey,
	})
	return (&station{server, ln, receiver, models, durable}).run(ctx, func() error { return c.ready(out, ln, receiver, models) })
}

// station is a server with all that it listens on and works with.
type station struct {
	server   *serve.Server
	ln       net.Listener
	receiver *receiver // nil without a DICOM node
	models   *serve.Models
	durable  *serve.Durable // nil where nothing is kept
}

// run serves until ctx ends, or one of the listeners fails: without it there is no use in the rest. load loads the models, while the
// server answers already, /readyz with 503, so that whoever watches it sees that it lives.
func (s *station) run(ctx context.Context, load func() error) error {
	slog.Info("listening", "address", s.ln.Addr().String())
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	hangup := make(chan os.Signal, 1) // from before the first model is loaded on: nobody is ended by it
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	var serving errgroup.Group
	serving.Go(func() error { defer stop(); return s.server.Serve(ctx, s.ln) })
	if s.receiver != nil {
		serving.Go(func() error { defer stop(); return s.receiver.Serve(ctx, s.receiver.ln) })
	}
	serving.Go(func() error { reload(ctx, hangup, s.models); return nil })
	if err := load(); err != nil {
		stop()
		return errors.Join(err, serving.Wait())
	}
	serving.Go(func() error { s.models.Run(ctx); return nil })
	if s.durable == nil {
		return serving.Wait()
	}
	// It works on while the server drains, then finishes what is at hand.
	working, rest := context.WithCancel(context.WithoutCancel(ctx))
	var work errgroup.Group
	work.Go(func() error { defer stop(); return s.durable.Run(working, s.models) })
	err := serving.Wait()
	rest()
	return errors.Join(err, work.Wait())
}

func (c *UpCmd) listen(ctx context.Context) (net.Listener, error) {
	ln, err := serve.Listen(ctx, c.Listen, c.Insecure || c.asks())
	if errors.Is(err, serve.ErrNotLoopback) {
		err = cli.Exit(cli.ExitUsage, err)
	}
	return ln, err
}

// keep opens the folder of studies and the DICOM node that fills it. Each is nil where it is not asked for.
func (c *UpCmd) keep(ctx context.Context, opts serve.DurableOptions) (*serve.Durable, *receiver, error) {
	durable, err := c.keeping.open(ctx, opts, c.fetcher)
	if err != nil || durable == nil {
		return nil, nil, err
	}
	receiver, err := c.node.open(ctx, durable.Archive(), opts.MaxBytes)
	if err != nil {
		durable.Close()
		return nil, nil, err
	}
	return durable, receiver, nil
}

// engine is how each model is run.
func (c *UpCmd) engine(codecs *external.Pool) serve.Options {
	opts := c.device.options()
	opts.DICOM, opts.Codecs, opts.Modalities = c.limits(), codecs, c.Modalities
	return opts
}

// limits are those of one object. The size holds for what a deflated one inflates to as well.
func (c *UpCmd) limits() dicom.Limits {
	lim := dicom.DefaultLimits()
	lim.MaxBytes, lim.MaxPixels = int(c.MaxFileMiB)<<20, c.MaxMegapixels<<20
	return lim
}

// reload looks at the model files whenever SIGHUP comes, until ctx ends. Tokens, certificates and the audit log need no signal.
func reload(ctx context.Context, hangup <-chan os.Signal, models *serve.Models) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-hangup:
			slog.Info("look for models")
			if err := models.Reload(); err != nil {
				slog.Error("look for models", "error", err)
			}
		}
	}
}

// ready loads the models, and says so.
func (c *UpCmd) ready(out *cli.Output, ln net.Listener, receiver *receiver, models *serve.Models) error {
	if err := models.Load(); err != nil {
		return err
	}
	engine, release, err := models.Use("", "")
	if err != nil {
		return err
	}
	defer release()
	m := engine.Model()
	slog.Info("ready", "model", m.Name, "version", m.Version, "sha256", m.SHA256, "device", engine.Device())
	scheme := "http://"
	if c.TLSCert != "" {
		scheme = "https://"
	}
	url := scheme + ln.Addr().String()
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
	return errors.Join(append(errs, c.serving.validate(), c.device.validate(), c.guarding.validate(), c.keeping.validate(), c.node.validate())...)
}
