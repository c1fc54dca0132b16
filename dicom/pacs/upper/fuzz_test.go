package upper

import (
	"bytes"
	"net"
	"testing"
	"time"
)

// script is a connection on which a peer says something and goes.
type script struct{ said *bytes.Reader }

func (s script) Read(b []byte) (int, error)       { return s.said.Read(b) }
func (s script) Write(b []byte) (int, error)      { return len(b), nil }
func (s script) Close() error                     { return nil }
func (s script) LocalAddr() net.Addr              { return nil }
func (s script) RemoteAddr() net.Addr             { return nil }
func (s script) SetDeadline(time.Time) error      { return nil }
func (s script) SetReadDeadline(time.Time) error  { return nil }
func (s script) SetWriteDeadline(time.Time) error { return nil }

// FuzzConn has a peer say anything, as requestor and as acceptor. Every association ends, and no PDU makes a Conn take more
// memory than came.
func FuzzConn(f *testing.F) {
	for _, start := range []event{evAssociateRQ, evAssociateAC, evAssociateRJ} {
		for _, then := range []event{evPData, evReleaseRQ, evReleaseRP, evAbort, evInvalid} {
			f.Add(append(fromPeer(start), fromPeer(then)...))
		}
	}
	f.Fuzz(func(t *testing.T, said []byte) {
		converse := func(c *Conn, err error) {
			for err == nil {
				var pdvs []PDV
				pdvs, err = c.Receive(t.Context(), time.Minute)
				for _, p := range pdvs {
					if len(p.Data) > len(said) {
						t.Errorf("a fragment of %d bytes of %d", len(p.Data), len(said))
					}
				}
			}
			if c != nil && (c.state != stIdle || cap(c.body) > max(16<<10, 4*len(said))) {
				t.Errorf("ended in %s with a buffer of %d bytes, %d came", c.state, cap(c.body), len(said))
			}
		}
		ask := sample
		converse(Request(t.Context(), script{bytes.NewReader(said)}, Timers{}, 1<<20, &ask))
		converse(Accept(t.Context(), script{bytes.NewReader(said)}, Timers{}, 1<<20, accept))
	})
}
