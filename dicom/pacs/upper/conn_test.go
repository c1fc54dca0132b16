package upper

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// pair is an association over a pipe. Both ends are to be closed.
func pair(t *testing.T) (requestor, acceptor *Conn) {
	t.Helper()
	a, b := net.Pipe()
	done := make(chan error)
	go func() {
		var err error
		acceptor, err = Accept(t.Context(), b, Timers{}, 1<<14, accept)
		done <- err
	}()
	ask := sample
	requestor, err := Request(t.Context(), a, Timers{}, 1<<13, &ask)
	if err := errors.Join(err, <-done); err != nil {
		t.Fatal(err)
	}
	return requestor, acceptor
}

func accept(rq *Associate) (*Associate, *Rejection) {
	ac := *rq
	ac.Contexts = []Context{{ID: 1, TransferSyntaxes: []string{"1.2.840.10008.1.2"}}}
	return &ac, nil
}

func TestAssociate_BothEndsKnowTheOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rq, ac := pair(t)
		want := sample
		want.MaxPDU = 1 << 13
		if diff := cmp.Diff(&want, ac.Peer()); diff != "" {
			t.Errorf("the acceptor's view of its peer (-want +got)\n%s", diff)
		}
		want.MaxPDU = 1 << 14
		want.Contexts = []Context{{ID: 1, TransferSyntaxes: []string{"1.2.840.10008.1.2"}}}
		if diff := cmp.Diff(&want, rq.Peer()); diff != "" {
			t.Errorf("the requestor's view of its peer (-want +got)\n%s", diff)
		}
		if n := rq.MaxFragment(); n != 1<<13-pdvHeaderBytes {
			t.Errorf("the requestor sends fragments of %d bytes", n)
		}
		rq.Close()
		ac.Close()
	})
}

func TestReceive_GivesFragmentsThenEOFAtRelease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rq, ac := pair(t)
		go func() {
			for _, p := range []PDV{{1, true, true, []byte("command")}, {1, false, false, []byte("data")}, {3, false, true, nil}} {
				if err := rq.Send(t.Context(), p); err != nil {
					t.Error(err)
				}
			}
			if err := rq.Release(t.Context()); err != nil {
				t.Errorf("release: %v", err)
			}
		}()
		var got []PDV
		for {
			pdvs, err := ac.Receive(t.Context(), time.Minute)
			if err != nil {
				if !errors.Is(err, io.EOF) {
					t.Errorf("after the release: %v", err)
				}
				break
			}
			for _, p := range pdvs {
				p.Data = append([]byte(nil), p.Data...)
				got = append(got, p)
			}
		}
		want := []PDV{{1, true, true, []byte("command")}, {1, false, false, []byte("data")}, {3, false, true, nil}}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("fragments (-want +got)\n%s", diff)
		}
	})
}

func TestRelease_OfBothAtOnceEndsInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		// net.Pipe has no buffer: two PDUs that cross need one in between.
		rq := newConn(buffered(t, a), Timers{}, 1<<14, true)
		ac := newConn(buffered(t, b), Timers{}, 1<<14, false)
		rq.state, ac.state, rq.peer, ac.peer = stData, stData, &sample, &sample
		ended := make(chan error)
		go func() { ended <- ac.Release(t.Context()) }()
		if err := errors.Join(rq.Release(t.Context()), <-ended); err != nil {
			t.Error(err)
		}
	})
}

// buffered puts a writing goroutine in front of one end of a pipe.
func buffered(t *testing.T, nc net.Conn) net.Conn {
	queue := make(chan []byte, 16)
	go func() {
		for b := range queue {
			nc.Write(b)
		}
		nc.Close()
	}()
	return &bufferedConn{nc, queue}
}

type bufferedConn struct {
	net.Conn
	queue chan []byte
}

func (b *bufferedConn) Write(p []byte) (int, error) {
	b.queue <- append([]byte(nil), p...)
	return len(p), nil
}

func (b *bufferedConn) Close() error {
	if b.queue != nil {
		close(b.queue)
		b.queue = nil
	}
	return nil
}

// A peer that does nothing is left after exactly the time that it had.
func TestConn_EndsWithAPeerThatHangs(t *testing.T) {
	half := []byte{byte(PDataTF), 0, 0, 0, 1, 0, 0} // of a PDU
	for _, c := range []struct {
		name  string
		does  func(peer net.Conn)
		want  error
		after time.Duration
	}{
		{"silent from the start", func(net.Conn) {}, ErrIdle, 10 * time.Second},
		{"half a request", func(p net.Conn) { p.Write(sample.encode(AssociateRQ)[:20]) }, ErrIdle, 10 * time.Second},
		// The idle time, then ARTIM for the abort that it does not answer.
		{"silent afterwards", func(p net.Conn) { p.Write(sample.encode(AssociateRQ)); io.Copy(io.Discard, p) }, ErrIdle, 5*time.Minute + 10*time.Second},
		{"inside a PDU", func(p net.Conn) { p.Write(sample.encode(AssociateRQ)); go io.Copy(io.Discard, p); p.Write(half) }, ErrIdle, 70 * time.Second},
		{"a byte now and then", func(p net.Conn) {
			p.Write(sample.encode(AssociateRQ))
			go io.Copy(io.Discard, p)
			p.Write(half)
			for err := error(nil); err == nil; _, err = p.Write([]byte{0}) {
				time.Sleep(20 * time.Second) // of synctest's clock
			}
		}, ErrIdle, 70 * time.Second},
		{"that takes nothing", func(p net.Conn) { p.Write(sample.encode(AssociateRQ)) }, nil, time.Minute},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ours, theirs := net.Pipe()
				var peer sync.WaitGroup
				peer.Go(func() { c.does(theirs) })
				start := time.Now()
				conn, err := Accept(t.Context(), ours, Timers{}, 1<<14, accept)
				if err == nil {
					_, err = conn.Receive(t.Context(), 5*time.Minute)
				}
				if err == nil || c.want != nil && !errors.Is(err, c.want) {
					t.Errorf("error %v, want %v", err, c.want)
				}
				if took := time.Since(start); took != c.after {
					t.Errorf("left after %v, want %v", took, c.after)
				}
				if _, err := ours.Write(nil); !errors.Is(err, io.ErrClosedPipe) {
					t.Errorf("the connection is still open: %v", err)
				}
				theirs.Close()
				peer.Wait()
			})
		})
	}
}

func TestReceive_CancelAborts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rq, ac := pair(t)
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		ended := make(chan error)
		go func() {
			_, err := ac.Receive(ctx, time.Hour)
			ended <- err
		}()
		_, err := rq.Receive(t.Context(), time.Hour)
		var abort *AbortError
		if !errors.As(err, &abort) || abort.Source != abortByUser {
			t.Errorf("the peer got %v", err)
		}
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("Receive gave %v", err)
		}
	})
}

func TestReceive_BreachesAreNamedAndAborted(t *testing.T) {
	for _, c := range []struct {
		name  string
		bytes []byte
		want  string
	}{
		{"type", []byte{9, 0, 0, 0, 0, 0}, "unknown PDU of type 09"},
		{"PDU past the limit", []byte{4, 0, 0xff, 0xff, 0xff, 0xff}, "P-DATA-TF of 4294967295 bytes, the limit is 16384"},
		{"release of another length", []byte{5, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0}, "A-RELEASE-RQ of 5 bytes in place of 4"},
		{"empty P-DATA-TF", []byte{4, 0, 0, 0, 0, 0}, "P-DATA-TF without a fragment"},
		{"fragment too long", append([]byte{4, 0, 0, 0, 0, 7}, 0, 0, 0, 4, 1, 3, 0), "a fragment of 4 bytes where 3 are left"},
		{"fragment of a huge length", append([]byte{4, 0, 0, 0, 0, 7}, 0xff, 0xff, 0xff, 0xff, 1, 3, 0), "a fragment of 4294967295 bytes where 3 are left"},
		{"fragment too short", append([]byte{4, 0, 0, 0, 0, 7}, 0, 0, 0, 1, 1, 3, 0), "a fragment of 1 bytes where 3 are left"},
		{"stray bytes", append([]byte{4, 0, 0, 0, 0, 8}, 0, 0, 0, 2, 1, 3, 0, 0), "2 stray bytes after the fragments of a P-DATA-TF"},
		{"even context", append([]byte{4, 0, 0, 0, 0, 6}, 0, 0, 0, 2, 2, 3), "presentation context 2: it must be odd"},
		{"a second request", sample.encode(AssociateRQ), "unexpected A-ASSOCIATE-RQ (Evt6 in Sta6)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				rq, ac := pair(t)
				go func() {
					rq.nc.Write(c.bytes)
					_, err := rq.Receive(t.Context(), time.Minute)
					var abort *AbortError
					if !errors.As(err, &abort) || abort.Source != abortByProvider {
						t.Errorf("the peer got %v, want an abort", err)
					}
				}()
				_, err := ac.Receive(t.Context(), time.Minute)
				var breach *ProtocolError
				if !errors.As(err, &breach) || breach.Detail != c.want {
					t.Errorf("error %v, want %q", err, c.want)
				}
			})
		})
	}
}

func TestDecodeAssociate_RefusesWhatDoesNotFit(t *testing.T) {
	good := sample.encode(AssociateRQ)[headerBytes:]
	change := func(f func(b []byte) []byte) []byte { return f(append([]byte(nil), good...)) }
	user := func(items ...byte) []byte {
		return change(func(b []byte) []byte { return appendItem(b, itemUser, items) })
	}
	for _, c := range []struct {
		name string
		body []byte
		want string
	}{
		{"short", good[:60], "A-ASSOCIATE-RQ of 60 bytes, the least is 68"},
		{"version", change(func(b []byte) []byte { b[1] = 2; return b }), "A-ASSOCIATE-RQ without protocol version 1"},
		{"item past the end", good[:len(good)-1], "an item of type 50 and 21 bytes where 20 are left"},
		{"stray", append(good[:len(good):len(good)], 1, 2, 3), "3 stray bytes after the items"},
		{"no application context", good[:fixedBytes], "A-ASSOCIATE-RQ for another application context than DICOM's"},
		{"context of two bytes", change(func(b []byte) []byte { return appendItem(b, itemContextRQ, []byte{1, 0}) }), "a presentation context of 2 bytes"},
		{"even context", change(func(b []byte) []byte { return appendItem(b, itemContextRQ, make([]byte, 4)) }), "presentation context 0: it must be odd"},
		{"maximum length", user(itemMaxPDU, 0, 0, 1, 7), "a maximum length of 1 bytes"},
		{"role of another length", user(itemRole, 0, 0, 5, 0, 2, '1', 0, 1), "a role selection of 5 bytes, with another length inside"},
		{"short role", user(itemRole, 0, 0, 1, 0), "a role selection of 1 bytes, with another length inside"},
	} {
		_, err := decodeAssociate(AssociateRQ, c.body)
		var breach *ProtocolError
		if !errors.As(err, &breach) || breach.Detail != c.want {
			t.Errorf("%s: error %v, want %q", c.name, err, c.want)
		}
	}
}

func TestRequest_RejectionSaysWhy(t *testing.T) {
	for _, c := range []struct {
		rejection Rejection
		want      string
	}{
		{RejectCallingAE, "the peer rejected the association: it does not know our AE title"},
		{RejectCalledAE, "the peer rejected the association: it has another AE title"},
		{RejectCongestion, "the peer rejected the association: temporary congestion, for now"},
		{Rejection{Permanent, ByACSE, 9}, "the peer rejected the association: source 2, reason 9"},
	} {
		synctest.Test(t, func(t *testing.T) {
			a, b := net.Pipe()
			go func() {
				_, err := Accept(t.Context(), b, Timers{}, 1<<14, func(*Associate) (*Associate, *Rejection) { return nil, &c.rejection })
				var own *Rejection
				if !errors.As(err, &own) || *own != c.rejection {
					t.Errorf("Accept gave %v", err)
				}
			}()
			_, err := Request(t.Context(), a, Timers{}, 1<<14, &Associate{})
			var got *Rejection
			if !errors.As(err, &got) || *got != c.rejection || err.Error() != c.want {
				t.Errorf("Request gave %v, want %s", err, c.want)
			}
		})
	}
}
