package serve

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/mvmae/mvmae/test/peers/dimse"
)

func textLogger(w *strings.Builder) *slog.Logger { return slog.New(slog.NewTextHandler(w, nil)) }

func certificate(t *testing.T) (cert, key string) {
	t.Helper()
	cert, key, err := dimse.WriteCertificate(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

// secured starts a server on a free port and returns its address. It ends with the test.
func secured(t *testing.T, s *Server) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	stopped := make(chan error, 1)
	go func() { stopped <- s.Serve(ctx, ln) }()
	t.Cleanup(func() {
		stop()
		if err := <-stopped; err != nil {
			t.Error(err)
		}
	})
	return ln.Addr().String()
}

// askTLS is a GET over a connection of its own; status 0 is that there was no answer.
func askTLS(t *testing.T, url, ca, cert, key, token string) (status int, protocol string) {
	t.Helper()
	c := &tls.Config{}
	var err error
	if c.RootCAs, err = CertPool(ca); err != nil {
		t.Fatal(err)
	}
	if cert != "" {
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			t.Fatal(err)
		}
		// Shown even if the server did not name who must vouch for it.
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
	}
	client := http.Client{Transport: &http.Transport{TLSClientConfig: c, DisableKeepAlives: true, ForceAttemptHTTP2: true}}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := client.Do(request)
	if err != nil {
		return 0, ""
	}
	response.Body.Close()
	return response.StatusCode, response.Proto
}

func TestTLS_CertificateOrToken(t *testing.T) {
	cert, key := certificate(t)
	known, knownKey := certificate(t)
	stranger, strangerKey := certificate(t)
	tokens, _ := tokensOf(t, "pacs "+tokenA)
	config, err := TLSFiles{Cert: cert, Key: key, ClientCA: known, HTTP: true}.Config()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name             string
		tokens           *Tokens
		path             string
		cert, key, token string
		status           int
	}{
		{"health is open", nil, pathReady, "", "", "", 200},
		{"nobody", nil, pathModels, "", "", "", 401},
		{"known", nil, pathModels, known, knownKey, "", 200},
		{"a stranger", nil, pathModels, stranger, strangerKey, "", 0},
		{"a token where none is asked for", nil, pathModels, "", "", tokenA, 401},
		{"known, where tokens are too", tokens, pathModels, known, knownKey, "", 200},
		{"a token where certificates are too", tokens, pathModels, "", "", tokenA, 200},
		{"neither", tokens, pathModels, "", "", "", 401},
	} {
		address := secured(t, readyServer(t, &fakeModel{}, ServerOptions{TLS: config, Certified: true, Tokens: c.tokens}))
		if status, _ := askTLS(t, "https://"+address+c.path, cert, c.cert, c.key, c.token); status != c.status {
			t.Errorf("%s: status %d, want %d", c.name, status, c.status)
		}
	}
}

func TestTLS_FilesAreReadAgain(t *testing.T) {
	cert, key := certificate(t)
	first, err := os.ReadFile(cert)
	if err != nil {
		t.Fatal(err)
	}
	config, err := TLSFiles{Cert: cert, Key: key, HTTP: true}.Config()
	if err != nil {
		t.Fatal(err)
	}
	url := "https://" + secured(t, readyServer(t, &fakeModel{}, ServerOptions{TLS: config})) + pathLive
	if status, protocol := askTLS(t, url, cert, "", "", ""); status != 200 || protocol != "HTTP/1.1" {
		t.Errorf("status %d, %s", status, protocol)
	}
	next, nextKey := certificate(t)
	content := func(path string) string {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	old := t.TempDir() + "/old"
	replace(t, old, string(first))
	replace(t, cert, content(next))
	if status, _ := askTLS(t, url, old, "", "", ""); status != 200 {
		t.Errorf("half of the new pair: the old one is no longer shown: status %d", status)
	}
	replace(t, key, content(nextKey))
	if status, _ := askTLS(t, url, next, "", "", ""); status != 200 {
		t.Errorf("the new pair is not shown: status %d", status)
	}
	if status, _ := askTLS(t, url, old, "", "", ""); status != 0 {
		t.Errorf("the old one still is: status %d", status)
	}
}

func TestTLS_BadFilesAreNamed(t *testing.T) {
	cert, key := certificate(t)
	_, other := certificate(t)
	for _, c := range []struct {
		name  string
		files TLSFiles
		want  string
	}{
		{"no file", TLSFiles{Cert: cert + ".none", Key: key}, ".none"},
		{"another's key", TLSFiles{Cert: cert, Key: other}, "private key does not match"},
		{"no certificate", TLSFiles{Cert: cert, Key: key, ClientCA: key}, "holds no certificate"},
	} {
		if _, err := c.files.Config(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}
