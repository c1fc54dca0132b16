package main

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"os"

	"github.com/mvmae/mvmae/internal/hint"
	"github.com/mvmae/mvmae/serve"
)

// guarding is the flags of who may call a server, and of what is noted of it.
type guarding struct {
	TLSCert  string `name:"tls-cert" type:"existingfile" placeholder:"FILE" help:"Speak TLS, with this certificate (PEM)."`
	TLSKey   string `name:"tls-key" type:"existingfile" placeholder:"FILE" help:"Its key."`
	CallerCA string `name:"client-ca" type:"existingfile" placeholder:"FILE" help:"Let callers in whose certificate one of these vouches for."`
	Tokens   string `type:"existingfile" placeholder:"FILE" help:"Let callers in who send one of these tokens. A line is NAME TOKEN [requests=N] [rate=N]; sha256:HEX may stand for a token."`
	Insecure bool   `help:"Accept callers from other machines, without asking who they are."`
	Audit    string `type:"path" placeholder:"FILE" help:"Append a line there for every request and outcome; what cannot be noted is not answered."`
	UIDKey   string `name:"uid-key-file" type:"existingfile" placeholder:"FILE" help:"File with a secret that keys the hashes of UIDs in log, audit log and traces."`
}

// guards are what the flags name, opened.
type guards struct {
	tls    *tls.Config
	tokens *serve.Tokens
	audit  *serve.Audit
	uidKey serve.UIDKey
}

// asks says whether callers must say who they are.
func (g *guarding) asks() bool { return g.CallerCA != "" || g.Tokens != "" }

func (g *guarding) validate() error {
	switch {
	case (g.TLSCert == "") != (g.TLSKey == ""):
		return hint.Wrap(errors.New("--tls-cert and --tls-key: one is missing"), "a certificate and its key go together")
	case g.CallerCA != "" && g.TLSCert == "":
		return hint.Wrap(errors.New("--client-ca is of no use without TLS"), "name the server's certificate with --tls-cert and --tls-key")
	}
	_, err := secret("--uid-key-file", g.UIDKey)
	return err
}

// secret reads the file that a flag names: nothing where it is not given, else as much as nobody guesses.
func secret(flag, path string) ([]byte, error) {
	if path == "" {
		return nil, nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", flag, err)
	}
	text = bytes.TrimSpace(text)
	if len(text) < serve.MinSecretBytes {
		return nil, hint.Wrap(fmt.Errorf("%s: the secret has fewer than %d bytes", flag, serve.MinSecretBytes), "openssl rand -hex 32 > FILE")
	}
	return text, nil
}

func (g *guarding) secure() (*tls.Config, error) {
	if g.TLSCert == "" {
		return nil, nil
	}
	c, err := serve.TLSFiles{Cert: g.TLSCert, Key: g.TLSKey, ClientCA: g.CallerCA, HTTP: true}.Config()
	if err != nil {
		return nil, fmt.Errorf("--tls-cert: %w", err)
	}
	return c, nil
}

func (g *guarding) known() (*serve.Tokens, error) {
	if g.Tokens == "" {
		return nil, nil
	}
	return serve.OpenTokens(g.Tokens)
}

func (g *guarding) log() (*serve.Audit, error) {
	if g.Audit == "" {
		return nil, nil
	}
	return serve.OpenAudit(g.Audit)
}

// open opens all of it; audit is to be closed.
func (g *guarding) open() (opened guards, err error) {
	if opened.tls, err = g.secure(); err != nil {
		return guards{}, err
	}
	if opened.tokens, err = g.known(); err != nil {
		return guards{}, err
	}
	if opened.uidKey, err = secret("--uid-key-file", g.UIDKey); err != nil {
		return guards{}, err
	}
	opened.audit, err = g.log()
	return opened, err
}
