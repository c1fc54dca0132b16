package pacs_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mvmae/mvmae/dicom/pacs"
	"github.com/mvmae/mvmae/dicom/pacs/upper"
	"github.com/mvmae/mvmae/internal/hint"
	"github.com/mvmae/mvmae/test/peers/dimse"
)

func TestServer_LetsInWhoIsListed(t *testing.T) {
	s := start(t, pacs.Options{AETitle: "CXR", Peers: []pacs.Node{
		{AE: "LISTED"}, {AE: "HERE", Host: "localhost", Port: 1}, {AE: "ELSEWHERE", Host: "192.0.2.1", Port: 104},
	}})
	for _, c := range []struct {
		name, calling, called string
		rejection             *upper.Rejection
		code                  pacs.Refusal
		log, cure             string
	}{
		{name: "listed", calling: "LISTED", called: "CXR"},
		{name: "listed with this host", calling: "HERE", called: "CXR"},
		{"unknown", "STRANGER", "CXR", &upper.RejectCallingAE, pacs.RefusedCaller,
			`the calling AE title \"STRANGER\" is not among the peers listed`, "list AE title STRANGER, with this machine's address, among the applications that CXR knows"},
		{"from elsewhere", "ELSEWHERE", "CXR", &upper.RejectCallingAE, pacs.RefusedHost,
			`\"ELSEWHERE\" is listed, but not with the address 127.0.0.1`, "list AE title"},
		{"for somebody else", "LISTED", "PACS", &upper.RejectCalledAE, pacs.RefusedCalled,
			`it calls \"PACS\", but we are \"CXR\"`, "PACS is not the AE title that listens there"},
	} {
		node := s.node
		node.AE = c.called
		client, err := pacs.Dial(t.Context(), node, pacs.ClientOptions{AETitle: c.calling}, pacs.Proposal{SOPClass: pacs.Verification})
		if c.rejection == nil {
			if err != nil {
				t.Errorf("%s: %v", c.name, err)
				continue
			}
			client.Close(t.Context())
			continue
		}
		var rejection *upper.Rejection
		if !errors.As(err, &rejection) || *rejection != *c.rejection {
			t.Errorf("%s: %v", c.name, err)
		}
		if cure := hint.Of(err); !strings.Contains(cure, c.cure) {
			t.Errorf("%s: hint %q", c.name, cure)
		}
		// The caller hears of it before the log does; the connection that Serve waits for ends after both.
		for s.Counts().Refused[c.code] == 0 {
			runtime.Gosched()
		}
		if !strings.Contains(s.log.String(), "code="+string(c.code)+" reason=\""+c.log) {
			t.Errorf("%s: the log does not give the reason\n%s", c.name, s.log.String())
		}
	}
}

// outside is a caller from another machine.
type outside struct{ net.Conn }

func (outside) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 7), Port: 40000} }

func TestServer_WithoutListNobodyFromElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln := newPipeListener()
		s := startOn(t, ln, pacs.Options{})
		ours, theirs := net.Pipe()
		ln.conns <- outside{theirs}
		_, err := upper.Request(t.Context(), ours, upper.Timers{}, 1<<14, &upper.Associate{CalledAE: "MVMAE", CallingAE: "X"})
		var rejection *upper.Rejection
		if !errors.As(err, &rejection) || *rejection != upper.RejectCallingAE {
			t.Errorf("error %v", err)
		}
		s.stop()
		if !strings.Contains(s.log.String(), "callers on this machine alone") {
			t.Errorf("the log does not say why\n%s", s.log.String())
		}
	})
}

// pipeListener hands over connections that are made in memory, so that synctest's clock holds for them.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
}

func newPipeListener() *pipeListener {
	return &pipeListener{make(chan net.Conn), make(chan struct{})}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	select {
	case <-l.closed:
	default:
		close(l.closed)
	}
	return nil
}

func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{} }

func TestServer_CapsAssociationsAndTheirRate(t *testing.T) {
	t.Run("number", func(t *testing.T) {
		s := start(t, pacs.Options{Limits: pacs.Limits{Associations: 2}})
		first, second := s.mustDial(t), s.mustDial(t)
		_, err := s.dial(t, pacs.ClientOptions{})
		var rejection *upper.Rejection
		if !errors.As(err, &rejection) || *rejection != upper.RejectCongestion {
			t.Errorf("the third got %v", err)
		}
		first.Close(t.Context())
		second.Close(t.Context())
		s.stop()
		if n := s.Counts().Refused[pacs.RefusedTooMany]; n != 1 {
			t.Errorf("counted %d", n)
		}
	})
	t.Run("rate", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			ln := newPipeListener()
			s := startOn(t, ln, pacs.Options{Limits: pacs.Limits{AssociationsPerSec: 3}})
			try := func() error {
				ours, theirs := net.Pipe()
				ln.conns <- theirs
				c, err := upper.Request(t.Context(), ours, upper.Timers{}, 1<<14, &upper.Associate{CalledAE: "MVMAE", CallingAE: "X"})
				if err == nil {
					err = c.Release(t.Context())
				}
				return err
			}
			refused := 0
			for range 9 {
				if try() != nil {
					refused++
				}
			}
			if refused != 6 {
				t.Errorf("of 9 in a second %d were refused, want 6", refused)
			}
			time.Sleep(time.Second) // of synctest's clock
			if err := try(); err != nil {
				t.Errorf("a second later: %v", err)
			}
			s.stop()
			if n := s.Counts().Refused[pacs.RefusedTooFast]; n != 6 {
				t.Errorf("counted %d", n)
			}
		})
	})
}

// Two hundred associations that do nothing neither keep others out nor take much memory.
func TestServer_Carries200IdleAssociations(t *testing.T) {
	s := start(t, pacs.Options{Limits: pacs.Limits{AssociationsPerSec: 1000}})
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc + m.StackInuse
	}
	before := heap()
	var idle []*pacs.Client
	for range 200 {
		idle = append(idle, s.mustDial(t))
	}
	if grown := int64(heap()-before) / 200; grown > 64<<10 { // both ends
		t.Errorf("an idle association takes %d bytes", grown)
	}
	c := s.mustDial(t)
	if err := c.Store(t.Context(), bytes.NewReader(object(t, "1.2.3.1", 1<<20))); err != nil {
		t.Errorf("beside 200 idle ones: %v", err)
	}
	for _, c := range append(idle, c) {
		if err := c.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

func TestServer_SlowSenders(t *testing.T) {
	for _, c := range []struct {
		name  string
		pause time.Duration // before each fragment
		kept  bool
	}{
		{"slow, within the limits", 20 * time.Second, true},
		{"a fragment that does not come", 61 * time.Second, false},
		{"an object that takes too long", 59 * time.Second, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ln := newPipeListener()
				s := startOn(t, ln, pacs.Options{})
				ours, theirs := net.Pipe()
				ln.conns <- theirs
				conn := associate(t, ours)
				command := storeCommand("1.2.3.1", 0)
				if err := conn.Send(t.Context(), upper.PDV{ContextID: 1, Command: true, Last: true, Data: command}); err != nil {
					t.Fatal(err)
				}
				var err error
				const fragments = 40
				for i := 0; i < fragments && err == nil; i++ {
					time.Sleep(c.pause) // of synctest's clock
					err = conn.Send(t.Context(), upper.PDV{ContextID: 1, Last: i == fragments-1, Data: []byte("data")})
				}
				conn.Receive(t.Context(), time.Minute) // the response, or the abort
				conn.Close()
				s.stop()
				if _, kept := s.objects["1.2.3.1"]; kept != c.kept {
					t.Errorf("kept: %v, want %v", kept, c.kept)
				}
				if n := s.Counts().Refused[pacs.RefusedSlow]; (n == 1) == c.kept {
					t.Errorf("counted %d", n)
				}
			})
		})
	}
}

// Peers that are gone without a word, as after a pulled plug: at the start, between messages, inside an object.
func TestServer_LeavesHalfOpenPeers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln := newPipeListener()
		s := startOn(t, ln, pacs.Options{})
		connect := func() net.Conn {
			ours, theirs := net.Pipe()
			ln.conns <- theirs
			return ours
		}
		silent := []net.Conn{connect(), connect(), connect()}
		associate(t, silent[1])
		conn := associate(t, silent[2])
		for _, p := range []upper.PDV{{ContextID: 1, Command: true, Last: true, Data: storeCommand("1.2.3.1", 0)}, {ContextID: 1, Data: []byte("half")}} {
			if err := conn.Send(t.Context(), p); err != nil {
				t.Fatal(err)
			}
		}
		for _, c := range silent {
			go io.Copy(io.Discard, c) // what a dead machine's network would swallow
		}
		time.Sleep(10 * time.Minute) // of synctest's clock
		synctest.Wait()
		want := pacs.Counts{Associations: 2, Refused: map[pacs.Refusal]int64{pacs.RefusedSlow: 3, pacs.RefusedLost: 1}}
		if diff := cmp.Diff(want, s.Counts()); diff != "" {
			t.Errorf("counts (-want +got)\n%s", diff)
		}
		if len(s.objects) > 0 || len(s.broken) != 1 {
			t.Errorf("%d objects were kept, %d broken", len(s.objects), len(s.broken))
		}
		s.stop()
		for _, c := range silent {
			c.Close()
		}
	})
}

// associate asks for an association for digital radiographs, without pacs' own client.
func associate(t *testing.T, nc net.Conn) *upper.Conn {
	t.Helper()
	conn, err := upper.Request(t.Context(), nc, upper.Timers{}, 1<<14, &upper.Associate{CalledAE: "MVMAE", CallingAE: "X", Contexts: []upper.Context{
		{ID: 1, AbstractSyntax: digitalXRay, TransferSyntaxes: []string{"1.2.840.10008.1.2.1"}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// storeCommand is a C-STORE-RQ, byte by byte.
func storeCommand(uid string, priority byte) []byte {
	if len(uid)%2 != 0 {
		uid += "\x00"
	}
	el := func(element byte, group byte, value string) string {
		return "\x00\x00" + string([]byte{element, group}) + string([]byte{byte(len(value)), 0, 0, 0}) + value
	}
	set := el(2, 0, digitalXRay+"\x00") + el(0, 1, "\x01\x00") + el(0x10, 1, "\x01\x00") + el(0, 7, string([]byte{priority, 0})) + el(0, 8, "\x00\x00") + el(0, 0x10, uid)
	return []byte(el(0, 0, string([]byte{byte(len(set)), 0, 0, 0})) + set)
}

func TestServer_PriorityHighIsUrgent(t *testing.T) {
	s := start(t, pacs.Options{})
	nc, err := new(net.Dialer).DialContext(t.Context(), "tcp", fmt.Sprintf("%s:%d", s.node.Host, s.node.Port))
	if err != nil {
		t.Fatal(err)
	}
	conn := associate(t, nc)
	defer conn.Close()
	for priority, urgent := range map[byte]bool{0: false, 1: true, 2: false} { // medium, high, low: PS3.7 9.3.1.1
		uid := fmt.Sprintf("1.2.3.%d", priority)
		for _, p := range []upper.PDV{{ContextID: 1, Command: true, Last: true, Data: storeCommand(uid, priority)}, {ContextID: 1, Last: true, Data: []byte("data")}} {
			if err := conn.Send(t.Context(), p); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := conn.Receive(t.Context(), time.Minute); err != nil {
			t.Fatal(err)
		}
		if s.object(uid) == nil || s.about[uid].Urgent != urgent {
			t.Errorf("priority %d: %+v", priority, s.about[uid])
		}
	}
}

// A server that is told to stop answers what it is at, and lets nothing new begin.
func TestServer_StopsAfterTheMessageAtHand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln := newPipeListener()
		s := startOn(t, ln, pacs.Options{})
		ours, theirs := net.Pipe()
		ln.conns <- theirs
		conn := associate(t, ours)
		send := func(p upper.PDV) {
			if err := conn.Send(t.Context(), p); err != nil {
				t.Fatal(err)
			}
		}
		send(upper.PDV{ContextID: 1, Command: true, Last: true, Data: storeCommand("1.2.3.1", 0)})
		send(upper.PDV{ContextID: 1, Data: []byte("half ")})
		synctest.Wait()
		stopped := make(chan struct{})
		go func() { s.stop(); close(stopped) }()
		synctest.Wait()
		send(upper.PDV{ContextID: 1, Last: true, Data: []byte("and half")})
		pdvs, err := conn.Receive(t.Context(), time.Minute)
		if err != nil || len(pdvs) != 1 || !bytes.Contains(pdvs[0].Data, []byte{0, 0, 0, 9, 2, 0, 0, 0, 0, 0}) {
			t.Errorf("no success: %v, %v", pdvs, err)
		}
		_, err = conn.Receive(t.Context(), time.Minute)
		var abort *upper.AbortError
		if !errors.As(err, &abort) {
			t.Errorf("then %v, want an abort", err)
		}
		<-stopped
		if !bytes.HasSuffix(s.object("1.2.3.1"), []byte("half and half")) {
			t.Error("the object at hand was lost")
		}
	})
}

// certificate makes one for 127.0.0.1, and a pool that knows it.
func certificate(t *testing.T) (cert tls.Certificate, pool *x509.CertPool, certFile, keyFile string) {
	t.Helper()
	certFile, keyFile, err := dimse.WriteCertificate(t.TempDir())
	if err == nil {
		cert, err = tls.LoadX509KeyPair(certFile, keyFile)
	}
	if err != nil {
		t.Fatal(err)
	}
	pool = x509.NewCertPool()
	pool.AddCert(cert.Leaf)
	return cert, pool, certFile, keyFile
}

func TestServer_TLS(t *testing.T) {
	cert, pool, _, _ := certificate(t)
	s := start(t, pacs.Options{TLS: &tls.Config{Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool}})
	stranger, _, _, _ := certificate(t)
	for _, c := range []struct {
		name string
		tls  *tls.Config
		ok   bool
	}{
		{"known on both sides", &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{cert}}, true},
		{"without a certificate", &tls.Config{RootCAs: pool}, false},
		{"with a stranger's", &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{stranger}}, false},
		{"without TLS", nil, false},
	} {
		client, err := s.dial(t, pacs.ClientOptions{TLS: c.tls, Limits: pacs.Limits{}})
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
		if err != nil {
			continue
		}
		want := object(t, "1.2.3.1", 1<<20)
		if err := client.Store(t.Context(), bytes.NewReader(want)); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if err := client.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if !bytes.Equal(s.object("1.2.3.1"), want) {
			t.Error("another object was kept")
		}
	}
	s.stop()
	if n := s.Counts().Refused[pacs.RefusedTLS]; n != 3 {
		t.Errorf("counted %d, log\n%s", n, s.log.String())
	}
}

func TestServer_GarbageIsRefusedByName(t *testing.T) {
	for _, c := range []struct{ name, bytes, want string }{
		{"HTTP", "GET / HTTP/1.1\r\n\r\n", "unknown PDU of type 47"},
		{"TLS", "\x16\x03\x01\x02\x00\x01", "unknown PDU of type 16"},
		{"data first", "\x04\x00\x00\x00\x00\x06\x00\x00\x00\x02\x01\x03", "unexpected P-DATA-TF (Evt10 in Sta2)"},
	} {
		s := start(t, pacs.Options{})
		nc, err := net.Dial("tcp", s.node.Address())
		if err != nil {
			t.Fatal(err)
		}
		nc.Write([]byte(c.bytes))
		answer := make([]byte, 10)
		if _, err := io.ReadFull(nc, answer); err != nil || upper.Kind(answer[0]) != upper.Abort {
			t.Errorf("%s: answered with %x, %v", c.name, answer, err)
		}
		nc.Close()
		s.stop()
		if !strings.Contains(s.log.String(), "code=protocol reason=\""+c.want) {
			t.Errorf("%s: log\n%s", c.name, s.log.String())
		}
	}
}

func TestDial_ErrorsHaveCures(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	hungUp := make(chan struct{})
	go func() { // on the first caller, and nobody listens afterwards
		defer close(hungUp)
		defer ln.Close()
		if nc, err := ln.Accept(); err == nil {
			nc.Read(make([]byte, 1))
			nc.Close()
		}
	}()
	node := pacs.Node{AE: "PACS", Host: "127.0.0.1", Port: ln.Addr().(*net.TCPAddr).Port}
	for _, want := range []string{"it hangs up on unknown callers: list AE title MVMAE there", "nothing answers at " + node.Address()} {
		_, err := pacs.Dial(t.Context(), node, pacs.ClientOptions{}, pacs.Proposal{SOPClass: pacs.Verification})
		if err == nil || !strings.Contains(hint.Of(err), want) {
			t.Errorf("error %v, hint %q, want %q", err, hint.Of(err), want)
		}
		<-hungUp
	}
}
