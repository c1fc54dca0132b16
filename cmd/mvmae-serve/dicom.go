package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"time"

	"github.com/mvmae/mvmae/cmd/internal/cli"
	"github.com/mvmae/mvmae/dicom/pacs"
	"github.com/mvmae/mvmae/internal/hint"
	"github.com/mvmae/mvmae/serve"
)

// calling is the flags of a program that calls PACSs.
type calling struct {
	AETitle   string `name:"ae-title" default:"MVMAE" help:"Our AE title."`
	DICOMCert string `name:"dicom-cert" type:"existingfile" placeholder:"FILE" help:"Our certificate (PEM), for TLS. A server that has one speaks nothing else."`
	DICOMKey  string `name:"dicom-key" type:"existingfile" placeholder:"FILE" help:"Its key."`
	PACSTLS   bool   `name:"pacs-tls" help:"Speak TLS to the PACSs that we call."`
	PACSCA    string `name:"pacs-ca" type:"existingfile" placeholder:"FILE" help:"Certificates that vouch for them (default: the system's)."`
}

// node is the flags of a server that is a DICOM node.
type node struct {
	calling  `embed:""`
	DICOM    string      `name:"dicom" placeholder:"HOST:PORT" help:"Receive studies there over DICOM; port 0 takes a free one."`
	Peer     []pacs.Node `name:"peer" placeholder:"AE[@HOST:PORT]" help:"An application that may call, from HOST alone where it is given; reports of storage commitment go there. Without any, callers on this machine are let in."`
	ClientCA string      `name:"dicom-client-ca" type:"existingfile" placeholder:"FILE" help:"Peers must show a certificate that one of these vouches for."`
	Priors   pacs.Node   `name:"priors" placeholder:"AE@HOST:PORT" help:"Fetch from this PACS what is missing of a study that has arrived (C-FIND, C-MOVE)."`

	MaxAssociations int `default:"256" help:"DICOM associations at a time; more are rejected."`
}

// validate refuses flags that contradict each other.
func (n *node) validate() error {
	errs := []error{pacs.CheckAE(n.AETitle)}
	refuse := func(wrong bool, cure, format string, args ...any) {
		if wrong {
			errs = append(errs, hint.Wrap(fmt.Errorf(format, args...), "%s", cure))
		}
	}
	refuse((n.DICOMCert == "") != (n.DICOMKey == ""), "a certificate and its key go together", "--dicom-cert and --dicom-key: one is missing")
	refuse(n.ClientCA != "" && n.DICOMCert == "", "name ours with --dicom-cert and --dicom-key", "--dicom-client-ca is of no use without TLS")
	refuse(n.DICOM == "" && (len(n.Peer) > 0 || n.Priors.AE != ""), "say where to listen with --dicom", "--peer and --priors are of no use without --dicom")
	refuse(n.Priors.AE != "" && n.Priors.Host == "", "like PACS@10.0.0.5:104", "--priors has no address")
	refuse(n.MaxAssociations < 1, "", "--max-associations is too small")
	if n.DICOM != "" {
		host, _, err := net.SplitHostPort(n.DICOM)
		refuse(err != nil, "like 127.0.0.1:11112", "--dicom %s is not HOST:PORT", n.DICOM)
		refuse(err == nil && len(n.Peer) == 0 && !loopback(host), "list who may call with --peer AE or --peer AE@HOST:PORT",
			"--dicom %s is open to other machines, and nobody is listed", n.DICOM)
	}
	return errors.Join(errs...)
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// receiver is a DICOM server with its listener.
type receiver struct {
	*pacs.Server
	ln net.Listener
}

// open listens, or returns nil where --dicom is not given. Objects of more than maxBytes are refused.
func (n *node) open(ctx context.Context, archive pacs.Archive, maxBytes int64) (*receiver, error) {
	if n.DICOM == "" {
		return nil, nil
	}
	opt := pacs.Options{
		AETitle: n.AETitle, Peers: n.Peer, Archive: archive,
		Limits: pacs.Limits{Associations: n.MaxAssociations, ObjectBytes: maxBytes},
	}
	if n.Priors.AE != "" && len(n.Peer) > 0 { // who is asked to send may call
		opt.Peers = append(opt.Peers[:len(opt.Peers):len(opt.Peers)], pacs.Node{AE: n.Priors.AE, Host: n.Priors.Host, Port: n.Priors.Port})
	}
	var err error
	if opt.PeerTLS, err = n.client(); err != nil {
		return nil, err
	}
	if n.DICOMCert != "" {
		if opt.TLS, err = n.server(); err != nil {
			return nil, err
		}
	}
	server, err := pacs.NewServer(opt)
	if err != nil {
		return nil, err
	}
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", n.DICOM)
	if err != nil {
		return nil, hint.Wrap(fmt.Errorf("--dicom: %w", err), "name another port, or 0 for a free one")
	}
	slog.Info("listening for DICOM", "ae_title", n.AETitle, "address", ln.Addr().String(), "tls", opt.TLS != nil)
	return &receiver{server, ln}, nil
}

// counts says what it has done; nil for nil.
func (r *receiver) counts() func() pacs.Counts {
	if r == nil {
		return nil
	}
	return r.Counts
}

// address is where peers call, or "" for nil.
func (r *receiver) address() string {
	if r == nil {
		return ""
	}
	return r.ln.Addr().String()
}

// fetch has what is missing of a study sent here, and says how many objects that were.
type fetch = func(ctx context.Context, studyUID string) (int, error)

// fetcher makes the fetch from --priors, or nil without.
func (n *node) fetcher(archive func() pacs.Archive) (fetch, error) {
	if n.Priors.AE == "" {
		return nil, nil
	}
	secure, err := n.client()
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, studyUID string) (int, error) {
		done, err := pacs.Complete(ctx, n.Priors, pacs.ClientOptions{AETitle: n.AETitle, TLS: secure}, archive(), n.AETitle, studyUID)
		slog.Info("asked for what is missing of a study", "pacs", n.Priors.AE, "known", done.Known, "missing", done.Missing, "fetched", done.Completed, "failed", done.Failed)
		return done.Completed, err
	}, nil
}

// server is TLS as peers must speak it to us.
func (n *node) server() (*tls.Config, error) {
	c, err := serve.TLSFiles{Cert: n.DICOMCert, Key: n.DICOMKey, ClientCA: n.ClientCA}.Config()
	if err != nil {
		return nil, fmt.Errorf("--dicom-cert: %w", err)
	}
	return c, nil
}

// client is TLS as we speak it, nil without.
func (c *calling) client() (*tls.Config, error) {
	if !c.PACSTLS {
		return nil, nil
	}
	return clientTLS(c.DICOMCert, c.DICOMKey, c.PACSCA)
}

// clientTLS is TLS as we speak it, with a certificate of our own where there is one, to servers that the system's authorities or
// those of a file vouch for.
func clientTLS(cert, key, authorities string) (*tls.Config, error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if cert != "" {
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			return nil, fmt.Errorf("certificate %s: %w", cert, err)
		}
		conf.Certificates = []tls.Certificate{pair}
	}
	if authorities != "" {
		var err error
		if conf.RootCAs, err = serve.CertPool(authorities); err != nil {
			return nil, err
		}
	}
	return conf, nil
}

// echo asks a PACS whether it is there, and what it offers us.
func (c *calling) echo(ctx context.Context, to pacs.Node) (string, error) {
	if err := pacs.CheckAE(c.AETitle); err != nil {
		return "", cli.Exit(cli.ExitUsage, fmt.Errorf("--ae-title: %w", err))
	}
	secure, err := c.client()
	if err != nil {
		return "", err
	}
	start := time.Now()
	services := []struct{ class, name string }{
		{pacs.StudyRootFind, "C-FIND"}, {pacs.StudyRootMove, "C-MOVE"}, {pacs.StorageCommitment, "storage commitment"},
	}
	proposals := []pacs.Proposal{{SOPClass: pacs.Verification}}
	for _, s := range services {
		proposals = append(proposals, pacs.Proposal{SOPClass: s.class})
	}
	client, err := pacs.Dial(ctx, to, pacs.ClientOptions{AETitle: c.AETitle, TLS: secure}, proposals...)
	if err != nil {
		return "", err
	}
	defer client.Close(ctx)
	if err := client.Echo(ctx); err != nil {
		return "", fmt.Errorf("C-ECHO to %s: %w", to, err)
	}
	took := time.Since(start).Round(time.Millisecond)
	offered := []string{"C-ECHO"}
	for _, s := range services {
		if len(client.Accepted(s.class)) > 0 {
			offered = append(offered, s.name)
		}
	}
	return fmt.Sprintf("%s answered %s in %s, and offers %s", to, c.AETitle, took, strings.Join(offered, ", ")), nil
}
