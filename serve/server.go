package serve

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/mvmae/mvmae/dicom/pacs"
	"github.com/mvmae/mvmae/internal/hint"
)

// ServerOptions bound what callers can do to a Server. Zero values mean the defaults.
type ServerOptions struct {
	Limits Limits
	// Studies is how many requests are in the house at a time, being read, waiting or worked on; more are answered with 429.
	// Each holds no more than the file that is arriving; a zip archive is on disk, in the folder for temporary files.
	// Default 4 per core.
	Studies int
	// ReadTimeout is how long the server may wait for a request to arrive; neither the time to answer it counts, nor that in
	// which the server is too busy to read on. Default 2 minutes.
	ReadTimeout time.Duration
	// DrainDelay is how long the server goes on taking in studies after it was told to stop, with /readyz at 503, so that a
	// balancer sees it and sends no more. 0 is none.
	DrainDelay time.Duration
	// Models answer. Without any that is loaded the server is not ready. They stay the caller's to close, after Serve.
	Models *Models
	// TLS is what Serve speaks, by TLSFiles; nil is none.
	TLS *tls.Config
	// Certified and Tokens ask callers who they are: by a certificate that TLS verifies, or a token; where both are asked for either
	// will do. Without them everybody may call.
	Certified bool
	Tokens    *Tokens
	// Audit notes every request; what cannot be noted is not answered. nil is none.
	Audit *Audit
	// UIDKey names studies in the log, the audit log and spans.
	UIDKey UIDKey
	// Durable takes studies in for good; without it POST /v1/studies and its kin are refused. It stays the caller's to run.
	Durable *Durable
	// DICOM, where there is a DICOM node beside the server, is what it has done, for the metrics.
	DICOM func() pacs.Counts
	// Telemetry counts and traces; without it metrics are of this server alone. It stays the caller's to close.
	Telemetry *Telemetry
	Logger    *slog.Logger // default slog.Default()
}

func (o ServerOptions) withDefaults() ServerOptions {
	d := DefaultLimits()
	if o.Limits.RequestBytes == 0 {
		o.Limits.RequestBytes = d.RequestBytes
	}
	if o.Limits.FileBytes == 0 {
		o.Limits.FileBytes = d.FileBytes
	}
	if o.Limits.Files == 0 {
		o.Limits.Files = d.Files
	}
	if o.Studies == 0 {
		o.Studies = 4 * runtime.GOMAXPROCS(0)
	}
	if o.ReadTimeout == 0 {
		o.ReadTimeout = 2 * time.Minute
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Telemetry == nil {
		o.Telemetry = newMetrics()
	}
	if o.Models == nil {
		o.Models = NewModels(ModelsOptions{})
	}
	return o
}

// What a connection may cost before and between requests, and to hear its answer.
const (
	headerTimeout  = 10 * time.Second
	idleTimeout    = 2 * time.Minute
	writeTimeout   = 30 * time.Second
	maxHeaderBytes = 64 << 10
)

// Server answers studies over HTTP. It is not ready until its models are loaded.
type Server struct {
	opts     ServerOptions
	handler  http.Handler
	house    chan struct{} // one place per study that is answered
	intake   chan struct{} // one place per study that arrives to be kept
	buffers  chan []byte   // for files, one per core
	urgent   chan struct{} // some places more, for urgent ones where either is full
	answers  meter         // of house
	takes    meter         // of intake
	draining atomic.Bool   // told to stop
	stopped  atomic.Bool   // takes in no more studies
}

// NewServer makes a Server that answers 503 until its models are loaded.
func NewServer(opts ServerOptions) *Server {
	s := &Server{opts: opts.withDefaults()}
	s.house, s.intake = make(chan struct{}, s.opts.Studies), make(chan struct{}, s.opts.Studies)
	s.urgent = make(chan struct{}, (s.opts.Studies+3)/4)
	s.buffers = make(chan []byte, runtime.GOMAXPROCS(0))
	s.handler = s.routes()
	return s
}

// Handler is all of the server's routes.
func (s *Server) Handler() http.Handler { return s.handler }

// Serve answers requests until ctx ends. Then it stops being ready; after DrainDelay it takes in no more studies, answers
// every one that it took in, and returns nil.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	lasting := context.WithoutCancel(ctx) // a study that was taken in outlives ctx
	srv := &http.Server{
		Handler: s.handler, ReadHeaderTimeout: headerTimeout, ReadTimeout: s.opts.ReadTimeout,
		IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeaderBytes,
		BaseContext: func(net.Listener) context.Context { return lasting },
		ErrorLog:    slog.NewLogLogger(s.opts.Logger.Handler(), slog.LevelDebug),
	}
	if s.opts.TLS != nil {
		ln = tls.NewListener(ln, s.opts.TLS)
	}
	stopped := make(chan error, 1)
	go func() { stopped <- srv.Serve(ln) }()
	select {
	case err := <-stopped:
		return fmt.Errorf("serve %s: %w", ln.Addr(), err)
	case <-ctx.Done():
	}
	s.draining.Store(true)
	s.opts.Logger.Info("draining", "delay", s.opts.DrainDelay)
	select {
	case err := <-stopped:
		return fmt.Errorf("serve %s: %w", ln.Addr(), err)
	case <-time.After(s.opts.DrainDelay):
	}
	s.stopped.Store(true)
	s.opts.Logger.Info("stopping", "studies_in_progress", len(s.house))
	if s.opts.Durable != nil {
		s.opts.Durable.hub.close() // streams of events would last for ever
	}
	err := srv.Shutdown(lasting)
	<-stopped
	return err
}

// ErrNotLoopback is the error of Listen for an address that others than this machine can reach.
var ErrNotLoopback = errors.New("address is not a loopback address")

// Listen opens addr ("127.0.0.1:8080"; port 0 lets the system choose). An address that is not of the loopback interface is refused
// unless open is set: because callers must say who they are, or because the operator wants everybody let in.
func Listen(ctx context.Context, addr string, open bool) (net.Listener, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, hint.Wrap(fmt.Errorf("listen on %s: %w", addr, err), "write host and port, like 127.0.0.1:8080")
	}
	if !open {
		// The name is looked up once: what is checked is what is listened on.
		ips, err := lookup(ctx, host)
		if err != nil {
			return nil, fmt.Errorf("listen on %s: %w", addr, err)
		}
		for _, ip := range ips {
			if !ip.Unmap().IsLoopback() {
				return nil, hint.Wrap(fmt.Errorf("listen on %s: %w", addr, ErrNotLoopback),
					"ask callers who they are with --tokens or --client-ca, keep to 127.0.0.1, or accept every caller with --insecure")
			}
		}
		host = ips[0].String()
	}
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort(host, port))
	var op *net.OpError
	if errors.As(err, &op) {
		return nil, hint.Wrap(fmt.Errorf("listen on %s: %w", addr, op.Err), "choose another address with --listen; port 0 takes a free one")
	}
	return ln, err
}

func lookup(ctx context.Context, host string) ([]netip.Addr, error) {
	if host == "" { // every interface
		return []netip.Addr{netip.IPv6Unspecified()}, nil
	}
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err == nil && len(ips) == 0 {
		err = errors.New("the host has no address")
	}
	return ips, err
}
