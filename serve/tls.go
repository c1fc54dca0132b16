package serve

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"

	"github.com/mvmae/mvmae/internal/hint"
)

// TLSFiles are the PEM files of a server that speaks TLS. They may change while it runs.
type TLSFiles struct {
	Cert, Key string
	ClientCA  string // vouches for callers' certificates; "" is that nobody is asked for one
	// HTTP is TLS for a Server: what a caller without a certificate may do is for each route to say.
	HTTP bool
}

// Config is TLS as callers must speak it, by the files as they are at each handshake: TLS 1.2 is the least, as PS3.15 B.9 has it.
func (f TLSFiles) Config() (*tls.Config, error) {
	files, err := watch(func(*tls.Config) (*tls.Config, error) { return f.load() }, f.Cert, f.Key, f.ClientCA)
	if err != nil {
		return nil, err
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return files.get(), nil }}, nil
}

func (f TLSFiles) load() (*tls.Config, error) {
	cert, err := tls.LoadX509KeyPair(f.Cert, f.Key)
	if err != nil {
		return nil, hint.Wrap(fmt.Errorf("certificate %s: %w", f.Cert, err), "both must be PEM files, and the key that of the certificate")
	}
	c := &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
	if f.HTTP {
		c.NextProtos = []string{"http/1.1"}
	}
	if f.ClientCA == "" {
		return c, nil
	}
	if c.ClientCAs, err = CertPool(f.ClientCA); err != nil {
		return nil, err
	}
	c.ClientAuth = tls.RequireAndVerifyClientCert
	if f.HTTP {
		c.ClientAuth = tls.VerifyClientCertIfGiven
	}
	return c, nil
}

// CertPool reads certificates that vouch for others.
func CertPool(path string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	p := x509.NewCertPool()
	if !p.AppendCertsFromPEM(pem) {
		return nil, hint.Wrap(fmt.Errorf("%s holds no certificate", path), "it must be a PEM file")
	}
	return p, nil
}

var errNoName = errors.New("the certificate names nobody")

// certifiedName is whom a certificate is of: its common name, else the first of its other names.
func certifiedName(c *x509.Certificate) (string, error) {
	names := append([]string{c.Subject.CommonName}, c.DNSNames...)
	names = append(names, c.EmailAddresses...)
	for _, u := range c.URIs {
		names = append(names, u.String())
	}
	for _, name := range names {
		if name != "" {
			return name, nil
		}
	}
	return "", errNoName
}
