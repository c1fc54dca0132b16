package pacs

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mvmae/mvmae/dicom/pacs/upper"
)

// Server receives associations: it answers C-ECHO, keeps what C-STORE brings, and answers storage commitment.
type Server struct {
	opt     Options
	run     string // a part of every association's ID
	serial  atomic.Int64
	reports chan struct{} // holds one for each report under way

	mu        sync.Mutex
	connected int
	second    time.Time // in which begun associations began
	begun     int
	counts    Counts
}

// NewServer checks the options.
func NewServer(opt Options) (*Server, error) {
	if opt.AETitle == "" {
		opt.AETitle = DefaultAE
	}
	if opt.Log == nil {
		opt.Log = slog.Default()
	}
	opt.Limits = opt.Limits.withDefaults()
	if err := opt.validate(); err != nil {
		return nil, fmt.Errorf("dicom server: %w", err)
	}
	return &Server{
		opt: opt, run: rand.Text()[:10], reports: make(chan struct{}, opt.Limits.Reports), counts: Counts{Refused: map[Refusal]int64{}},
	}, nil
}

// Counts says what has happened so far.
func (s *Server) Counts() Counts {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.counts
	c.Refused = maps.Clone(c.Refused)
	return c
}

func (s *Server) count(f func(*Counts)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(&s.counts)
}

// refuse logs and counts a refusal. why is whole words for whoever reads the log.
func (s *Server) refuse(log *slog.Logger, r Refusal, why string) {
	log.Warn("refused", "code", string(r), "reason", why)
	s.count(func(c *Counts) { c.Refused[r]++ })
}

// Serve answers the peers that connect to ln until ctx ends. Messages at hand are then answered, if Limits.Drain suffices,
// and the associations aborted.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	defer ln.Close()
	defer context.AfterFunc(ctx, func() { ln.Close() })()
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	var all sync.WaitGroup
	var failure error
	for failure == nil {
		nc, err := ln.Accept()
		switch {
		case ctx.Err() != nil:
			failure = ctx.Err()
		case errors.Is(err, net.ErrClosed):
			failure = err
		case err != nil: // too many open files, a connection gone already: it passes
			s.opt.Log.Error("accept a connection", "error", err)
			pause(ctx, 100*time.Millisecond)
		default:
			all.Go(func() { s.connection(ctx, work, &all, nc) })
		}
	}
	defer time.AfterFunc(s.opt.Limits.Drain, cancel).Stop()
	all.Wait()
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("dicom server: %w", failure)
}

// pause waits, and says whether ctx is still on.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// enter counts a connection in. Where there are too many, or they come too fast, it says so: there is time for a rejection in
// order. With twice as many there is not.
func (s *Server) enter() (refused Refusal, why string, hopeless bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.connected++
	now := time.Now()
	if now.Sub(s.second) >= time.Second {
		s.second, s.begun = now, 0
	}
	s.begun++
	lim := &s.opt.Limits
	switch {
	case s.connected > lim.Associations:
		return RefusedTooMany, fmt.Sprintf("there are %d associations already, the limit is %d", s.connected-1, lim.Associations), s.connected > 2*lim.Associations
	case s.begun > lim.AssociationsPerSec:
		return RefusedTooFast, fmt.Sprintf("more than %d associations in a second", lim.AssociationsPerSec), s.begun > 2*lim.AssociationsPerSec
	}
	return "", "", false
}

func (s *Server) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.connected--
}

// connection answers one peer. ctx ends when no new message is to be taken, work when none may go on.
func (s *Server) connection(ctx, work context.Context, all *sync.WaitGroup, nc net.Conn) {
	host := hostOf(nc.RemoteAddr())
	log := s.opt.Log.With("remote", host)
	refused, why, hopeless := s.enter()
	defer s.leave()
	if hopeless {
		s.refuse(log, refused, why)
		nc.Close()
		return
	}
	if s.opt.TLS != nil {
		secure := tls.Server(nc, s.opt.TLS)
		hand, cancel := context.WithTimeout(ctx, s.opt.Limits.ARTIM)
		err := secure.HandshakeContext(hand)
		cancel()
		if err != nil {
			s.refuse(log, RefusedTLS, err.Error())
			nc.Close()
			return
		}
		nc = secure
	}
	a := &association{Server: s, all: all, stop: ctx, refused: refused, why: why, log: log}
	a.id = Association{ID: fmt.Sprintf("%s-%d", s.run, s.serial.Add(1)), Remote: host}
	conn, err := upper.Accept(ctx, nc, s.opt.Limits.Timers, uint32(s.opt.Limits.PDUBytes), a.decide)
	if err != nil {
		a.notBegun(err)
		return
	}
	a.link.conn = conn
	s.count(func(c *Counts) { c.Associations++; c.Open++ })
	defer s.count(func(c *Counts) { c.Open-- })
	a.messages(ctx, work)
}

// hostOf is an address without its port.
func hostOf(a net.Addr) string {
	host, _, err := net.SplitHostPort(a.String())
	if err != nil {
		return a.String()
	}
	return host
}
