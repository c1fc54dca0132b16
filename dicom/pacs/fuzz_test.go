package pacs_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/mvmae/mvmae/dicom"
	"github.com/mvmae/mvmae/dicom/pacs"
)

// script is a connection on which a peer says something and goes. What it is told is lost.
type script struct{ said *bytes.Reader }

func (s script) Read(b []byte) (int, error)       { return s.said.Read(b) }
func (s script) Write(b []byte) (int, error)      { return len(b), nil }
func (s script) Close() error                     { return nil }
func (s script) LocalAddr() net.Addr              { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)} }
func (s script) RemoteAddr() net.Addr             { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)} }
func (s script) SetDeadline(time.Time) error      { return nil }
func (s script) SetReadDeadline(time.Time) error  { return nil }
func (s script) SetWriteDeadline(time.Time) error { return nil }

// once is a listener to which one peer comes.
type once struct{ conns chan net.Conn }

func (o once) Accept() (net.Conn, error) {
	if c, ok := <-o.conns; ok {
		return c, nil
	}
	return nil, net.ErrClosed
}
func (o once) Close() error   { return nil }
func (o once) Addr() net.Addr { return &net.TCPAddr{} }

// recorder notes what peers say to a server.
type recorder struct {
	net.Listener
	mu   sync.Mutex
	said [][]byte
}

func (r *recorder) Accept() (net.Conn, error) {
	nc, err := r.Listener.Accept()
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.said = append(r.said, nil)
	return &recorded{nc, r, len(r.said) - 1}, nil
}

type recorded struct {
	net.Conn
	r *recorder
	i int
}

func (c *recorded) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.r.mu.Lock()
	defer c.r.mu.Unlock()
	c.r.said[c.i] = append(c.r.said[c.i], b[:n]...)
	return n, err
}

// sessions are what peers say who behave: echo, objects in several syntaxes, a request for commitment, a report.
func sessions(f *testing.F) [][]byte {
	f.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		f.Fatal(err)
	}
	rec := &recorder{Listener: ln}
	server, err := pacs.NewServer(pacs.Options{Archive: newMemory(), Committed: func(context.Context, string, pacs.Commitment) {}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		f.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- server.Serve(ctx, rec) }()
	node := pacs.Node{AE: "MVMAE", Host: "127.0.0.1", Port: ln.Addr().(*net.TCPAddr).Port}
	dial := func(does func(*pacs.Client) error, p ...pacs.Proposal) {
		c, err := pacs.Dial(ctx, node, pacs.ClientOptions{}, p...)
		if err != nil {
			f.Fatal(err)
		}
		if err := does(c); err != nil {
			f.Fatal(err)
		}
		c.Close(ctx)
	}
	dial(func(c *pacs.Client) error { return c.Echo(ctx) }, pacs.Proposal{SOPClass: pacs.Verification})
	dial(func(c *pacs.Client) error { return c.Store(ctx, bytes.NewReader(object(f, "1.2.3.1", 256))) },
		pacs.Proposal{SOPClass: digitalXRay, TransferSyntaxes: []string{dicom.ExplicitVRLittleEndian}})
	dial(func(c *pacs.Client) error {
		// Without an address to report to the answer is a refusal, which is as good here.
		c.RequestCommitment(ctx, "1.2.99", []pacs.Reference{{SOPClassUID: digitalXRay, SOPInstanceUID: "1.2.3.1"}})
		return nil
	}, pacs.Proposal{SOPClass: pacs.StorageCommitment})
	dial(func(*pacs.Client) error { return nil }, pacs.Proposal{SOPClass: pacs.StorageCommitment, SCP: true})
	cancel()
	if err := <-ended; err != nil {
		f.Fatal(err)
	}
	return rec.said
}

// FuzzServer has a peer say anything. The server must end, keep no more than was sent, and count what it keeps.
func FuzzServer(f *testing.F) {
	for _, said := range sessions(f) {
		f.Add(said)
	}
	f.Fuzz(func(t *testing.T, said []byte) {
		m := &measuring{}
		server, err := pacs.NewServer(pacs.Options{
			Archive: m, Peers: []pacs.Node{{AE: "MVMAE", Host: "127.0.0.1", Port: 1}}, Log: slog.New(slog.DiscardHandler),
			Committed: func(context.Context, string, pacs.Commitment) {},
			Limits:    pacs.Limits{ObjectBytes: 1 << 16, Retry: []time.Duration{}},
		})
		if err != nil {
			t.Fatal(err)
		}
		conns := make(chan net.Conn, 1)
		conns <- script{bytes.NewReader(said)}
		close(conns)
		server.Serve(t.Context(), once{conns})
		counts := server.Counts()
		if m.kept != counts.Objects || counts.Bytes > int64(len(said)) || counts.Open != 0 {
			t.Errorf("kept %d, counts %+v, of %d bytes", m.kept, counts, len(said))
		}
	})
}

// measuring is an archive that only counts.
type measuring struct{ kept int64 }

func (m *measuring) Keep(_ context.Context, _ pacs.Object, r io.Reader) error {
	if _, err := io.Copy(io.Discard, r); err != nil {
		return err
	}
	m.kept++
	return nil
}

func (m *measuring) Holds(context.Context, string, string) (bool, error) { return true, nil }
func (m *measuring) Released(context.Context, pacs.Association)          {}
